//! What is remembered of a published set: what it was made of, so that a later run can tell, without a
//! card, that it would publish the very same.
//!
//! A mark is a file for root alone beside the generation that it is about, and is called as that one
//! is. A generation is never changed, and its mark is written when the run that published it, or
//! compared it, has ended well. So a run that is killed leaves no mark, or one that is true.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Write as _},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{self, OFlag},
    sys::stat::{self, Mode, SFlag},
    unistd::geteuid,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{
    Entry, cannot, current,
    generation::{Generations, MARK_SUFFIX, NEW_MARK_SUFFIX},
    validate,
};
use crate::{
    error::{Class, Error, Result},
    system::runtime_dir::{RuntimeDir, io_advice, is},
};

/// What a mark of this program means. It is raised when the same spec and profile come to other bytes,
/// or to files that are written in another way.
pub const OUTPUTS: u32 = 1;
/// No mark is longer: so many bytes are enough for some thousand secrets.
const LONGEST: u64 = 1 << 20;

/// What a published set was made of, by digests (SHA-256, in hex).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// [`OUTPUTS`] of the program that made it.
    pub outputs: u32,
    /// What the spec says of it.
    pub spec: String,
    /// The profile that it was derived from.
    pub profile: String,
    /// The content of each of its files: its length in bytes, a colon and its digest.
    pub secrets: BTreeMap<String, String>,
}

/// Who has a published file, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The file's owner.
    pub uid: u32,
    /// The file's group.
    pub gid: u32,
    /// The file's permission bits.
    pub mode: u32,
}

/// What is known of what stands of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is published.
    Nothing,
    /// Something is, without a mark that could be read.
    Unmarked,
    /// Something is, with this mark.
    Marked(Mark),
}

/// A digest, as marks have it.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(&Sha256::digest(bytes))
}

/// The lengths and digests of a set, by name.
#[must_use]
pub fn digests(set: &[Entry]) -> BTreeMap<String, String> {
    let content = |bytes: &[u8]| format!("{}:{}", bytes.len(), digest(bytes));
    set.iter().map(|entry| (entry.name.clone(), content(&entry.bytes))).collect()
}

/// What stands of `key`, and its mark.
///
/// # Errors
/// `Class::Publish` where it can't be told.
pub fn standing(runtime_dir: &Path, key: &str) -> Result<Standing> {
    at_current(runtime_dir, key, Standing::Nothing, |generations, name| {
        Ok(match read(generations, name) {
            Some(mark) => Standing::Marked(mark),
            None => Standing::Unmarked,
        })
    })
}

/// The first thing about what is published of `key` that is not as its `mark` says, or not held as
/// `holders` say; none where all is. Every file is read.
///
/// # Errors
/// `Class::Publish` where it can't be told.
pub fn deviation(
    runtime_dir: &Path,
    key: &str,
    mark: &Mark,
    holders: &BTreeMap<String, Holder>,
) -> Result<Option<String>> {
    let nothing = Some("the published set".to_owned());
    at_current(runtime_dir, key, nothing, |generations, name| {
        generations.deviation(name, &mark.secrets, holders)
    })
}

/// Leaves a mark beside what is published of `key`, unless it is there.
///
/// # Errors
/// `Class::Publish` where it can't be written. Then the one before is there, or none.
pub fn leave_mark(runtime_dir: &Path, key: &str, mark: &Mark) -> Result<()> {
    at_current(runtime_dir, key, (), |generations, name| {
        if read(generations, name).as_ref() == Some(mark) {
            return Ok(());
        }
        let new = format!("{name}{NEW_MARK_SUFFIX}");
        let written = write(generations, &new, mark).and_then(|()| {
            fcntl::renameat(generations, &*new, generations, &*format!("{name}{MARK_SUFFIX}"))
        });
        if written.is_err() {
            generations.clean_up(&new);
        }
        written
    })
}

/// Removes the mark of what is published of `key`, if there is one.
///
/// # Errors
/// `Class::Publish` where it can't be removed.
pub fn remove_mark(runtime_dir: &Path, key: &str) -> Result<()> {
    at_current(runtime_dir, key, (), |generations, name| {
        generations.remove(&format!("{name}{MARK_SUFFIX}"))
    })
}

/// Does something about the generation of `key` that is published; `nothing` where none is.
fn at_current<T>(
    runtime_dir: &Path,
    key: &str,
    nothing: T,
    about: impl FnOnce(&Generations, &str) -> nix::Result<T>,
) -> Result<T> {
    let tried = format!("looking at key {key} in {}", runtime_dir.display());
    validate(&tried, key, &[])?;
    let Some(dir) = RuntimeDir::open(runtime_dir)? else { return Ok(nothing) };
    let Some(name) = current(&dir, key, &tried)? else { return Ok(nothing) };
    let Some(generations) = Generations::open(&dir, key)? else { return Ok(nothing) };
    about(&generations, &name).map_err(|errno| {
        let found = cannot("compare what is published with its mark", errno);
        Error::new(Class::Publish, tried, found, io_advice(errno, runtime_dir))
    })
}

/// The mark of the generation `name`. One that can't be read, is not ours or makes no sense is none.
fn read(generations: &Generations, name: &str) -> Option<Mark> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let mark = format!("{name}{MARK_SUFFIX}");
    let file = File::from(fcntl::openat(generations, &*mark, flags, Mode::empty()).ok()?);
    let found = stat::fstat(&file).ok()?;
    if !is(&found, SFlag::S_IFREG) || found.st_uid != geteuid().as_raw() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn write(generations: &Generations, name: &str, mark: &Mark) -> nix::Result<()> {
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    // Of a run that was killed.
    generations.remove(name)?;
    let fd = fcntl::openat(generations, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let text = serde_json::to_vec(mark).map_err(|_| Errno::EIO)?;
    File::from(fd).write_all(&text).map_err(|error| Errno::try_from(error).unwrap_or(Errno::EIO))
}

/// Whether the content of a file that has `length` bytes is that of a mark. What its owner has made
/// longer is not read.
pub(super) fn has_content(file: File, length: u64, content: &str) -> nix::Result<bool> {
    let Some((wanted, digest)) = content.split_once(':') else { return Ok(false) };
    if wanted != length.to_string() {
        return Ok(false);
    }
    let mut hash = Sha256::new();
    let mut bytes = Zeroizing::new([0; 4096]);
    let mut file = file.take(length);
    loop {
        match file.read(&mut *bytes) {
            Ok(0) => break,
            Ok(read) => hash.update(&bytes[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Errno::try_from(error).unwrap_or(Errno::EIO)),
        }
    }
    Ok(base16ct::lower::encode_string(&hash.finalize()) == digest)
}
