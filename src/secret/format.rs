//! The formats, and the plain ones: bytes as they are, as hex, as base64.

use std::fmt;

use base64ct::{Base64, Encoding};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// How a secret is written to its file.
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
    /// An age identity (X25519): one line that begins with AGE-SECRET-KEY-1.
    Age,
    /// An Ed25519 key as OpenSSH keeps it, without a passphrase.
    Ed25519,
    /// A `WireGuard` private key, as `wg genkey` prints it.
    Wireguard,
    /// A private key of the kind that `algorithm` says: PKCS#8 in PEM (RFC 5958, RFC 7468).
    Pem,
    /// Characters of `alphabet`, drawn uniformly.
    Password,
}

impl Format {
    /// Whether secrets of this format may have any length.
    #[must_use]
    pub fn has_length(self) -> bool {
        matches!(self, Self::Raw | Self::Hex | Self::Base64 | Self::Password)
    }

    /// Whether what it writes has a public half.
    #[must_use]
    pub fn has_public_half(self) -> bool {
        !self.has_length()
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Hex => "hex",
            Self::Base64 => "base64",
            Self::Age => "age",
            Self::Ed25519 => "ed25519",
            Self::Wireguard => "wireguard",
            Self::Pem => "pem",
            Self::Password => "password",
        })
    }
}

/// The kind of a private key in PEM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Ed25519, which signs (RFC 8410).
    #[default]
    Ed25519,
    /// X25519, which agrees on keys (RFC 8410).
    X25519,
    /// ECDSA and ECDH on P-256 (RFC 5915), for services that take nothing newer.
    P256,
}

/// Writes `bytes` in one of the three plain formats, with one line feed after them if `newline`.
///
/// The buffer has its final length from the start: one that grew would leave copies behind.
///
/// # Panics
/// Never: it asserts that the encoders keep to the lengths that they announced.
pub(super) fn encode(format: Format, bytes: &[u8], newline: bool) -> Zeroizing<Vec<u8>> {
    let length = match format {
        Format::Hex => base16ct::encoded_len(bytes),
        Format::Base64 => Base64::encoded_len(bytes),
        _ => bytes.len(),
    };
    let mut out = Zeroizing::new(vec![b'\n'; length + usize::from(newline)]);
    let text = &mut out[..length];
    let written = match format {
        Format::Hex => base16ct::lower::encode(bytes, text).map_or(0, <[u8]>::len),
        Format::Base64 => Base64::encode(bytes, text).map_or(0, str::len),
        _ => {
            text.copy_from_slice(bytes);
            length
        }
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
        for format in [
            Format::Raw,
            Format::Hex,
            Format::Base64,
            Format::Age,
            Format::Ed25519,
            Format::Wireguard,
            Format::Pem,
            Format::Password,
        ] {
            let json = serde_json::to_string(&format).unwrap();
            assert_eq!(json, format!("\"{format}\""));
        }
    }
}
