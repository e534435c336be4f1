//! `provider remove`.

use std::{collections::BTreeSet, fmt::Write as _};

use clap::Args;

use super::Changed;
use crate::{
    apply::{Run, unseal},
    cli::{admin::ChangeArgs, keep, view::ProfileView},
    error::{Class, Error, Result},
    observe::is_listed,
    plan::Goal,
    profile::{Profile, Provider, ProviderKind, change},
};

#[derive(Args)]
pub(in crate::cli) struct RemoveArgs {
    #[command(flatten)]
    change: ChangeArgs,
    /// The providers, as `provider list` names them
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

pub(super) fn remove(args: &RemoveArgs) -> Result<Changed> {
    let RemoveArgs { change, ids } = args;
    let name = &change.key.key;
    let (spec, key) = change.key.load()?;
    change.check(&spec, &key)?;
    let mut run = Run::default();
    let mut places = BTreeSet::new();
    let goal = |profile: &Profile| {
        places = places_of(name, profile, ids)?;
        change::check_without(profile, &places)?;
        // What is removed may help to open the key.
        Ok(Goal::Open([].into()))
    };
    let mut unsealed = unseal(&mut run, &spec, name, &key, None, goal)?;
    let profile = unsealed.profile()?;
    let gone: Vec<_> = places.iter().map(|place| profile.providers()[*place].clone()).collect();
    let (changed, _) = change::without(profile, &places, &unsealed.secrets())?;
    let kept = change.write(&mut unsealed, &changed)?;

    let removed: Vec<_> = gone.iter().map(|provider| provider.id().to_owned()).collect();
    let left: Vec<_> = changed.providers().iter().map(Provider::id).collect();
    let (threshold, all) = (changed.threshold(), removed.join(", "));
    let mut notes = format!(
        "  Old copies of the profile still open with {all}. If one of them may be in the wrong hands,\n  \
         `nixos-cryptkey rotate --key {name}` makes a new key, and so other secrets.\n"
    );
    notes += &keep::misfits(name, &spec, &changed);
    for provider in gone {
        let ProviderKind::Piv(params) = provider.kind() else { continue };
        let card = params.card();
        if !key.cards.is_empty() && is_listed(&key, &card) {
            // Writing to a string never fails.
            let _ = writeln!(
                notes,
                "  The spec still lists {card}: the next start at which it is there enrolls it again, \
                 unless you\n  take it out of security.cryptkey.keys.{name}.cards first."
            );
        }
    }
    Ok(Changed {
        key: name.clone(),
        done: format!(
            "{all} removed; the key opens with {threshold} of these: {}",
            left.join(", ")
        ),
        added: Vec::new(),
        removed,
        profile: ProfileView::of(&key, &changed, None),
        output: change.output.clone(),
        kept,
        notes,
    })
}

/// The places of the providers of these ids.
fn places_of(name: &str, profile: &Profile, ids: &[String]) -> Result<BTreeSet<usize>> {
    let place = |id: &String| profile.providers().iter().position(|it| it.id() == id);
    let there: Vec<_> = profile.providers().iter().map(Provider::id).collect();
    let found = ids.iter().map(|id| {
        place(id).ok_or_else(|| {
            Error::new(
                Class::Spec,
                format!("key {name}: removing provider {id}"),
                "its profile has none of that id",
                format!("It has: {}.", there.join(", ")),
            )
        })
    });
    found.collect()
}
