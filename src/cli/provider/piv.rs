//! `provider add piv`: seals an open key to one more card, now.

use std::fmt::Write as _;

use clap::Args;

use super::{AddArgs, Changed, finish_added, read};
use crate::{
    apply::{Run, unseal},
    error::{Class, Error, Result},
    observe::is_listed,
    plan::Goal,
    profile::{Profile, change},
    spec::{Card, Key},
    token::CardName,
};

#[derive(Args)]
pub(in crate::cli) struct PivArgs {
    #[command(flatten)]
    add: AddArgs,
    /// The card, as `cards` names it: its serial or its GUID
    #[arg(long, value_name = "SERIAL")]
    card: CardName,
}

pub(super) fn add(args: &PivArgs) -> Result<Changed> {
    let (PivArgs { add, card }, change) = (args, &args.add.change);
    let name = &change.key.key;
    let tried = format!("key {name}: adding {card}");
    let refused = |found: &str, advice: &str| Error::new(Class::Spec, &*tried, found, advice);
    if *card == CardName::default() {
        return Err(refused(
            "without a name it can't be told from others",
            "Name one that has one.",
        ));
    }
    let (spec, declared) = change.key.load()?;
    change.check(&spec, &declared)?;
    let key = only_with(&declared, &read(&spec, name, &declared)?, add, card);
    let goal = |profile: &Profile| {
        let unused = profile.unused_id("card");
        change::check_added(profile, &unused)?;
        let mut alike = profile.piv_providers().filter(|(_, known)| known.card().may_be(card));
        if let Some((place, _)) = alike.next() {
            let id = profile.providers()[place].id();
            return Err(refused(
                &format!("nothing tells it from {id}, which opens the key already"),
                "`nixos-cryptkey provider list` shows what does. If it is another card, name it by \
                 its GUID.",
            ));
        }
        let id = key.cards.last().and_then(|card| card.id.as_deref());
        change::check_added(profile, id.unwrap_or(&unused))?;
        Ok(Goal::Join)
    };
    let mut run = Run::default();
    let mut unsealed = unseal(&mut run, &spec, name, &key, None, goal)?;
    let changed = unsealed.profile()?.clone();
    let id = changed.providers().last().map(|new| new.id().to_owned()).unwrap_or_default();
    let mut told = finish_added(change, &declared, &mut unsealed, &changed, id)?;
    if !is_listed(&declared, card) {
        // Writing to a string never fails.
        let _ = writeln!(
            told.notes,
            "  No start of the unit uses {card} before the spec lists it: add it to \
             security.cryptkey.keys.{name}.cards."
        );
    }
    Ok(told)
}

/// The key with the cards that open it, and of the others only this one: nobody waits for the rest.
fn only_with(declared: &Key, profile: &Profile, args: &AddArgs, card: &CardName) -> Key {
    let as_declared = |name: &CardName| {
        let cards = || declared.cards.iter();
        let exact = cards().find(|card| card.name().is_known_as(name));
        exact.or_else(|| cards().find(|card| card.name().may_be(name))).cloned()
    };
    let named = |name: &CardName| Card { serial: name.serial, guid: name.guid, ..Card::default() };
    let known = profile.piv_providers().map(|(_, provider)| provider.card());
    let known = known.filter(|name| is_listed(declared, name));
    let mut cards: Vec<_> =
        known.map(|name| as_declared(&name).unwrap_or_else(|| named(&name))).collect();
    let mut new = as_declared(card).unwrap_or_else(|| named(card));
    new.id = args.id.clone().or(new.id);
    cards.push(new);
    Key { cards, ..declared.clone() }
}
