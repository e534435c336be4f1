//! What the commands that open a key at a terminal have in common.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::Args;

use super::SpecFile;
use crate::{
    apply::Unsealed,
    error::{Class, Error, Result},
    profile::{
        Profile,
        store::{Store, load_file},
    },
    spec::{self, Key, Spec},
    system::durable,
};

/// Which key.
#[derive(Args)]
pub(super) struct KeyArgs {
    #[command(flatten)]
    file: SpecFile,
    /// The key
    #[arg(long, value_name = "NAME")]
    pub key: String,
}

/// Which key, and where its changed profile goes.
#[derive(Args)]
pub(super) struct ChangeArgs {
    #[command(flatten)]
    pub key: KeyArgs,
    /// Writes the changed profile to this new file: where the configuration ships the profile, which
    /// nothing here can change
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

impl KeyArgs {
    /// The spec, and the key in it.
    pub fn load(&self) -> Result<(Spec, Key)> {
        self.load_as(&[&self.key])
    }

    /// The same, by the first of these names that the spec has.
    pub fn load_as(&self, names: &[&str]) -> Result<(Spec, Key)> {
        let spec = spec::load(&self.file.spec)?;
        let key = names.iter().find_map(|name| spec.keys.get(*name)).cloned();
        let key = key.ok_or_else(|| super::unknown_key(&self.key, &spec))?;
        Ok((spec, key))
    }
}

impl ChangeArgs {
    /// Refuses what could not be written in the end, before anybody is asked for anything.
    pub fn check(&self, spec: &Spec, key: &Key) -> Result<()> {
        if self.output.is_some() && key.profile.is_none() {
            return Err(Error::new(
                Class::Spec,
                format!("key {}: changing its profile", self.key.key),
                "it is in the state directory, and --output would leave it as it is",
                "Leave --output out. `nixos-cryptkey export` copies a profile to a file.",
            ));
        }
        self.check_target(spec, key)
    }

    /// Refuses a target that could not be written in the end.
    pub fn check_target(&self, spec: &Spec, key: &Key) -> Result<()> {
        let refused = |tried: String, found: &str, advice: &str| {
            Err(Error::new(Class::Spec, tried, found, advice))
        };
        let name = &*self.key.key;
        match (&self.output, &key.profile) {
            (None, None) => Store::open(&spec.state_dir)?.check_writable(name),
            (None, Some(shipped)) => refused(
                format!("key {name}: changing its profile"),
                &format!("{} comes with the configuration", shipped.display()),
                "Give --output FILE for the changed one, and ship that instead.",
            ),
            (Some(output), _) => {
                let tried = format!("writing {}", output.display());
                let directory = output.parent().filter(|parent| **parent != *"");
                if output.symlink_metadata().is_ok() {
                    refused(tried, "it is there already", "Give the name of a new file.")
                } else if directory.is_some_and(|directory| !directory.is_dir()) {
                    refused(tried, "its directory is not there", "Make the directory first.")
                } else {
                    Ok(())
                }
            }
        }
    }

    /// Writes the changed profile, and says where the one before is kept, if it is.
    pub fn write(&self, unsealed: &mut Unsealed, changed: &Profile) -> Result<Option<PathBuf>> {
        let Some(output) = &self.output else {
            return unsealed.store().replace(&self.key.key, changed);
        };
        write_new(output, changed.to_toml().as_bytes())?;
        Ok(None)
    }
}

/// A profile that is opened in place of the key's own, with its file: it may be of another master key, and
/// of other cards.
pub(super) fn elsewhere(file: Option<&Path>) -> Result<Option<(PathBuf, Profile)>> {
    let Some(file) = file else { return Ok(None) };
    let loaded = load_file(file)?;
    if let Some(warning) = loaded.warning {
        tracing::warn!("{warning}");
    }
    Ok(Some((file.to_owned(), loaded.profile)))
}

/// Writes a new file. It is on the disk when this returns, or not there at all.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let parent = path.parent().filter(|parent| **parent != *"").unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or(path.as_os_str());
    let added = File::open(parent).and_then(|parent| durable::add(&parent, name, bytes));
    added.map_err(|error| {
        Error::new(
            Class::Permission,
            format!("writing {}", path.display()),
            error.to_string(),
            "Give the name of a new file in a directory that can be written to.",
        )
    })
}

/// Prints a secret as it is.
pub(super) fn print_secret(output: &[u8]) -> Result<()> {
    // Not through its buffer, which would keep a copy.
    let stdout = io::stdout().lock();
    let written = nix::unistd::dup(&stdout).map(File::from).map_err(io::Error::from);
    match written.and_then(|mut stdout| stdout.write_all(output)) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::new(
            Class::Internal,
            "printing the output",
            error.to_string(),
            "Nothing was changed. See to where it goes, and start again.",
        )),
        _ => Ok(()),
    }
}
