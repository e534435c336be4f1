//! `reseal`: shares a key anew among the providers that stay.

use std::fmt::Write as _;

use clap::Args;

use super::{
    Ended,
    admin::ChangeArgs,
    changed::Changed,
    keep::{self, KeepArgs},
    print,
    view::ProfileView,
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

pub(super) fn run(args: &ResealArgs, json: bool) -> Result<Ended> {
    let ResealArgs { change, threshold, keep } = args;
    let (spec, key) = change.key.load()?;
    change.check(&spec, &key)?;
    let name = &*change.key.key;
    let (mut run, mut kept) = (Run::default(), None);
    let mut unsealed = unseal(&mut run, &spec, name, &key, None, |profile| {
        change::check_version(profile, "resealing")?;
        let kept = kept.insert(keep.of(name, &key, profile, *threshold)?);
        Ok(Goal::Open(kept.places.clone()))
    })?;
    let kept = kept.unwrap_or_default();
    let (old, providers) = keep::again(&mut unsealed, &kept)?;
    let (profile, _) = change::reshared(&old, *threshold, providers, &unsealed.secrets())?;
    let backup = change.write(&mut unsealed, &profile)?;
    let (opens, opened) = (keep::who_opens(&profile), keep::who_opens(&old));
    let mut notes = keep::misfits(name, &spec, &profile);
    // Writing to a string never fails.
    let _ = write!(
        notes,
        "  Of every old copy of the profile it holds still that {opened}, to the same secrets. Destroy those\n  \
         that you know of. If one may be in the wrong hands, with as many of these providers, only\n  \
         `nixos-cryptkey rotate --key {name}` helps, which makes a new key.\n"
    );
    let changed = Changed {
        key: name.into(),
        done: format!("resealed, {opens}; no secret changed"),
        added: Vec::new(),
        removed: kept.left_out,
        profile: ProfileView::of(&key, &profile, None),
        output: change.output.clone(),
        kept: backup,
        notes,
    };
    print(json, &changed).map(|()| None)
}
