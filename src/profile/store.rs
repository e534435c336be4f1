//! The state directory: one profile per key, `<key>.toml`, and the records of what is under way and of
//! what became of PINs.
//!
//! What can't be read is an error, never "no profile": only a name that isn't there, in a
//! directory that could be read, is that.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::{
        fd::AsFd,
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, open, openat},
    sys::stat::Mode,
    unistd::geteuid,
};
use zeroize::Zeroizing;

use super::{MAX_SIZE, Profile, Version};
use crate::{
    error::{Class, Error, Result},
    system::runtime_dir::is_ram,
};

const RESTORE: &str = "Restore it from a backup; it is never replaced.";

/// The state directory, held open from [`Store::open`] on if it was there.
pub struct Store {
    pub(super) path: PathBuf,
    pub(super) dir: Option<File>,
}

/// A profile that was read, and what the operator should be told about the file.
#[derive(Debug)]
pub struct Loaded {
    /// The profile.
    pub profile: Profile,
    /// A warning, as one or two sentences.
    pub warning: Option<String>,
}

impl Store {
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

    /// The file of the profile of key `name`.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.toml"))
    }

    /// Reads the profile of key `name`; none if there is none.
    pub fn load(&self, name: &str) -> Result<Option<Loaded>> {
        check_name(name)?;
        match &self.dir {
            Some(dir) => self.load_file(dir, OsStr::new(&format!("{name}.toml"))),
            None => Ok(None),
        }
    }

    /// Reads every profile in the directory, by its key's name. One that can't be read stands
    /// there with its error; it may be sealed to any card.
    pub fn profiles(&self) -> Result<BTreeMap<String, Result<Loaded>>> {
        let Some(dir) = &self.dir else {
            return Ok(BTreeMap::new());
        };
        let mut profiles = BTreeMap::new();
        for name in self.names()? {
            let key = match name.strip_suffix(".toml") {
                Some(key) if !key.is_empty() && !key.starts_with('.') => key.to_owned(),
                _ => continue,
            };
            // None: it was taken away since the names were read.
            if let Some(loaded) = self.load_file(dir, OsStr::new(&name)).transpose() {
                profiles.insert(key, loaded);
            }
        }
        Ok(profiles)
    }

    fn load_file(&self, dir: &File, name: &OsStr) -> Result<Option<Loaded>> {
        let path = self.path.join(name);
        let tried = format!("reading profile {}", path.display());
        let Some((file, metadata)) = open_ours(dir, name, &tried)? else { return Ok(None) };
        let profile = read(&file, &tried)?;
        let warning = if profile.version() == Version::V1 {
            check_secret(&metadata, &tried)?;
            Some(format!(
                "Profile {} is of version 1, written by cryptkey: whoever reads the file can \
                 compute its PIV shares without a card. Treat every copy as a secret until the \
                 key is resealed.",
                path.display()
            ))
        } else {
            None
        };
        Ok(Some(Loaded { profile, warning }))
    }
}

/// Opens a file in the state directory; none where it is not there.
fn open_ours(dir: &File, name: &OsStr, tried: &str) -> Result<Option<(File, Metadata)>> {
    let opened = open_itself(dir, name, tried)?;
    if let Some((_, metadata)) = &opened {
        check_owner(metadata, tried, 0o600)?;
    }
    Ok(opened)
}

