//! X.509 certificates (RFC 5280), as far as attestation needs them.

use der::{
    Decode, Encode, Reader, SliceReader,
    asn1::{BitString, ObjectIdentifier},
};
use p256::PublicKey;
use sha2::{Digest, Sha256};
use x509_cert::{
    TbsCertificate,
    certificate::Version,
    ext::{
        Extension,
        pkix::{BasicConstraints, KeyUsage},
    },
    name::Name,
    spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned},
};

use super::super::{Fault, Fingerprint, PinPolicy, Serial, TouchPolicy, application::public_key};

const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
/// Yubico's extension with the card's serial, an INTEGER.
const SERIAL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.41482.3.7");
/// Yubico's extension with the PIN and the touch policy, a byte each.
const POLICIES: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.41482.3.8");

/// A certificate, and the bytes that its issuer signed, as they came.
#[derive(Clone, Debug)]
pub struct Certificate {
    content: TbsCertificate,
    /// The DER of `content`: what the signature is about. Never encoded anew.
    signed: Vec<u8>,
    algorithm: AlgorithmIdentifierOwned,
    signature: Vec<u8>,
}

impl Certificate {
    /// Reads a certificate of DER, with nothing after it.
    ///
    /// # Errors
    /// Why it is malformed. The same extension twice is, too.
    pub fn parse(der: &[u8]) -> Result<Self, String> {
        let malformed = |error: der::Error| format!("it is malformed ({error})");
        let (signed, algorithm, signature) = split(der).map_err(malformed)?;
        let content = TbsCertificate::from_der(signed).map_err(malformed)?;
        if content.signature() != &algorithm {
            return Err("it names two signature algorithms".into());
        }
        let signature = signature.as_bytes().ok_or("its signature is not of whole bytes")?;
        let signature = signature.to_vec();
        let certificate = Self { content, signed: signed.to_vec(), algorithm, signature };
        let extensions = certificate.extensions();
        if !extensions.is_empty() && certificate.content.version() != Version::V3 {
            return Err("it has extensions, and is not of version 3".into());
        }
        let is_twice = |(at, one): (usize, &Extension)| {
            extensions[..at].iter().any(|other| other.extn_id == one.extn_id)
        };
        if extensions.iter().enumerate().any(is_twice) {
            return Err("it has an extension twice".into());
        }
        Ok(certificate)
    }

    /// Whether both are the same certificate.
    pub fn is(&self, other: &Self) -> bool {
        (&self.signed, &self.signature) == (&other.signed, &other.signature)
    }

    /// Whom it is about, for people.
    pub fn name(&self) -> String {
        plain(self.subject())
    }

    pub fn subject(&self) -> &Name {
        self.content.subject()
    }

    pub fn issuer(&self) -> &Name {
        self.content.issuer()
    }

    /// Its key.
    pub fn key_info(&self) -> &SubjectPublicKeyInfoOwned {
        self.content.subject_public_key_info()
    }

    /// The bytes that its issuer signed, the algorithm, and the signature.
    pub fn signature(&self) -> (&[u8], &AlgorithmIdentifierOwned, &[u8]) {
        (&self.signed, &self.algorithm, &self.signature)
    }

    /// The fingerprint of its key: SHA-256 of its `SubjectPublicKeyInfo`.
    pub fn fingerprint(&self) -> Result<Fingerprint, String> {
        let der = self.key_info().to_der().map_err(|error| error.to_string())?;
        Ok(Fingerprint(Sha256::digest(der).into()))
    }

    /// Its key if that is a P-256 key, or else the name of the key's kind.
    pub fn public_key(&self) -> Result<Result<PublicKey, String>, Fault> {
        const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
        const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
        let spki = self.key_info();
        let curve = spki.algorithm.parameters.as_ref().and_then(|any| any.decode_as().ok());
        Ok(match (spki.algorithm.oid, curve) {
            (EC, Some(P256)) => Ok(public_key(spki.subject_public_key.raw_bytes())?),
            (EC, Some(curve)) => Err(format!("elliptic curve {curve}")),
            (other, _) => Err(format!("algorithm {other}")),
        })
    }

    /// The serial of the card that an attestation is about.
    pub fn card_serial(&self) -> Result<Option<Serial>, String> {
        let Some(extension) = self.extension(SERIAL) else { return Ok(None) };
        let number = u32::from_der(extension.extn_value.as_bytes());
        Ok(Serial::new(number.map_err(|_| "its serial of the card is malformed")?))
    }

    /// The policies of the key that an attestation is about, where both are known.
    pub fn policies(&self) -> Option<(PinPolicy, TouchPolicy)> {
        policies(self.extension(POLICIES)?.extn_value.as_bytes())
    }

    /// That nothing in it has to be understood that is not understood here.
    pub fn check_critical(&self) -> Result<(), String> {
        let unknown = self.extensions().iter().find(|extension| {
            extension.critical && ![BASIC_CONSTRAINTS, KEY_USAGE].contains(&extension.extn_id)
        });
        match unknown {
            Some(extension) => {
                Err(format!("its extension {} is critical and unknown here", extension.extn_id))
            }
            None => Ok(()),
        }
    }

    /// That it may sign certificates, and that `below` further issuers may be between it and the
    /// end of the chain.
    pub fn check_issuer(&self, below: usize) -> Result<(), String> {
        let malformed = |_| "an extension is malformed".to_string();
        let constraints = self.extension(BASIC_CONSTRAINTS).map(|extension| {
            BasicConstraints::from_der(extension.extn_value.as_bytes()).map_err(malformed)
        });
        let Some(constraints) = constraints.transpose()?.filter(|constraints| constraints.ca)
        else {
            return Err("it is no CA".into());
        };
        if constraints.path_len_constraint.is_some_and(|most| below > usize::from(most)) {
            return Err("it allows fewer certificates between it and the key".into());
        }
        if let Some(extension) = self.extension(KEY_USAGE) {
            let usage = KeyUsage::from_der(extension.extn_value.as_bytes()).map_err(malformed)?;
            if !usage.key_cert_sign() {
                return Err("its key may not sign certificates".into());
            }
        }
        Ok(())
    }

    fn extensions(&self) -> &[Extension] {
        self.content.extensions().map_or(&[], Vec::as_slice)
    }

    fn extension(&self, id: ObjectIdentifier) -> Option<&Extension> {
        self.extensions().iter().find(|extension| extension.extn_id == id)
    }
}

/// The bytes of the content, the algorithm and the signature.
fn split(der: &[u8]) -> der::Result<(&[u8], AlgorithmIdentifierOwned, BitString)> {
    let mut reader = SliceReader::new(der)?;
    let parts = reader.sequence(|reader: &mut SliceReader<'_>| {
        Ok::<_, der::Error>((reader.tlv_bytes()?, reader.decode()?, reader.decode()?))
    })?;
    reader.finish()?;
    Ok(parts)
}

/// A name for people, of a length that a line of the log can take.
pub fn plain(name: &Name) -> String {
    name.to_string().chars().filter(|c| !c.is_control()).take(80).collect()
}

/// Yubico's two bytes of policies, where both are known.
pub fn policies(bytes: &[u8]) -> Option<(PinPolicy, TouchPolicy)> {
    match *bytes {
        [pin, touch] => Some((PinPolicy::from_wire(pin)?, TouchPolicy::from_wire(touch)?)),
        _ => None,
    }
}
