//! The words of PIV that other rooms speak too: slots, policies, serials, GUIDs, fingerprints.
//!
//! Each is parsed in one place, with a message that says what is allowed.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A PIV key slot that can hold a key-agreement key: 9a, 9d, 9e, 82 to 95 (NIST SP 800-73-4,
/// part 1, table 4b). 9c never is one: its keys sign only.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^(9[adeADE]|8[2-9a-fA-F]|9[0-5])$"))]
pub struct Slot(u8);

impl Slot {
    /// Slot 9d, which the standard means for key agreement.
    pub const KEY_MANAGEMENT: Self = Self(0x9d);

    /// Every slot.
    pub fn all() -> impl Iterator<Item = Self> {
        [0x9a, 0x9d, 0x9e].into_iter().chain(0x82..=0x95).map(Self)
    }

    /// The slot's key reference on the wire.
    #[must_use]
    pub fn reference(self) -> u8 {
        self.0
    }

    /// The tag of the data object that holds the slot's certificate (SP 800-73-4, part 1, table 3).
    #[must_use]
    pub fn certificate_object(self) -> [u8; 3] {
        let last = match self.0 {
            0x9a => 0x05,
            0x9d => 0x0b,
            0x9e => 0x01,
            retired => 0x0d + (retired - 0x82),
        };
        [0x5f, 0xc1, last]
    }

    /// The PIN policy that the standard gives the slot's keys.
    #[must_use]
    pub fn standard_pin_policy(self) -> PinPolicy {
        if self.0 == 0x9e { PinPolicy::Never } else { PinPolicy::Once }
    }
}

impl FromStr for Slot {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = (text.len() == 2).then(|| u8::from_str_radix(text, 16).ok()).flatten();
        match number {
            Some(0x9c) => {
                Err("slot 9c is refused: the standard keeps it for signatures, and this \
                               key must agree on keys; allowed are 9a, 9d, 9e and 82 to 95"
                    .into())
            }
            Some(n @ (0x9a | 0x9d | 0x9e | 0x82..=0x95)) => Ok(Self(n)),
            _ => Err(format!("found slot {text:?}; allowed are 9a, 9d, 9e and 82 to 95 (hex)")),
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}", self.0)
    }
}

/// When the card asks for the PIN before it uses a key (a Yubico extension; the standard fixes it
/// by slot).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PinPolicy {
    /// Whoever reaches the card may use the key.
    Never,
    /// Once per session.
    Once,
    /// Before each use.
    Always,
}

impl fmt::Display for PinPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Never => "never",
            Self::Once => "once",
            Self::Always => "always",
        })
    }
}

/// When the card asks for a touch before it uses a key (a Yubico extension).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TouchPolicy {
    /// No touch.
    Never,
    /// A touch before each use.
    Always,
    /// A touch, which then holds for 15 seconds.
    Cached,
}

impl fmt::Display for TouchPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Never => "never",
            Self::Always => "always",
            Self::Cached => "cached",
        })
    }
}

/// A card's serial number, written in decimal. Zero names no card.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[1-9][0-9]{0,9}$"))]
pub struct Serial(u32);

impl Serial {
    /// The serial from a card's number; none for 0, which some makers give to every card.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        (number != 0).then_some(Self(number))
    }
}

impl FromStr for Serial {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let canonical = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
        text.parse().ok().filter(|_| canonical).and_then(Self::new).ok_or_else(|| {
            format!("found serial {text:?}; allowed is the decimal number that `nixos-cryptkey cards` prints")
        })
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A card's GUID: tag 34 of its CHUID, 16 bytes, written as 32 lower-case hex digits.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend(
    "pattern" = "^([0-9a-fA-F]{32}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})$"
))]
pub struct Guid([u8; 16]);

impl Guid {
    /// The GUID from its bytes; none for all zeros, which identify no card.
    #[must_use]
    pub fn new(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }
}

impl FromStr for Guid {
    type Err = String;

    /// Accepts upper case, and dashes where UUIDs have them.
    fn from_str(text: &str) -> Result<Self, String> {
        let digits: String = match text.len() {
            36 if [8, 13, 18, 23].iter().all(|&i| text.as_bytes()[i] == b'-') => {
                text.replace('-', "")
            }
            _ => text.into(),
        };
        let mut bytes = [0; 16];
        base16ct::mixed::decode(&digits, &mut bytes)
            .is_ok_and(|decoded| decoded.len() == 16)
            .then(|| Self::new(bytes))
            .flatten()
            .ok_or_else(|| {
                format!("found GUID {text:?}; allowed are the 32 hex digits that `nixos-cryptkey cards` prints")
            })
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base16ct::lower::encode_string(&self.0))
    }
}

