//! Searches what a program printed for secrets, whole and in fragments.

use std::collections::{BTreeMap, HashMap};

use base64ct::{Base64, Base64Url, Encoding};

/// Fragments of this many bytes, as hex digits or as they are, give a secret away.
const BYTES: usize = 6;
/// Fragments of this many characters of base64, or of a text, do.
const CHARACTERS: usize = 8;

/// All that must never be printed.
#[derive(Default)]
pub struct Secrets {
    /// Everything to look for, by its length, and what it is of.
    needles: BTreeMap<usize, HashMap<Vec<u8>, String>>,
}

impl Secrets {
    /// Adds a secret. One that is shorter than a fragment is looked for as a whole, and one of a
    /// few bytes, which are anywhere, is not.
    pub fn add(&mut self, what: &str, secret: &[u8]) {
        self.add_but(what, secret, b"");
    }

    /// The same but for what is in public halves, which everybody may read.
    pub fn add_but(&mut self, what: &str, secret: &[u8], public: &[u8]) {
        let mut needles = Vec::new();
        if secret.len() < 5 {
            return;
        }
        // A secret that is published as text is a secret of bytes, too.
        let decoded = base16ct::mixed::decode_vec(secret.trim_ascii()).ok();
        let decoded = decoded.filter(|bytes| bytes.len() >= 2 * BYTES);
        // Of hex digits some eight meet by chance, over thousands of runs.
        let characters = if decoded.is_some() { 2 * BYTES } else { CHARACTERS };
        needles.extend(windows(secret, characters));
        let hex = base16ct::lower::encode_string(secret);
        // Only fragments of whole bytes: of six bytes in a log some meet by chance otherwise.
        needles.extend(windows(hex.as_bytes(), 2 * BYTES).step_by(2));
        needles.extend(windows(hex.to_uppercase().as_bytes(), 2 * BYTES).step_by(2));
        // A secret in the middle of other bytes comes out in three ways, by where it begins.
        for padding in 0..3 {
            let padded = [&vec![0; padding][..], secret].concat();
            // The characters that depend on what is around it are left out.
            let skip = [0, 2, 3][padding];
            for text in [Base64::encode_string(&padded), Base64Url::encode_string(&padded)] {
                let whole = text.trim_end_matches('=');
                let end = padded.len() * 8 / 6;
                if end >= skip + CHARACTERS {
                    needles.extend(windows(&whole.as_bytes()[skip..end], CHARACTERS));
                }
            }
        }
        if let Some(decoded) = decoded {
            needles.extend(windows(&decoded, BYTES));
        }
        needles.retain(|needle| !public.windows(needle.len()).any(|part| part == needle));
        for needle in needles {
            let alike = self.needles.entry(needle.len()).or_default();
            alike.insert(needle, what.into());
        }
    }

    /// What of all this is in `text`.
    pub fn found_in(&self, text: &[u8]) -> Option<&str> {
        // Nearly every place is ruled out by its first two bytes.
        let mut begins = vec![false; 1 << 16];
        for needle in self.needles.values().flat_map(HashMap::keys) {
            begins[beginning(needle)] = true;
        }
        let places = (0..text.len().saturating_sub(1)).filter(|&at| begins[beginning(&text[at..])]);
        let mut found = places.flat_map(|at| {
            self.needles.iter().filter_map(move |(&length, alike)| {
                text.get(at..at + length).and_then(|part| alike.get(part))
            })
        });
        found.next().map(|what| &**what)
    }
}

/// The first two bytes as a number.
fn beginning(bytes: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// All pieces of a length, or the whole where it is shorter.
fn windows(of: &[u8], length: usize) -> impl Iterator<Item = Vec<u8>> {
    of.windows(length.min(of.len()).max(1)).map(<[u8]>::to_vec)
}

#[test]
fn finds_what_was_planted_and_nothing_else() {
    let secret: Vec<u8> = (0..32u8).map(|i| i.wrapping_mul(37) ^ 0x5a).collect();
    let mut secrets = Secrets::default();
    secrets.add("the secret", &secret);
    secrets.add("the PIN", b"735105");
    let hex = base16ct::lower::encode_string(&secret);
    let planted: [Vec<u8>; 9] = [
        secret.clone(),
        secret[11..19].to_vec(),
        hex.clone().into_bytes(),
        hex[20..32].to_uppercase().into_bytes(),
        Base64::encode_string(&secret).into_bytes(),
        Base64Url::encode_string(&[b"x", &secret[3..20]].concat()).into_bytes(),
        Base64::encode_string(&[b"xy", &secret[3..20]].concat()).into_bytes(),
        b"735105".to_vec(),
        b"373335313035ffff".to_vec(),
    ];
    for text in planted {
        let log = [b"trace: [", &text[..], b"] end\n"].concat();
        assert!(secrets.found_in(&log).is_some(), "{:?}", String::from_utf8_lossy(&log));
    }
    let innocent = "trace: 00 20 00 80 08 73510 5 3733353130 SHA256:AbCdEfGhIjKlMnOpQrStUvWxYz\n";
    assert_eq!(secrets.found_in(innocent.as_bytes()), None);
}
