//! The PIV provider: what a profile says of it, and its secret from the card's answer.
//!
//! A card multiplies its slot's private key with a peer point and answers with the x-coordinate.
//! The peer point comes from the provider's public salt, by one of two schemes; enrollment proves
//! the answer and the key together, see [`super::proof`].

use std::collections::BTreeMap;

use p256::{
    NistP256, NonZeroScalar, PublicKey,
    elliptic_curve::sec1::ToSec1Point as _,
    hash2curve::{ExpandMsgXmd, hash_from_bytes},
};
use serde::{
    Deserialize,
    de::value::{Error as ValueError, StrDeserializer},
};
use sha2::Sha256;

use super::{
    Version,
    format::{self, Params as RawParams},
    kind::Kind,
    seal::ProviderSecret,
};
use crate::{
    error, kdf,
    token::{CardName, Fingerprint, Guid, KeySource, PinPolicy, Serial, Slot, TouchPolicy, Trust},
};

kdf::secret_bytes! {
    /// The card's answer to a key agreement: the x-coordinate of the shared point, 32 bytes.
    SharedX
}

/// How the peer point comes from the salt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Hashed to the curve: nobody knows the point's discrete logarithm, so only the card can
    /// multiply it. Every key that the project enrolls.
    HashToCurve,
    /// A scalar derived from the salt, as cryptkey v1 does it: whoever reads the profile can
    /// compute the card's answer. Read only.
    SaltDerived,
}

/// A salt and the peer point that comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    scheme: Scheme,
    salt: [u8; 32],
    point: PublicKey,
}

impl Peer {
    /// The peer of a salt; none for a salt whose point is the identity (one in 2^256).
    #[must_use]
    pub fn new(scheme: Scheme, salt: [u8; 32]) -> Option<Self> {
        let point = match scheme {
            Scheme::HashToCurve => {
                let point = hash_from_bytes::<NistP256, ExpandMsgXmd<Sha256>>(
                    &[&salt],
                    &[kdf::HASH_TO_CURVE_DST],
                );
                PublicKey::from_affine(point.ok()?.to_affine()).ok()?
            }
            Scheme::SaltDerived => PublicKey::from_secret_scalar(&salt_derived_scalar(&salt)),
        };
        Some(Self { scheme, salt, point })
    }

    /// A peer for a key that is enrolled now: a random salt, hashed to the curve.
    pub fn random() -> error::Result<Self> {
        loop {
            let mut salt = [0; 32];
            super::random(&mut salt)?;
            if let Some(peer) = Self::new(Scheme::HashToCurve, salt) {
                return Ok(peer);
            }
        }
    }

    /// How the point came from the salt.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The salt, 32 bytes, public.
    #[must_use]
    pub fn salt(&self) -> &[u8; 32] {
        &self.salt
    }

    /// The point that the card multiplies.
    #[must_use]
    pub fn point(&self) -> &PublicKey {
        &self.point
    }
}

/// cryptkey v1's peer scalar. It is as public as the salt.
fn salt_derived_scalar(salt: &[u8; 32]) -> NonZeroScalar {
    kdf::p256_scalar(&kdf::piv_peer_scalar(salt))
}

/// What a profile says of a PIV provider, beside its share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// The salt and its peer point P.
    pub peer: Peer,
    /// The slot's public key Q. Compare it with [`crate::token::same_key`] only.
    pub public_key: PublicKey,
    /// The slot.
    pub slot: Slot,
    /// The card's serial; none where the card is known by its GUID, or in a version 1 file that
    /// any card may open.
    pub serial: Option<Serial>,
    /// The card's GUID, where it is known by that.
    pub guid: Option<Guid>,
    /// The reader's or the card's name, for people. [`crate::token::plain_text`] makes any text fit.
    pub card_name: String,
    /// The slot key's touch policy when it was enrolled.
    pub touch_policy: TouchPolicy,
    /// The slot key's PIN policy when it was enrolled; none in a version 1 file.
    pub pin_policy: Option<PinPolicy>,
    /// How the card told its public key; none in files that don't say.
    pub key_source: Option<KeySource>,
    /// Who vouched for the card when it attested that it made the key; none where that was not asked
    /// for, or not to be had.
    pub attestation: Option<Trust>,
}

impl Params {
    /// What its card is known by.
    #[must_use]
    pub fn card(&self) -> CardName {
        CardName { serial: self.serial, guid: self.guid }
    }

    /// The point P that the card multiplies.
    #[must_use]
    pub fn peer_point(&self) -> &PublicKey {
        &self.peer.point
    }

    /// The provider's secret, from the card's answer to [`Self::peer_point`].
    #[must_use]
    #[inline(never)]
    pub fn secret(&self, x: &SharedX) -> ProviderSecret {
        let (x, salt) = (x.as_bytes(), &self.peer.salt);
        let secret = match self.peer.scheme {
            Scheme::HashToCurve => kdf::piv_hash_to_curve_secret(
                x,
                salt,
                &uncompressed(&self.peer.point),
                &uncompressed(&self.public_key),
            ),
            Scheme::SaltDerived => kdf::piv_salt_derived_secret(x, salt),
        };
        ProviderSecret::new(&secret)
    }
}

/// The kind of provider.
pub(super) struct Piv;

