//! Secrets that people choose: age files in the configuration, encrypted to the key's recipient.

use std::path::Path;

use zeroize::Zeroizing;

use super::age::{self, Fault, Identity};
use crate::{
    error::{Class, Error, Result},
    profile::{Recipient, seal::Opened},
    system::config_file,
};

/// The most bytes that a chosen secret may have.
pub const LONGEST: usize = 1 << 20;
/// The most bytes of its file: armor adds a third, and a header names whoever else reads it.
const LONGEST_FILE: usize = 3 << 20;

/// The bytes of a file as it is, encrypted.
///
/// # Errors
/// `bad-spec` where it can't be read or is too long.
pub fn read(file: &Path) -> Result<Vec<u8>> {
    config_file::read(file, LONGEST_FILE).map_err(|error| {
        wrong(file, error.to_string(), "Correct the file, or its path in the configuration.")
    })
}

/// Whether it is an age file, as far as anybody can tell.
///
/// # Errors
/// `bad-spec` where it is none, or can't be read.
pub fn check(file: &Path) -> Result<()> {
    age::check(&read(file)?).map_err(|fault| not_opened(file, fault, None))
}

/// The secret in the file.
///
/// # Errors
/// `bad-spec` where the file can't be read, is damaged, is for others, or holds too much.
pub fn open(file: &Path, opened: &Opened) -> Result<Zeroizing<Vec<u8>>> {
    let encrypted = read(file)?;
    let plain = age::decrypt(&encrypted, &Identity::new(&opened.recipient_scalar()))
        .map_err(|fault| not_opened(file, fault, Some(opened.recipient())))?;
    if plain.len() > LONGEST {
        let found = format!("it holds {} bytes", plain.len());
        return Err(wrong(file, found, "A secret has at most 1 MiB."));
    }
    Ok(plain)
}

fn not_opened(file: &Path, fault: Fault, recipient: Option<Recipient>) -> Error {
    let advice = match (fault, recipient) {
        (Fault::NoMatch, Some(recipient)) => {
            format!("Encrypt it to this key, too: `age -r {recipient}`.")
        }
        _ => "Encrypt the secret again, or restore the file from the repository.".into(),
    };
    wrong(file, fault.to_string(), &advice)
}

fn wrong(file: &Path, found: String, advice: &str) -> Error {
    Error::new(Class::Spec, format!("reading {}", file.display()), found, advice)
}
