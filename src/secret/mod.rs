//! What a secret is: where its bytes come from, and how they are written. The bytes of all formats are
//! outputs of the opened key (`docs/key-schedule.md`); each kind of format has a file here.

pub mod age;
pub mod chosen;
mod format;
mod password;
mod pem;
pub mod public;
mod ssh;
mod x25519;

use zeroize::Zeroizing;

pub use format::{Algorithm, Format};
pub use password::{Alphabet, CharClass, MAX_PASSWORD};

use crate::{
    error::{Class, Error, Result},
    kdf,
    profile::seal::Opened,
};

/// How a derived secret is made of an opened key.
#[derive(Clone, Copy, Debug)]
pub struct Recipe<'a> {
    /// The use label.
    pub usage: &'a str,
    /// How it is written.
    pub format: Format,
    /// The number of bytes before the format is applied; of a password, of characters. The formats of
    /// keys have a length of their own.
    pub length: usize,
    /// Whether a line feed follows what does not end with one.
    pub newline: bool,
    /// The kind of key, for [`Format::Pem`].
    pub algorithm: Algorithm,
    /// What a password is made of; none: letters and digits.
    pub alphabet: Option<&'a Alphabet>,
    /// The classes of which a password has a character each.
    pub classes: &'a [CharClass],
}

/// A secret as it is published.
pub struct Made {
    /// What its file holds.
    pub content: Zeroizing<Vec<u8>>,
    /// What may be shown to everybody: text that ends with a line feed.
    pub public: Option<String>,
}

impl Recipe<'_> {
    /// Makes the secret.
    ///
    /// # Errors
    /// `bad-spec` for a length that the format does not have, and for a password that can't be made.
    #[inline(never)]
    pub fn make(&self, opened: &Opened) -> Result<Made> {
        let bytes = || fixed(opened, self.usage);
        let (mut content, public) = match (self.format, self.algorithm) {
            (Format::Raw | Format::Hex | Format::Base64, _) => {
                let output = opened.output(self.usage, self.length)?;
                (format::encode(self.format, &output, self.newline), None)
            }
            (Format::Password, _) => (self.password(opened)?, None),
            (Format::Age, _) => with_public(x25519::age(&*bytes()?)),
            (Format::Wireguard, _) => with_public(x25519::wireguard(&*bytes()?)),
            (Format::Ed25519, _) => with_public(ssh::ed25519(&*bytes()?)),
            (Format::Pem, Algorithm::Ed25519) => with_public(pem::ed25519(&*bytes()?)),
            (Format::Pem, Algorithm::X25519) => with_public(pem::x25519(&*bytes()?)),
            (Format::Pem, Algorithm::P256) => {
                with_public(pem::p256(&kdf::p256_scalar(&*fixed(opened, self.usage)?)))
            }
        };
        if self.newline && content.last() != Some(&b'\n') {
            // There is room for it: no buffer that grows leaves a copy behind.
            content.push(b'\n');
        }
        Ok(Made { content, public })
    }

    fn password(&self, opened: &Opened) -> Result<Zeroizing<Vec<u8>>> {
        let stream = opened.output(self.usage, kdf::MAX_OUTPUT)?;
        let letters_and_digits = Alphabet::default();
        let alphabet = self.alphabet.unwrap_or(&letters_and_digits);
        password::draw(&stream, self.length, alphabet, self.classes).ok_or_else(|| {
            Error::new(
                Class::Spec,
                format!("making the password of use {:?}", self.usage),
                "no text of its alphabet has a character of each of its classes by chance",
                "Make the password longer, or ask for fewer classes.",
            )
        })
    }
}

/// An output of a length known here.
fn fixed<const N: usize>(opened: &Opened, usage: &str) -> Result<Zeroizing<[u8; N]>> {
    let output = opened.output(usage, N)?;
    let mut bytes = Zeroizing::new([0; N]);
    bytes.copy_from_slice(&output);
    Ok(bytes)
}

fn with_public(
    (secret, public): (Zeroizing<Vec<u8>>, String),
) -> (Zeroizing<Vec<u8>>, Option<String>) {
    (secret, Some(public))
}

#[cfg(test)]
mod tests;
