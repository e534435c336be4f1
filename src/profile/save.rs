//! Writing a profile: whole or not at all, once, and on the disk before anything is published.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::{ffi::OsStrExt as _, fs::DirBuilderExt as _},
    path::Path,
    time::Duration,
};

use nix::{
    fcntl::{AT_FDCWD, AtFlags},
    unistd::{AccessFlags, UnlinkatFlags, faccessat, linkat, unlinkat},
};

use super::{
    Profile, Version,
    store::{Store, check_name, failed, names},
};
use crate::{
    error::{Class, Error, Result},
    system::{
        Deadline, durable,
        lock::{Locked, exclusive, tell},
    },
};

/// How long [`Store::save`] waits for another run that is writing. Writing takes milliseconds.
const LOCK_DEADLINE: Duration = Duration::from_secs(5);
const WRITABLE: &str = "Nothing was enrolled. Make the state directory writable, with room.";

impl Store {
    /// Writes a new profile, whole or not at all, and returns when it is on the disk. Creates the
    /// directory (0700) where it is absent; its parent must be there.
    ///
    /// # Errors
    /// There is a profile of that name already, or the operating system refuses something.
    pub fn save(&mut self, profile: &Profile) -> Result<()> {
        let (name, tried) = (profile.name(), self.check_new(profile.name(), profile)?);
        self.create()?;
        let dir = self.directory()?;
        let refused = |error: io::Error| failed(tried.clone(), error, WRITABLE);
        let _lock = lock(dir, &tried)?;
        for name in names(dir).map_err(|errno| refused(errno.into()))? {
            if name.as_bytes().starts_with(b".") && name.as_bytes().ends_with(b".toml.new") {
                // Under the lock nobody writes it any more: a run was killed.
                unlinkat(dir, name.as_os_str(), UnlinkatFlags::NoRemoveDir)
                    .map_err(|errno| refused(errno.into()))?;
            }
        }
        let temporary = temporary(name);
        let remove = || unlinkat(dir, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
        let linked =
            durable::create(dir, &temporary, profile.to_toml().as_bytes()).and_then(|()| {
                // A link, not a rename: it never replaces what is there, on any file system.
                linkat(
                    dir,
                    temporary.as_str(),
                    dir,
                    format!("{name}.toml").as_str(),
                    AtFlags::empty(),
                )
                .map_err(io::Error::from)
            });
        if let Err(error) = linked {
            // What stays behind is removed at the next save; the first error is the one to tell.
            let _ = remove();
            if error.kind() == io::ErrorKind::AlreadyExists {
                return Err(Error::new(
                    Class::Profile,
                    tried,
                    "there is a profile already",
                    "A profile is never replaced. Look at it with `nixos-cryptkey status`.",
                ));
            }
            return Err(refused(error));
        }
        remove().map_err(|errno| refused(errno.into()))?;
        self.sync_names(dir).map_err(refused)
    }

    /// Refuses what is never written; else what is tried, for errors.
    pub(super) fn check_new(&self, name: &str, profile: &Profile) -> Result<String> {
        check_name(name)?;
        let tried = format!("writing profile {}", self.file(name).display());
        if profile.version() == Version::V2 {
            return Ok(tried);
        }
        Err(Error::new(
            Class::Internal,
            tried,
            "a profile of version 1, which is read only",
            "This is a fault of the program: report it.",
        ))
    }

    /// The directory, to write to; created where it is absent.
    ///
    /// # Errors
    /// It can't be created, or is not ours alone.
    pub fn writable(&mut self) -> Result<&File> {
        self.create()?;
        self.directory()
    }

    /// The lock on the directory, under which its files are written; the directory is created where it
    /// is absent. `tried` is for the error.
    ///
    /// # Errors
    /// As [`Self::writable`]; or another run holds it for too long.
    pub fn lock(&mut self, tried: &str) -> Result<Locked> {
        lock(self.writable()?, tried)
    }

    pub(super) fn directory(&self) -> Result<&File> {
        self.dir.as_ref().ok_or_else(|| {
            Error::new(
                Class::Permission,
                format!("writing to state directory {}", self.path.display()),
                "it went away while it was created",
                "End what removes it.",
            )
        })
    }

    /// Removes a file for good.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn remove(&self, name: &str) -> Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let tried = || format!("removing {}", self.path.join(name).display());
        let advice = "Make the state directory writable.";
        durable::remove(dir, name).map_err(|error| failed(tried(), error, advice))
    }

