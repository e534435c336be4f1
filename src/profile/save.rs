//! Writing a profile: whole or not at all, once, and on the disk before anything is published.

use std::{io, os::unix::ffi::OsStrExt as _};

use nix::{
    fcntl::{AT_FDCWD, AtFlags},
    unistd::{AccessFlags, UnlinkatFlags, faccessat, linkat, unlinkat},
};

use super::{
    Profile, Version,
    store::{Store, check_name},
};
use crate::{
    error::{Class, Error, Result},
    system::{
        durable,
        state_dir::{WRITABLE, failed, lock, names},
    },
};

impl Store {
    /// Writes a new profile, whole or not at all, and returns when it is on the disk. Creates the
    /// directory (0700) where it is absent; its parent must be there.
    ///
    /// # Errors
    /// There is a profile of that name already, or the operating system refuses something.
    pub fn save(&mut self, profile: &Profile) -> Result<()> {
        let (name, tried) = (profile.name(), self.check_new(profile.name(), profile)?);
        self.writable()?;
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

    /// Asks whether a profile of this name could be written, before a PIN is spent and a key made
    /// for it. Where it is not there yet, its parent counts.
    ///
    /// # Errors
    /// The directory is read-only.
    pub fn check_writable(&self, name: &str) -> Result<()> {
        let tried = || format!("writing profile {}", self.file(name).display());
        let mode = AccessFlags::W_OK;
        let checked = if let Some(dir) = self.dir() {
            faccessat(dir, ".", mode, AtFlags::AT_EACCESS)
        } else {
            // It is created below its parent, once there is something to write.
            let parent = self.path().parent().unwrap_or(self.path());
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
        let Some(dir) = self.dir() else {
            return Ok(());
        };
        // No obstacle where it stays, on a disk that is read-only, say.
        let _ = unlinkat(dir, temporary(name).as_str(), UnlinkatFlags::NoRemoveDir);
        let tried = || format!("syncing state directory {}", self.path().display());
        let advice = "Nothing was published. See what the kernel says of the disk (journalctl -k).";
        self.sync_names(dir).map_err(|error| failed(tried(), error, advice))
    }
}

/// The name under which the profile of key `name` is written, until it is whole.
fn temporary(name: &str) -> String {
    format!(".{name}.toml.new")
}
