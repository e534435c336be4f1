//! The armored form: a strict PEM.

use std::borrow::Cow;

use base64ct::{Base64, Encoding};

use super::Fault;

const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const END: &str = "-----END AGE ENCRYPTED FILE-----";
/// The characters of a full line.
const WIDTH: usize = 64;

/// The binary form of a file, whichever it has.
pub(super) fn removed(file: &[u8]) -> Result<Cow<'_, [u8]>, Fault> {
    let is_armored = file.trim_ascii_start().starts_with(BEGIN.as_bytes());
    if is_armored { parse(file).map(Cow::Owned).ok_or(Fault::Armor) } else { Ok(file.into()) }
}

fn parse(file: &[u8]) -> Option<Vec<u8>> {
    // Blanks and empty lines may be around it, and nothing else.
    let text = std::str::from_utf8(file.trim_ascii()).ok()?;
    let mut lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    (lines.next()? == BEGIN).then_some(())?;
    let mut all = String::new();
    let mut is_last = false;
    while let Some(line) = lines.next() {
        if line == END {
            // What follows would have been trimmed if it were blank.
            let is_whole = lines.next().is_none() && !all.is_empty();
            return is_whole.then(|| Base64::decode_vec(&all).ok()).flatten();
        }
        if is_last || line.is_empty() || line.len() > WIDTH {
            return None;
        }
        is_last = line.len() < WIDTH;
        all.push_str(line);
    }
    None
}
