//! What is in a slot, found without the PIN where the card can tell.
//!
//! "I don't know" is an answer of its own: nothing here takes it for "empty".

use std::fmt;

use p256::{
    PublicKey,
    elliptic_curve::{ops::Reduce, point::AffineCoordinates as _, sec1::ToSec1Point},
};
use sha2::{Digest, Sha256};

use super::{
    Fault, Fingerprint, KeySource, PinPolicy, Slot, StatusWord, TouchPolicy, Wait,
    apdu::Command,
    application::{Piv, public_key},
    attestation::{Certificate, policies},
    tlv,
};

/// What is known of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// It holds a key.
    Key(SlotKey),
    /// A command that can tell says that it holds none.
    Empty,
    /// The card can't tell without the PIN.
    Unknown,
}

impl fmt::Display for SlotState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("empty"),
            Self::Unknown => f.write_str("not told without the PIN"),
            Self::Key(SlotKey { public: Ok(key), .. }) => {
                write!(f, "P-256 key {}", fingerprint(key))
            }
            Self::Key(SlotKey { public: Err(kind), .. }) => write!(f, "{kind} key"),
        }
    }
}

/// What is known of the key in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotKey {
    /// The public key; or, where it is of another kind than P-256, that kind's name.
    pub public: Result<PublicKey, String>,
    /// The PIN and touch policies, where the card tells them.
    pub policies: Option<(PinPolicy, TouchPolicy)>,
    /// What told.
    pub source: KeySource,
    /// Whether the card says that it made the key itself, so that no other card has it.
    pub is_generated: bool,
}

/// The base point G of P-256: the public key of the private key 1.
pub fn base_point() -> PublicKey {
    PublicKey::from_secret_scalar(&p256::NonZeroScalar::reduce(&p256::U256::ZERO))
}

/// The public key of a card that answers the key agreement with [`base_point`] with `x`, 32 bytes:
/// the point there with even y. The sign of a key changes none of its answers. None where no point
/// has this x-coordinate.
pub fn even_key(x: &[u8; 32]) -> Option<PublicKey> {
    PublicKey::from_sec1_bytes(&[&[0x02], &x[..]].concat()).ok()
}

/// The fingerprint of a public key: SHA-256 of its `SubjectPublicKeyInfo` (RFC 5480).
#[must_use]
pub fn fingerprint(key: &PublicKey) -> Fingerprint {
    /// The DER of everything before the point: it is the same for every uncompressed P-256 key.
    const HEADER: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
        0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    let point = key.to_sec1_point(false);
    Fingerprint(Sha256::new().chain_update(HEADER).chain_update(point).finalize().into())
}

/// Whether a fingerprint names this key: it is that of the key or of its negative, which gives the
/// same answers. Of a key that a key agreement told, nobody knows which of the two it is.
#[must_use]
pub fn is_named_by(key: &PublicKey, name: Fingerprint) -> bool {
    let negative = PublicKey::from_affine(-*key.as_affine());
    fingerprint(key) == name || negative.is_ok_and(|negative| fingerprint(&negative) == name)
}

/// Whether two public keys are the same as far as a key agreement can tell: by x, as the sign of
/// a point changes no answer.
#[must_use]
pub fn same_key(a: &PublicKey, b: &PublicKey) -> bool {
    a.as_affine().x() == b.as_affine().x()
}

impl Piv {
    /// What is in the slot: metadata, else attestation, else certificate.
    pub fn inspect(&mut self, slot: Slot) -> Result<SlotState, Fault> {
        let sources = [KeySource::Metadata, KeySource::Attestation, KeySource::Certificate];
        for source in sources {
            match self.ask(slot, source)? {
                SlotState::Unknown => {}
                known => return Ok(known),
            }
        }
        Ok(SlotState::Unknown)
    }

    /// What one source says of the slot.
    pub fn ask(&mut self, slot: Slot, source: KeySource) -> Result<SlotState, Fault> {
        match source {
            KeySource::Metadata => self.metadata(slot),
            KeySource::Attestation => self.attested_key(slot),
            KeySource::Certificate => self.certificate(slot),
            KeySource::KeyAgreement => Ok(SlotState::Unknown),
        }
    }

    /// The slot's metadata (Yubico).
    fn metadata(&mut self, slot: Slot) -> Result<SlotState, Fault> {
        let answer = self.run(&Command::new(0xf7, 0, slot.reference(), &[]))?;
        match answer.status {
            StatusWord::OK => {}
            // "No such key", but only from a card that has the command at all.
            StatusWord::NO_REFERENCE_DATA if self.management_metadata()?.is_some() => {
                return Ok(SlotState::Empty);
            }
            _ => return Ok(SlotState::Unknown),
        }
        // Some cards answer with nothing, or with less than a key.
        let (Some(algorithm), Some(public)) =
            (tlv::find(&answer.data, 0x01)?, tlv::find(&answer.data, 0x04)?)
        else {
            return Ok(SlotState::Unknown);
        };
        let public = match algorithm {
            [0x11] => Ok(public_key(tlv::require(public, 0x86, "metadata lacks the key")?)?),
            other => Err(algorithm_name(other)),
        };
        let policies = tlv::find(&answer.data, 0x02)?.and_then(policies);
        let is_generated = tlv::find(&answer.data, 0x03)? == Some(&[1]);
        let source = KeySource::Metadata;
        Ok(SlotState::Key(SlotKey { public, policies, source, is_generated }))
    }

