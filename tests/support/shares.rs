//! Shares, opened and put together without any of the program's code, as `docs/key-schedule.md` says.

#![allow(clippy::unwrap_used)]

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead as _, Payload},
};
use hkdf::Hkdf;
use sha2::Sha256;

/// An index and 32 values.
pub type Share = (u8, Vec<u8>);

fn derived(key: &[u8], salt: &[u8], label: &str) -> Vec<u8> {
    let mut out = vec![0; 32];
    Hkdf::<Sha256>::new(Some(salt), key).expand(label.as_bytes(), &mut out).unwrap();
    out
}

fn bytes(value: &toml::Value) -> Vec<u8> {
    base16ct::lower::decode_vec(value.as_str().unwrap()).unwrap()
}

/// The share of the provider at this place of a profile's text.
pub fn share(profile: &toml::Table, place: usize, secret: &[u8]) -> Share {
    let provider = &profile["providers"][place];
    let key = derived(secret, &bytes(&provider["share_salt"]), "cryptkey-share-encryption");
    let text = |field: &str| provider[field].as_str().unwrap();
    let aad = format!("{}:{}", text("type"), text("id"));
    let sealed = bytes(&provider["encrypted_share"]);
    let nonce: [u8; 12] = bytes(&provider["nonce"]).try_into().unwrap();
    let plain = Aes256Gcm::new_from_slice(&key)
        .unwrap()
        .decrypt(&nonce.into(), Payload { msg: &sealed, aad: aad.as_bytes() })
        .unwrap();
    (plain[0], plain[1..].to_vec())
}

/// The output of a label, 32 bytes, under the master key that the shares give.
pub fn output(profile: &toml::Table, shares: &[&Share], label: &str) -> Vec<u8> {
    let mut master = vec![0; 32];
    for (x, values) in shares {
        let weight = shares
            .iter()
            .filter(|(other, _)| other != x)
            .fold(1, |weight, (other, _)| multiply(weight, multiply(*other, inverse(x ^ other))));
        for (sum, value) in master.iter_mut().zip(values) {
            *sum ^= multiply(weight, *value);
        }
    }
    derived(&master, &bytes(&profile["output_salt"]), &format!("cryptkey:{label}"))
}

/// In GF(2^8) modulo 0x11b, as polynomials are multiplied on paper.
fn multiply(a: u8, b: u8) -> u8 {
    let mut product =
        (0..8).fold(0, |sum, bit| sum ^ ((u16::from(a) << bit) * (u16::from(b) >> bit & 1)));
    for bit in (8..16).rev() {
        if product >> bit & 1 == 1 {
            product ^= 0x11b << (bit - 8);
        }
    }
    u8::try_from(product).unwrap()
}

fn inverse(a: u8) -> u8 {
    (1..=255).find(|b| multiply(a, *b) == 1).unwrap()
}
