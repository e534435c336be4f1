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

/// The key of the tags: one for all cards and machines, as the tags of one PIN under two keys tell more
/// of it than one tag does.
const KEY: Hex<16> = Hex(*b"cryptkey pin tag");

/// What is remembered of PINs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub version: Version,
    /// [`KEY`]; a random one was in files of earlier versions.
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
    /// The key of its tags, if an earlier version drew one; until it accepts a PIN.
    pub key: Option<Hex<16>>,
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
    /// Of what was read, or of nothing: whose tags have another key is noted with each card.
    pub fn of(read: Option<Self>) -> Self {
        let mut record =
            read.unwrap_or_else(|| Self { version: Version, key: KEY, cards: Vec::new() });
        if record.key != KEY {
            for card in &mut record.cards {
                card.key.get_or_insert(record.key);
            }
            record.key = KEY;
        }
        record
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

    /// The tag of a PIN: 12 bits, so that whoever reads it knows little of the PIN.
    pub fn tag(&self, pin: &Pin) -> Hex<2> {
        let [high, low] = pin.derive(|bytes| kdf::pin_tag(bytes, &self.key.unwrap_or(KEY).0));
        Hex([high & 0x0f, low])
    }

    /// That the card rejected a PIN, if that is known.
    pub fn rejection(&self, pin: &Pin) -> Option<&Rejected> {
        let tag = self.tag(pin);
        self.rejected.iter().rev().find(|rejected| rejected.tag == tag)
    }

    /// Whether the counter rose since a PIN was rejected, and not by one that this program presented:
    /// somebody set it back, or it is another card that goes by this name, and was not the one before.
    /// So the PIN may be right now. The next rejection is of all PINs.
    pub fn has_risen(&self, tries: u8) -> bool {
        self.accepted.is_none() && self.rejected.last().is_some_and(|last| tries > last.left)
    }

    pub fn intend(&mut self, pin: &Pin, tries: u8, by: &str) {
        let at = clock::now().as_secs();
        self.intent = Some(Intent { tag: self.tag(pin), tries, by: by.into(), at });
    }

    /// Takes in what the counter tells of the PIN that was about to be presented.
    pub fn settle(&mut self, tries: u8) {
        if let Some(Intent { tag, tries: before, by, at }) = self.intent.take()
            && tries < before
        {
            self.note(Rejected { tag, left: tries, by, at, told: false });
        }
    }

    pub fn reject(&mut self, pin: &Pin, left: u8, by: &str) {
        let at = clock::now().as_secs();
        self.note(Rejected { tag: self.tag(pin), left, by: by.into(), at, told: true });
    }

    fn note(&mut self, rejected: Rejected) {
        self.intent = None;
        self.accepted = None;
        self.rejected.retain(|before| before.tag != rejected.tag);
        self.rejected.push(rejected);
    }

    /// Of a PIN that was typed no tag is kept, but for one that is there already.
    pub fn accept(&mut self, pin: &Pin, tries: u8, typed: bool) {
        let tag = self.tag(pin);
        let is_kept = !typed || self.accepted.is_some_and(|accepted| accepted.tag == tag);
        self.intent = None;
        self.rejected.retain(|rejected| rejected.tag != tag);
        if self.key.take().is_some() {
            self.rejected.clear();
        }
        self.accepted = is_kept.then(|| Accepted { tag: self.tag(pin), tries });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_has_12_bits_and_hangs_on_the_pin_alone() {
        let pin = |text: &str| Pin::new(text.as_bytes()).unwrap();
        let (one, two) = (Card::default(), Card { serial: Serial::new(2), ..Card::default() });
        assert!((0..64).all(|n| one.tag(&pin(&format!("1234{n:02}"))).0[0] < 16));
        assert_eq!(one.tag(&pin("123456")), two.tag(&pin("123456")));
        assert_ne!(one.tag(&pin("123456")), one.tag(&pin("123457")));
        // It is on disks: it stays for good.
        assert_eq!(String::from(one.tag(&pin("123456"))), "0a85");
    }
}
