//! Files in the age format, version 1, which X25519 keys open (<https://age-encryption.org/v1>,
//! <https://c2sp.org/age>). They are small, so they are read and made whole.
//!
//! The crate `age` does the same and much more, with 121 packages, in a program that runs as root at boot.
//! What is here is the part that a key needs; the cryptography is that of kept crates.

mod armor;
mod header;
mod stream;

use std::fmt;

use chacha20poly1305::{AeadInOut as _, ChaCha20Poly1305, KeyInit as _, Tag};
use zeroize::Zeroizing;

use super::x25519;
use crate::{
    error::{Class, Error, Result as Outcome},
    kdf,
    profile::Recipient,
    system::random,
};
use header::{Header, Stanza};

/// The bytes of a file key.
const FILE_KEY: usize = 16;
/// The type of the stanzas that an X25519 key opens.
const X25519: &str = "X25519";
/// The type of those that a passphrase opens. It stands alone.
const SCRYPT: &str = "scrypt";

/// What opens files: the private half of a [`Recipient`].
pub struct Identity {
    scalar: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl Identity {
    /// The identity of this scalar, which is clamped.
    #[must_use]
    pub fn new(scalar: &[u8; 32]) -> Self {
        let (scalar, public) = x25519::pair(scalar);
        Self { scalar, public }
    }
}

/// Why a file did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is no armor, though it begins like one.
    Armor,
    /// It is no age file, or its header breaks the rules.
    Header,
    /// It is encrypted to others.
    NoMatch,
    /// The header was changed by somebody who had not the file key.
    Mac,
    /// What it holds was changed or cut.
    Payload,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Armor => "it is damaged: its armor is not as age writes it",
            Self::Header => "it is no age file, or its header is damaged",
            Self::NoMatch => "it is encrypted to others",
            Self::Mac => "its header was changed after it was encrypted",
            Self::Payload => "it is damaged: what it holds was changed or cut off",
        })
    }
}

/// What a file says that anybody can read.
///
/// # Errors
/// `Armor` or `Header` where it is no age file.
pub fn check(file: &[u8]) -> Result<(), Fault> {
    let file = armor::removed(file)?;
    Header::parse(&file).map(|_| ())
}

/// What a file holds. Both the binary and the armored form are read.
///
/// # Errors
/// [`Fault`].
pub fn decrypt(file: &[u8], identity: &Identity) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let file = armor::removed(file)?;
    let (header, payload) = Header::parse(&file)?;
    if header.stanzas.len() > 1 && header.stanzas.iter().any(|stanza| stanza.kind() == SCRYPT) {
        return Err(Fault::Header);
    }
    let mut file_key = None;
    for stanza in header.stanzas.iter().filter(|stanza| stanza.kind() == X25519) {
        let opened = open(stanza, identity)?;
        file_key = file_key.or(opened);
    }
    let file_key = file_key.ok_or(Fault::NoMatch)?;
    header.check(&file_key)?;
    stream::opened(payload, &file_key)
}

/// Encrypts to these recipients; the file, binary.
///
/// # Errors
/// `bad-spec` for a recipient that is no key: a point of low order, whose files everybody opens.
/// `internal` where the system gives no random bytes.
pub fn encrypt(plain: &[u8], recipients: &[Recipient]) -> Outcome<Vec<u8>> {
    let mut file_key = Zeroizing::new([0; FILE_KEY]);
    random(&mut *file_key)?;
    let mut stanzas = Vec::new();
    for recipient in recipients {
        let mut scalar = Zeroizing::new([0; 32]);
        random(&mut *scalar)?;
        let (scalar, share) = x25519::pair(&scalar);
        let to = recipient.to_bytes();
        let shared = x25519::shared(&scalar, &to).ok_or_else(|| {
            Error::new(
                Class::Spec,
                format!("encrypting to {recipient}"),
                "it is no key: everybody could open the file",
                "Ask for the right recipient. Nothing was written.",
            )
        })?;
        let key = wrapping_key(&shared, &share, &to);
        let mut body = file_key.to_vec();
        let tag = ChaCha20Poly1305::new((&*key).into())
            .encrypt_inout_detached(&[0; 12].into(), b"", body.as_mut_slice().into())
            .map_err(not_encrypted)?;
        body.extend(tag);
        stanzas.push(Stanza { arguments: vec![X25519.into(), header::base64(&share)], body });
    }
    let mut file = header::written(&stanzas, &file_key);
    let mut nonce = [0; stream::NONCE];
    random(&mut nonce)?;
    stream::seal(plain, &file_key, &nonce, &mut file).map_err(not_encrypted)?;
    Ok(file)
}

/// A cipher refuses only a message that is longer than any here.
fn not_encrypted(error: chacha20poly1305::Error) -> Error {
    Error::new(Class::Internal, "encrypting an age file", error.to_string(), "Report this.")
}

/// The file key, if the stanza is for this identity.
fn open(stanza: &Stanza, identity: &Identity) -> Result<Option<Zeroizing<[u8; FILE_KEY]>>, Fault> {
    let [_, share] = stanza.arguments.as_slice() else { return Err(Fault::Header) };
    let share: [u8; 32] =
        header::unbase64(share).and_then(|share| share.try_into().ok()).ok_or(Fault::Header)?;
    let (body, tag) = stanza.body.split_at_checked(FILE_KEY).ok_or(Fault::Header)?;
    let tag = Tag::try_from(tag).map_err(|_| Fault::Header)?;
    let shared = x25519::shared(&identity.scalar, &share).ok_or(Fault::Header)?;
    let key = wrapping_key(&shared, &share, &identity.public);
    let mut file_key = Zeroizing::new([0; FILE_KEY]);
    file_key.copy_from_slice(body);
    let opened = ChaCha20Poly1305::new((&*key).into()).decrypt_inout_detached(
        &[0; 12].into(),
        b"",
        file_key.as_mut_slice().into(),
        &tag,
    );
    Ok(opened.is_ok().then_some(file_key))
}

/// The key that a file key is wrapped in, once for each recipient: so its nonce is zero.
fn wrapping_key(shared: &[u8; 32], share: &[u8; 32], to: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let mut salt = [0; 64];
    salt[..32].copy_from_slice(share);
    salt[32..].copy_from_slice(to);
    kdf::age_wrapping_key(shared, &salt)
}

#[cfg(test)]
mod tests;
