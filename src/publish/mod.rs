//! Writes the secrets of a key to a RAM file system, whole sets at a time.
//!
//! `RUNTIMEDIR/<key>` is a symlink to a generation, `RUNTIMEDIR/.generations/<key>.<unique>`, which
//! holds one file per secret. A new set is prepared in a generation of its own and then takes the
//! place of the old one in a single rename, so that whoever opens the directory `<key>` reads the
//! old set or the new, never a mix.
//!
//! Beside each generation is the list of secrets whose bytes are new to those who read them before
//! (`pending.rs`). It comes with the same rename, and lasts until they have been told.
//! Beside a generation there may be a mark of what it was made of (`mark`).
//!
//! Every function here expects that the caller holds the key's lock (`system::lock`): leftovers of
//! the same key are taken for those of a killed run.

mod compare;
mod generation;
mod mark;
mod pending;

use std::{collections::BTreeSet, fmt, path::Path};

use nix::{
    errno::Errno,
    fcntl::{self, AtFlags},
    sys::{
        stat::{self, SFlag},
        statvfs,
    },
    unistd::{self, UnlinkatFlags},
};
use zeroize::Zeroizing;

pub use compare::Changes;
pub use mark::{
    Holder, Mark, OUTPUTS, Standing, deviation, digest, digests, leave_mark, remove_mark, standing,
};

use crate::{
    error::{Class, Error, Result},
    system::runtime_dir::{RuntimeDir, io_advice, is},
};
use compare::Difference;
use generation::{GENERATIONS, Generations};

/// One secret to publish.
pub struct Entry {
    /// The file's name: a safe file name, unique in its set.
    pub name: String,
    /// The file's content, encoded.
    pub bytes: Zeroizing<Vec<u8>>,
    /// The file's owner.
    pub uid: u32,
    /// The file's group.
    pub gid: u32,
    /// The file's permission bits, 0 to 0o777.
    pub mode: u32,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, uid, gid, mode, .. } = self;
        write!(f, "Entry({name} {uid}:{gid} {mode:04o}, bytes hidden)")
    }
}

/// What publishing a set did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The very same set stood already: nothing was written.
    Unchanged,
    /// The new set stands.
    Changed(Changes),
}

/// What `status` says of a published secret: everything but its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedFile {
    /// The file's name.
    pub name: String,
    /// The file's owner.
    pub uid: u32,
    /// The file's group.
    pub gid: u32,
    /// The file's permission bits.
    pub mode: u32,
    /// The file's length in bytes.
    pub length: u64,
}

/// Makes `set` the published set of `key` below `runtime_dir`, which is created (0751) where it
/// does not exist. An empty set is one too. Before anything is written, `before` is run; if it fails,
/// nothing is.
///
/// Where bytes are new, that is [`pending`] from then on. Of a set that takes no other one's place
/// it is only if it `may_be_missed`: if there may be who has looked for it already.
///
/// # Errors
/// `Class::Publish`, and the set that was published before still stands: where the directory can't
/// be used (see [`RuntimeDir`]), `<key>` is something that this program did not make, or the new set
/// can't be written. Only where the error says so does the new set stand: when what it replaced
/// could not be removed.
pub fn publish(
    runtime_dir: &Path,
    key: &str,
    set: &[Entry],
    may_be_missed: bool,
    before: impl FnOnce() -> Result<()>,
) -> Result<Outcome> {
    let tried = format!("publishing key {key} in {}", runtime_dir.display());
    let fault = |found: String, errno| {
        Error::new(Class::Publish, &*tried, found, io_advice(errno, runtime_dir))
    };
    validate(&tried, key, set)?;
    let dir = RuntimeDir::open_or_create(runtime_dir)?;
    let current = current(&dir, key, &tried)?;
    let mut generations = Generations::open_or_create(&dir, key)?;
    // First of all, so that their room is free again.
    generations
        .remove_all_but(current.as_deref())
        .map_err(|errno| fault(cannot("remove what a killed run left", errno), errno))?;
    let difference = match &current {
        Some(name) => generations.compare(name, set),
        None => Ok(Some(Difference::all_added(set))),
    };
    let Some(difference) =
        difference.map_err(|errno| fault(cannot("read the published set", errno), errno))?
    else {
        return Ok(Outcome::Unchanged);
    };
    let pending = match &current {
        Some(name) => generations.pending(name),
        None => Ok(Vec::new()),
    };
    let mut pending =
        pending.map_err(|errno| fault(cannot("read what is pending", errno), errno))?;
    if current.is_some() || may_be_missed {
        pending.extend(difference.new_bytes);
    }
    pending.retain(|name| set.iter().any(|entry| entry.name == *name));
    pending.sort_unstable();
    pending.dedup();
    before()?;
    let new = generations.write(set, &pending).map_err(|(what, errno)| {
        let found = format!("{}{}", cannot(&what, errno), room(&dir, &generations, errno, set));
        fault(format!("{found}; what was published before still stands"), errno)
    })?;
    generations.flip(&new).map_err(|errno| {
        let found = cannot("put the new set in place", errno);
        fault(format!("{found}; what was published before still stands"), errno)
    })?;
    generations.remove_all_but(Some(&new)).map_err(|errno| {
        let found = cannot("remove the set that it replaced", errno);
        fault(format!("the new set stands, but {found}"), errno)
    })?;
    Ok(Outcome::Changed(difference.changes))
}

