//! The PIN guard: what is remembered of cards' PINs across runs and boots, so that a PIN which a card
//! rejected costs no second try.
//!
//! A PIN is remembered by a tag of 12 bits. One that the card did not accept last time is
//! presented only after a record of that intent, with the tries left, is on the disk: a run that finds
//! it reads from the card's counter what became of the PIN, should nobody have lived to write it down.
//! One that was accepted last time, with as many tries left, needs no record, so that an unchanged
//! machine writes nothing. Its tag is kept too, if it comes from a file or a credential; of a PIN that
//! a person types and the card accepts none is kept.
//!
//! The card's turn ([`crate::token::Turn`]) spans it all; the file is written under the lock on the
//! state directory, as other cards' PINs are in it too.

mod record;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, time::Duration};

use self::record::{Card, FILE, MAX_SIZE, Record, Rejected};
use crate::{
    error::{Class, Error, Result},
    system::{clock, durable, state_dir::StateDir},
    token::{CardName, Pin},
};

/// The one name by which the guard knows a card for good: the serial of one that tells its keys
/// (`tells`), as its maker gives each its own, whatever GUID some tool writes; the GUID of others, whose
/// maker may give all of them one serial.
#[must_use]
pub fn name(card: CardName, tells: bool) -> CardName {
    match card {
        CardName { serial: serial @ Some(_), .. } if tells => CardName { serial, guid: None },
        CardName { guid: guid @ Some(_), .. } => CardName { serial: None, guid },
        CardName { serial, .. } => CardName { serial, guid: None },
    }
}

/// What is known of a PIN before it is presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum History {
    /// The card accepted it last time, or in this run.
    Proven,
    /// It may be wrong.
    Unproven,
    /// It may be wrong, and that it is about to be presented is on the disk.
    Recorded,
    /// The card rejected it.
    Rejected(Rejection),
}

/// What is remembered of a PIN and a card that is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// The card accepted it when a PIN was last presented, and nobody typed it.
    LastAccepted,
    /// Nothing is remembered of the card.
    None,
    /// Another PIN was the last accepted one, or a person typed that; one was rejected since; or one was
    /// about to be presented, and what became of it is not known.
    Doubtful,
}

/// What is remembered of a PIN and a card. Presents nothing, asks no card and writes nothing.
///
/// # Errors
/// `pin-refused`: the file can't be read.
pub fn remembered(store: &StateDir, card: &CardName, pin: &Pin) -> Result<Memory> {
    let record = read(store, card)?;
    let Some(entry) = record.card(card) else {
        return Ok(Memory::None);
    };
    let is_accepted = entry.accepted.is_some_and(|accepted| accepted.tag == entry.tag(pin));
    Ok(if is_accepted && entry.rejection(pin).is_none() && entry.intent.is_none() {
        Memory::LastAccepted
    } else {
        Memory::Doubtful
    })
}

/// A PIN that a card rejected.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Rejection {
    /// The card, by the name that the guard knows it by.
    pub card: CardName,
    /// When it was presented, in UTC (RFC 3339).
    pub at: String,
    /// The key for which it was presented.
    pub key: String,
    /// The tries left afterwards.
    pub left: u8,
    /// Whether the card said so. If not, the run that presented it did not live to hear it, and a try
    /// was gone.
    pub told: bool,
}

impl Rejection {
    fn new(card: CardName, Rejected { left, by, at, told, .. }: &Rejected) -> Self {
        let at = clock::utc(Duration::from_secs(*at));
        Self { card, at, key: by.clone(), left: *left, told: *told }
    }
}

/// What is remembered of the PINs of one card, which goes by one name for good.
pub struct PinGuard {
    state_dir: PathBuf,
    card: CardName,
    /// As it was read last.
    record: Record,
}

impl PinGuard {
    /// Reads what is remembered of a card, and takes in what its counter tells of a PIN that was about
    /// to be presented.
    ///
    /// # Errors
    /// `pin-refused`: the file can't be read, or what the counter tells can't be written down.
    pub fn open(store: &StateDir, card: CardName, tries: u8) -> Result<Self> {
        let record = read(store, &card)?;
        let mut guard = Self { state_dir: store.path().into(), card, record };
        if guard.entry().is_some_and(|entry| entry.intent.is_some()) {
            // Presenting any PIN may hide it: a right one sets the counter back.
            guard.change(|entry| entry.settle(tries))?;
        }
        Ok(guard)
    }

    /// What is known of a PIN, with so many tries left. One that was rejected may be presented once more
    /// for each time that the counter rose.
    #[must_use]
    pub fn recall(&self, pin: &Pin, tries: u8) -> History {
        let Some(entry) = self.entry() else { return History::Unproven };
        match entry.rejection(pin) {
            Some(rejected) if !entry.has_risen(tries) => {
                History::Rejected(Rejection::new(self.card, rejected))
            }
            None if entry.accepted.is_some_and(|a| (a.tag, a.tries) == (entry.tag(pin), tries)) => {
                History::Proven
            }
            _ => History::Unproven,
        }
    }

