//! `provider add piv`: seals an open key to one more card, now.

use std::fmt::Write as _;

use clap::Args;

use super::{AddArgs, Changed, finish_added};
use crate::{
    apply::{Run, unseal},
    error::{Class, Error, Result},
    observe::is_listed,
    plan::Goal,
    profile::{Profile, change},
    spec::{Card, Key, Name},
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
    let joins = declared_card(&declared, add.id.as_ref(), card);
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
        change::check_added(profile, joins.id.as_deref().unwrap_or(&unused))?;
        Ok(Goal::Join(Box::new(joins)))
    };
    let mut run = Run::default();
    let mut unsealed = unseal(&mut run, &spec, name, &declared, None, goal)?;
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

/// The card as the spec declares it, if it does, with the id that was given.
fn declared_card(declared: &Key, id: Option<&Name>, card: &CardName) -> Card {
    let cards = || declared.cards.iter();
    let exact = cards().find(|listed| listed.name().is_known_as(card));
    let listed = exact.or_else(|| cards().find(|listed| listed.name().may_be(card))).cloned();
    let named = || Card { serial: card.serial, guid: card.guid, ..Card::default() };
    let card = listed.unwrap_or_else(named);
    Card { id: id.cloned().or(card.id), ..card }
}