/// What a card is known by: its serial, its GUID, or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CardName {
    /// Its serial, where it has one that is known.
    pub serial: Option<Serial>,
    /// Its GUID, where it has one that is known.
    pub guid: Option<Guid>,
}

impl CardName {
    /// Whether both name one card, where that can be told: by the GUIDs if both are known, as some
    /// makers give all cards one serial, and else by the serials.
    fn same(&self, other: &Self) -> Option<bool> {
        let guids = self.guid.zip(other.guid).map(|(own, others)| own == others);
        guids.or_else(|| self.serial.zip(other.serial).map(|(own, others)| own == others))
    }

    /// Whether both may name one card: nothing tells them apart.
    #[must_use]
    pub fn may_be(&self, other: &Self) -> bool {
        self.same(other).unwrap_or(true)
    }

    /// Whether both name one card as far as can be told.
    #[must_use]
    pub fn is_known_as(&self, other: &Self) -> bool {
        self.same(other).unwrap_or(false)
    }

    /// What names it on a command line: its serial, or its GUID where it has none.
    #[must_use]
    pub fn argument(&self) -> String {
        let serial = self.serial.map(|serial| serial.to_string());
        serial.or(self.guid.map(|guid| guid.to_string())).unwrap_or_else(|| "unnamed".into())
    }

    /// Whether a card of this name is the one that `wanted` names: all that is said there holds.
    #[must_use]
    pub fn is(&self, wanted: &Self) -> bool {
        wanted.serial.is_none_or(|serial| self.serial == Some(serial))
            && wanted.guid.is_none_or(|guid| self.guid == Some(guid))
    }
}

impl FromStr for CardName {
    type Err = String;

    /// A serial, a GUID, or `unnamed` for cards with neither.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unnamed" {
            return Ok(Self::default());
        }
        let guid = text.parse().ok();
        let serial = if guid.is_none() { Some(text.parse()?) } else { None };
        Ok(Self { serial, guid })
    }
}

impl fmt::Display for CardName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.serial, self.guid) {
            (Some(serial), _) => write!(f, "card {serial}"),
            (None, Some(guid)) => write!(f, "card {guid}"),
            (None, None) => f.write_str("a card without serial and GUID"),
        }
    }
}

/// How a card told its slot's key when it was enrolled, so that a later run asks the one question
/// that this card answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// Yubico's metadata command, firmware 5.3 and later.
    Metadata,
    /// Yubico's attestation of a generated key, firmware 4.3 and later.
    Attestation,
    /// The certificate stored with the slot. It is only a hint: it may be stale.
    Certificate,
    /// In no way: the key is what a key agreement with the base point answers, or what the card
    /// answered when it generated it.
    KeyAgreement,
}

impl KeySource {
    /// Whether the card itself tells which key is in a slot.
    #[must_use]
    pub fn tells(self) -> bool {
        matches!(self, Self::Metadata | Self::Attestation)
    }
}

impl FromStr for KeySource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [
            Self::Metadata,
            Self::Attestation,
            Self::Certificate,
            Self::KeyAgreement,
        ]
        .into_iter()
        .find(|source| source.to_string() == text)
        .ok_or_else(|| {
            format!(
                "found {text:?}; allowed are metadata, attestation, certificate and key-agreement"
            )
        })
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Metadata => "metadata",
            Self::Attestation => "attestation",
            Self::Certificate => "certificate",
            Self::KeyAgreement => "key-agreement",
        })
    }
}

/// The fingerprint of a public key: SHA-256 of its `SubjectPublicKeyInfo`, written as
/// `SHA256:` and 43 characters of unpadded base64, as OpenSSH writes fingerprints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^SHA256:[A-Za-z0-9+/]{43}$"))]
pub struct Fingerprint(pub [u8; 32]);

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = [0; 32];
        text.strip_prefix("SHA256:")
            .filter(|digits| {
                <base64ct::Base64Unpadded as base64ct::Encoding>::decode(digits, &mut bytes)
                    .is_ok_and(|out| out.len() == 32)
            })
            .map(|_| Self(bytes))
            .ok_or_else(|| {
                format!(
                    "found fingerprint {text:?}; allowed is `SHA256:` and 43 characters of \
                     base64, as `nixos-cryptkey cards` prints it"
                )
            })
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SHA256:{}",
            <base64ct::Base64Unpadded as base64ct::Encoding>::encode_string(&self.0)
        )
    }
}

/// What serde needs to read and write a type through its `FromStr` and `Display`.
macro_rules! as_string {
    ($($name:ty),*) => {$(
        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )*};
}

as_string!(Slot, Serial, Guid, Fingerprint);

/// The text without what no field of a profile may hold: control characters become blanks.
#[must_use]
pub fn plain_text(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.collect::<String>().trim().to_owned()
}
