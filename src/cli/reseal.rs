//! `reseal`: shares a key anew among the providers that stay.

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
    error::Result,
    plan::Goal,
    profile::change,
};

#[derive(Args)]
pub(super) struct ResealArgs {
    #[command(flatten)]
    change: ChangeArgs,
    /// How many of the providers are to open the key together
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(1..))]
    threshold: u8,
    #[command(flatten)]
    keep: KeepArgs,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Resealed {
    #[serde(skip)]
    name: String,
    profile_id: String,
    threshold: u8,
    providers: Vec<String>,
    /// The file that was written.
    written: PathBuf,
    /// Where the profile before is kept.
    backup: Option<PathBuf>,
    /// Who opens copies of the profile before.
    #[serde(skip)]
    before: String,
    /// Whether the spec declares another threshold.
    #[serde(skip)]
    declares_another: bool,
}

pub(super) fn run(args: &ResealArgs, json: bool) -> Result<Ended> {
    let ResealArgs { change, threshold, keep } = args;
    let (spec, key) = change.key.load()?;
    change.check(&key)?;
    let name = &*change.key.key;
    let (mut run, mut kept) = (Run::default(), None);
    let mut unsealed = unseal(&mut run, &spec, name, &key, None, |profile| {
        keep::check_version(name, profile)?;
        let places = &kept.insert(keep.of(name, &key, profile, *threshold)?).places;
        Ok(Goal::Open(places.clone()))
    })?;
    let Some(kept) = kept else { return Ok(None) };
    let (profile, providers) = keep::again(&mut unsealed, &kept)?;
    let (changed, _) = change::reshared(&profile, *threshold, providers, &unsealed.secrets())?;
    let backup = change.write(&mut unsealed, &changed)?;
    let resealed = Resealed {
        name: name.into(),
        profile_id: changed.id(),
        threshold: *threshold,
        providers: keep::ids(&changed),
        written: keep::target(change.output.as_ref(), &mut unsealed, name),
        backup,
        before: keep::who_opens(profile.threshold(), &keep::ids(&profile)),
        declares_another: key.threshold.is_some_and(|declared| declared != *threshold),
    };
    print(json, &resealed).map(|()| None)
}

impl fmt::Display for Resealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, threshold, providers, written, backup, before, .. } = self;
        let opens = keep::who_opens(*threshold, providers);
        writeln!(f, "{name}: resealed, {opens}; no secret changed")?;
        writeln!(f, "  Written: {}", written.display())?;
        if let Some(backup) = backup {
            writeln!(f, "  The profile before is kept: {}", backup.display())?;
        }
        if self.declares_another {
            writeln!(
                f,
                "  Set in configuration.nix: security.cryptkey.keys.{name}.threshold = {threshold};"
            )?;
        }
        writeln!(
            f,
            "  Of every old copy of the profile it holds still: {before}, to the same secrets. Destroy the \
             copies that you know of. If somebody may have one, and as many of those providers, only \
             `nixos-cryptkey rotate --key {name}` helps."
        )
    }
}
