//! The state directory: one profile per key, `<key>.toml`, and the records of what is under way and of
//! what became of PINs.
//!
//! What can't be read is an error, never "no profile": only a name that isn't there, in a
//! directory that could be read, is that.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{File, Metadata},
    ops::{Deref, DerefMut},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, open},
    sys::stat::Mode,
};

use super::{MAX_SIZE, Profile, Version};
use crate::{
    error::{Class, Error, Result},
    system::state_dir::{RESTORE, StateDir, damaged, failed, open_itself, open_ours, read_at_most},
};

/// The profiles of a state directory, and the directory itself.
pub struct Store(StateDir);

impl Deref for Store {
    type Target = StateDir;

    fn deref(&self) -> &StateDir {
        &self.0
    }
}

impl DerefMut for Store {
    fn deref_mut(&mut self) -> &mut StateDir {
        &mut self.0
    }
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
    /// As [`StateDir::open`].
    pub fn open(path: &Path) -> Result<Self> {
        StateDir::open(path).map(Self)
    }

    /// The file of the profile of key `name`.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(format!("{name}.toml"))
    }

    /// Reads the profile of key `name`; none if there is none.
    pub fn load(&self, name: &str) -> Result<Option<Loaded>> {
        check_name(name)?;
        match self.dir() {
            Some(dir) => self.load_file(dir, OsStr::new(&format!("{name}.toml"))),
            None => Ok(None),
        }
    }

    /// Reads every profile in the directory, by its key's name. One that can't be read stands
    /// there with its error; it may be sealed to any card.
    pub fn profiles(&self) -> Result<BTreeMap<String, Result<Loaded>>> {
        let Some(dir) = self.dir() else {
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
        let path = self.path().join(name);
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