/// Removes everything published of `key`; false where nothing was.
///
/// The name goes first, so that no reader finds half a set. The files are unlinked, not
/// overwritten: their pages are RAM, which the kernel clears before it hands them to anybody, and a
/// page that has been swapped out would not be reached by writing to the file.
///
/// # Errors
/// `Class::Publish` where the directory can't be used, `<key>` is something that this program did
/// not make, or something can't be removed.
pub fn scrub(runtime_dir: &Path, key: &str) -> Result<bool> {
    let tried = format!("scrubbing key {key} from {}", runtime_dir.display());
    let fault = |errno: Errno| {
        let found = cannot("remove it", errno);
        Error::new(Class::Publish, &*tried, found, io_advice(errno, runtime_dir))
    };
    validate(&tried, key, &[])?;
    let Some(dir) = RuntimeDir::open(runtime_dir)? else {
        return Ok(false);
    };
    let named = current(&dir, key, &tried)?.is_some();
    if named {
        unistd::unlinkat(&dir, key, UnlinkatFlags::NoRemoveDir).map_err(fault)?;
    }
    let Some(generations) = Generations::open(&dir, key)? else {
        return Ok(named);
    };
    let removed = generations.remove_all_but(None).map_err(fault)?;
    match unistd::unlinkat(&dir, GENERATIONS, UnlinkatFlags::RemoveDir) {
        // Other keys' generations are there.
        Ok(()) | Err(Errno::ENOENT | Errno::ENOTEMPTY) => Ok(named || removed),
        Err(errno) => Err(fault(errno)),
    }
}

/// What is published of `key`, by name and without reading it; `None` where nothing is.
///
/// # Errors
/// `Class::Publish` where it can't be told.
pub fn published(runtime_dir: &Path, key: &str) -> Result<Option<Vec<PublishedFile>>> {
    with_current(runtime_dir, key, "looking at", |generations, name| {
        generations.list(name).map(Some)
    })
}

/// The text of a published file that everybody may read, such as a public half; none where there is no
/// such file, or it is not of this program's user.
///
/// # Errors
/// `Class::Publish` where it can't be told.
pub fn public_text(runtime_dir: &Path, key: &str, file: &str) -> Result<Option<String>> {
    with_current(runtime_dir, key, "reading what is public of", |generations, name| {
        generations.public_text(name, file)
    })
}

/// The published secrets of `key` whose bytes are new, and whose readers were not told yet: their
/// names, as whoever published them wrote them down.
///
/// # Errors
/// `Class::Publish` where it can't be told.
pub fn pending(runtime_dir: &Path, key: &str) -> Result<Vec<String>> {
    with_current(runtime_dir, key, "reading what is pending of", |generations, name| {
        generations.pending(name)
    })
}

/// Forgets what is [`pending`] of `key`: all readers have been told.
///
/// # Errors
/// `Class::Publish` where that can't be done.
pub fn nothing_pending(runtime_dir: &Path, key: &str) -> Result<()> {
    with_current(runtime_dir, key, "forgetting what was pending of", |generations, name| {
        generations.nothing_pending(name)
    })
}

