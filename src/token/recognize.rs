//! The cards that are looked for, and whether the one in a reader is one of them. Nothing is presented to
//! it.

use std::{fmt, time::Duration};

use p256::PublicKey;

use super::{
    CardName, Facts, Fault, Fingerprint, Identity, KeySource, Piv, Place, Readers, Session,
    SlotState, Turn, same_key,
};

/// The cards that are looked for.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// Those that were enrolled, to open a share.
    Enrolled(Vec<Enrolled>),
    /// Those of these names, by their places in the spec's list, to be sealed to.
    Named(Vec<(usize, CardName, Place)>),
    /// The only one that is there, whichever it is, to be sealed to.
    Any(Place),
}

/// What is remembered of a card that was enrolled.
#[derive(Clone, Debug)]
pub struct Enrolled {
    /// Its provider, by its place in the profile.
    pub provider: usize,
    /// What it is known by.
    pub card: CardName,
    /// The slot's key.
    pub public_key: PublicKey,
    /// What of the card is used.
    pub place: Place,
    /// How it told its key.
    pub source: Option<KeySource>,
    /// The fingerprint of its attestation key, if that was attested.
    pub card_key: Option<Fingerprint>,
    /// The reader that it was in.
    pub reader: String,
    /// Whether its own name is asked for though it holds the key: what is sealed to its next key has to
    /// name the very card.
    pub asks_name: bool,
    /// Whether cards have PINs of their own: which one it gets hangs on its own name, not on the one that
    /// a profile has beside its key.
    pub minds_copies: bool,
}

/// What is looked for, for people.
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = match self {
            Self::Enrolled(cards) => {
                cards.iter().map(|enrolled| enrolled.card.to_string()).collect()
            }
            Self::Named(cards) => cards.iter().map(|(_, name, _)| name.to_string()).collect(),
            Self::Any(_) => return f.write_str("a card"),
        };
        f.write_str(&names.join(" or "))
    }
}

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
    readers: &mut dyn Readers,
    reader: &str,
    wanted: &Wanted,
    limit: Duration,
    turn: Turn,
) -> Result<Session, Why> {
    let mut piv = match Piv::select(readers.open(reader, limit)?) {
        Err(Fault::Status(_)) => return Err(Why::NoPiv),
        other => other?,
    };
    let enrolled = match wanted {
        Wanted::Enrolled(enrolled) => enrolled,
        Wanted::Named(cards) => {
            let card = piv.name()?;
            // Two entries may name one card: the one that is wanted counts.
            let named = cards.iter().find(|(_, name, _)| card.is(name));
            let (listed, _, place) = named.ok_or_else(|| Why::Other(card.to_string()))?;
            let facts = Facts { listed: Some(*listed), ..Facts::new(card, reader, *place) };
            return Ok(Session::new(piv, facts, turn));
        }
        Wanted::Any(place) => {
            let card = piv.name()?;
            return Ok(Session::new(piv, Facts::new(card, reader, *place), turn));
        }
    };
    let mut why = Why::Other("a card that opens nothing more".into());
    for enrolled in enrolled {
        match recognize(&mut piv, enrolled) {
            Ok(slot) => {
                let asks_name = enrolled.asks_name || enrolled.minds_copies;
                let card = if asks_name { piv.name()? } else { enrolled.card };
                let facts = Facts {
                    provider: Some(enrolled.provider),
                    identity: identity(&mut piv, enrolled, &slot)?,
                    slot: Some(slot),
                    ..Facts::new(card, reader, enrolled.place)
                };
                return Ok(Session::new(piv, facts, turn));
            }
            Err(other @ Why::Other(_)) => why = other,
            Err(fault) => return Err(fault),
        }
    }
    Err(why)
}

/// Who the card says it is, if its slot does not hold the key that it was enrolled with: then it may be
/// another card of the same name.
fn identity(
    piv: &mut Piv,
    enrolled: &Enrolled,
    slot: &SlotState,
) -> Result<Option<Identity>, Fault> {
    if *slot == SlotState::Unknown || is_sealed_to(enrolled, slot) {
        return Ok(None);
    }
    let attestation_key = if enrolled.card_key.is_some() { piv.attestation_key()? } else { None };
    Ok(Some(Identity { name: piv.name()?, attestation_key }))
}

/// Whether the slot tells that it holds the key that it was enrolled with.
fn is_sealed_to(enrolled: &Enrolled, slot: &SlotState) -> bool {
    match slot {
        SlotState::Key(found) => {
            found.public.as_ref().is_ok_and(|found| same_key(found, &enrolled.public_key))
        }
        _ => false,
    }
}

/// What is in the slot, if this is the card that was enrolled.
///
/// One question does where nothing changed: the one that told the card's key at enrollment, or, of
/// a card that can't tell its key, the one for its GUID.
fn recognize(piv: &mut Piv, enrolled: &Enrolled) -> Result<SlotState, Why> {
    let slot = enrolled.place.slot;
    let told = piv.ask(slot, enrolled.source.unwrap_or(KeySource::Metadata))?;
    if is_sealed_to(enrolled, &told) {
        return Ok(told);
    }
    // No key or another key: another card, or the right one with its key replaced.
    let wanted = enrolled.card;
    let card = ask_name(piv, enrolled.source, wanted)?;
    if card != wanted {
        return Err(Why::Other(card.to_string()));
    }
    let state = match (enrolled.source, told) {
        (None | Some(KeySource::Metadata | KeySource::Attestation), SlotState::Unknown) => {
            piv.inspect(slot)?
        }
        (_, told) => told,
    };
    match &state {
        SlotState::Key(_) if is_sealed_to(enrolled, &state) => Ok(state),
        // A version 1 profile may name no card: then its key is all that tells.
        SlotState::Key(_) if wanted == CardName::default() => {
            Err(Why::Other("a card with another key".into()))
        }
        // A certificate is only a hint: one that differs may be stale, and the key agreement tells.
        SlotState::Key(found) if found.source == KeySource::Certificate => Ok(SlotState::Unknown),
        _ => Ok(state),
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
