//! X25519 keys: age identities and `WireGuard` keys. 32 bytes become a scalar by clamping (RFC 7748,
//! section 5).

use std::fmt;

use base64ct::{Base64, Encoding};
use bech32::{Bech32, Hrp};
use curve25519_dalek::{montgomery::MontgomeryPoint, scalar::clamp_integer};
use zeroize::Zeroizing;

use crate::profile::Recipient;

/// The human-readable part of an age identity.
const IDENTITY: Hrp = Hrp::parse_unchecked("age-secret-key-");
/// The characters of an identity: that part, "1", 52 for 32 bytes, and a checksum of 6.
const IDENTITY_LENGTH: usize = 15 + 1 + 52 + 6;

/// A private key and its public one.
pub(super) fn pair(bytes: &[u8; 32]) -> (Zeroizing<[u8; 32]>, [u8; 32]) {
    let scalar = Zeroizing::new(clamp_integer(*bytes));
    let public = MontgomeryPoint::mul_base_clamped(*scalar);
    (scalar, public.to_bytes())
}

/// What a scalar, which is clamped here, and a point have in common; none for a point of low order, with
/// which everybody has the same: zero.
pub(super) fn shared(scalar: &[u8; 32], point: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
    let shared = Zeroizing::new(MontgomeryPoint(*point).mul_clamped(*scalar).to_bytes());
    (*shared != [0; 32]).then_some(shared)
}

/// An age identity, and its recipient.
pub(super) fn age(bytes: &[u8; 32]) -> (Zeroizing<Vec<u8>>, String) {
    let (scalar, public) = pair(bytes);
    let mut text = Text(Zeroizing::new(Vec::with_capacity(IDENTITY_LENGTH + 1)));
    // The text takes all that is written to it.
    let _ = bech32::encode_upper_to_fmt::<Bech32, _>(&mut text, IDENTITY, &*scalar);
    (text.0, format!("{}\n", Recipient::from(public)))
}

/// A `WireGuard` private key, and its public one.
pub(super) fn wireguard(bytes: &[u8; 32]) -> (Zeroizing<Vec<u8>>, String) {
    let (scalar, public) = pair(bytes);
    let length = Base64::encoded_len(&*scalar);
    let mut text = Zeroizing::new(Vec::with_capacity(length + 1));
    text.resize(length, 0);
    // It is as long as the encoder says.
    let _ = Base64::encode(&*scalar, &mut text);
    (text, format!("{}\n", Base64::encode_string(&public)))
}

/// A text whose buffer has its final length from the start: one that grew would leave copies behind.
struct Text(Zeroizing<Vec<u8>>);

impl fmt::Write for Text {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.0.extend_from_slice(part.as_bytes());
        Ok(())
    }
}
