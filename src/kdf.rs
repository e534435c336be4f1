//! Every key derivation of the project, with its HKDF label, in one place.
//!
//! HKDF is HKDF-SHA256 (RFC 5869); the lengths and labels are those of `docs/key-schedule.md` and
//! never change: a changed label is a lost secret. No other file calls HKDF.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _};
use p256::{
    NistP256, NonZeroScalar, U256,
    elliptic_curve::{
        Curve as _,
        bigint::{NonZero, U512},
        ops::Reduce as _,
    },
};
use sha2::Sha256;
use zeroize::Zeroizing;

/// The domain separation tag of the project's points hashed to P-256 (RFC 9380, section 3.1).
pub const HASH_TO_CURVE_DST: &[u8] = b"nixos-cryptkey-V01-with-P256_XMD:SHA-256_SSWU_RO_";

/// The longest output of a use label, in bytes: HKDF gives no more (RFC 5869, section 2.3).
pub const MAX_OUTPUT: usize = 255 * 32;

/// Derives the PIV provider's secret (32 bytes) of the scheme `hash-to-curve`.
///
/// `x` is the card's answer; `salt` the provider's; `peer` and `key` are the peer point P and the
/// slot's public key Q, uncompressed SEC1.
#[must_use]
pub fn piv_hash_to_curve_secret(
    x: &[u8; 32],
    salt: &[u8; 32],
    peer: &[u8; 65],
    key: &[u8; 65],
) -> Zeroizing<[u8; 32]> {
    fixed(x, salt, &[b"cryptkey-piv-hash-to-curve", peer, key])
}

/// Derives the PIV provider's secret (32 bytes) of cryptkey v1's scheme.
#[must_use]
pub fn piv_salt_derived_secret(x: &[u8; 32], salt: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    fixed(x, salt, &[b"cryptkey-piv-provider"])
}

/// Derives the 64 bytes that cryptkey v1 reduces to its peer scalar. They are as public as the salt.
#[must_use]
pub fn piv_peer_scalar(salt: &[u8; 32]) -> Zeroizing<[u8; 64]> {
    fixed(salt, &[], &[b"cryptkey-piv-ecdh-scalar"])
}

/// A scalar of P-256 from 64 bytes: as a big-endian number modulo n − 1, plus 1, where n is the order.
///
/// The division takes the same time for all numbers.
#[must_use]
pub fn p256_scalar(wide: &[u8; 64]) -> NonZeroScalar {
    const ORDER_LESS_ONE: NonZero<U512> =
        NonZero::<U512>::new_unwrap(NistP256::ORDER.as_ref().wrapping_sub(&U256::ONE).resize());
    let reduced: U256 = U512::from_be_slice(wide).rem(&ORDER_LESS_ONE).resize();
    // A scalar that is not zero is reduced just so: modulo n − 1, plus 1.
    NonZeroScalar::reduce(&reduced)
}

/// Derives the AES-256 key that seals a provider's share.
#[must_use]
pub fn share_key(provider_secret: &[u8; 32], share_salt: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    fixed(provider_secret, share_salt, &[b"cryptkey-share-encryption"])
}

/// Derives the HMAC-SHA256 key of a profile's integrity.
#[must_use]
pub fn integrity_key(master: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    fixed(master, &[], &[b"cryptkey-config-integrity"])
}

/// Derives the HMAC-SHA256 key of the file of public halves.
#[must_use]
pub fn public_halves_key(master: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    fixed(master, &[], &[b"cryptkey-public-halves"])
}

/// Derives the output of `use_label`: `length` bytes, or none where `length` is not within
/// 1 to [`MAX_OUTPUT`].
#[must_use]
pub fn output(
    master: &[u8; 32],
    output_salt: &[u8; 32],
    use_label: &str,
    length: usize,
) -> Option<Zeroizing<Vec<u8>>> {
    if !(1..=MAX_OUTPUT).contains(&length) {
        return None;
    }
    let mut out = Zeroizing::new(vec![0; length]);
    Hkdf::<Sha256>::new(Some(output_salt), master)
        .expand_multi_info(&[b"cryptkey:", use_label.as_bytes()], &mut out)
        .ok()?;
    Some(out)
}

/// Derives the X25519 scalar (32 bytes, to be clamped) of a key's age identity.
///
/// No use label can give it: outputs have a colon where this label has a dash.
#[must_use]
pub fn recipient_scalar(master: &[u8; 32], output_salt: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    fixed(master, output_salt, &[b"cryptkey-age-recipient"])
}

