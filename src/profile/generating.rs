//! The record of a key that is about to be generated on a card: `STATE/<key>.generating`.
//!
//! It is on the disk before the card is told to generate, and goes once the profile of the new key is.
//! So a run that was killed in between does not leave a slot with a key that nobody knows.

use serde::{Deserialize, Serialize};

use super::store::{Store, check_name};
use crate::{
    error::{Class, Error, Result},
    system::durable,
    token::{CardName, Fingerprint, Guid, Serial, Slot},
};

/// A record is no longer than this many bytes; real ones have about 150.
const MAX_SIZE: usize = 1 << 12;

/// A key that is about to be generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generating {
    /// The card, as it is known.
    pub card: CardName,
    /// The slot.
    pub slot: Slot,
    /// The key that was in the slot, and is destroyed by it; none if there was none.
    pub destroys: Option<Fingerprint>,
}

impl Generating {
    /// Whether it is about this slot of this card.
    #[must_use]
    pub fn is_about(&self, card: &CardName, slot: Slot) -> bool {
        self.slot == slot && self.card.is_known_as(card)
    }
}

/// The record as TOML has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    version: u8,
    serial: Option<Serial>,
    guid: Option<Guid>,
    slot: Slot,
    destroys: Option<Fingerprint>,
}

impl Store {
    /// What was about to be generated for key `name`; none if nothing was.
    ///
    /// # Errors
    /// `profile` where the record can't be read.
    pub fn generating(&self, name: &str) -> Result<Option<Generating>> {
        check_name(name)?;
        let Some(bytes) = self.read_file(&file_name(name), MAX_SIZE)? else { return Ok(None) };
        let text = std::str::from_utf8(&bytes).map_err(|error| error.to_string());
        let read = text.and_then(parse).map_err(|found| {
            Error::new(
                Class::Profile,
                format!("reading {}", self.path().join(file_name(name)).display()),
                format!("the record is damaged: {found}"),
                "It says which key was being generated on a card. Nothing was changed. Remove it if \
                 the slot is empty or holds the key that it held before.",
            )
        });
        read.map(Some)
    }

    /// Has the record on the disk when it returns.
    ///
    /// # Errors
    /// The state directory does not take it.
    pub fn begin_generating(&mut self, name: &str, what: &Generating) -> Result<()> {
        check_name(name)?;
        let Generating { card, slot, destroys } = *what;
        let raw = Raw { version: 1, serial: card.serial, guid: card.guid, slot, destroys };
        let refused = |class, found: String| {
            Error::new(
                class,
                format!("key {name}: recording that a key is about to be generated"),
                found,
                "Nothing was generated. Make the state directory writable, with room.",
            )
        };
        let text = toml::to_string(&raw).map_err(|e| refused(Class::Internal, e.to_string()))?;
        let dir = self.writable()?;
        durable::replace(dir, &file_name(name), text.as_bytes())
            .map_err(|error| refused(Class::Permission, error.to_string()))?;
        // The directory may be new, too.
        self.sync(name)
    }

    /// Removes the record for good.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn end_generating(&self, name: &str) -> Result<()> {
        self.remove(&file_name(name))
    }
}

fn file_name(name: &str) -> String {
    format!("{name}.generating")
}

fn parse(text: &str) -> std::result::Result<Generating, String> {
    let raw: Raw = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let card = CardName { serial: raw.serial, guid: raw.guid };
    match (raw.version, card == CardName::default()) {
        (1, false) => Ok(Generating { card, slot: raw.slot, destroys: raw.destroys }),
        (1, true) => Err("it names no card".into()),
        (version, _) => Err(format!("version {version} is not known")),
    }
}
