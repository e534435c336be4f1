//! The directory on a RAM file system that holds everything published, opened once and trusted
//! only after a look: everything below it is reached through its file descriptor.

use std::{
    ffi::{OsStr, OsString},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{self, OFlag},
    sys::{
        stat::{self, FileStat, Mode, SFlag},
        statfs::{self, FsType, TMPFS_MAGIC},
    },
    unistd::geteuid,
};

use super::swap;
use crate::error::{Class, Error, Result};

/// linux/magic.h; nix names only tmpfs.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);
/// Others may pass through to what is theirs, but not list what is there.
pub(crate) const PASS_THROUGH: Mode = Mode::from_bits_truncate(0o751);

/// `RUNTIMEDIR`, open: a directory of ours, on tmpfs or ramfs, that nobody else may write to.
#[derive(Debug)]
pub struct RuntimeDir {
    fd: OwnedFd,
    path: PathBuf,
}

impl RuntimeDir {
    /// Opens `path`; `None` where it does not exist. Creates nothing.
    ///
    /// # Errors
    /// `Class::Publish` where it is a symlink or no directory, is not on tmpfs or ramfs, belongs to
    /// another user, or may be written to by others.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        match fcntl::open(path, directory_flags(), Mode::empty()) {
            Ok(fd) => Self::checked(fd, path).map(Some),
            Err(Errno::ENOENT) => Ok(None),
            Err(Errno::ELOOP | Errno::ENOTDIR) => Err(fault(
                path,
                "it is a symlink or no directory",
                "Name a real directory as runtimeDir.",
            )),
            Err(errno) => Err(fault(path, errno.desc(), io_advice(errno, path))),
        }
    }

    /// Opens `path`, creating it with mode 0751 where it does not exist. Its parent must exist.
    ///
    /// # Errors
    /// As [`RuntimeDir::open`]; and where it can't be created. Nothing is created on a disk.
    pub fn open_or_create(path: &Path) -> Result<Self> {
        if let Some(found) = Self::open(path)? {
            return Ok(found);
        }
        let parent = Self::open_parent(path)?;
        let name = path.file_name().unwrap_or_default();
        let fd = create_or_open(&parent, name, PASS_THROUGH)
            .map_err(|errno| fault(path, errno.desc(), io_advice(errno, path)))?;
        Self::checked(fd, path)
    }

    /// Whether `path` could serve: like [`RuntimeDir::open_or_create`], but creates nothing and
    /// says what to warn of: that the file system may be swapped to a disk.
    ///
    /// # Errors
    /// As [`RuntimeDir::open_or_create`].
    pub fn check(path: &Path) -> Result<Option<String>> {
        let fd = match Self::open(path)? {
            Some(found) => found.fd,
            None => Self::open_parent(path)?,
        };
        let device = stat::fstat(&fd)
            .map_err(|errno| fault(path, errno.desc(), io_advice(errno, path)))?
            .st_dev;
        let devices = swap::may_swap_to(device);
        Ok((!devices.is_empty()).then(|| {
            format!(
                "{} is on a tmpfs that may be swapped to {}, so secrets could reach a disk: mount \
                 a ramfs there, or a tmpfs with the option noswap (Linux 6.4)",
                path.display(),
                devices.join(" and ")
            )
        }))
    }

    /// The path by which it was opened, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the directory `name` in it, creating it with `mode`; it too must be ours alone.
    ///
    /// # Errors
    /// `Class::Publish` where something else has the name or it can't be created.
    pub(crate) fn subdir(&self, name: &str, mode: Mode) -> Result<OwnedFd> {
        let path = self.path.join(name);
        let fd = create_or_open(&self.fd, name, mode)
            .map_err(|errno| fault(&path, errno.desc(), io_advice(errno, &path)))?;
        trusted(&fd, &path)?;
        Ok(fd)
    }

    /// Opens the directory `name` in it; `None` where it does not exist.
    ///
    /// # Errors
    /// `Class::Publish` where something else has the name.
    pub(crate) fn existing_subdir(&self, name: &str) -> Result<Option<OwnedFd>> {
        let path = self.path.join(name);
        match open_dir(&self.fd, name) {
            Ok(fd) => trusted(&fd, &path).map(|()| Some(fd)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(fault(&path, errno.desc(), io_advice(errno, &path))),
        }
    }

    fn checked(fd: OwnedFd, path: &Path) -> Result<Self> {
        in_ram(&fd, path)?;
        trusted(&fd, path)?;
        let path = path.to_owned();
        Ok(Self { fd, path })
    }

    /// The parent, which must be in RAM already: so nothing is created on a disk to be refused.
    fn open_parent(path: &Path) -> Result<OwnedFd> {
        let (Some(parent), Some(_)) = (path.parent(), path.file_name()) else {
            return Err(fault(
                path,
                "it has no parent",
                "Name a directory below /run as runtimeDir.",
            ));
        };
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = fcntl::open(parent, flags, Mode::empty()).map_err(|errno| {
            let found = format!("its parent can't be opened: {}", errno.desc());
            fault(path, found, io_advice(errno, parent))
        })?;
        in_ram(&fd, path)?;
        Ok(fd)
    }
}

