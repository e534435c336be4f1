//! Putting a profile in the place of another one, which is kept under a dated name.

use std::{fs::File, io, path::PathBuf};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat},
    sys::stat::{Mode, fstat},
    unistd::linkat,
};

use super::{
    Profile,
    save::lock,
    store::{Store, failed, names},
};
use crate::{
    error::Result,
    system::{clock, durable},
};

impl Store {
    /// Writes a profile in the place of the one of its name, which is kept as
    /// `<key>.toml.<date>Z`, a name that no profile has. Returns when all is on the disk, with the file
    /// that was kept.
    ///
    /// Killed at any instant, one whole profile or the other is at its name, and the old one is kept
    /// once.
    ///
    /// # Errors
    /// There is no profile to replace, or the operating system refuses something.
    pub fn replace(&mut self, profile: &Profile) -> Result<PathBuf> {
        let tried = self.check_new(profile)?;
        let refused = |error: io::Error| {
            failed(tried.clone(), error, "Make the state directory writable, with room.")
        };
        let dir = self.directory()?;
        let _lock = lock(dir, &tried)?;
        let file = format!("{}.toml", profile.name());
        let kept = keep(dir, &file).map_err(refused)?;
        durable::replace(dir, &file, profile.to_toml().as_bytes()).map_err(refused)?;
        self.sync_names(dir).map_err(refused)?;
        Ok(self.path().join(kept))
    }
}

/// Gives the file a second, dated name, if it has none yet, and has it on the disk; that name.
fn keep(dir: &File, file: &str) -> io::Result<String> {
    let identity = |name: &str| {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let stat = fstat(openat(dir, name, flags, Mode::empty())?)?;
        Ok::<_, Errno>((stat.st_dev, stat.st_ino))
    };
    let own = identity(file)?;
    let prefix = format!("{file}.");
    for name in names(dir)? {
        // A run that was killed before it could put the new profile in place has kept it already.
        if let Some(name) = name.to_str().filter(|name| name.starts_with(&prefix))
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
