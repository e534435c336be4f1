//! Ed25519 keys as OpenSSH keeps them: its PROTOCOL.key, without a passphrase.

use base64ct::{Base64, Encoding};
use curve25519_dalek::{EdwardsPoint, scalar::clamp_integer};
use sha2::{Digest as _, Sha256, Sha512};
use zeroize::Zeroizing;

use super::pem;

const KIND: &[u8] = b"ssh-ed25519";
/// How long the lines are that ssh-keygen writes.
const WIDTH: usize = 70;
/// The bytes of a file before it is written in base64, and of the part that a passphrase would cover.
const LENGTH: usize = 15 + (4 + 4) + (4 + 4) + 4 + 4 + (4 + PUBLIC) + (4 + COVERED);
const PUBLIC: usize = (4 + KIND.len()) + (4 + 32);
const COVERED: usize = 2 * 4 + PUBLIC + (4 + 64) + 4 + PADDING;
/// What fills the covered part up to a multiple of 8.
const PADDING: usize = 5;

/// The public key of a seed (RFC 8032, section 5.1.5).
pub(super) fn public(seed: &[u8; 32]) -> [u8; 32] {
    let hash = Zeroizing::new(<[u8; 64]>::from(Sha512::digest(seed)));
    let mut scalar = Zeroizing::new([0; 32]);
    scalar.copy_from_slice(&hash[..32]);
    let clamped = Zeroizing::new(clamp_integer(*scalar));
    EdwardsPoint::mul_base_clamped(*clamped).compress().to_bytes()
}

/// A key file of the seed, and the line for `authorized_keys` and `known_hosts`. The two are the same each
/// time: the check integers, which are random elsewhere, are the first bytes of the public key's SHA-256.
pub(super) fn ed25519(seed: &[u8; 32]) -> (Zeroizing<Vec<u8>>, String) {
    let public = public(seed);
    let line = Base64::encode_string(&[&string(KIND)[..], &string(&public)].concat());
    let check = &Sha256::digest(public)[..4];
    let mut file = Zeroizing::new(Vec::with_capacity(LENGTH));
    file.extend(b"openssh-key-v1\0");
    for text in [b"none" as &[u8], b"none", b""] {
        // The cipher, what a passphrase goes through, and its options.
        file.extend(string(text));
    }
    file.extend(1_u32.to_be_bytes());
    for length in [PUBLIC, COVERED] {
        file.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        if length == COVERED {
            file.extend([check, check].concat());
        }
        file.extend(string(KIND));
        file.extend(string(&public));
    }
    file.extend(64_u32.to_be_bytes());
    file.extend(seed);
    file.extend(public);
    // No comment.
    file.extend(string(b""));
    file.extend((1..).take(PADDING));
    (pem::write("OPENSSH PRIVATE KEY", &file, WIDTH), format!("ssh-ed25519 {line}\n"))
}

/// A string with its length before it (RFC 4251, section 5). Nothing secret: it is not wiped.
fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), bytes].concat()
}