    /// Whether the card has metadata: of this slot's key, or else of the management key.
    pub(super) fn has_metadata(&mut self, slot: Slot) -> Result<bool, Fault> {
        let answer = self.run(&Command::new(0xf7, 0, slot.reference(), &[]))?;
        let tells = answer.status == StatusWord::OK && tlv::find(&answer.data, 0x02)?.is_some();
        Ok(tells || self.management_metadata()?.is_some())
    }

    /// What the attestation of the slot's key says, taken as it is: nobody vouches for it here.
    fn attested_key(&mut self, slot: Slot) -> Result<SlotState, Fault> {
        let der = match self.attest(slot) {
            Ok(Some(der)) => der,
            Ok(None) | Err(Fault::Status(_)) => return Ok(SlotState::Unknown),
            Err(fault) => return Err(fault),
        };
        let certificate = parse(&der)?;
        Ok(SlotState::Key(SlotKey {
            public: certificate.public_key()?,
            policies: certificate.policies(),
            source: KeySource::Attestation,
            is_generated: true,
        }))
    }

    /// The certificate stored with the slot. Only a P-256 one tells anything, and a missing one
    /// tells nothing.
    fn certificate(&mut self, slot: Slot) -> Result<SlotState, Fault> {
        let Some(object) = self.object(&slot.certificate_object())? else {
            return Ok(SlotState::Unknown);
        };
        // A certificate that can't be read (compressed, say) is no obstacle: key agreements tell.
        let public = tlv::find(&object, 0x70)
            .ok()
            .flatten()
            .and_then(|der| parse(der).ok())
            .and_then(|certificate| certificate.public_key().ok())
            .and_then(Result::ok);
        Ok(public.map_or(SlotState::Unknown, |key| {
            SlotState::Key(SlotKey {
                public: Ok(key),
                policies: None,
                source: KeySource::Certificate,
                is_generated: false,
            })
        }))
    }

    /// What key agreements tell of a slot of which nothing else could. The PIN comes first; a touch
    /// may be wanted, up to `wait`.
    ///
    /// An answer to the agreement with the base point tells the key, see [`even_key`]. "Empty" takes the
    /// kinds of keys that such cards have, P-256, RSA 2048 and P-384, being refused as missing, and
    /// with one and the same status word: a key of another kind is refused with another word.
    pub fn probe(&mut self, slot: Slot, wait: Wait) -> Result<SlotState, Fault> {
        const NO_KEY: [StatusWord; 2] =
            [StatusWord::CONDITIONS_OF_USE, StatusWord::NO_REFERENCE_DATA];
        /// RSA 2048 and P-384, and where each input goes and how long it is.
        const OTHERS: [(u8, u8, usize); 2] = [(0x07, 0x81, 256), (0x14, 0x85, 97)];
        let no_key = match self.key_agreement(slot, &base_point(), wait) {
            Ok(x) => {
                let public =
                    even_key(&x).ok_or(Fault::Garbage("a key agreement is no x-coordinate"))?;
                let source = KeySource::KeyAgreement;
                return Ok(SlotState::Key(SlotKey {
                    public: Ok(public),
                    policies: None,
                    source,
                    is_generated: false,
                }));
            }
            Err(Fault::Status(word)) if NO_KEY.contains(&word) => word,
            Err(Fault::Status(word)) if word != StatusWord::SECURITY_STATUS => {
                return Ok(SlotState::Unknown);
            }
            Err(other) => return Err(other),
        };
        for (algorithm, tag, length) in OTHERS {
            let mut template = tlv::element(0x82, &[]);
            template.extend_from_slice(&tlv::element(tag, &vec![0x04; length]));
            let answer = self.authenticate_with(algorithm, slot, &template, wait)?;
            if answer.status != no_key {
                return Ok(SlotState::Unknown);
            }
        }
        Ok(SlotState::Empty)
    }
}

fn parse(der: &[u8]) -> Result<Certificate, Fault> {
    Certificate::parse(der).map_err(|_| Fault::Garbage("a certificate is malformed"))
}

/// The name of an algorithm reference (SP 800-78-4, table 6-2, and Yubico's).
fn algorithm_name(reference: &[u8]) -> String {
    match reference {
        [0x05] => "RSA 3072".into(),
        [0x06] => "RSA 1024".into(),
        [0x07] => "RSA 2048".into(),
        [0x16] => "RSA 4096".into(),
        [0x14] => "P-384".into(),
        [0xe0] => "Ed25519".into(),
        [0xe1] => "X25519".into(),
        [other] => format!("algorithm {other:02x}"),
        _ => "an unknown algorithm".into(),
    }
}
