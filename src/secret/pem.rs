//! Private keys in PEM: PKCS#8 (RFC 5958), and their public halves as `SubjectPublicKeyInfo`. All lengths
//! are fixed, so what surrounds the numbers is, too.

use base64ct::{Base64, Encoding};
use p256::{NonZeroScalar, PublicKey};
use zeroize::Zeroizing;

use super::{ssh, x25519};
use crate::profile::piv::uncompressed;

/// How long the lines of PEM are (RFC 7468, section 2).
const WIDTH: usize = 64;
/// The DER before the numbers. RFC 8410: version 0, the OID 1.3.101.112 (Ed25519) or .110 (X25519), and
/// an OCTET STRING in an OCTET STRING.
const ED25519: &[u8] = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
const X25519: &[u8] = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x6e\x04\x22\x04\x20";
const ED25519_PUBLIC: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
const X25519_PUBLIC: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x6e\x03\x21\x00";
/// RFC 5480: id-ecPublicKey with secp256r1. RFC 5915: an `ECPrivateKey` of version 1, and its public key.
const P256: &[u8] = b"\x30\x81\x87\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\
    \x2a\x86\x48\xce\x3d\x03\x01\x07\x04\x6d\x30\x6b\x02\x01\x01\x04\x20";
const P256_BETWEEN: &[u8] = b"\xa1\x44\x03\x42\x00";
const P256_PUBLIC: &[u8] = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\
    \x48\xce\x3d\x03\x01\x07\x03\x42\x00";

/// An Ed25519 key of this seed, and its public half.
pub(super) fn ed25519(seed: &[u8; 32]) -> (Zeroizing<Vec<u8>>, String) {
    both(&[ED25519, seed], &[ED25519_PUBLIC, &ssh::public(seed)])
}

/// The X25519 key of these bytes, and its public half.
pub(super) fn x25519(bytes: &[u8; 32]) -> (Zeroizing<Vec<u8>>, String) {
    let (scalar, public) = x25519::pair(bytes);
    both(&[X25519, &*scalar], &[X25519_PUBLIC, &public])
}

/// The P-256 key of this scalar, and its public half.
pub(super) fn p256(scalar: &NonZeroScalar) -> (Zeroizing<Vec<u8>>, String) {
    let public = uncompressed(&PublicKey::from_secret_scalar(scalar));
    let number = Zeroizing::new(<[u8; 32]>::from(scalar.to_bytes()));
    both(&[P256, &*number, P256_BETWEEN, &public], &[P256_PUBLIC, &public])
}

fn both(secret: &[&[u8]], public: &[&[u8]]) -> (Zeroizing<Vec<u8>>, String) {
    // `concat` knows the length beforehand, so nothing is copied by growing.
    let secret = write("PRIVATE KEY", &Zeroizing::new(secret.concat()), WIDTH);
    let public = write("PUBLIC KEY", &public.concat(), WIDTH);
    (secret, String::from_utf8_lossy(&public).into_owned())
}

/// Writes DER, or another binary form, as PEM with lines of `width` characters.
pub(super) fn write(label: &str, bytes: &[u8], width: usize) -> Zeroizing<Vec<u8>> {
    let mut flat = Zeroizing::new(vec![0; Base64::encoded_len(bytes)]);
    // It is as long as the encoder says.
    let _ = Base64::encode(bytes, &mut flat);
    let [head, foot] = ["BEGIN", "END"].map(|word| format!("-----{word} {label}-----\n"));
    let length = head.len() + flat.len() + flat.len().div_ceil(width) + foot.len();
    let mut text = Zeroizing::new(Vec::with_capacity(length));
    text.extend(head.as_bytes());
    for line in flat.chunks(width) {
        text.extend(line);
        text.push(b'\n');
    }
    text.extend(foot.as_bytes());
    text
}
