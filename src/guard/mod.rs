//! The PIN guard: what is remembered of a card's PINs across runs and boots, so that a PIN which the
//! card rejected costs no second try.
//!
//! A PIN is remembered by a keyed tag of 12 bits. One that the card did not accept last time is
//! presented only after a record of that intent, with the tries left, is on the disk: a run that finds
//! it reads from the card's counter what became of the PIN, should nobody have lived to write it down.
//! One that was accepted last time, with as many tries left, needs no record, so that an unchanged
//! machine writes nothing. It has a tag in the record too, if it comes from a file or a credential; of
//! a PIN that a person types nothing is kept but that it was rejected.
//!
//! The card's turn ([`crate::observe::Turn`]) spans it all.

mod record;

use std::time::Duration;

use self::record::{Accepted, Intent, MAX_SIZE, Record, Rejected, card_of, file_name};
use crate::{
    card::{CardName, Pin},
    error::{Class, Error, Result},
    profile::{self, store::Store},
    system::{clock, durable},
};

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

/// When a PIN was rejected.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Rejection {
    /// When, in UTC (RFC 3339).
    pub at: String,
    /// The key for which it was presented.
    pub key: String,
    /// The tries left afterwards.
    pub left: u8,
}

impl From<&Rejected> for Rejection {
    fn from(rejected: &Rejected) -> Self {
        let at = clock::utc(Duration::from_secs(rejected.at));
        Self { at, key: rejected.by.clone(), left: rejected.left }
    }
}

/// What is remembered of the PINs of one card.
pub struct PinGuard {
    card: CardName,
    record: Record,
    /// The records under other names that may be the same card's: of one serial, or one GUID. Some
    /// tools give a card another GUID. They are read, and left as they are.
    others: Vec<Record>,
}

impl PinGuard {
    /// Reads what is remembered of a card.
    ///
    /// # Errors
    /// `pin-refused`: a record can't be read, so that nothing may be presented.
    pub fn load(store: &Store, card: CardName) -> Result<Self> {
        // A card without any name shares its record with all such cards.
        let (mut record, mut others) = (None, Vec::new());
        for name in store.names().map_err(|error| unreadable(&card, error))? {
            let Some(of) = card_of(&name) else { continue };
            if of == card {
                record = read(store, &card, &name)?;
            } else if of.shares_a_name_with(&card) {
                others.extend(read(store, &of, &name)?);
            }
        }
        let record = if let Some(record) = record {
            record
        } else {
            let mut key = [0; 16];
            profile::random(&mut key)?;
            Record::new(key)
        };
        Ok(Self { card, record, others })
    }

    /// Takes in what the card's counter tells of a PIN that was about to be presented. Whether that
    /// changed the record.
    pub fn settle(&mut self, tries: u8) -> bool {
        let Some(intent) = self.record.intent.take() else { return false };
        if tries < intent.tries {
            self.record.rejected.push(intent.rejected(tries));
        }
        true
    }

    /// What is known of a PIN, with so many tries left.
    #[must_use]
    pub fn recall(&self, pin: &Pin, tries: u8) -> History {
        for record in std::iter::once(&self.record).chain(&self.others) {
            let tag = record.tag(pin);
            let unsettled = record.intent.iter().filter(|intent| tries < intent.tries);
            let unsettled = unsettled.map(|intent| intent.rejected(tries));
            let mut rejected = record.rejected.iter().cloned().chain(unsettled);
            if let Some(found) = rejected.find(|rejected| rejected.tag == tag) {
                return History::Rejected(Rejection::from(&found));
            }
        }
        let accepted = Accepted { tag: self.record.tag(pin), tries };
        if self.record.accepted == Some(accepted) { History::Proven } else { History::Unproven }
    }

    /// Notes that a PIN is about to be presented for `key`, with so many tries left.
    pub fn intend(&mut self, pin: &Pin, tries: u8, key: &str) {
        let (tag, by, at) = (self.record.tag(pin), key.into(), clock::now().as_secs());
        self.record.intent = Some(Intent { tag, tries, by, at });
    }