impl Kind for Piv {
    type Params = Box<Params>;
    const TYPE: &'static str = "piv";
    fn parse(version: Version, raw: &RawParams) -> Result<Self::Params, String> {
        let text = |key| format::required(raw, key);
        let scheme = match version {
            Version::V1 => {
                let newer = ["scheme", "key_source", "attestation", "attestation_key"];
                format::not_in_version_1(raw, &newer)?;
                Scheme::SaltDerived
            }
            Version::V2 => match text("scheme")? {
                "hash-to-curve" => Scheme::HashToCurve,
                _ => return Err("params.scheme: allowed is hash-to-curve".into()),
            },
        };
        let salt = format::hex_param(raw, "salt")?;
        let peer = Peer::new(scheme, salt).ok_or("params.salt: gives no point")?;
        let public_key = format::hex_param::<65>(raw, "public_key")?;
        let public_key = from_uncompressed(&public_key)
            .ok_or("params.public_key: not an uncompressed point of P-256")?;
        let slot = parsed("slot", text("slot")?, |word| {
            word.parse::<Slot>().and_then(|slot| canonical(slot, word))
        })?;
        let serial = match (version, raw.get("serial").map(String::as_str)) {
            (Version::V1, Some("" | "0") | None) | (Version::V2, None) => None,
            (_, Some(word)) => Some(parsed("serial", word, str::parse)?),
        };
        let guid = raw.get("guid").map(|word| {
            parsed("guid", word, |word| word.parse::<Guid>().and_then(|guid| canonical(guid, word)))
        });
        let guid = guid.transpose()?;
        if version == Version::V2 && serial.is_none() && guid.is_none() {
            return Err("params: neither serial nor guid names the card".into());
        }
        let pin_policy = match version {
            Version::V1 => None,
            Version::V2 => Some(parsed("pin_policy", text("pin_policy")?, word_of)?),
        };
        let key_source = raw.get("key_source");
        Ok(Box::new(Params {
            peer,
            public_key,
            slot,
            serial,
            guid,
            card_name: text("card_name")?.into(),
            touch_policy: parsed("touch_policy", text("touch_policy")?, word_of)?,
            pin_policy,
            key_source: key_source
                .map(|word| parsed("key_source", word, str::parse))
                .transpose()?,
            attestation: attestation(raw)?,
        }))
    }

    fn to_raw(params: &Self::Params) -> Option<RawParams> {
        if params.peer.scheme != Scheme::HashToCurve {
            return None;
        }
        let mut raw = BTreeMap::new();
        let mut put = |key: &str, value: Option<String>| {
            raw.extend(value.map(|value| (key.to_owned(), value)));
        };
        put("scheme", Some("hash-to-curve".into()));
        put("salt", Some(format::hex(&params.peer.salt)));
        put("public_key", Some(format::hex(&uncompressed(&params.public_key))));
        put("slot", Some(params.slot.to_string()));
        put("serial", params.serial.map(|serial| serial.to_string()));
        put("guid", params.guid.map(|guid| guid.to_string()));
        put("card_name", Some(params.card_name.clone()));
        put("touch_policy", Some(params.touch_policy.to_string()));
        put("pin_policy", params.pin_policy.map(|policy| policy.to_string()));
        put("key_source", params.key_source.map(|source| source.to_string()));
        put("attestation", params.attestation.map(|trust| trust.root.to_string()));
        put("attestation_key", params.attestation.map(|trust| trust.card_key.to_string()));
        Some(raw)
    }
}

/// The two params of an attestation: both are there, or none.
fn attestation(raw: &RawParams) -> Result<Option<Trust>, String> {
    let fingerprint = |key: &str| {
        let word = raw.get(key).map(|word| {
            parsed(key, word, |word| word.parse::<Fingerprint>().and_then(|f| canonical(f, word)))
        });
        word.transpose()
    };
    match (fingerprint("attestation")?, fingerprint("attestation_key")?) {
        (Some(root), Some(card_key)) => Ok(Some(Trust { root, card_key })),
        (None, None) => Ok(None),
        _ => Err("params: attestation and attestation_key go together".into()),
    }
}

/// Runs `parse` and says which param it was where it fails.
fn parsed<T>(key: &str, word: &str, parse: fn(&str) -> Result<T, String>) -> Result<T, String> {
    parse(word).map_err(|reason| format!("params.{key}: {reason}"))
}

/// The value, if `word` is how it is written: no two files may say the same thing differently.
fn canonical<T: ToString>(value: T, word: &str) -> Result<T, String> {
    let written = value.to_string();
    if written == word { Ok(value) } else { Err(format!("found {word:?}; allowed is {written:?}")) }
}

/// One of the words of an enum that serde reads.
fn word_of<T: for<'de> Deserialize<'de>>(word: &str) -> Result<T, String> {
    T::deserialize(StrDeserializer::<ValueError>::new(word)).map_err(|error| error.to_string())
}

/// The point as uncompressed SEC1, 65 bytes.
#[must_use]
pub fn uncompressed(point: &PublicKey) -> [u8; 65] {
    let mut out = [0; 65];
    out.copy_from_slice(point.to_sec1_point(false).as_bytes());
    out
}

/// The point from uncompressed SEC1; none where the bytes are no point of the curve.
#[must_use]
pub fn from_uncompressed(bytes: &[u8; 65]) -> Option<PublicKey> {
    PublicKey::from_sec1_bytes(bytes).ok()
}
