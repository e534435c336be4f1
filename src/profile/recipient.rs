//! The age recipient of a key: the public half of an X25519 identity that only the opened key gives.
//!
//! It says which key a profile is of, in a way that nobody can copy into a profile of another key:
//! the id is a hash of it, and the opened key has to give it again.

use std::fmt;

use bech32::{Bech32, Hrp, primitives::decode::CheckedHrpstring};
use curve25519_dalek::montgomery::MontgomeryPoint;

use super::format::hex;
use crate::kdf;

/// The human-readable part of an age recipient.
const HRP: Hrp = Hrp::parse_unchecked("age");

/// A key's age recipient, shown as `age1…` (62 characters of Bech32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipient([u8; 32]);

impl Recipient {
    /// That of a key.
    pub(super) fn of(master: &[u8; 32], output_salt: &[u8; 32]) -> Self {
        let scalar = kdf::recipient_scalar(master, output_salt);
        Self(MontgomeryPoint::mul_base_clamped(*scalar).to_bytes())
    }

    /// Reads the one form that it is written in.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let checked = CheckedHrpstring::new::<Bech32>(text).ok()?;
        let bytes: Vec<u8> = checked.byte_iter().collect();
        let recipient = Self(bytes.try_into().ok()?);
        (recipient.to_string() == text).then_some(recipient)
    }

    /// The X25519 public key.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0
    }

    /// The key's public id: 32 lower-case hex digits.
    #[must_use]
    pub fn id(&self) -> String {
        hex(&kdf::recipient_id(&self.0))
    }
}

impl From<[u8; 32]> for Recipient {
    /// That of an X25519 public key.
    fn from(public: [u8; 32]) -> Self {
        Self(public)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bech32::encode_to_fmt::<Bech32, _>(f, HRP, &self.0).map_err(|_| fmt::Error)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Computed by `tests/expected.py`.
    #[test]
    fn it_is_fixed_and_written_in_one_form() {
        let recipient = Recipient::of(&[1; 32], &[2; 32]);
        let text = recipient.to_string();
        assert_eq!(text, "age1ulc4rsp0c8hzyp0xygg66wlfjq7x5efzmz0xf9e3d2kxldjyfdrqh4swwn");
        assert_eq!(recipient.id(), "ea276d75d4f758eb4c0663972e5d6b1c");
        assert_eq!(Recipient::parse(&text), Some(recipient));
        for other in [
            text.to_uppercase(),
            format!("{text}q"),
            text.replacen("age1", "aga1", 1),
            text[..61].to_owned(),
            String::new(),
        ] {
            assert_eq!(Recipient::parse(&other), None, "{other}");
        }
    }
}
