//! How the bytes of a secret are written.

use std::fmt;

use base64ct::{Base64, Encoding};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// How the bytes of a secret are written to its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The bytes as they are.
    #[default]
    Raw,
    /// Two lower-case hexadecimal digits for each byte.
    Hex,
    /// Base64 with padding (RFC 4648, section 4), on one line.
    Base64,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Hex => "hex",
            Self::Base64 => "base64",
        })
    }
}

/// Writes `bytes` in `format`, with one line feed after them if `newline`.
///
/// The buffer has its final length from the start: one that grew would leave copies behind.
///
/// # Panics
/// Never: it asserts that the encoders keep to the lengths that they announced.
#[must_use]
pub fn encode(format: Format, bytes: &[u8], newline: bool) -> Zeroizing<Vec<u8>> {
    let length = match format {
        Format::Raw => bytes.len(),
        Format::Hex => base16ct::encoded_len(bytes),
        Format::Base64 => Base64::encoded_len(bytes),
    };
    let mut out = Zeroizing::new(vec![b'\n'; length + usize::from(newline)]);
    let text = &mut out[..length];
    let written = match format {
        Format::Raw => {
            text.copy_from_slice(bytes);
            length
        }
        Format::Hex => base16ct::lower::encode(bytes, text).map_or(0, <[u8]>::len),
        Format::Base64 => Base64::encode(bytes, text).map_or(0, str::len),
    };
    assert_eq!(written, length, "the encoders agree with their own lengths");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_each_format() {
        let cases: [(Format, &[u8], &str); 7] = [
            (Format::Raw, b"\x00\xff", "\x00\u{fffd}"),
            (Format::Hex, b"", ""),
            (Format::Hex, b"\x00\xab\xff", "00abff"),
            (Format::Base64, b"", ""),
            (Format::Base64, b"f", "Zg=="),
            (Format::Base64, b"fo", "Zm8="),
            (Format::Base64, b"\xfb\xff\xfe", "+//+"),
        ];
        for (format, bytes, text) in cases {
            assert_eq!(String::from_utf8_lossy(&encode(format, bytes, false)), text);
            let line = encode(format, bytes, true);
            assert_eq!(String::from_utf8_lossy(&line), format!("{text}\n"));
        }
    }

    #[test]
    fn the_buffer_never_grows() {
        for format in [Format::Raw, Format::Hex, Format::Base64] {
            for length in 0..200 {
                let out = encode(format, &vec![7; length], length % 2 == 0);
                assert_eq!(out.len(), out.capacity(), "{format} {length}");
            }
        }
    }

    #[test]
    fn is_named_in_lower_case() {
        for format in [Format::Raw, Format::Hex, Format::Base64] {
            let json = serde_json::to_string(&format).unwrap();
            assert_eq!(json, format!("\"{format}\""));
        }
    }
}