    /// Records that a PIN is about to be presented for `key`, with so many tries left.
    ///
    /// # Errors
    /// `pin-refused`: the state directory does not take it.
    pub fn intend(&mut self, pin: &Pin, tries: u8, key: &str) -> Result<()> {
        self.change(|entry| entry.intend(pin, tries, key))
    }

    /// Records that the card accepted a PIN, which had so many tries before, if that is news.
    ///
    /// # Errors
    /// `pin-refused`: the state directory does not take it.
    pub fn accepted(&mut self, pin: &Pin, tries: u8, typed: bool) -> Result<()> {
        let before = self.entry();
        let mut after = before.cloned().unwrap_or_default();
        after.accept(pin, tries, typed);
        if before == Some(&after) {
            return Ok(());
        }
        self.change(|entry| entry.accept(pin, tries, typed))
    }

    /// Records that the card rejected a PIN presented for `key`, and that so many tries are left.
    ///
    /// # Errors
    /// `pin-refused`: the state directory does not take it.
    pub fn rejected(&mut self, pin: &Pin, left: u8, key: &str) -> Result<()> {
        self.change(|entry| entry.reject(pin, left, key))
    }

    fn entry(&self) -> Option<&Card> {
        self.record.card(&self.card)
    }

    /// Changes what is remembered of the card, and has it on the disk when it returns.
    fn change(&mut self, change: impl FnOnce(&mut Card)) -> Result<()> {
        let card = self.card;
        self.record = update(&mut StateDir::open(&self.state_dir)?, &card, |record| {
            change(record.card_mut(&card));
        })?;
        Ok(())
    }
}

/// The PINs that are remembered as rejected.
///
/// # Errors
/// `pin-refused`: the file can't be read.
pub fn rejections(store: &StateDir) -> Result<Vec<Rejection>> {
    let record = read(store, &CardName::default())?;
    let cards = record.cards.iter();
    let of = |card: &Card| {
        let name = card.name();
        card.rejected.iter().map(move |rejected| Rejection::new(name, rejected)).collect::<Vec<_>>()
    };
    Ok(cards.flat_map(of).collect())
}

/// Forgets all of the PINs of a card. Whether there was anything; and the cards of which something is
/// remembered still.
///
/// # Errors
/// `pin-refused`: the file can't be written.
pub fn forget(store: &mut StateDir, wanted: &CardName) -> Result<(bool, Vec<CardName>)> {
    let names = |record: &Record| record.cards.iter().map(Card::name).collect();
    match read(store, wanted) {
        Ok(record) if record.card(wanted).is_none() => Ok((false, names(&record))),
        Ok(_) => {
            let forget = |record: &mut Record| record.cards.retain(|card| card.name() != *wanted);
            Ok((true, names(&update(store, wanted, forget)?)))
        }
        // Nothing can be known of it: it is made anew.
        Err(error) if error.found.starts_with(DAMAGED) => {
            store.remove(FILE)?;
            Ok((true, Vec::new()))
        }
        Err(error) => Err(error),
    }
}

/// How the error of a file that makes no sense begins.
const DAMAGED: &str = "the file is damaged";

fn read(store: &StateDir, card: &CardName) -> Result<Record> {
    let text = store.read_file(FILE, MAX_SIZE).map_err(|error| unreadable(card, error))?;
    let parse = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        toml::from_str(text).map_err(|error| error.message().to_owned())
    };
    text.map(|bytes| parse(&bytes)).transpose().map(Record::of).map_err(|found| {
        Error::new(
            Class::PinRefused,
            format!("reading {}, which PINs cards rejected", store.path().join(FILE).display()),
            format!("{DAMAGED}: {found}"),
            format!(
                "Nothing was presented. Make sure that all PINs are right, then `nixos-cryptkey pin \
                 forget --card {}`, which forgets those of all cards.",
                card.argument()
            ),
        )
    })
}

fn unreadable(card: &CardName, error: Error) -> Error {
    let tried = format!("reading which PINs {card} rejected: {}", error.tried);
    let advice = "Nothing was presented. Correct the state directory, or remove that file if all PINs are \
                  right.";
    Error::new(Class::PinRefused, tried, error.found, advice)
}

/// Changes the file under the lock on the state directory.
fn update(
    store: &mut StateDir,
    card: &CardName,
    change: impl FnOnce(&mut Record),
) -> Result<Record> {
    let tried = format!("recording what becomes of the PIN of {card}");
    let refused = |tried: &str, found: String, advice: &str| {
        let advice = format!("Nothing was presented. {advice}");
        Error::new(Class::PinRefused, tried, found, advice)
    };
    let _lock = store.lock(&tried).map_err(|error| {
        refused(&format!("{tried}: {}", error.tried), error.found, "See to the state directory.")
    })?;
    let mut record = read(store, card)?;
    change(&mut record);
    let text = toml::to_string(&record).map_err(|e| {
        refused(&tried, e.to_string(), "This is a fault of the program: report it.")
    })?;
    let at = store.path().join(FILE).display().to_string();
    durable::replace(store.writable()?, FILE, text.as_bytes()).map_err(|error| {
        refused(&tried, format!("{at}: {error}"), "Make the state directory writable, with room.")
    })?;
    Ok(record)
}
