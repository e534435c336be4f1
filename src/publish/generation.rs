//! The generations of one key: making one, putting it in place, removing them.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use nix::{
    errno::Errno,
    fcntl::{self, AtFlags, OFlag},
    sys::stat::{self, Mode},
    unistd::{self, Gid, Uid, UnlinkatFlags},
};

use super::{
    Entry, PublishedFile,
    compare::{self, Difference},
    mark::Holder,
    pending,
};
use crate::{
    error::Result,
    system::runtime_dir::{PASS_THROUGH, RuntimeDir, names, open_dir},
};

/// The directory of all generations, below `RUNTIMEDIR`. No key can have its name.
pub(super) const GENERATIONS: &str = ".generations";
/// Hexadecimal digits after a generation's key: 64 random bits, so that no two runs meet.
const UNIQUE_DIGITS: usize = 16;
/// What a new symlink is called until it takes the place of the old one.
const LINK_SUFFIX: &str = ".link";
/// What the mark of a generation is called, after its name.
pub(super) const MARK_SUFFIX: &str = ".mark";
/// What it is called while it is written.
pub(super) const NEW_MARK_SUFFIX: &str = ".mark.new";
/// How often `.generations` is made anew when another key's scrub removes it, empty, just between.
const ATTEMPTS: usize = 100;

/// The open directory of generations, seen from one key.
pub(super) struct Generations<'a> {
    dir: &'a RuntimeDir,
    key: &'a str,
    fd: OwnedFd,
}

/// A file, its owner, and how many bytes it takes.
pub(super) struct Large {
    pub path: PathBuf,
    pub uid: u32,
    pub room: u64,
}

/// Whether a generation called `name` is one of `key`. The digits have a fixed number, so that a
/// key's name may end in what looks like another's generation.
pub(super) fn belongs_to(name: &str, key: &str) -> bool {
    name.strip_prefix(key).and_then(|rest| rest.strip_prefix('.')).is_some_and(|unique| {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        unique.len() == UNIQUE_DIGITS && unique.bytes().all(hex)
    })
}

impl<'a> Generations<'a> {
    /// Opens the directory of generations; `None` where it does not exist.
    pub(super) fn open(dir: &'a RuntimeDir, key: &'a str) -> Result<Option<Self>> {
        let fd = dir.existing_subdir(GENERATIONS)?;
        Ok(fd.map(|fd| Self { dir, key, fd }))
    }

    /// Opens the directory of generations, making it where it does not exist.
    pub(super) fn open_or_create(dir: &'a RuntimeDir, key: &'a str) -> Result<Self> {
        let fd = dir.subdir(GENERATIONS, PASS_THROUGH)?;
        Ok(Self { dir, key, fd })
    }

    /// What differs between the generation `name` and `set`; `None` where nothing does.
    pub(super) fn compare(&self, name: &str, set: &[Entry]) -> nix::Result<Option<Difference>> {
        match open_dir(&self.fd, name) {
            Ok(generation) => compare::compare(&generation, set),
            // A name that leads nowhere publishes nothing.
            Err(Errno::ENOENT) => Ok(Some(Difference::all_added(set))),
            Err(errno) => Err(errno),
        }
    }

    /// The first thing about the generation `name` that is not as digests and holders say.
    pub(super) fn deviation(
        &self,
        name: &str,
        digests: &BTreeMap<String, String>,
        holders: &BTreeMap<String, Holder>,
    ) -> nix::Result<Option<String>> {
        compare::deviation(&open_dir(&self.fd, name)?, digests, holders)
    }

