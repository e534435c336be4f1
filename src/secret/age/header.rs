//! The header: a version, a stanza for each recipient, and a MAC over all of it.

use std::fmt::Write as _;

use base64ct::{Base64Unpadded, Encoding};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use super::{FILE_KEY, Fault};
use crate::kdf;

const VERSION: &str = "age-encryption.org/v1";
const STANZA: &str = "-> ";
const MAC: &str = "---";
/// The characters of a full line of a body.
const WIDTH: usize = 64;
/// A header is no longer than that, in bytes.
const LONGEST: usize = 1 << 20;

/// What is wrapped for one recipient.
pub(super) struct Stanza {
    /// Its type, and what belongs to that.
    pub arguments: Vec<String>,
    pub body: Vec<u8>,
}

impl Stanza {
    pub(super) fn kind(&self) -> &str {
        self.arguments.first().map_or("", String::as_str)
    }
}

pub(super) struct Header<'a> {
    pub stanzas: Vec<Stanza>,
    /// What the MAC is over.
    covered: &'a [u8],
    mac: [u8; 32],
}

impl<'a> Header<'a> {
    /// The header of a file, and what follows it.
    pub(super) fn parse(file: &'a [u8]) -> Result<(Self, &'a [u8]), Fault> {
        Self::read(file).ok_or(Fault::Header)
    }

    fn read(file: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut rest = file;
        let mut next = || {
            let end = rest.iter().take(LONGEST).position(|&byte| byte == b'\n')?;
            let (line, after) = rest.split_at(end);
            rest = &after[1..];
            std::str::from_utf8(line).ok()
        };
        (next()? == VERSION).then_some(())?;
        let mut stanzas = Vec::new();
        let mac = loop {
            let line = next()?;
            let Some(arguments) = line.strip_prefix(STANZA) else { break line };
            let arguments: Vec<_> = arguments.split(' ').map(str::to_owned).collect();
            let is_plain = |argument: &String| {
                !argument.is_empty() && argument.bytes().all(|byte| byte.is_ascii_graphic())
            };
            arguments.iter().all(is_plain).then_some(())?;
            let mut body = String::new();
            loop {
                let line = next()?;
                (line.len() <= WIDTH).then_some(())?;
                body.push_str(line);
                if line.len() < WIDTH {
                    break;
                }
            }
            stanzas.push(Stanza { arguments, body: unbase64(&body)? });
        };
        let mac = unbase64(mac.strip_prefix(MAC)?.strip_prefix(' ')?)?.try_into().ok()?;
        if stanzas.is_empty() {
            return None;
        }
        // All but the MAC itself: a blank, 43 characters and a line feed.
        let covered = &file[..file.len() - rest.len() - (1 + 43 + 1)];
        Some((Self { stanzas, covered, mac }, rest))
    }

    /// Checks the MAC.
    pub(super) fn check(&self, file_key: &[u8; FILE_KEY]) -> Result<(), Fault> {
        mac(self.covered, file_key).verify(&self.mac.into()).map_err(|_| Fault::Mac)
    }
}

/// Writes a header.
pub(super) fn written(stanzas: &[Stanza], file_key: &[u8; FILE_KEY]) -> Vec<u8> {
    let mut text = format!("{VERSION}\n");
    for Stanza { arguments, body } in stanzas {
        // Writing to a string never fails.
        let _ = writeln!(text, "{STANZA}{}", arguments.join(" "));
        let body = base64(body);
        let (mut rest, mut is_full) = (body.as_str(), true);
        // A full line is followed by another one, be it empty.
        while is_full {
            let (line, after) = rest.split_at(rest.len().min(WIDTH));
            let _ = writeln!(text, "{line}");
            (rest, is_full) = (after, line.len() == WIDTH);
        }
    }
    text.push_str(MAC);
    let mac = mac(text.as_bytes(), file_key).finalize().into_bytes();
    let _ = writeln!(text, " {}", base64(&mac));
    text.into_bytes()
}

fn mac(covered: &[u8], file_key: &[u8; FILE_KEY]) -> Hmac<Sha256> {
    let mut mac = kdf::hmac(&kdf::age_header_key(file_key));
    mac.update(covered);
    mac
}

/// Base64 without padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    Base64Unpadded::encode_string(bytes)
}

/// Reads the one form in which bytes are written.
pub(super) fn unbase64(text: &str) -> Option<Vec<u8>> {
    Base64Unpadded::decode_vec(text).ok()
}