/// Derives the key (32 bytes) that wraps an age file's key for an X25519 recipient; `salt` is the
/// ephemeral share and the recipient. This label and the next two are age's own.
#[must_use]
pub fn age_wrapping_key(shared: &[u8; 32], salt: &[u8; 64]) -> Zeroizing<[u8; 32]> {
    fixed(shared, salt, &[b"age-encryption.org/v1/X25519"])
}

/// Derives the HMAC-SHA256 key of an age file's header.
#[must_use]
pub fn age_header_key(file_key: &[u8; 16]) -> Zeroizing<[u8; 32]> {
    fixed(file_key, &[], &[b"header"])
}

/// Derives the ChaCha20-Poly1305 key of an age file's payload.
#[must_use]
pub fn age_payload_key(file_key: &[u8; 16], nonce: &[u8; 16]) -> Zeroizing<[u8; 32]> {
    fixed(file_key, nonce, &[b"payload"])
}

/// An HMAC-SHA256 with a key of 32 bytes.
pub(crate) fn hmac(key: &[u8; 32]) -> Hmac<Sha256> {
    // HMAC fills a key up to its block of 64 bytes with zeros; done here, it can't fail.
    let mut block = Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(key);
    Hmac::new((&*block).into())
}

/// Derives a key's public id (16 bytes): a hash of the X25519 public key of its recipient.
///
/// The label differs from that of [`salt_id`]: else a profile whose output salt is the public key of
/// another one would have its id.
#[must_use]
pub fn recipient_id(public: &[u8; 32]) -> [u8; 16] {
    *fixed(public, &[], &[b"cryptkey-recipient-id"])
}

/// Derives the id (16 bytes) that profiles had before they named a recipient: a hash of the output
/// salt, which anybody can copy, so that it proves nothing.
#[must_use]
pub fn salt_id(output_salt: &[u8; 32]) -> [u8; 16] {
    *fixed(output_salt, &[], &[b"cryptkey-profile-id"])
}

/// Derives 2 bytes by which the PIN guard knows a PIN again; it keeps 12 bits of them. `key` is one
/// for all cards, but in records of earlier versions.
#[must_use]
pub fn pin_tag(pin: &[u8; 8], key: &[u8; 16]) -> [u8; 2] {
    *fixed(pin, key, &[b"cryptkey-pin-tag"])
}

/// HKDF with an output of a length known here. An empty salt is HKDF's "no salt".
fn fixed<const N: usize>(ikm: &[u8], salt: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; N]> {
    const { assert!(N <= 255 * 32, "HKDF-SHA256 gives at most 8160 bytes") };
    let mut out = Zeroizing::new([0; N]);
    let expanded = Hkdf::<Sha256>::new(Some(salt), ikm).expand_multi_info(info, &mut *out);
    // The length is all that expand can refuse, and it was checked when this was compiled.
    debug_assert!(expanded.is_ok());
    out
}

/// Defines a type for 32 secret bytes that are wiped when dropped and never printed.
///
/// The bytes are boxed, so that moving the value leaves no copy behind on the stack.
macro_rules! secret_bytes {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub struct $name(Box<zeroize::Zeroizing<[u8; 32]>>);

        impl $name {
            /// Takes the bytes over by copying them; the caller wipes its own.
            #[must_use]
            pub fn new(bytes: &[u8; 32]) -> Self {
                let mut boxed = Box::new(zeroize::Zeroizing::new([0; 32]));
                boxed.copy_from_slice(bytes);
                Self(boxed)
            }

            /// The bytes themselves.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(not shown)"))
            }
        }
    };
}
pub(crate) use secret_bytes;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_outputs_are_bounded() {
        let of = |length| output(&[1; 32], &[2; 32], "backups", length).map(|out| out.len());
        assert_eq!(of(0), None);
        assert_eq!(of(1), Some(1));
        assert_eq!(of(8160), Some(8160));
        assert_eq!(of(8161), None);
    }

    #[test]
    fn a_longer_output_begins_with_the_shorter() {
        let of = |length| output(&[1; 32], &[2; 32], "backups", length).unwrap();
        assert_eq!(of(64)[..32], of(32)[..]);
    }

    /// Computed with Python's hmac module, straight from RFC 5869.
    #[test]
    fn the_ids_are_fixed() {
        let hex = |bytes: &[u8]| base16ct::lower::encode_string(bytes);
        assert_eq!(hex(&salt_id(&[7; 32])), "0d485c1479915b49675748ab8a1bfcf8");
        assert_eq!(hex(&recipient_id(&[7; 32])), "28b0f90c742d14f4b389df6b87339aef");
        assert_eq!(
            hex(&*recipient_scalar(&[1; 32], &[2; 32])),
            "c8b522a4cb2747e9b261b0a64e4a817a201e44cb0cc1f9b970f73f3195d5b265"
        );
    }
}