    /// The files of the generation `name`, sorted by name, without reading them.
    pub(super) fn list(&self, name: &str) -> nix::Result<Vec<PublishedFile>> {
        let generation = open_dir(&self.fd, name)?;
        let file = |name: std::ffi::OsString| {
            let found = stat::fstatat(&generation, &*name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            Ok(PublishedFile {
                name: name.to_string_lossy().into_owned(),
                uid: found.st_uid,
                gid: found.st_gid,
                mode: found.st_mode & 0o7777,
                length: u64::try_from(found.st_size).unwrap_or_default(),
            })
        };
        names(&generation)?.into_iter().map(file).collect()
    }

    /// The text of a file of the generation `name` that everybody may read.
    pub(super) fn public_text(&self, name: &str, file: &str) -> nix::Result<Option<String>> {
        compare::public_text(&open_dir(&self.fd, name)?, file)
    }

    /// The file that takes most room, of all keys; and how much all of them take.
    pub(super) fn largest(&self) -> nix::Result<(Option<Large>, u64)> {
        let (mut largest, mut all) = (None::<Large>, 0);
        for name in names(&self.fd)? {
            // The rest is no directory, and nobody's but ours.
            let Ok(generation) = open_dir(&self.fd, &*name) else { continue };
            for file in names(&generation)? {
                let found = stat::fstatat(&generation, &*file, AtFlags::AT_SYMLINK_NOFOLLOW)?;
                let room = u64::try_from(found.st_blocks).unwrap_or_default() * 512;
                all += room;
                if largest.as_ref().is_none_or(|largest| room > largest.room) {
                    let path = self.dir.path().join(GENERATIONS).join(&name).join(file);
                    largest = Some(Large { path, uid: found.st_uid, room });
                }
            }
        }
        Ok((largest, all))
    }

    /// Writes `set` to a new generation, with what is pending once it is published, and gives its
    /// name. Where that fails nothing is left, and the error says what could not be done.
    ///
    /// Nothing is synced: on a RAM file system there is nothing to sync to, and a set that is lost
    /// with the machine's power is made again at the next boot.
    pub(super) fn write(
        &mut self,
        set: &[Entry],
        pending: &[String],
    ) -> std::result::Result<String, (String, Errno)> {
        let name = unique(self.key).map_err(|errno| ("choose a name".to_owned(), errno))?;
        let made = self.make_directory(&name).and_then(|generation| {
            for entry in set {
                write_file(&generation, entry)
                    .map_err(|errno| (format!("write secret {}", entry.name), errno))?;
            }
            pending::write(&self.fd, &name, pending)
                .map_err(|errno| ("note whose bytes are new".to_owned(), errno))?;
            // Until now nobody but us could pass through it, to whatever name.
            stat::fchmod(&generation, PASS_THROUGH)
                .map_err(|errno| ("open the new set to its readers".to_owned(), errno))
        });
        match made {
            Ok(()) => Ok(name),
            Err(fault) => {
                self.clean_up(&name);
                Err(fault)
            }
        }
    }

    /// Makes the generation `name` the published one, in one rename. Where that fails `name` is
    /// removed.
    pub(super) fn flip(&self, name: &str) -> nix::Result<()> {
        let link = format!("{name}{LINK_SUFFIX}");
        let target = format!("{GENERATIONS}/{name}");
        let flipped = unistd::symlinkat(&*target, &self.fd, &*link)
            .and_then(|()| fcntl::renameat(&self.fd, &*link, self.dir, self.key));
        if flipped.is_err() {
            self.clean_up(&link);
            self.clean_up(name);
        }
        flipped
    }

    /// What is pending with the generation `name`.
    pub(super) fn pending(&self, name: &str) -> nix::Result<Vec<String>> {
        pending::read(&self.fd, name)
    }

    /// Nothing is pending any more with the generation `name`.
    pub(super) fn nothing_pending(&self, name: &str) -> nix::Result<()> {
        self.remove(&pending::file_of(name))
    }

    /// Removes every generation of the key but `keep`, which keeps its mark and what is pending, and what
    /// killed runs left of it. True where there was something to remove.
    pub(super) fn remove_all_but(&self, keep: Option<&str>) -> nix::Result<bool> {
        let mut removed = false;
        for name in names(&self.fd)? {
            // What is not UTF-8 is no name of ours.
            let Some(name) = name.to_str() else { continue };
            let suffixes = [LINK_SUFFIX, NEW_MARK_SUFFIX, MARK_SUFFIX, pending::SUFFIX];
            let generation = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
            let kept = [MARK_SUFFIX, pending::SUFFIX].iter().find_map(|end| name.strip_suffix(end));
            let is_kept = Some(kept.unwrap_or(name)) == keep;
            if !is_kept && belongs_to(generation.unwrap_or(name), self.key) {
                self.remove(name)?;
                removed = true;
            }
        }
        Ok(removed)
    }

    /// The first fault is the one to report; what can't be removed now, the next run removes.
    pub(super) fn clean_up(&self, name: &str) {
        if let Err(errno) = self.remove(name).and_then(|()| self.nothing_pending(name)) {
            let path = self.dir.path().join(GENERATIONS).join(name);
            tracing::debug!("{} is left to the next run: {errno}", path.display());
        }
    }

    /// Removes a generation, or the symlink to one. That it is gone already is no fault.
    pub(super) fn remove(&self, name: &str) -> nix::Result<()> {
        let gone = |result| match result {
            Err(Errno::ENOENT) => Ok(()),
            other => other,
        };
        let generation = match open_dir(&self.fd, name) {
            Ok(generation) => generation,
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                return gone(unistd::unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir));
            }
            Err(errno) => return gone(Err(errno)),
        };
        for file in names(&generation)? {
            gone(unistd::unlinkat(&generation, &*file, UnlinkatFlags::NoRemoveDir))?;
        }
        gone(unistd::unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir))
    }

    fn make_directory(&mut self, name: &str) -> std::result::Result<OwnedFd, (String, Errno)> {
        let fault = |errno| ("make a directory for the new set".to_owned(), errno);
        for _ in 1..ATTEMPTS {
            match stat::mkdirat(&self.fd, name, Mode::S_IRWXU) {
                Ok(()) => break,
                Err(Errno::ENOENT) => {
                    let again = self.dir.subdir(GENERATIONS, PASS_THROUGH);
                    self.fd = again.map_err(|error| (error.to_string(), Errno::ENOENT))?;
                }
                Err(errno) => return Err(fault(errno)),
            }
        }
        open_dir(&self.fd, name).map_err(fault)
    }
}