    /// Asks whether a profile of this name could be written, before a PIN is spent and a key made
    /// for it. Where it is not there yet, its parent counts.
    ///
    /// # Errors
    /// The directory is read-only.
    pub fn check_writable(&self, name: &str) -> Result<()> {
        let tried = || format!("writing profile {}", self.file(name).display());
        let mode = AccessFlags::W_OK;
        let checked = if let Some(dir) = &self.dir {
            faccessat(dir, ".", mode, AtFlags::AT_EACCESS)
        } else {
            // It is created below its parent, once there is something to write.
            let parent = self.path.parent().unwrap_or(&self.path);
            faccessat(AT_FDCWD, parent, mode, AtFlags::AT_EACCESS)
        };
        checked.map_err(|errno| failed(tried(), io::Error::from(errno), WRITABLE))
    }

    /// Has the names in the directory on the disk before this returns: a run that was killed while
    /// it saved the profile of key `name` may have left one that is not, and the name under which it
    /// wrote. The caller holds that key's lock.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn sync(&self, name: &str) -> Result<()> {
        let Some(dir) = &self.dir else {
            return Ok(());
        };
        // No obstacle where it stays, on a disk that is read-only, say.
        let _ = unlinkat(dir, temporary(name).as_str(), UnlinkatFlags::NoRemoveDir);
        let tried = || format!("syncing state directory {}", self.path.display());
        let advice = "Nothing was published. See what the kernel says of the disk (journalctl -k).";
        self.sync_names(dir).map_err(|error| failed(tried(), error, advice))
    }

    /// Syncs the directory, and its name in the one above: whoever made it need not have, or was
    /// killed before.
    pub(super) fn sync_names(&self, dir: &File) -> io::Result<()> {
        dir.sync_all()?;
        let resolved = fs::canonicalize(&self.path)?;
        File::open(resolved.parent().unwrap_or(Path::new("/")))?.sync_all()
    }

    /// Creates the directory if it is absent, and opens it.
    fn create(&mut self) -> Result<()> {
        if self.dir.is_some() {
            return Ok(());
        }
        let mut is_new = false;
        match DirBuilder::new().mode(0o700).create(&self.path) {
            Ok(()) => is_new = true,
            // Somebody else was quicker: what is there is checked as always.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(failed(
                    format!("creating state directory {}", self.path.display()),
                    error,
                    "Nothing was written. Mount the directory above it, writable.",
                ));
            }
        }
        self.dir = Self::open(&self.path)?.dir;
        if is_new {
            let dir = self.directory()?;
            let tried = || format!("syncing state directory {}", self.path.display());
            self.sync_names(dir).map_err(|error| failed(tried(), error, WRITABLE))?;
        }
        Ok(())
    }
}

/// The name under which the profile of key `name` is written, until it is whole.
fn temporary(name: &str) -> String {
    format!(".{name}.toml.new")
}

/// The lock on the directory under which its files are written, until it is dropped.
pub(super) fn lock(dir: &File, tried: &str) -> Result<Locked> {
    let failed = |error| failed(tried.to_owned(), error, "Nothing was written.");
    let dir = dir.try_clone().map_err(failed)?;
    exclusive(dir, Deadline::after(LOCK_DEADLINE), tell).map_err(|waited| match waited {
        Some(error) => failed(error),
        None => Error::new(
            Class::Busy,
            tried,
            "another program holds the lock on the state directory",
            "Wait until the other run of nixos-cryptkey has ended, and try again.",
        ),
    })
}