/// Opens a regular file that is no link; none where it is not there.
fn open_itself(
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

/// Reads a profile of either version from a file that an operator names. Its owner may be anybody; it
/// is no link, which somebody else could have put there.
pub fn load_file(path: &Path) -> Result<Loaded> {
    let tried = format!("reading profile {}", path.display());
    let named = |error| Error { advice: "Give the name of a profile's file.".into(), ..error };
    let opened = open_itself(AT_FDCWD, path, &tried).map_err(named)?;
    let Some((file, metadata)) = opened else {
        return Err(named(failed(tried, Errno::ENOENT, "")));
    };
    let profile = read(&file, &tried).map_err(named)?;
    let is_secret = profile.version() == Version::V1;
    let warning = (is_secret && metadata.mode() & 0o077 != 0).then(|| {
        format!(
            "Profile {} is of version 1, and others may read it: whoever did can compute its PIV \
             shares without a card. Rotate the key once it is imported.",
            path.display()
        )
    });
    Ok(Loaded { profile, warning })
}

/// Reads a profile that the configuration ships. It may be world-readable, so it is version 2.
pub fn load_shipped(path: &Path) -> Result<Profile> {
    let tried = format!("reading shipped profile {}", path.display());
    let advice = "Put the sealed profile there, or correct `profile` in the configuration.";
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = open(path, flags, Mode::empty())
        .map(File::from)
        .map_err(|errno| failed(tried.clone(), errno, advice))?;
    let metadata = file.metadata().map_err(|error| failed(tried.clone(), error, advice))?;
    if !metadata.is_file() {
        return Err(Error::new(Class::Profile, tried, "it is not a regular file", advice));
    }
    let profile = read(&file, &tried)?;
    if profile.version() == Version::V1 {
        return Err(Error::new(
            Class::Profile,
            tried,
            "a profile of version 1, which opens without a card to whoever reads it",
            "Take it out of the configuration, treat every copy as exposed, and reseal or rotate \
             the key.",
        ));
    }
    Ok(profile)
}

/// Reads the whole file, not more than a profile may have.
fn read(file: &File, tried: &str) -> Result<Profile> {
    let bytes =
        read_at_most(file, MAX_SIZE).map_err(|error| failed(tried.to_owned(), error, RESTORE))?;
    std::str::from_utf8(&bytes)
        .map_err(|_| "it is not UTF-8 text".to_owned())
        .and_then(Profile::parse)
        .map_err(|reason| damaged(tried.to_owned(), &reason))
}

/// Reads a file; of one that is longer than `max`, one byte more than that.
fn read_at_most(file: &File, max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let size = usize::try_from(file.metadata()?.len());
    // A version 1 profile is a secret: with this much room the buffer never moves and leaves a copy.
    let room = size.unwrap_or(max).min(max) + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(room as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The names in a directory, sorted.
pub(super) fn names(dir: &File) -> nix::Result<Vec<OsString>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut names = Vec::new();
    for entry in Dir::openat(dir, ".", flags, Mode::empty())?.iter() {
        names.push(OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned());
    }
    names.sort();
    Ok(names)
}

/// Refuses names that would lead out of the directory or hide the file.
pub(super) fn check_name(name: &str) -> Result<()> {
    let safe = !name.is_empty()
        && !name.starts_with('.')
        && name.chars().all(|c| c != '/' && !c.is_control())
        && name.len() <= 240;
    if safe {
        return Ok(());
    }
    Err(Error::new(
        Class::Spec,
        format!("naming the profile of key {name:?}"),
        "it is not a safe file name",
        "Give the key a name of letters, digits, dots, dashes and underscores.",
    ))
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

/// Refuses a version 1 file that others may read.
fn check_secret(metadata: &Metadata, tried: &str) -> Result<()> {
    let mode = metadata.mode() & 0o7777;
    if mode == 0o600 {
        return Ok(());
    }
    Err(Error::new(
        Class::Permission,
        tried,
        format!("a profile of version 1 with mode {mode:04o}"),
        "Whoever reads it can compute its PIV shares without a card: `chmod 0600` it, and rotate \
         the key if anybody else could read it.",
    ))
}

fn damaged(tried: String, reason: &str) -> Error {
    Error::new(Class::Profile, tried, format!("the file is damaged: {reason}"), RESTORE)
}

/// The error for what the operating system said.
pub(super) fn failed(tried: String, error: impl Into<io::Error>, advice: &str) -> Error {
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
