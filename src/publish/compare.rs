//! What differs between a published generation and the set that should be.

use std::{
    fs::File,
    io::Read,
    os::fd::{AsFd, OwnedFd},
};

use nix::{
    errno::Errno,
    fcntl::{self, OFlag},
    sys::stat::{self, Mode, SFlag},
    unistd::geteuid,
};
use zeroize::Zeroizing;

use super::Entry;
use crate::system::runtime_dir::{PASS_THROUGH, is, names};

/// The names of the secrets that a new set adds, changes (in bytes, owner, group or mode) and
/// removes; each list is sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Published now and not before.
    pub added: Vec<String>,
    /// Published before with other bytes, another owner, group or mode.
    pub changed: Vec<String>,
    /// Published before and no longer declared.
    pub removed: Vec<String>,
}

impl Changes {
    /// The changes that publish `set` where nothing was.
    pub(super) fn all_added(set: &[Entry]) -> Self {
        let mut added: Vec<_> = set.iter().map(|entry| entry.name.clone()).collect();
        added.sort_unstable();
        Self { added, ..Self::default() }
    }
}

/// Compares an open generation with `set`; `None` where there is nothing to do.
pub(super) fn compare(generation: &OwnedFd, set: &[Entry]) -> nix::Result<Option<Changes>> {
    let mut changes = Changes::default();
    let present = names(generation)?;
    for entry in set {
        if !present.iter().any(|name| *name == *entry.name) {
            changes.added.push(entry.name.clone());
        } else if !is_same(generation, entry)? {
            changes.changed.push(entry.name.clone());
        }
    }
    changes.added.sort_unstable();
    changes.changed.sort_unstable();
    changes.removed = present
        .iter()
        .filter(|name| !set.iter().any(|entry| **name == *entry.name))
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    let folder = stat::fstat(generation)?;
    let folder_stands =
        folder.st_mode & 0o7777 == PASS_THROUGH.bits() && folder.st_uid == geteuid().as_raw();
    let unchanged = folder_stands && changes == Changes::default();
    Ok((!unchanged).then_some(changes))
}

/// Whether the file of `entry` in `generation` is exactly it. What is no plain file is not.
fn is_same(generation: impl AsFd, entry: &Entry) -> nix::Result<bool> {
    // Opening must neither follow a link nor wait for the other end of a pipe.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match fcntl::openat(generation, &*entry.name, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        // EAGAIN: its owner has a lease on it, and would have us wait.
        Err(Errno::ELOOP | Errno::ENXIO | Errno::ENOENT | Errno::EAGAIN) => return Ok(false),
        Err(Errno::EACCES) => {
            // Publishing it again heals, but an unchanged machine should write nothing.
            tracing::warn!(
                "published secret {} can't be read to compare it, so it is published anew (root \
                 needs CAP_DAC_READ_SEARCH for it)",
                entry.name
            );
            return Ok(false);
        }
        Err(errno) => return Err(errno),
    };
    let found = stat::fstat(&file)?;
    let alike = is(&found, SFlag::S_IFREG)
        && found.st_uid == entry.uid
        && found.st_gid == entry.gid
        && found.st_mode & 0o7777 == entry.mode
        && u64::try_from(found.st_size) == Ok(entry.bytes.len() as u64);
    Ok(alike && has_bytes(file, &entry.bytes)?)
}

/// Whether `file` holds just `bytes`. An ordinary comparison: it tells its duration to root only.
fn has_bytes(mut file: File, bytes: &[u8]) -> nix::Result<bool> {
    let mut found = Zeroizing::new(vec![0; bytes.len()]);
    match file.read_exact(&mut found) {
        Ok(()) => Ok(*found == bytes),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(Errno::try_from(error).unwrap_or(Errno::EIO)),
    }
}
