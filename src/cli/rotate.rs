//! `rotate`: a new master key, so that every output changes.

use std::{fmt, path::PathBuf};

use clap::Args;
use serde::Serialize;

use super::{
    Ended,
    admin::ChangeArgs,
    keep::{self, KeepArgs},
    print,
};
use crate::{
    apply::{Run, unseal},
    error::{Class, Error, Result},
    plan::Goal,
    profile::{Profile, seal},
    system::terminal::Terminal,
};

#[derive(Args)]
pub(super) struct RotateArgs {
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    keep: KeepArgs,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rotated {
    #[serde(skip)]
    name: String,
    /// The new one.
    profile_id: String,
    threshold: u8,
    providers: Vec<String>,
    /// The file that was written.
    written: PathBuf,
    /// The profile that opens the old key; none where it is where it was.
    backup: Option<PathBuf>,
    /// Where that one is.
    #[serde(skip)]
    old: PathBuf,
    /// Whether the spec pins the old profile's id.
    #[serde(skip)]
    is_pinned: bool,
    /// Whether the spec ships the old profile.
    #[serde(skip)]
    is_shipped: bool,
}

pub(super) fn run(args: &RotateArgs, json: bool) -> Result<Ended> {
    let RotateArgs { change, keep } = args;
    let (spec, key) = change.key.load()?;
    change.check(&key)?;
    let name = &*change.key.key;
    let (mut run, mut kept) = (Run::default(), None);
    // The key is opened by all that stay, so that nobody else gives the machine other secrets.
    let mut unsealed = unseal(&mut run, &spec, name, &key, None, |profile| {
        keep::check_version(name, profile)?;
        let chosen = keep.of(name, &key, profile, profile.threshold())?;
        confirm(name)?;
        let places = &kept.insert(chosen).places;
        Ok(Goal::Open(places.clone()))
    })?;
    let Some(kept) = kept else { return Ok(None) };
    let (profile, providers) = keep::again(&mut unsealed, &kept)?;
    let (changed, _): (Profile, _) = seal::seal(name, profile.threshold(), providers)?;
    let backup = change.write(&mut unsealed, &changed)?;
    let own = key.profile.clone().unwrap_or_else(|| unsealed.store().file(name));
    let rotated = Rotated {
        name: name.into(),
        profile_id: changed.id(),
        threshold: changed.threshold(),
        providers: keep::ids(&changed),
        written: keep::target(change.output.as_ref(), &mut unsealed, name),
        old: backup.clone().unwrap_or(own),
        backup,
        is_pinned: key.profile_id.is_some(),
        is_shipped: key.profile.is_some(),
    };
    print(json, &rotated).map(|()| None)
}

/// Has the key's name typed.
fn confirm(name: &str) -> Result<()> {
    let tried = format!("key {name}: rotating it");
    let terminal = Terminal::open(&*tried)?;
    terminal.say(&format!(
        "Every secret of key {name} will change. What was encrypted with the old ones (restic repositories,\n\
         databases, disks) has to be given the new ones by hand.\n"
    ))?;
    let typed = terminal.ask("Type the name of the key to go on: ")?;
    if *typed == *name.as_bytes() {
        return Ok(());
    }
    let advice = "Nothing was changed. Start the command again if you mean it.";
    Err(Error::new(Class::WrongAnswer, tried, "another name was typed", advice))
}

impl fmt::Display for Rotated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, profile_id, threshold, providers, written, old, .. } = self;
        let opens = keep::who_opens(*threshold, providers);
        let (written, old) = (written.display(), old.display());
        writeln!(f, "{name}: rotated, {opens}; all its secrets change at the next apply")?;
        writeln!(f, "  Written: {written}")?;
        writeln!(f, "  The old key is in {old}")?;
        if self.is_shipped {
            writeln!(
                f,
                "  Ship the new profile: the file of security.cryptkey.keys.{name}.profile is the old one."
            )?;
        }
        if self.is_pinned {
            writeln!(
                f,
                "  Set in configuration.nix, or the next apply fails:\n    \
                 security.cryptkey.keys.{name}.profileId = \"{profile_id}\";"
            )?;
        }
        writeln!(
            f,
            "  What was encrypted with the old secrets needs them until it has new ones. They are printed by\n    \
             nixos-cryptkey derive --key {name} --profile {old} --use LABEL\n  \
             Then destroy that file and its copies: whoever opens one has the old secrets, as before."
        )
    }
}