    /// Notes that the card accepted a PIN, which had so many tries before; one that was typed leaves
    /// no tag. Whether that changed the record.
    pub fn accepted(&mut self, pin: &Pin, tries: u8, typed: bool) -> bool {
        let before = self.record.clone();
        self.record.intent = None;
        let accepted = Accepted { tag: self.record.tag(pin), tries };
        self.record.accepted = (!typed).then_some(accepted);
        self.record != before
    }

    /// Notes that the card rejected a PIN presented for `key`, and that so many tries are left.
    pub fn rejected(&mut self, pin: &Pin, left: u8, key: &str) {
        self.intend(pin, left, key);
        let intent = self.record.intent.take();
        self.record.rejected.extend(intent.map(|intent| intent.rejected(left)));
        let tag = self.record.tag(pin);
        self.record.accepted.take_if(|accepted| accepted.tag == tag);
    }

    /// Has the record on the disk when it returns.
    ///
    /// # Errors
    /// `pin-refused`: the state directory does not take it.
    pub fn save(&self, store: &mut Store) -> Result<()> {
        let tried = format!("recording what becomes of the PIN of {}", self.card);
        let refused = |found: String, advice: &str| {
            Error::new(Class::PinRefused, tried.clone(), found, advice)
        };
        let text = toml::to_string(&self.record).map_err(|error| {
            refused(error.to_string(), "This is a fault of the program: report it.")
        })?;
        let advice = "Make the state directory writable, with room.";
        let at = store.path().display().to_string();
        let dir = store.writable().map_err(|error| refused(error.found, &error.advice))?;
        durable::replace(dir, &file_name(&self.card), text.as_bytes())
            .map_err(|error| refused(format!("{at}: {error}"), advice))
    }
}

impl Intent {
    fn rejected(&self, left: u8) -> Rejected {
        Rejected { tag: self.tag, left, by: self.by.clone(), at: self.at }
    }
}

/// The PINs that are remembered as rejected, by card.
///
/// # Errors
/// `pin-refused`: a record can't be read.
pub fn rejections(store: &Store) -> Result<Vec<(CardName, Vec<Rejection>)>> {
    let mut found = Vec::new();
    for name in store.names()? {
        let Some(card) = card_of(&name) else { continue };
        let record = read(store, &card, &name)?;
        let rejected = record.iter().flat_map(|record| &record.rejected).map(Rejection::from);
        found.push((card, rejected.collect()));
    }
    Ok(found)
}

/// Forgets all of the PINs of every card that `wanted` may name; those cards.
///
/// # Errors
/// `permission` or `profile`: the state directory does not let go of them.
pub fn forget(store: &Store, wanted: &CardName) -> Result<Vec<CardName>> {
    let mut forgotten = Vec::new();
    for name in store.names()? {
        if let Some(card) = card_of(&name)
            && (card == *wanted || *wanted != CardName::default() && card.is(wanted))
        {
            store.remove(&name)?;
            forgotten.push(card);
        }
    }
    Ok(forgotten)
}

fn read(store: &Store, card: &CardName, name: &str) -> Result<Option<Record>> {
    let text = store.read_file(name, MAX_SIZE).map_err(|error| unreadable(card, error))?;
    let parse = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        toml::from_str(text).map_err(|error| error.message().to_owned())
    };
    text.map(|bytes| parse(&bytes)).transpose().map_err(|found| {
        Error::new(
            Class::PinRefused,
            format!("reading which PINs {card} rejected ({name} in the state directory)"),
            format!("the file is damaged: {found}"),
            format!(
                "Nothing was presented. Make sure that the PIN is right, then `nixos-cryptkey pin \
                 forget --card {}`.",
                card.argument()
            ),
        )
    })
}

fn unreadable(card: &CardName, error: Error) -> Error {
    let tried = format!("reading which PINs {card} rejected: {}", error.tried);
    Error { class: Class::PinRefused, tried, ..error }
}

#[cfg(test)]
mod tests;
