//! `rename`: gives a key another name; its secrets stay.

use std::{fmt, path::PathBuf};

use clap::Args;
use serde::Serialize;

use super::{
    Ended,
    admin::{self, ChangeArgs},
    keep, print,
};
use crate::{
    apply::{Run, SIBLING_LIMIT, unseal},
    error::{Class, Error, Result},
    plan::Goal,
    profile::{change, store::Store},
    spec::Name,
    system::lock,
};

#[derive(Args)]
pub(super) struct RenameArgs {
    #[command(flatten)]
    change: ChangeArgs,
    /// The new name. The spec has to name the key by one or the other
    #[arg(long, value_name = "NAME")]
    to: Name,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Renamed {
    #[serde(skip)]
    from: String,
    #[serde(skip)]
    to: String,
    profile_id: String,
    /// The file that was written.
    written: PathBuf,
    /// Where the profile before is kept.
    backup: Option<PathBuf>,
    /// Whether the spec has the new name already.
    #[serde(skip)]
    is_declared: bool,
}

pub(super) fn run(args: &RenameArgs, json: bool) -> Result<Ended> {
    let RenameArgs { change: ChangeArgs { key: of, output }, to } = args;
    let (from, to) = (&*of.key, &**to);
    let (spec, key) = of.load_as(&[from, to])?;
    args.change.check(&key)?;
    let renamed = |profile_id: String, written: PathBuf, backup: Option<PathBuf>| {
        let is_declared = spec.keys.contains_key(to);
        Renamed { from: from.into(), to: to.into(), profile_id, written, backup, is_declared }
    };
    let refused = |found: String, advice: &str| {
        Err(Error::new(Class::Profile, format!("renaming key {from} to {to}"), found, advice))
    };
    if from == to {
        return refused("that is its name".into(), "Give it another one.");
    }
    // Nobody else makes a profile of that name meanwhile.
    let _sibling = lock::lock(&spec.runtime_dir, to, SIBLING_LIMIT)?;
    let store = Store::open(&spec.state_dir)?;
    if output.is_none() {
        match (store.load(from)?, store.load(to)?) {
            // A run that was killed may have left it so.
            (None, Some(done)) if done.profile.name() == to => {
                store.sync(to)?;
                let done = renamed(done.profile.id(), store.file(to), None);
                return print(json, &done).map(|()| None);
            }
            (Some(old), Some(new)) if old.profile.id() != new.profile.id() => {
                let found = format!("there is {}, of another key", store.file(to).display());
                return refused(found, "Take another name, or move that profile away.");
            }
            _ => {}
        }
    }
    let mut run = Run::default();
    let goal = |profile: &_| {
        keep::check_version(from, profile)?;
        Ok(Goal::Open([].into()))
    };
    let mut unsealed = unseal(&mut run, &spec, from, &key, None, goal)?;
    let profile = keep::opened(&unsealed)?;
    let (changed, _) = change::renamed(&profile, to, &unsealed.secrets())?;
    let backup = match output {
        Some(output) => admin::write_new(output, &changed).map(|()| None)?,
        None => unsealed.store().rename(from, &changed)?,
    };
    let written = keep::target(output.as_ref(), &mut unsealed, to);
    print(json, &renamed(changed.id(), written, backup)).map(|()| None)
}

impl fmt::Display for Renamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, written, backup, .. } = self;
        writeln!(f, "{from}: renamed to {to}; no secret changed")?;
        writeln!(f, "  Written: {}", written.display())?;
        if let Some(backup) = backup {
            writeln!(f, "  The profile before is kept: {}", backup.display())?;
        }
        if self.is_declared {
            return Ok(());
        }
        writeln!(
            f,
            "  In configuration.nix, security.cryptkey.keys.{from} must be called \
             security.cryptkey.keys.{to} now, and its secrets are in another directory. Switch to that before \
             cryptkey-{from} starts again: it would find no profile."
        )
    }
}
