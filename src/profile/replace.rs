//! Putting a profile in the place of another one, which is kept under a dated name, or under another
//! name of its own.

use std::{fs::File, io, path::PathBuf};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat},
    sys::stat::{Mode, fstat},
    unistd::linkat,
};

use super::{
    MAX_SIZE, Profile, Version,
    store::{Store, check_name},
};
use crate::{
    error::{Class, Error, Result},
    system::{
        clock, durable,
        state_dir::{WRITABLE, failed, lock, names},
    },
};

impl Store {
    /// Writes a profile in the place of that of key `name`, which is kept as `<key>.toml.<date>Z`, a name
    /// that no profile has. The name inside of it may be another one: that of the key at another time or
    /// on another machine. Returns when all is on the disk, with the file that was kept.
    ///
    /// One such file is kept: older ones of the same key go, once the new profile is on the disk. Those
    /// of another key, which was overwritten or rotated, stay for good, as they may be all that is left
    /// of it. Of version 1 none is kept, which opens without a card, unless it is another key.
    ///
    /// Killed at any instant, one whole profile or the other is at its name, and the old one is kept
    /// once; older ones go with the next replacement then.
    ///
    /// # Errors
    /// There is no profile to replace, or the operating system refuses something.
    pub fn replace(&mut self, name: &str, profile: &Profile) -> Result<Option<PathBuf>> {
        let tried = self.check_new(name, profile)?;
        let refused = |error: io::Error| failed(tried.clone(), error, WRITABLE);
        let dir = self.directory()?;
        let _lock = lock(dir, &tried)?;
        let file = format!("{name}.toml");
        let kept = self.keep(&file, &file, profile).map_err(refused)?;
        durable::replace(dir, &file, profile.to_toml().as_bytes()).map_err(refused)?;
        self.sync_names(dir).map_err(refused)?;
        self.remove_older(&file, profile, kept.as_deref());
        Ok(kept.map(|kept| self.path().join(kept)))
    }

    /// Puts a profile in the place of the one of key `from`, which had another name. That one is kept as
    /// [`Self::replace`] keeps it, under the new name.
    ///
    /// Killed at any instant, there is a whole profile at one of the names or at both; to do it again
    /// does what is left to do.
    ///
    /// # Errors
    /// There is no profile `from`, or it is of another key; there is another profile of the new name; a
    /// key is being generated for `from`; or the operating system refuses something.
    pub fn rename(&mut self, from: &str, profile: &Profile) -> Result<Option<PathBuf>> {
        check_name(from)?;
        let tried = self.check_new(profile.name(), profile)?;
        let refused = |error: io::Error| failed(tried.clone(), error, WRITABLE);
        let refuse = |found: String, advice: &str| {
            Err(Error::new(Class::Profile, tried.clone(), found, advice))
        };
        let old = self.load(from)?;
        if from == profile.name() || old.is_none_or(|old| !old.profile.is_of_same_key(profile)) {
            let found = format!("{} is not there, or holds another key", self.file(from).display());
            return refuse(found, "Name the key that is to get another name.");
        }
        if self.generating(from)?.is_some() {
            let found = format!("a key is being generated for {from}");
            return refuse(found, "Run `nixos-cryptkey apply` first, which ends that.");
        }
        match self.load(profile.name())? {
            // A run that was killed has written it.
            Some(found) if found.profile == *profile => self.sync(profile.name())?,
            Some(_) => {
                let found = "there is another profile of this name".into();
                return refuse(found, "Take another name, or move that profile away.");
            }
            None => self.save(profile)?,
        }
        let dir = self.directory()?;
        let _lock = lock(dir, &tried)?;
        let (old, new) = (format!("{from}.toml"), format!("{}.toml", profile.name()));
        let kept = self.keep(&old, &new, profile).map_err(refused)?;
        // While the old one is there, what was not done yet can be done again.
        self.remove_older(&old, profile, None);
        self.remove_older(&new, profile, kept.as_deref());
        durable::remove(dir, &old).map_err(refused)?;
        Ok(kept.map(|kept| self.path().join(kept)))
    }

    /// Gives the profile `file` a second, dated name after `new`, if it has none yet, and has it on the
    /// disk; that name. None where it is of version 1 and of the same key as `profile`.
    fn keep(&self, file: &str, new: &str, profile: &Profile) -> io::Result<Option<String>> {
        let held = self.held(file);
        if held.is_some_and(|old| old.version() == Version::V1 && old.is_of_same_key(profile)) {
            return Ok(None);
        }
        match self.dir() {
            Some(dir) => keep(dir, file, &format!("{new}.")).map(Some),
            None => Err(Errno::ENOENT.into()),
        }
    }

    /// Removes the dated names after `file` of profiles of the same key, but the one that is kept now.
    fn remove_older(&self, file: &str, profile: &Profile, kept: Option<&str>) {
        let is_older = |name: &str| {
            name.strip_prefix(file).is_some_and(is_date)
                && Some(name) != kept
                && self.held(name).is_some_and(|held| held.is_of_same_key(profile))
        };
        for name in self.names().unwrap_or_default().iter().filter(|name| is_older(name)) {
            if let Err(error) = self.remove(name) {
                // It does no harm, and the next replacement tries again.
                tracing::warn!("{error}");
            }
        }
    }

    /// The profile in a file, where there is one that can be read.
    fn held(&self, name: &str) -> Option<Profile> {
        let bytes = self.read_file(name, MAX_SIZE).ok()??;
        Profile::parse(std::str::from_utf8(&bytes).ok()?).ok()
    }
}

/// Whether this is what [`keep`] puts after a file's name: a dot, a date, and a number from the second
/// of that date on.
fn is_date(after: &str) -> bool {
    let mut parts = after.split('.');
    let date = |date: &str| {
        let form = "0000-00-00T00:00:00Z";
        let fits = |(byte, form): (u8, u8)| byte == form || form == b'0' && byte.is_ascii_digit();
        date.len() == form.len() && date.bytes().zip(form.bytes()).all(fits)
    };
    let number = |number: &str| number.bytes().all(|byte| byte.is_ascii_digit());
    parts.next() == Some("")
        && parts.next().is_some_and(date)
        && parts.next().is_none_or(number)
        && parts.next().is_none()
}

/// Gives the file a second name of `prefix` and a date, if it has none yet, and has it on the disk; that
/// name.
fn keep(dir: &File, file: &str, prefix: &str) -> io::Result<String> {
    let identity = |name: &str| {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let stat = fstat(openat(dir, name, flags, Mode::empty())?)?;
        Ok::<_, Errno>((stat.st_dev, stat.st_ino))
    };
    let own = identity(file)?;
    for name in names(dir)? {
        // A run that was killed before it could put the new profile in place has kept it already.
        if let Some(name) = name.to_str().filter(|name| name.starts_with(prefix))
            && identity(name) == Ok(own)
        {
            dir.sync_all()?;
            return Ok(name.into());
        }
    }
    let date = clock::utc(clock::now());
    let mut kept = format!("{prefix}{date}");
    for number in 2.. {
        // A link, not a rename: the profile is at its own name all the time.
        match linkat(dir, file, dir, kept.as_str(), AtFlags::empty()) {
            Err(Errno::EEXIST) => kept = format!("{prefix}{date}.{number}"),
            linked => {
                linked?;
                break;
            }
        }
    }
    dir.sync_all()?;
    Ok(kept)
}
