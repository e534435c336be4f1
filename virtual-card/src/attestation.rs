//! Attestation: the certificates that say where a key was made (Yubico's F9).
//!
//! As on a YubiKey there are three: a root, the certificate of the card's attestation key (slot F9,
//! object 5FFF01), and one per attested key, made on request and signed with F9. The root is the
//! card's own: it is in the state file, and nothing else trusts it.

use p256::ecdsa::signature::digest::Digest;
use sha2::Sha256;

use crate::apdu::{Command, Sw};
use crate::applet::FORM_FACTOR;
use crate::card::{Answer, Card};
use crate::objects;
use crate::state::{Curve, Hex, Origin, PinPolicy, Slot, State, TouchPolicy, slot_name};
use crate::tlv::encode;

const ROOT_NAME: &str = "Virtual Card PIV Root CA";
const AUTHORITY_NAME: &str = "Virtual Card PIV Attestation";
/// The dates of Yubico's attestation certificates.
const NOT_BEFORE: &[u8] = b"160314000000Z";
const NOT_AFTER: &[u8] = b"20520417000000Z";

const SEQUENCE: u32 = 0x30;
const SET: u32 = 0x31;
const INTEGER: u32 = 0x02;
const BIT_STRING: u32 = 0x03;
const OCTET_STRING: u32 = 0x04;
const OID: u32 = 0x06;
const UTF8_STRING: u32 = 0x0C;
const UTC_TIME: u32 = 0x17;
const GENERALIZED_TIME: u32 = 0x18;

const EC_PUBLIC_KEY: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 2, 1];
const PRIME256V1: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 7];
const SECP384R1: &[u8] = &[0x2B, 0x81, 4, 0, 0x22];
const ECDSA_WITH_SHA256: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 2];
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1D, 0x13];
/// 1.3.6.1.4.1.41482.3; firmware is .3, serial .7, policies .8, form factor .9 below it.
const YUBICO_PIV: &[u8] = &[0x2B, 6, 1, 4, 1, 0x82, 0xC4, 0x0A, 3];

impl Card {
    /// F9: P1 is the slot. Only a key that was made on the card can be attested. What a card says of
    /// an empty slot differs between firmwares (6A80, 6A82 and 6A88 are all reported).
    pub(crate) fn attest(&self, command: &Command) -> Answer {
        let slot = command.p1;
        if command.p2 != 0 || slot == 0xF9 {
            return Err(Sw::WRONG_DATA.into());
        }
        let key = self.state.slot(slot).ok_or(Sw::NOT_FOUND)?;
        let authority = self.state.slot(0xF9).ok_or(Sw::NOT_FOUND)?;
        if key.origin != Origin::Generated {
            return Err(Sw::WRONG_DATA.into());
        }
        let serial = integer(&self.state.serial.to_be_bytes());
        let policies = [key.pin_policy as u8, key.touch_policy as u8];
        let extensions = [
            extension(&[YUBICO_PIV, &[3]].concat(), false, &self.state.version),
            extension(&[YUBICO_PIV, &[7]].concat(), false, &serial),
            extension(&[YUBICO_PIV, &[8]].concat(), false, &policies),
            extension(&[YUBICO_PIV, &[9]].concat(), false, &[FORM_FACTOR]),
        ];
        let subject = format!("YubiKey PIV Attestation {slot:02x}");
        let certificate = certificate(&subject, key, AUTHORITY_NAME, authority, &extensions);
        certificate.ok_or_else(|| Sw::WRONG_DATA.into())
    }
}

/// Makes the root, the attestation key and its certificate.
pub(crate) fn make_authority(state: &mut State) {
    let make = || Slot::generate(Curve::P256, PinPolicy::Never, TouchPolicy::Never);
    let (root, authority) = (make(), make());
    let ca = |path_len: u8| {
        let value = [encode(0x01, &[0xFF]), integer(&[path_len])].concat();
        [extension(BASIC_CONSTRAINTS, true, &encode(SEQUENCE, &value))]
    };
    let root_certificate = certificate(ROOT_NAME, &root, ROOT_NAME, &root, &ca(1));
    let own = certificate(AUTHORITY_NAME, &authority, ROOT_NAME, &root, &ca(0)).unwrap_or_default();
    let object = [encode(0x70, &own), encode(0x71, &[0]), encode(0xFE, &[])].concat();
    state.attestation_root = Hex(root_certificate.unwrap_or_default());
    state.objects.insert(objects::ATTESTATION_CERTIFICATE.to_owned(), Hex(object));
    state.slots.insert(slot_name(0xF9), authority);
}

/// An X.509 v3 certificate (RFC 5280) signed by a P-256 key; `None` if the issuer's is another.
fn certificate(
    subject: &str,
    key: &Slot,
    issuer: &str,
    signer: &Slot,
    extensions: &[Vec<u8>],
) -> Option<Vec<u8>> {
    if signer.algorithm != Curve::P256 {
        return None;
    }
    let mut serial = [0; 16];
    crate::random(&mut serial);
    // Positive and not zero.
    serial[0] = serial[0] & 0x7F | 0x40;
    let algorithm = encode(SEQUENCE, &encode(OID, ECDSA_WITH_SHA256));
    let validity = [encode(UTC_TIME, NOT_BEFORE), encode(GENERALIZED_TIME, NOT_AFTER)].concat();
    let content = [
        encode(0xA0, &integer(&[2])),
        integer(&serial),
        algorithm.clone(),
        name(issuer),
        encode(SEQUENCE, &validity),
        name(subject),
        public_key_info(key),
        encode(0xA3, &encode(SEQUENCE, &extensions.concat())),
    ];
    let content = encode(SEQUENCE, &content.concat());
    let signature = signer.algorithm.sign(&signer.private_key.0, &Sha256::digest(&content))?;
    let parts = [content, algorithm, bit_string(&signature)];
    Some(encode(SEQUENCE, &parts.concat()))
}

fn public_key_info(key: &Slot) -> Vec<u8> {
    let curve = match key.algorithm {
        Curve::P256 => PRIME256V1,
        Curve::P384 => SECP384R1,
    };
    let algorithm = [encode(OID, EC_PUBLIC_KEY), encode(OID, curve)].concat();
    let parts = [encode(SEQUENCE, &algorithm), bit_string(&key.public_key.0)];
    encode(SEQUENCE, &parts.concat())
}

fn name(common: &str) -> Vec<u8> {
    let attribute = [encode(OID, COMMON_NAME), encode(UTF8_STRING, common.as_bytes())].concat();
    encode(SEQUENCE, &encode(SET, &encode(SEQUENCE, &attribute)))
}

fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { encode(0x01, &[0xFF]) } else { Vec::new() };
    let parts = [encode(OID, oid), critical, encode(OCTET_STRING, value)];
    encode(SEQUENCE, &parts.concat())
}

fn bit_string(bytes: &[u8]) -> Vec<u8> {
    encode(BIT_STRING, &[&[0], bytes].concat())
}

/// A DER INTEGER of an unsigned big-endian number: as short as it can be, never negative.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let mut value: Vec<u8> = bytes.iter().copied().skip_while(|b| *b == 0).collect();
    if value.first().is_none_or(|b| *b >= 0x80) {
        value.insert(0, 0);
    }
    encode(INTEGER, &value)
}