/// Does something with the published generation of `key`; nothing where there is none.
fn with_current<T: Default>(
    runtime_dir: &Path,
    key: &str,
    doing: &str,
    act: impl FnOnce(&Generations, &str) -> nix::Result<T>,
) -> Result<T> {
    let tried = format!("{doing} key {key} in {}", runtime_dir.display());
    validate(&tried, key, &[])?;
    let Some(dir) = RuntimeDir::open(runtime_dir)? else {
        return Ok(T::default());
    };
    let Some(name) = current(&dir, key, &tried)? else {
        return Ok(T::default());
    };
    let Some(generations) = Generations::open(&dir, key)? else {
        return Ok(T::default());
    };
    act(&generations, &name).or_else(|errno| match errno {
        // Another run has just replaced it, or somebody removed it: nothing stands there now.
        Errno::ENOENT => Ok(T::default()),
        _ => Err(Error::new(Class::Publish, tried, errno.desc(), io_advice(errno, runtime_dir))),
    })
}

/// What `RUNTIMEDIR/<key>` is.
enum Named {
    Nothing,
    /// A symlink of ours, to the generation of this name.
    Generation(String),
    /// Something that this program did not make.
    Foreign(String),
}

fn look(dir: &RuntimeDir, key: &str) -> nix::Result<Named> {
    let found = match stat::fstatat(dir, key, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => return Ok(Named::Nothing),
        other => other?,
    };
    if !is(&found, SFlag::S_IFLNK) {
        let is_directory = is(&found, SFlag::S_IFDIR);
        let what = if is_directory { "a directory" } else { "a file" };
        return Ok(Named::Foreign(what.into()));
    }
    let target = fcntl::readlinkat(dir, key)?;
    let name = target
        .to_str()
        .and_then(|target| target.strip_prefix(GENERATIONS)?.strip_prefix('/'))
        .filter(|name| generation::belongs_to(name, key));
    Ok(match name {
        Some(name) => Named::Generation(name.to_owned()),
        None => Named::Foreign(format!("a symlink to {}", target.display())),
    })
}

/// The generation that `<key>` names; `None` where `<key>` does not exist.
fn current(dir: &RuntimeDir, key: &str, tried: &str) -> Result<Option<String>> {
    let path = dir.path().join(key);
    match look(dir, key) {
        Ok(Named::Nothing) => Ok(None),
        Ok(Named::Generation(name)) => Ok(Some(name)),
        Ok(Named::Foreign(what)) => Err(Error::new(
            Class::Publish,
            tried,
            format!("{} is {what}, which this program did not make", path.display()),
            "See what it is and move it away, then run again.",
        )),
        Err(errno) => Err(Error::new(
            Class::Publish,
            tried,
            cannot("look at what is published", errno),
            io_advice(errno, &path),
        )),
    }
}

/// The spec allows only safe names; a path that got past it must not be followed here.
fn validate(tried: &str, key: &str, set: &[Entry]) -> Result<()> {
    let safe =
        |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
    let names: BTreeSet<_> = set.iter().map(|entry| &*entry.name).collect();
    if safe(key) && names.iter().all(|name| safe(name)) && names.len() == set.len() {
        return Ok(());
    }
    Err(Error::new(
        Class::Publish,
        tried,
        "a key or secret has no safe file name, or two secrets have the same",
        "Correct the names of the keys and secrets in the configuration.",
    ))
}

fn cannot(what: &str, errno: Errno) -> String {
    format!("could not {what}: {}", errno.desc())
}

/// No secret, and no note of a generation, takes as much room.
const LARGEST: u64 = 64 << 10;

/// What the set needs, what is there, and who has the room, where a lack of it is the fault.
fn room(dir: &RuntimeDir, generations: &Generations, errno: Errno, set: &[Entry]) -> String {
    if !matches!(errno, Errno::ENOSPC | Errno::EDQUOT) {
        return String::new();
    }
    let Ok(system) = statvfs::fstatvfs(dir) else {
        return String::new();
    };
    let used =
        system.blocks().saturating_sub(system.blocks_free()).saturating_mul(system.fragment_size());
    let (largest, listed) = generations.largest().unwrap_or_default();
    let other = used.saturating_sub(listed);
    let of = match largest {
        Some(file) if file.room > LARGEST && file.room >= other => {
            let path = file.path.display();
            format!("; user {} made {path} grow to {} bytes", file.uid, file.room)
        }
        _ if other > LARGEST => format!(
            "; {other} bytes are of files that were removed and that somebody still has open (lsof \
             +L1), or that are no secrets"
        ),
        _ => String::new(),
    };
    let block = system.fragment_size().max(1);
    let blocks = set.iter().map(|entry| (entry.bytes.len() as u64).div_ceil(block));
    format!(
        " (the new set needs {} bytes beside the old one, {} are free)",
        blocks.sum::<u64>().saturating_mul(block),
        system.blocks_available().saturating_mul(block)
    ) + &of
}
