//! A look at every reader and card, for people. Presents nothing, and waits for nobody.

use std::{
    fmt,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    CardName, Fault, Pcsc, PinPolicy, PinTries, Piv, Readers, Slot, SlotState, TouchPolicy,
    pcsc::service::{likely_holder, no_service},
    plain_text,
};
use crate::error::Result;

/// How long a reader that is held is waited for.
const HELD_LIMIT: Duration = Duration::from_secs(1);
/// How long a card is held at a stretch, and a slot more: a run that wants to be alone with it waits for
/// 2 s.
const HOLDS: Duration = Duration::from_millis(500);

/// A reader, and what is in it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReaderView {
    /// Its name in PC/SC.
    pub reader: String,
    /// The card, if there is one that could be looked at.
    pub card: Option<CardView>,
    /// Why there is no card to look at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A card.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CardView {
    /// Its serial and GUID, where it has them.
    #[serde(flatten)]
    pub name: CardName,
    /// Tries that the PIN has left; none where another session left it verified, which hides them.
    pub pin_tries: Option<u8>,
    /// Whether its management key is the maker's, where it tells.
    pub factory_management_key: Option<bool>,
    /// The slots that were asked for.
    pub slots: Vec<SlotView>,
}

/// A slot.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotView {
    /// Its name.
    pub slot: Slot,
    /// What is in it, for people.
    pub state: String,
    /// The policies of its key, where the card tells them: PIN and touch.
    pub policies: Option<(PinPolicy, TouchPolicy)>,
}

impl ReaderView {
    /// Whether it holds the card of that name.
    #[must_use]
    pub fn holds(&self, wanted: &CardName) -> bool {
        self.card.as_ref().is_some_and(|card| card.name.is_known_as(wanted))
    }
}

/// All readers, with these slots of their cards.
///
/// # Errors
/// Where pcscd can't be asked at all.
pub fn scan(slots: &[Slot]) -> Result<Vec<ReaderView>> {
    let mut pcsc = Pcsc::default();
    let readers = pcsc.list().map_err(|fault| match fault {
        Fault::Absent => no_service("looking for readers", "pcscd is not there"),
        other => other.error("looking for readers"),
    })?;
    let view = |(reader, present): (String, bool)| {
        let look = if present { look(&mut pcsc, &reader, slots) } else { Err("empty".into()) };
        match look {
            Ok(card) => ReaderView { reader, card: Some(card), note: None },
            Err(note) => ReaderView { reader, card: None, note: Some(note) },
        }
    };
    Ok(readers.into_iter().map(view).collect())
}

fn look(pcsc: &mut Pcsc, reader: &str, slots: &[Slot]) -> std::result::Result<CardView, String> {
    let mut open = || match Piv::select(pcsc.open(reader, HELD_LIMIT)?) {
        Err(Fault::Status(_)) => Ok(None),
        selected => selected.map(Some),
    };
    match card(&mut open, slots) {
        Ok(Some(view)) => Ok(view),
        Ok(None) => Err("a card without PIV".into()),
        Err(Fault::Held) => Err(format!("held by {}", likely_holder())),
        Err(other) => Err(other.to_string()),
    }
}

/// The card, if it has PIV. `open` begins a session.
fn card(
    open: &mut impl FnMut() -> std::result::Result<Option<Piv>, Fault>,
    slots: &[Slot],
) -> std::result::Result<Option<CardView>, Fault> {
    let Some(mut piv) = open()? else { return Ok(None) };
    let mut since = Instant::now();
    let name = piv.name()?;
    let pin_tries = match piv.pin_tries()? {
        PinTries::Left(left) => Some(left),
        PinTries::Verified => None,
    };
    let factory_management_key = piv.management_metadata()?.map(|known| known.factory_default);
    let mut views = Vec::new();
    for &slot in slots {
        if since.elapsed() > HOLDS {
            drop(piv);
            let Some(again) = open()? else { return Ok(None) };
            (piv, since) = (again, Instant::now());
        }
        let state = piv.inspect(slot);
        let policies = match &state {
            Ok(SlotState::Key(key)) => key.policies,
            _ => None,
        };
        let state = state.map_or_else(|fault| fault.to_string(), |state| state.to_string());
        views.push(SlotView { slot, state, policies });
    }
    Ok(Some(CardView { name, pin_tries, factory_management_key, slots: views }))
}

impl fmt::Display for ReaderView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", plain_text(&self.reader))?;
        match &self.card {
            Some(card) => write!(f, "{card}"),
            None => writeln!(f, "{}", self.note.as_deref().unwrap_or_default()),
        }
    }
}

impl fmt::Display for CardView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if let (Some(_), Some(guid)) = (self.name.serial, self.name.guid) {
            write!(f, ", GUID {guid}")?;
        }
        match self.pin_tries {
            Some(tries) => write!(f, ", {tries} PIN tries left")?,
            None => write!(f, ", PIN verified by another session")?,
        }
        if self.factory_management_key == Some(true) {
            write!(f, ", the maker's management key")?;
        }
        writeln!(f)?;
        // A card that tells nothing tells it of each slot: one line for all of them.
        for alike in self.slots.chunk_by(|a, b| a.state == b.state) {
            let names: Vec<_> = alike.iter().map(|view| view.slot.to_string()).collect();
            write!(f, "  {}: {}", names.join(" "), alike[0].state)?;
            if let Some((pin, touch)) = alike[0].policies {
                write!(f, ", PIN {pin}, touch {touch}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
