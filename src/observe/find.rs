//! Finding the card: the readers are looked through, and where the card is not there, the next
//! change is awaited, up to the key's `cardTimeoutSec`.

use std::{fmt::Write as _, time::Duration};

use super::{Held, service};
use crate::{
    card::{CardName, Fault, KeySource, Pcsc, Piv, SlotState},
    error::{Class, Error, Result},
    plan::{Known, Sealed, Session},
    profile::piv::{Params, same_key},
    spec::Key,
    system::{Deadline, notify},
};

/// How long the first look waits for a reader that is held, before the others are looked at.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// How long later looks do, and how often systemd hears that we still wait.
const LOOK: Duration = Duration::from_secs(5);
/// Waits shorter than this are not worth a line.
const SILENT: Duration = Duration::from_secs(1);

/// What a look through the readers found.
enum Look {
    /// The card.
    Found(Box<Held>),
    /// It is not there, and this is what is.
    Missing(Vec<Seen>),
}

/// A reader that does not hold the card.
struct Seen {
    reader: String,
    what: Why,
}

/// Why a reader's card is not the one.
enum Why {
    Empty,
    Held,
    Other(String),
    NoPiv,
    Fault(Fault),
}

/// The card that the key wants, in a session: to open a share, or to be enrolled.
///
/// Nothing is presented to any card on the way.
///
/// # Errors
/// `no-card`, `card-busy`, `permission`; `bad-spec` where the spec names no card and there are
/// several.
pub fn find(name: &str, key: &Key, known: &Known, deadline: Deadline) -> Result<Held> {
    let wanted = describe(key, known);
    let tried = format!("key {name}: looking for {wanted}");
    let started = Deadline::after(SILENT);
    let (mut pcsc, mut limit, mut told) = (None, FIRST_LOOK, false);
    loop {
        let seen = match look(&mut pcsc, name, key, known, limit) {
            Ok(Look::Found(held)) => return Ok(*held),
            Ok(Look::Missing(seen)) => Ok(seen),
            Err(Trouble::Fault(Fault::Absent)) => {
                pcsc = None;
                Err(())
            }
            Err(Trouble::Fault(fault)) => return Err(fault.error(tried)),
            Err(Trouble::Error(error)) => return Err(error),
        };
        if deadline.passed() {
            return Err(missing(tried, key, seen.as_deref().ok()));
        }
        let slice = deadline.remaining().min(if told { LOOK } else { SILENT });
        let change = match &mut pcsc {
            Some(pcsc) => pcsc.wait(slice),
            None => service::wait(slice),
        };
        if change.is_err() {
            pcsc = None;
        }
        if started.passed() && !deadline.passed() {
            let seconds = deadline.remaining().as_secs() + 1;
            notify::status(&format!("waiting for {wanted}"));
            notify::extend_timeout(LOOK * 3);
            if !told {
                tracing::info!("key {name}: waiting for {wanted}, up to {seconds} s more");
            }
            (told, limit) = (true, LOOK.min(deadline.remaining()).max(FIRST_LOOK));
        }
    }
}

