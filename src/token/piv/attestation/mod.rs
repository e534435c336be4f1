//! Attestation (Yubico's, INS F9): the card's word, in a certificate, that it made a slot's key
//! itself, and who vouches for the card.
//!
//! The chain is: the slot's certificate, made on request; the certificate of the card's attestation
//! key, slot F9, in object 5FFF01; whatever is between; a root. The card's certificates are what a
//! card says: nothing in them is trusted before the whole chain is.

mod certificate;
mod roots;
mod signature;

use std::fmt;

use p256::PublicKey;

pub(super) use certificate::{Certificate, policies};
pub use roots::Roots;

use super::{
    Fault, Fingerprint, PinPolicy, Piv, Serial, Slot, StatusWord, TouchPolicy, apdu::Command, tlv,
};

/// What a card attests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attestation {
    /// Nothing: it has no attestation key.
    None,
    /// Nothing of the slot's key. Its attestation key is not to be trusted, for this reason.
    Untrusted(String),
    /// Nothing of the slot's key, which it did not make, or there is none. It could attest one.
    Able(Trust),
    /// Something that is not to be trusted, for this reason.
    Bad(String),
    /// That it made this key.
    Made(Trust, Statement),
}

impl fmt::Display for Attestation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("the card makes none"),
            Self::Untrusted(why) | Self::Bad(why) => write!(f, "not to be trusted: {why}"),
            Self::Able(trust) => {
                write!(f, "none of the slot; root {} vouches for the card", trust.root)
            }
            Self::Made(trust, _) => {
                write!(f, "the card made the slot's key; root {} vouches for it", trust.root)
            }
        }
    }
}

/// Who vouches for a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trust {
    /// The fingerprint of the root's key.
    pub root: Fingerprint,
    /// The fingerprint of the card's attestation key, which is its own.
    pub card_key: Fingerprint,
}

/// What a card that is trusted says of a key that it made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The key; or, if it is not a P-256 key, the name of its kind.
    pub public: Result<PublicKey, String>,
    /// The card's serial.
    pub serial: Option<Serial>,
    /// The key's policies, where both are known.
    pub policies: Option<(PinPolicy, TouchPolicy)>,
}

impl Piv {
    /// What the card attests of the slot, as far as `roots` vouch for it.
    pub fn attestation(&mut self, slot: Slot, roots: &Roots) -> Result<Attestation, Fault> {
        let leaf = self.attest(slot)?;
        let authority = match self.attestation_certificate()? {
            None if leaf.is_none() => return Ok(Attestation::None),
            None => Err("the card has no certificate of its attestation key".to_string()),
            Some(authority) => authority,
        };
        let trusted = authority.and_then(|authority| {
            let trust =
                Trust { root: roots.vouch(&authority)?, card_key: authority.fingerprint()? };
            Ok((authority, trust))
        });
        Ok(match (leaf, trusted) {
            (None, Ok((_, trust))) => Attestation::Able(trust),
            (None, Err(why)) => Attestation::Untrusted(why),
            (Some(_), Err(why)) => Attestation::Bad(why),
            (Some(leaf), Ok((authority, trust))) => match statement(&leaf, &authority) {
                Ok(statement) => Attestation::Made(trust, statement),
                Err(why) => Attestation::Bad(format!("the slot's attestation: {why}")),
            },
        })
    }

    /// The fingerprint of the card's attestation key; none where it has none that can be read.
    pub fn attestation_key(&mut self) -> Result<Option<Fingerprint>, Fault> {
        let authority = self.attestation_certificate()?.and_then(Result::ok);
        Ok(authority.and_then(|authority| authority.fingerprint().ok()))
    }

    /// The attestation of the slot's key, in DER. Of an imported key there is none, and cards have many
    /// words for that.
    pub(super) fn attest(&mut self, slot: Slot) -> Result<Option<Vec<u8>>, Fault> {
        let answer = self.run(&Command::new(0xf9, slot.reference(), 0, &[]))?;
        match answer.status {
            StatusWord::OK => Ok(Some(answer.data.to_vec()).filter(|der| !der.is_empty())),
            // An error in carrying it out (ISO/IEC 7816-4) is no word on the key.
            failed @ StatusWord(0x6400..=0x65ff | 0x6f00..=0x6fff) => Err(Fault::Status(failed)),
            _ => Ok(None),
        }
    }

    /// The certificate of the card's attestation key; none where the card has none. The inner error
    /// says why it can't be read.
    fn attestation_certificate(&mut self) -> Result<Option<Result<Certificate, String>>, Fault> {
        let object = match self.object(&[0x5f, 0xff, 0x01]) {
            // Some cards say "wrong data" or "not supported" of an object that they do not know.
            Err(Fault::Status(StatusWord(0x6a00..=0x6aff | 0x6d00))) => None,
            told => told?,
        };
        let Some(object) = object else { return Ok(None) };
        let der = match (tlv::find(&object, 0x71), tlv::find(&object, 0x70)) {
            (Ok(Some([0]) | None), Ok(Some(der))) => Ok(der),
            _ => Err("it is compressed, or malformed".into()),
        };
        let about = |why| format!("the certificate of the card's attestation key: {why}");
        Ok(Some(der.and_then(Certificate::parse).map_err(about)))
    }
}

/// What the attestation says, if the attestation key of that certificate made it.
fn statement(leaf: &[u8], authority: &Certificate) -> Result<Statement, String> {
    let leaf = Certificate::parse(leaf)?;
    if leaf.issuer() != authority.subject() {
        return Err("its issuer is not the card's attestation key".into());
    }
    signature::check(&leaf, authority)?;
    leaf.check_critical()?;
    let public = leaf.public_key().map_err(|_| "its key is no point of its curve")?;
    Ok(Statement { public, serial: leaf.card_serial()?, policies: leaf.policies() })
}
