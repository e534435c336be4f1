//! Whether the card in a reader is one that is wanted. Nothing is presented to it.

use std::time::Duration;

use super::{Held, turn::Turn};
use crate::{
    plan::{Identity, Known, Session, Wanted},
    profile::piv::{Params, same_key},
    spec::Key,
    token::{CardName, Fault, KeySource, Pcsc, Piv, SlotState},
};

/// Why a reader's card is not the one.
pub(super) enum Why {
    Empty,
    /// There is one, and it does not answer.
    Mute,
    Held,
    Other(String),
    NoPiv,
    Fault(Fault),
}

impl Why {
    /// Whether pcscd tells of no event when this is no longer so.
    pub(super) fn passes_without_a_word(&self) -> bool {
        matches!(self, Self::Held | Self::Fault(Fault::TimedOut))
    }
}

impl From<Fault> for Why {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Absent => Self::Empty,
            Fault::Held => Self::Held,
            other => Self::Fault(other),
        }
    }
}

/// Begins a session with the card in a reader, if that is one that is wanted. `limit` bounds the
/// wait for another program that holds it. The turn is over when the session is.
pub(super) fn examine(
    pcsc: &mut Pcsc,
    reader: &str,
    key: &Key,
    known: &Known,
    wanted: &Wanted,
    limit: Duration,
    turn: Turn,
) -> Result<Held, Why> {
    let mut piv = match Piv::select(pcsc.open(reader, limit)?) {
        Err(Fault::Status(_)) => return Err(Why::NoPiv),
        other => other?,
    };
    let providers = match wanted {
        Wanted::Providers(providers) => providers,
        Wanted::Listed(_) | Wanted::Any => {
            let card = piv.name()?;
            // Two entries may name one card: the one that is wanted counts.
            let listed = wanted.place_of(&card);
            if listed.is_none() && matches!(wanted, Wanted::Listed(_)) {
                return Err(Why::Other(card.to_string()));
            }
            let facts = session(reader, key, card, listed, None);
            return Ok(Held { piv, facts, turn });
        }
    };
    let mut why = Why::Other("a card that opens nothing more".into());
    for &(index, provider) in providers {
        match recognize(&mut piv, key, provider) {
            Ok(slot) => {
                // What is sealed to its new key has to name the very card.
                let is_replaced = known.doomed(key) == Some(index);
                let asks_name = is_replaced || may_be_a_copy(key, &slot);
                let card = if asks_name { piv.name()? } else { provider.card() };
                let identity = identity(&mut piv, provider, &slot)?;
                let listed = key.cards.iter().position(|declared| card.is(&declared.name()));
                let facts = session(reader, key, card, listed, Some((index, slot)));
                return Ok(Held { piv, facts: Session { identity, ..facts }, turn });
            }
            Err(other @ Why::Other(_)) => why = other,
            Err(fault) => return Err(fault),
        }
    }
    Err(why)
}

/// Who the card says it is, if its slot does not hold the key that the provider was enrolled with:
/// then it may be another card of the same name.
fn identity(piv: &mut Piv, provider: &Params, slot: &SlotState) -> Result<Option<Identity>, Fault> {
    if *slot == SlotState::Unknown || is_sealed_to(provider, slot) {
        return Ok(None);
    }
    let attestation_key =
        if provider.attestation.is_some() { piv.attestation_key()? } else { None };
    Ok(Some(Identity { name: piv.name()?, attestation_key }))
}

/// Whether the slot tells that it holds the provider's key.
fn is_sealed_to(provider: &Params, slot: &SlotState) -> bool {
    match slot {
        SlotState::Key(found) => {
            found.public.as_ref().is_ok_and(|found| same_key(found, &provider.public_key))
        }
        _ => false,
    }
}

/// Whether the card has to be asked which one it is, though it holds the provider's key: another one
/// with a copy of that key has a PIN of its own.
fn may_be_a_copy(key: &Key, slot: &SlotState) -> bool {
    let generated = matches!(slot, SlotState::Key(found) if found.is_generated);
    !generated
        && key.cards.iter().any(|card| key.pin_for(Some(card)) != key.pin_for(key.cards.first()))
}

/// What is in the slot, if this is the provider's card.
///
/// One question does where nothing changed: the one that told the card's key at enrollment, or, of
/// a card that can't tell its key, the one for its GUID.
fn recognize(piv: &mut Piv, key: &Key, provider: &Params) -> Result<SlotState, Why> {
    let told = piv.ask(key.slot, provider.key_source.unwrap_or(KeySource::Metadata))?;
    if is_sealed_to(provider, &told) {
        return Ok(told);
    }
    // No key or another key: another card, or the right one with its key replaced.
    let wanted = provider.card();
    let card = ask_name(piv, provider.key_source, wanted)?;
    if card != wanted {
        return Err(Why::Other(card.to_string()));
    }
    let slot = match (provider.key_source, told) {
        (None | Some(KeySource::Metadata | KeySource::Attestation), SlotState::Unknown) => {
            piv.inspect(key.slot)?
        }
        (_, told) => told,
    };
    match &slot {
        SlotState::Key(_) if is_sealed_to(provider, &slot) => Ok(slot),
        // A version 1 profile may name no card: then its key is all that tells.
        SlotState::Key(_) if wanted == CardName::default() => {
            Err(Why::Other("a card with another key".into()))
        }
        // A certificate is only a hint: one that differs may be stale, and the key agreement tells.
        SlotState::Key(found) if found.source == KeySource::Certificate => Ok(SlotState::Unknown),
        _ => Ok(slot),
    }
}

/// Asks a card for the one name that decides whether it is `wanted`; the other one stays as it is
/// there. The GUID decides for makers whose cards tell nothing: they may all have one serial.
fn ask_name(piv: &mut Piv, source: Option<KeySource>, wanted: CardName) -> Result<CardName, Fault> {
    let tells_little = matches!(source, Some(KeySource::KeyAgreement | KeySource::Certificate));
    if wanted.guid.is_some() && (tells_little || wanted.serial.is_none()) {
        Ok(CardName { guid: piv.guid()?, ..wanted })
    } else if wanted.serial.is_some() {
        Ok(CardName { serial: piv.serial()?, ..wanted })
    } else {
        Ok(wanted)
    }
}

/// The facts of a session that just began, with the card's place in the spec's list; with a provider
/// and what is in its slot, or to enroll.
fn session(
    reader: &str,
    key: &Key,
    card: CardName,
    listed: Option<usize>,
    provider: Option<(usize, SlotState)>,
) -> Session {
    let declared = listed.and_then(|place| key.cards.get(place));
    let (provider, slot) = provider.unzip();
    Session {
        card,
        reader: reader.into(),
        provider,
        listed,
        pin: key.pin_for(declared).cloned(),
        management_key: key.management_key_for(declared).cloned(),
        slot,
        attestation: None,
        identity: None,
        probed: false,
        factory_management_key: None,
        orphan: None,
        dependent: None,
        tries: None,
        history: None,
        verified: false,
    }
}
