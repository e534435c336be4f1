//! The record of a card's PINs: `STATE/card-<serial>-<guid>.pins`, one of the two parts where the card
//! has no other.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::{
    card::{CardName, Pin},
    kdf,
};

/// A record is no longer than this many bytes. Each rejected PIN adds less than 150, and cost a try.
pub(super) const MAX_SIZE: usize = 1 << 20;

const PREFIX: &str = "card";
const SUFFIX: &str = ".pins";

/// What is remembered of the PINs of one card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub version: Version,
    /// Random, so that equal PINs of two cards, or machines, have tags that say nothing of it.
    pub key: Hex<16>,
    /// The last PIN that the card accepted, if nobody typed it.
    pub accepted: Option<Accepted>,
    /// The PIN that was about to be presented.
    pub intent: Option<Intent>,
    /// The PINs that the card rejected.
    #[serde(default)]
    pub rejected: Vec<Rejected>,
}

/// A PIN that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Accepted {
    pub tag: Hex<2>,
    /// The tries that were left before it was presented.
    pub tries: u8,
}

/// A PIN that is about to be presented.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Intent {
    pub tag: Hex<2>,
    /// The tries left before.
    pub tries: u8,
    /// The key for which it is.
    pub by: String,
    /// When, in seconds since 1970.
    pub at: u64,
}

/// A PIN that was rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rejected {
    pub tag: Hex<2>,
    /// The tries left afterwards.
    pub left: u8,
    /// The key for which it was presented.
    pub by: String,
    /// When, in seconds since 1970.
    pub at: u64,
}

/// The number 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub(super) struct Version;

impl TryFrom<u8> for Version {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        if number == 1 { Ok(Self) } else { Err(format!("version {number} is not known")) }
    }
}

impl From<Version> for u8 {
    fn from(_: Version) -> Self {
        1
    }
}

/// Bytes, written in lower-case hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Hex<const N: usize>(pub [u8; N]);

impl<const N: usize> TryFrom<String> for Hex<N> {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut bytes = [0; N];
        match base16ct::lower::decode(&text, &mut bytes) {
            Ok(decoded) if decoded.len() == N => Ok(Self(bytes)),
            _ => Err(format!("expected {} hex digits", 2 * N)),
        }
    }
}

impl<const N: usize> From<Hex<N>> for String {
    fn from(bytes: Hex<N>) -> Self {
        base16ct::lower::encode_string(&bytes.0)
    }
}

impl Record {
    pub fn new(key: [u8; 16]) -> Self {
        Self { version: Version, key: Hex(key), accepted: None, intent: None, rejected: Vec::new() }
    }

    /// The tag of a PIN: 12 bits, so that whoever reads it knows little of the PIN.
    pub fn tag(&self, pin: &Pin) -> Hex<2> {
        let [high, low] = pin.derive(|bytes| kdf::pin_tag(bytes, &self.key.0));
        Hex([high & 0x0f, low])
    }
}

/// The name of a card's record.
pub(super) fn file_name(card: &CardName) -> String {
    let mut name = PREFIX.to_owned();
    let parts = [card.serial.map(|s| s.to_string()), card.guid.map(|g| g.to_string())];
    for part in parts.into_iter().flatten() {
        // Writing to a string never fails.
        let _ = write!(name, "-{part}");
    }
    name + SUFFIX
}

/// The card whose record has this name; none where it is no record's.
pub(super) fn card_of(name: &str) -> Option<CardName> {
    let mut parts = name.strip_suffix(SUFFIX)?.strip_prefix(PREFIX)?.split('-').skip(1).peekable();
    let serial = parts.next_if(|part| part.len() < 32).map(str::parse).transpose().ok()?;
    let guid = parts.next().map(str::parse).transpose().ok()?;
    let card = CardName { serial, guid };
    (file_name(&card) == name).then_some(card)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::card::{Guid, Serial};

    proptest! {
        #[test]
        fn a_name_names_one_card(serial in any::<u32>(), guid in any::<[u8; 16]>()) {
            for serial in [None, Serial::new(serial)] {
                for guid in [None, Guid::new(guid)] {
                    let card = CardName { serial, guid };
                    prop_assert_eq!(card_of(&file_name(&card)), Some(card));
                }
            }
        }
    }

    #[test]
    fn other_names_are_no_records() {
        let guid = "0".repeat(31) + "A";
        for name in [
            "card-1.pin",
            "card-01.pins",
            "card-0.pins",
            "card-.pins",
            "cards.pins",
            "card-1-.pins",
        ] {
            assert_eq!(card_of(name), None, "{name}");
        }
        assert_eq!(card_of(&format!("card-{guid}.pins")), None);
        assert_eq!(card_of(".card-1.pins.new"), None);
    }

    #[test]
    fn a_tag_has_12_bits_and_hangs_on_pin_and_key() {
        let pin = |text: &str| Pin::new(text.as_bytes()).unwrap();
        let (one, two) = (Record::new([1; 16]), Record::new([2; 16]));
        assert!((0..64).all(|n| one.tag(&pin(&format!("1234{n:02}"))).0[0] < 16));
        assert_eq!(one.tag(&pin("123456")), one.tag(&pin("123456")));
        assert_ne!(one.tag(&pin("123456")), one.tag(&pin("123457")));
        assert_ne!(one.tag(&pin("123456")), two.tag(&pin("123456")));
    }
}
