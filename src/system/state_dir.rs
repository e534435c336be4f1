//! The state directory, and the files in it: ours alone, read whole or not at all, and on the disk once
//! they are written.
//!
//! What can't be read is an error, never "it is not there": only a name that isn't there, in a directory
//! that could be read, is that.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, DirBuilder, File, Metadata},
    io::{self, Read as _},
    os::{
        fd::AsFd,
        unix::{
            ffi::OsStrExt as _,
            fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{OFlag, open, openat},
    sys::stat::Mode,
    unistd::geteuid,
};
use zeroize::Zeroizing;

use super::{
    Deadline, durable,
    lock::{Locked, exclusive, tell},
    runtime_dir::is_ram,
};
use crate::error::{Class, Error, Result};

/// What to do about a file that can't be read.
pub(crate) const RESTORE: &str = "Restore it from a backup; it is never replaced.";
/// What to do where nothing can be written.
pub(crate) const WRITABLE: &str = "Make the state directory writable, with room.";
/// The file that is locked while another one is written.
const LOCK: &str = ".lock";
/// How long another run that is writing is waited for. Writing takes milliseconds.
const LOCK_DEADLINE: Duration = Duration::from_secs(5);

/// The state directory, held open from [`StateDir::open`] on if it was there.
pub struct StateDir {
    path: PathBuf,
    dir: Option<File>,
}

impl StateDir {
    /// Opens the state directory, which need not be there.
    ///
    /// # Errors
    /// It is something else than a directory, is a link to nothing, can't be read, is not ours, or
    /// may be written by others.
    pub fn open(path: &Path) -> Result<Self> {
        let tried = || format!("opening state directory {}", path.display());
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = match open(path, flags, Mode::empty()) {
            Ok(fd) => Some(File::from(fd)),
            Err(Errno::ENOENT) if fs::symlink_metadata(path).is_ok() => {
                return Err(Error::new(
                    Class::Profile,
                    tried(),
                    "it is a symbolic link to nothing",
                    "Mount the file system it points to before this runs.",
                ));
            }
            Err(Errno::ENOENT) => None,
            Err(errno) => {
                let advice = "Make it a directory of root with mode 0700.";
                return Err(failed(tried(), errno, advice));
            }
        };
        if let Some(dir) = &dir {
            let metadata = dir.metadata().map_err(|error| failed(tried(), error, RESTORE))?;
            check_owner(&metadata, &tried(), 0o700)?;
        }
        Ok(Self { path: path.into(), dir })
    }

    /// Whether the directory is there. If it isn't, there never was a profile in it, or it is not
    /// mounted.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.dir.is_some()
    }

    /// Whether the directory, or where it is missing its parent, is on a RAM file system, so that a
    /// profile in it would not outlive the next power-off.
    pub fn is_in_ram(&self) -> bool {
        let place = if self.exists() { Some(&*self.path) } else { self.path.parent() };
        place.is_some_and(is_ram)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names in the directory, sorted; none where there is no directory.
    pub fn names(&self) -> Result<Vec<String>> {
        let tried = || format!("listing state directory {}", self.path.display());
        let names = self.dir.as_ref().map_or(Ok(Vec::new()), names);
        let names = names.map_err(|errno| failed(tried(), errno, RESTORE))?;
        // What is no UTF-8 is not ours.
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    /// The content of a file of at most `max` bytes; none where it is not there.
    pub fn read_file(&self, name: &str, max: usize) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let tried = || format!("reading {}", self.path.join(name).display());
        let opened = self.dir.as_ref().map(|dir| open_ours(dir, OsStr::new(name), &tried()));
        let Some((file, _)) = opened.transpose()?.flatten() else { return Ok(None) };
        let bytes = read_at_most(&file, max).map_err(|error| failed(tried(), error, RESTORE))?;
        if bytes.len() > max {
            return Err(damaged(tried(), "it is too long"));
        }
        Ok(Some(bytes))
    }

    /// The directory, where it is there.
    pub(crate) fn dir(&self) -> Option<&File> {
        self.dir.as_ref()
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

    pub(crate) fn directory(&self) -> Result<&File> {
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

    /// Syncs the directory, and its name in the one above: whoever made it need not have, or was
    /// killed before.
    pub(crate) fn sync_names(&self, dir: &File) -> io::Result<()> {
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

/// Opens a file in the state directory; none where it is not there.
pub(crate) fn open_ours(dir: &File, name: &OsStr, tried: &str) -> Result<Option<(File, Metadata)>> {
    let opened = open_itself(dir, name, tried)?;
    if let Some((_, metadata)) = &opened {
        check_owner(metadata, tried, 0o600)?;
    }
    Ok(opened)
}

/// Opens a regular file that is no link; none where it is not there.
pub(crate) fn open_itself(
    dir: impl AsFd,
    name: impl AsRef<OsStr>,
    tried: &str,
) -> Result<Option<(File, Metadata)>> {
    // Neither a link nor a pipe may stand in for the file, or stop the boot.
    let flags = OFlag::O_RDONLY
        | OFlag::O_NOFOLLOW
        | OFlag::O_NONBLOCK
        | OFlag::O_NOCTTY
        | OFlag::O_CLOEXEC;
    let file = match openat(dir, name.as_ref(), flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::ENOENT) => return Ok(None),
        Err(Errno::ELOOP) => return Err(damaged(tried.into(), "it is a symbolic link")),
        Err(errno) => return Err(failed(tried.into(), errno, RESTORE)),
    };
    let metadata = file.metadata().map_err(|error| failed(tried.into(), error, RESTORE))?;
    if !metadata.is_file() {
        return Err(damaged(tried.into(), "it is not a regular file"));
    }
    Ok(Some((file, metadata)))
}

/// Reads a file; of one that is longer than `max`, one byte more than that.
pub(crate) fn read_at_most(file: &File, max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let size = usize::try_from(file.metadata()?.len());
    // A version 1 profile is a secret: with this much room the buffer never moves and leaves a copy.
    let room = size.unwrap_or(max).min(max) + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(room as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The names in a directory, sorted.
pub(crate) fn names(dir: &File) -> nix::Result<Vec<OsString>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut names = Vec::new();
    for entry in Dir::openat(dir, ".", flags, Mode::empty())?.iter() {
        names.push(OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned());
    }
    names.sort();
    Ok(names)
}

/// Refuses what others own or may write.
fn check_owner(metadata: &Metadata, tried: &str, mode: u32) -> Result<()> {
    let us = geteuid().as_raw();
    let found = if metadata.uid() != us {
        format!("it belongs to uid {}, and this runs as uid {us}", metadata.uid())
    } else if metadata.mode() & 0o022 != 0 {
        format!("its mode is {:04o}: others may write it", metadata.mode() & 0o7777)
    } else {
        return Ok(());
    };
    let advice = format!(
        "Find out who changed it; then give it back with `chown {us}` and `chmod {mode:04o}`."
    );
    Err(Error::new(Class::Permission, tried, found, advice))
}

pub(crate) fn damaged(tried: String, reason: &str) -> Error {
    Error::new(Class::Profile, tried, format!("the file is damaged: {reason}"), RESTORE)
}

/// The error for what the operating system said.
pub(crate) fn failed(tried: String, error: impl Into<io::Error>, advice: &str) -> Error {
    let error = error.into();
    let class = match error.raw_os_error().map(Errno::from_raw) {
        Some(
            Errno::EACCES
            | Errno::EPERM
            | Errno::EROFS
            | Errno::ENOSPC
            | Errno::EDQUOT
            | Errno::ENOTDIR,
        ) => Class::Permission,
        _ => Class::Profile,
    };
    Error::new(class, tried, error.to_string(), advice)
}

/// The lock on the directory under which its files are written, until it is dropped. It is on a file that
/// nobody else can open: whoever can open a file can lock it, and so the directory itself where its mode
/// lets them read it.
pub(crate) fn lock(dir: &File, tried: &str) -> Result<Locked> {
    let failed = |error: io::Error| failed(tried.to_owned(), error, "Nothing was written.");
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(dir, LOCK, flags, Mode::S_IRUSR | Mode::S_IWUSR);
    let file = File::from(file.map_err(|errno| failed(errno.into()))?);
    file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(failed)?;
    exclusive(file, Deadline::after(LOCK_DEADLINE), tell).map_err(|waited| match waited {
        Some(error) => failed(error),
        None => Error::new(
            Class::Busy,
            tried,
            "another program holds the lock on the state directory",
            "Wait until the other run of nixos-cryptkey has ended, and try again.",
        ),
    })
}