/// What ends a look early.
enum Trouble {
    Fault(Fault),
    Error(Error),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// One look through all readers.
fn look(
    pcsc: &mut Option<Pcsc>,
    name: &str,
    key: &Key,
    known: &Known,
    limit: Duration,
) -> std::result::Result<Look, Trouble> {
    let pcsc = match pcsc {
        Some(pcsc) => pcsc,
        None => pcsc.insert(Pcsc::connect()?),
    };
    let mut readers = pcsc.readers()?;
    // The reader that held the card at enrollment comes first: mostly it still does.
    readers.sort_by_key(|(reader, _)| !is_usual_reader(known, reader));
    let mut seen = Vec::new();
    let mut found: Option<Held> = None;
    for (reader, present) in readers {
        let what = if present {
            match examine(pcsc, &reader, key, known, limit) {
                Ok(Ok(held)) => {
                    match found {
                        Some(first) => {
                            return Err(Trouble::Error(ambiguous(name, key, first, held)));
                        }
                        // Where the spec or the profile names the card, the first one is it.
                        None if names_card(key, known) => return Ok(Look::Found(Box::new(held))),
                        None => found = Some(held),
                    }
                    continue;
                }
                Ok(Err(why)) => why,
                Err(Fault::Held) => Why::Held,
                Err(Fault::Absent) => Why::Empty,
                Err(fault @ Fault::Denied) => return Err(fault.into()),
                Err(fault) => Why::Fault(fault),
            }
        } else {
            Why::Empty
        };
        seen.push(Seen { reader, what });
    }
    Ok(match found {
        // Whether a held reader has a second card is not known: wait until it can be told.
        Some(_) if seen.iter().any(|seen| matches!(seen.what, Why::Held)) => Look::Missing(seen),
        Some(held) => Look::Found(Box::new(held)),
        None => Look::Missing(seen),
    })
}

/// Whether one of the providers still to open was enrolled in this reader.
fn is_usual_reader(known: &Known, reader: &str) -> bool {
    candidates(known).any(|(_, provider)| provider.card_name == crate::profile::plain_text(reader))
}

/// The providers whose card may be next.
fn candidates(known: &Known) -> impl Iterator<Item = (usize, &Params)> {
    let providers = known.profile.iter().flat_map(|sealed: &Sealed| &sealed.piv);
    providers
        .map(|(&index, params)| (index, params))
        .filter(|(i, _)| !known.opened.contains(i))
}

/// Whether it is said which card is wanted, so that the first match is it.
fn names_card(key: &Key, known: &Known) -> bool {
    known.profile.is_some() || !key.cards.is_empty()
}

/// Begins a session with the card in a reader, if that is one that is wanted.
fn examine(
    pcsc: &Pcsc,
    reader: &str,
    key: &Key,
    known: &Known,
    limit: Duration,
) -> std::result::Result<std::result::Result<Held, Why>, Fault> {
    let mut piv = match Piv::select(pcsc.open(reader, limit)?) {
        Ok(piv) => piv,
        Err(Fault::Status(_)) => return Ok(Err(Why::NoPiv)),
        Err(fault) => return Err(fault),
    };
    if known.profile.is_none() {
        let card = CardName {
            serial: piv.serial()?,
            guid: piv.guid()?,
        };
        if !key.cards.is_empty() && !key.cards.iter().any(|declared| card.is(&declared.name())) {
            return Ok(Err(Why::Other(card.to_string())));
        }
        let facts = session(reader, key, card, None, None);
        return Ok(Ok(Held { piv, facts }));
    }
    let mut other = String::new();
    for (index, provider) in candidates(known) {
        match recognize(&mut piv, key, provider)? {
            Ok(slot) => {
                let facts = session(reader, key, name_of(provider), Some(index), Some(slot));
                return Ok(Ok(Held { piv, facts }));
            }
            Err(identity) => other = identity,
        }
    }
    Ok(Err(Why::Other(other)))
}

/// Whether this is the provider's card, and what is in its slot; or else which card it is.
///
/// One question does where nothing changed: the one that told the card's key at enrollment, or, of
/// a card that can't tell its key, the one for its GUID.
fn recognize(
    piv: &mut Piv,
    key: &Key,
    provider: &Params,
) -> std::result::Result<std::result::Result<SlotState, String>, Fault> {
    let is_sealed = |state: &SlotState| {
        matches!(state, SlotState::Key(found)
        if found.public.as_ref().is_ok_and(|found| same_key(found, &provider.public_key)))
    };
    let mut slot = piv.ask(key.slot, provider.key_source.unwrap_or(KeySource::Metadata))?;
    if is_sealed(&slot) {
        return Ok(Ok(slot));
    }
    // No key or another key: another card, or the right one with its key replaced.
    let wanted = name_of(provider);
    let guid_decides = wanted.guid.is_some()
        && matches!(
            provider.key_source,
            Some(KeySource::KeyAgreement | KeySource::Certificate)
        );
    let card = if guid_decides || wanted.serial.is_none() && wanted.guid.is_some() {
        CardName {
            guid: piv.guid()?,
            ..wanted
        }
    } else if wanted.serial.is_some() {
        CardName {
            serial: piv.serial()?,
            ..wanted
        }
    } else {
        wanted
    };
    if card != wanted {
        return Ok(Err(card.to_string()));
    }
    if provider.key_source.is_none() && slot == SlotState::Unknown {
        slot = piv.inspect(key.slot)?;
    }
    match &slot {
        SlotState::Key(_) if is_sealed(&slot) => {}
        SlotState::Key(_) if wanted == CardName::default() => {
            return Ok(Err("a card with another key".into()));
        }
        // A certificate is only a hint: one that differs may be stale, and the key agreement tells.
        SlotState::Key(found) if found.source == KeySource::Certificate => {
            slot = SlotState::Unknown;
        }
        _ => {}
    }
    Ok(Ok(slot))
}

/// What a provider's card is known by.
fn name_of(provider: &Params) -> CardName {
    CardName {
        serial: provider.serial,
        guid: provider.guid,
    }
}

/// The facts of a session that just began.
fn session(
    reader: &str,
    key: &Key,
    card: CardName,
    provider: Option<usize>,
    slot: Option<SlotState>,
) -> Session {
    let declared = key.cards.iter().find(|declared| card.is(&declared.name()));
    Session {
        card,
        reader: reader.into(),
        provider,
        pin: key.pin_for(declared).cloned(),
        management_key: key.management_key_for(declared).cloned(),
        slot,
        probed: false,
        factory_management_key: None,
        orphan: None,
        tries: None,
        verified: false,
    }
}

/// What is looked for, for people.
fn describe(key: &Key, known: &Known) -> String {
    let names: Vec<_> = match &known.profile {
        Some(_) => candidates(known)
            .map(|(_, provider)| name_of(provider).to_string())
            .collect(),
        None => key
            .cards
            .iter()
            .map(|card| card.name().to_string())
            .collect(),
    };
    if names.is_empty() {
        "a card".into()
    } else {
        names.join(" or ")
    }
}

/// Why there is no card, from what was seen in the last look; none where pcscd did not answer.
fn missing(tried: String, key: &Key, seen: Option<&[Seen]>) -> Error {
    let waited = key.card_timeout.as_secs();
    let Some(seen) = seen else {
        let found = format!("pcscd was not there within {waited} s");
        let advice = "Start pcscd: on NixOS, set services.pcscd.enable = true.";
        return Error::new(Class::NoCard, tried, found, advice);
    };
    if let Some(held) = seen.iter().find(|seen| matches!(seen.what, Why::Held)) {
        let who = service::likely_holder();
        return Error::new(
            Class::Busy,
            tried,
            format!(
                "reader {:?} is held, likely by {who}, and was not free within {waited} s",
                held.reader
            ),
            "End that program, or have it let go of the card. gpg's scdaemon wants \
             `disable-ccid` and `pcsc-shared` in scdaemon.conf.",
        );
    }
    let mut found = format!("it was not there within {waited} s");
    let empty = seen
        .iter()
        .filter(|seen| matches!(seen.what, Why::Empty))
        .count();
    for Seen { reader, what } in seen {
        let what = match what {
            Why::Empty | Why::Held => continue,
            Why::Other(card) => format!("holds {card}"),
            Why::NoPiv => "holds a card without PIV".into(),
            Why::Fault(fault) => fault.to_string(),
        };
        // Writing to a string never fails.
        let _ = write!(found, "; reader {reader:?}: {what}");
    }
    let _ = match (seen.len(), empty) {
        (0, _) => write!(found, "; there is no reader"),
        (_, 0) => Ok(()),
        (all, empty) => write!(found, "; {empty} of {all} readers are empty"),
    };
    let advice =
        "Insert the card, and start the unit again. `nixos-cryptkey cards` shows what is there.";
    Error::new(Class::NoCard, tried, found, advice)
}

/// Two cards, and nothing that says which.
fn ambiguous(name: &str, key: &Key, first: Held, second: Held) -> Error {
    let describe = |mut held: Held| {
        let state = held
            .piv
            .inspect(key.slot)
            .map_or_else(|f| f.to_string(), |s| s.to_string());
        format!(
            "{} in {:?} (slot {}: {state})",
            held.facts.card, held.facts.reader, key.slot
        )
    };
    Error::new(
        Class::Spec,
        format!("key {name}: choosing a card to enroll"),
        format!(
            "there are several: {}, {}",
            describe(first),
            describe(second)
        ),
        format!(
            "Say which with security.cryptkey.keys.{name}.cards = [ {{ serial = \"…\"; }} ], or remove \
             the others."
        ),
    )
}
