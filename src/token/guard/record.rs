//! The file of the PIN guard: `STATE/pin-guard`, in TOML.

use serde::{Deserialize, Serialize};

use crate::{
    kdf,
    system::clock,
    token::{CardName, Guid, Pin, Serial},
};

/// The name of the file in the state directory.
pub(super) const FILE: &str = "pin-guard";
/// It is no longer than this many bytes. Each rejected PIN adds less than 200, and cost a try.
pub(super) const MAX_SIZE: usize = 1 << 20;

/// What is remembered of PINs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub version: Version,
    /// Random. It is one for all cards, and stays for good: the tags of one PIN under two keys would
    /// tell more of it than one tag does.
    pub key: Hex<16>,
    #[serde(default)]
    pub cards: Vec<Card>,
}

/// What is remembered of the PINs of one card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Card {
    pub serial: Option<Serial>,
    pub guid: Option<Guid>,
    /// The PIN that it accepted when one was last presented, if nobody typed it.
    pub accepted: Option<Accepted>,
    /// The PIN that was about to be presented.
    pub intent: Option<Intent>,
    /// The PINs that it rejected.
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
    /// Whether the card said so. If not, its counter did, to a later run.
    pub told: bool,
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
        Self { version: Version, key: Hex(key), cards: Vec::new() }
    }

    /// The tag of a PIN: 12 bits, so that whoever reads it knows little of the PIN.
    pub fn tag(&self, pin: &Pin) -> Hex<2> {
        let [high, low] = pin.derive(|bytes| kdf::pin_tag(bytes, &self.key.0));
        Hex([high & 0x0f, low])
    }

    /// What is remembered of a card.
    pub fn card(&self, name: &CardName) -> Option<&Card> {
        self.cards.iter().find(|card| card.name() == *name)
    }

    /// The same, to change it.
    pub fn card_mut(&mut self, name: &CardName) -> &mut Card {
        let place = self.cards.iter().position(|card| card.name() == *name);
        let place = place.unwrap_or_else(|| {
            self.cards.push(Card { serial: name.serial, guid: name.guid, ..Card::default() });
            self.cards.len() - 1
        });
        &mut self.cards[place]
    }
}

impl Card {
    pub fn name(&self) -> CardName {
        CardName { serial: self.serial, guid: self.guid }
    }

    /// Takes in what the counter tells of the PIN that was about to be presented.
    pub fn settle(&mut self, tries: u8) {
        if let Some(Intent { tag, tries: before, by, at }) = self.intent.take()
            && tries < before
        {
            self.accepted = None;
            self.rejected.push(Rejected { tag, left: tries, by, at, told: false });
        }
    }

    pub fn reject(&mut self, tag: Hex<2>, left: u8, by: &str) {
        self.intent = None;
        self.accepted = None;
        let at = clock::now().as_secs();
        self.rejected.push(Rejected { tag, left, by: by.into(), at, told: true });
    }

    /// Of a PIN that was typed no tag is kept, but for one that is there already.
    pub fn accept(&mut self, tag: Hex<2>, tries: u8, typed: bool) {
        self.intent = None;
        let is_kept = !typed || self.accepted.is_some_and(|accepted| accepted.tag == tag);
        self.accepted = is_kept.then_some(Accepted { tag, tries });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
