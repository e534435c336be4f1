//! What differs between a published generation and the set that should be.

use std::{
    collections::BTreeMap,
    ffi::OsString,
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

use super::{
    Entry,
    mark::{Holder, has_content},
};
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

/// What a new set makes different.
pub(super) struct Difference {
    pub changes: Changes,
    /// The names of the secrets of the new set whose bytes did not stand there before.
    pub new_bytes: Vec<String>,
}

impl Difference {
    /// What `set` makes different where nothing was.
    pub(super) fn all_added(set: &[Entry]) -> Self {
        let mut added: Vec<_> = set.iter().map(|entry| entry.name.clone()).collect();
        added.sort_unstable();
        let new_bytes = added.clone();
        Self { changes: Changes { added, ..Changes::default() }, new_bytes }
    }
}

/// Compares an open generation with `set`; `None` where there is nothing to do.
pub(super) fn compare(generation: &OwnedFd, set: &[Entry]) -> nix::Result<Option<Difference>> {
    let (mut changes, mut new_bytes) = (Changes::default(), Vec::new());
    let present = names(generation)?;
    for entry in set {
        if !present.iter().any(|name| *name == *entry.name) {
            changes.added.push(entry.name.clone());
            new_bytes.push(entry.name.clone());
            continue;
        }
        match likeness(generation, entry)? {
            Likeness::Same => {}
            Likeness::Bytes => changes.changed.push(entry.name.clone()),
            Likeness::None => {
                changes.changed.push(entry.name.clone());
                new_bytes.push(entry.name.clone());
            }
        }
    }
    changes.added.sort_unstable();
    changes.changed.sort_unstable();
    changes.removed = present
        .iter()
        .filter(|name| !set.iter().any(|entry| **name == *entry.name))
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    let unchanged = folder_stands(generation)? && changes == Changes::default();
    Ok((!unchanged).then_some(Difference { changes, new_bytes }))
}

/// The first thing about an open generation that is not as digests and holders say; none where all is.
pub(super) fn deviation(
    generation: &OwnedFd,
    digests: &BTreeMap<String, String>,
    holders: &BTreeMap<String, Holder>,
) -> nix::Result<Option<String>> {
    let present = names(generation)?;
    let is_known = |name: &&OsString| name.to_str().is_some_and(|name| holders.contains_key(name));
    if !folder_stands(generation)? || !present.iter().all(|name| is_known(&name)) {
        return Ok(Some("the published set".into()));
    }
    for (name, holder) in holders {
        let stands = match (digests.get(name), find(generation, name)?) {
            (Some(digest), Some(found)) if found.holder == *holder => {
                has_content(found.file, found.length, digest)?
            }
            _ => false,
        };
        if !stands {
            return Ok(Some(name.clone()));
        }
    }
    Ok(None)
}

/// Whether the directory of a set is as it was made: nobody else can change what is in it.
fn folder_stands(generation: &OwnedFd) -> nix::Result<bool> {
    let folder = stat::fstat(generation)?;
    Ok(folder.st_mode & 0o7777 == PASS_THROUGH.bits() && folder.st_uid == geteuid().as_raw())
}

/// A plain file of a generation.
struct Found {
    file: File,
    holder: Holder,
    /// In bytes.
    length: u64,
}

/// The file of a secret in `generation`, if it is a plain one.
fn find(generation: impl AsFd, name: &str) -> nix::Result<Option<Found>> {
    // Opening must neither follow a link nor wait for the other end of a pipe.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match fcntl::openat(generation, name, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        // EAGAIN: its owner has a lease on it, and would have us wait.
        Err(Errno::ELOOP | Errno::ENXIO | Errno::ENOENT | Errno::EAGAIN) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let found = stat::fstat(&file)?;
    let holder = Holder { uid: found.st_uid, gid: found.st_gid, mode: found.st_mode & 0o7777 };
    let length = u64::try_from(found.st_size).unwrap_or(u64::MAX);
    Ok(is(&found, SFlag::S_IFREG).then_some(Found { file, holder, length }))
}

/// The text of a file of ours that everybody may read and nobody else may write.
pub(super) fn public_text(generation: &OwnedFd, name: &str) -> nix::Result<Option<String>> {
    let Some(Found { file, holder, length }) = find(generation, name)? else { return Ok(None) };
    if holder.uid != stat::fstat(generation)?.st_uid || holder.mode != 0o444 {
        return Ok(None);
    }
    let mut text = String::new();
    let read = file.take(length).read_to_string(&mut text);
    read.map_err(|error| Errno::try_from(error).unwrap_or(Errno::EIO))?;
    Ok(Some(text))
}

/// How much of a secret stands already.
enum Likeness {
    /// All of it.
    Same,
    /// The bytes, with another owner, group or mode.
    Bytes,
    /// Nothing, or what can't be told.
    None,
}

/// How the file of `entry` in `generation` is like it. What is no plain file is not.
fn likeness(generation: impl AsFd, entry: &Entry) -> nix::Result<Likeness> {
    let found = match find(generation, &entry.name) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(Likeness::None),
        Err(Errno::EACCES) => {
            // Publishing it again heals, but an unchanged machine should write nothing.
            tracing::warn!(
                "published secret {} can't be read to compare it, so it is published anew (root \
                 needs CAP_DAC_READ_SEARCH for it)",
                entry.name
            );
            return Ok(Likeness::None);
        }
        Err(errno) => return Err(errno),
    };
    if found.length != entry.bytes.len() as u64 || !has_bytes(found.file, &entry.bytes)? {
        return Ok(Likeness::None);
    }
    let holder = Holder { uid: entry.uid, gid: entry.gid, mode: entry.mode };
    Ok(if found.holder == holder { Likeness::Same } else { Likeness::Bytes })
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