impl AsFd for RuntimeDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What to do about a failed call on `path`, by error number.
pub(crate) fn io_advice(errno: Errno, path: &Path) -> String {
    let path = path.display();
    match errno {
        Errno::ENOSPC | Errno::EDQUOT => format!(
            "Give the file system of {path} more room (mount -o remount,size=…), or free some of \
             it; then run again."
        ),
        Errno::EROFS => format!("Remount the file system of {path} writable, then run again."),
        Errno::EACCES | Errno::EPERM => {
            // CAP_DAC_READ_SEARCH compares with what stands: secrets of other owners.
            format!(
                "Run as root; a sandboxed unit needs {path} in ReadWritePaths=, and CAP_CHOWN and \
                 CAP_DAC_READ_SEARCH."
            )
        }
        Errno::ENOENT => format!("Create {path}, or mount a ramfs or tmpfs there."),
        Errno::ELOOP | Errno::ENOTDIR | Errno::EEXIST => {
            format!("See who made {path}, move it away, then run again.")
        }
        _ => format!("See what the kernel says of {path} (journalctl -k), then run again."),
    }
}

fn fault(path: &Path, found: impl Into<String>, advice: impl Into<String>) -> Error {
    let tried = format!("using {} for published secrets", path.display());
    Error::new(Class::Publish, tried, found, advice)
}

fn directory_flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

/// Opens a directory without following a symlink.
pub(crate) fn open_dir(
    parent: impl AsFd,
    name: &(impl nix::NixPath + ?Sized),
) -> nix::Result<OwnedFd> {
    fcntl::openat(parent, name, directory_flags(), Mode::empty())
}

/// The names in an open directory, sorted, without `.` and `..`.
pub(crate) fn names(directory: impl AsFd) -> nix::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::openat(directory, ".", directory_flags(), Mode::empty())?.iter() {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether `kind` is what the mode bits of `stat` say.
pub(crate) fn is(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == kind
}

/// Opens a directory, or makes it with exactly `mode`, whatever the umask.
fn create_or_open(
    parent: impl AsFd,
    name: &(impl nix::NixPath + ?Sized),
    mode: Mode,
) -> nix::Result<OwnedFd> {
    match fcntl::openat(&parent, name, directory_flags(), Mode::empty()) {
        Err(Errno::ENOENT) => {}
        found => return found,
    }
    // At once, also if the run is killed right after this: readers of other users pass through it.
    let umask = stat::umask(Mode::empty());
    let result = stat::mkdirat(&parent, name, mode);
    stat::umask(umask);
    match result {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    fcntl::openat(&parent, name, directory_flags(), Mode::empty())
}

/// Whether `path` is on tmpfs or ramfs; no where that can't be told.
pub(crate) fn is_ram(path: &Path) -> bool {
    statfs::statfs(path).is_ok_and(|found| is_ram_type(found.filesystem_type()))
}

fn is_ram_type(kind: FsType) -> bool {
    kind == TMPFS_MAGIC || kind == RAMFS_MAGIC
}

fn in_ram(fd: &OwnedFd, path: &Path) -> Result<()> {
    let kind = statfs::fstatfs(fd)
        .map_err(|errno| fault(path, errno.desc(), io_advice(errno, path)))?
        .filesystem_type();
    if is_ram_type(kind) {
        return Ok(());
    }
    Err(fault(
        path,
        format!("it is not on tmpfs or ramfs (file system type {:#x})", kind.0),
        "Name a directory on a RAM file system as runtimeDir (below /run, say), or mount a ramfs \
         there: secrets never go to a disk.",
    ))
}

fn trusted(fd: &OwnedFd, path: &Path) -> Result<()> {
    let found =
        stat::fstat(fd).map_err(|errno| fault(path, errno.desc(), io_advice(errno, path)))?;
    let me = geteuid().as_raw();
    if found.st_uid != me {
        return Err(fault(
            path,
            format!("it belongs to user {}, not to {me}", found.st_uid),
            "See who made it; remove it or give it to the user that runs this.",
        ));
    }
    if found.st_mode & 0o022 != 0 {
        return Err(fault(
            path,
            format!("its mode {:04o} lets others write to it", found.st_mode & 0o7777),
            format!("See what is in it, then: chmod go-w {}.", path.display()),
        ));
    }
    Ok(())
}