impl AsFd for Generations<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn write_file(generation: &OwnedFd, entry: &Entry) -> nix::Result<()> {
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = fcntl::openat(generation, &*entry.name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let mut file = File::from(fd);
    file.write_all(&entry.bytes).map_err(|error| Errno::try_from(error).unwrap_or(Errno::EIO))?;
    // The mode first: a file of ours needs no capability for it, and the directory is still closed.
    stat::fchmod(&file, Mode::from_bits_truncate(entry.mode))?;
    let found = stat::fstat(&file)?;
    // Asked only where it changes something: an ordinary user may run this for itself.
    if (found.st_uid, found.st_gid) != (entry.uid, entry.gid) {
        let (owner, group) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        unistd::fchown(&file, Some(owner), Some(group))?;
    }
    Ok(())
}

fn unique(key: &str) -> nix::Result<String> {
    let mut bytes = [0; UNIQUE_DIGITS / 2];
    getrandom::fill(&mut bytes).map_err(|_| Errno::EIO)?;
    Ok(format!("{key}.{:0UNIQUE_DIGITS$x}", u64::from_ne_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_generations_of_keys_with_similar_names_apart() {
        let digits = "0123456789abcdef";
        assert!(belongs_to(&format!("a.{digits}"), "a"));
        assert!(belongs_to(&unique("a.b").unwrap(), "a.b"));
        for (name, key) in [
            (format!("a.b.{digits}"), "a"),
            (format!("a.{digits}.{digits}"), "a"),
            (format!("ab.{digits}"), "a"),
            (format!("a.{digits}0"), "a"),
            (format!("a.{}", &digits[1..]), "a"),
            (format!("a.{}", digits.to_uppercase()), "a"),
            (format!("a/../b.{digits}"), "a"),
            ("a".to_owned(), "a"),
        ] {
            assert!(!belongs_to(&name, key), "{name} of {key}");
        }
        assert!(belongs_to(&format!("a.{digits}.{digits}"), &format!("a.{digits}")));
    }
}
