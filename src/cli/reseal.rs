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
    profile::{ProviderKind, change},
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
    /// Takes the declared PIN and touch policies for those of the cards' keys, also where the profile
    /// remembers stricter ones: somebody who knows why they changed says so
    #[arg(long)]
    accept_policies: bool,
}

pub(super) fn run(args: &ResealArgs, json: bool) -> Result<Ended> {
    let ResealArgs { change, threshold, keep, accept_policies } = args;
    let (spec, key) = change.key.load()?;
    change.check(&spec, &key)?;
    let name = &*change.key.key;
    let mut kept = None;
    let mut run = Run::default();
    run.accepts_policies = *accept_policies;
    let mut unsealed = unseal(&mut run, &spec, name, &key, None, |profile| {
        change::check_version(profile, "resealing")?;
        let kept = kept.insert(keep.of(name, &key, profile, *threshold)?);
        Ok(Goal::Open(kept.places.clone()))
    })?;
    let kept = kept.unwrap_or_default();
    let (old, mut providers) = keep::again(&mut unsealed, &kept)?;
    for provider in &mut providers {
        if let (ProviderKind::Piv(params), true) = (&mut provider.kind, accept_policies) {
            // Each card that tells them has told these.
            let place = key.place_of(&params.card());
            (params.pin_policy, params.touch_policy) = (Some(place.pin_policy), place.touch_policy);
        }
    }
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
