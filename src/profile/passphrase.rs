//! The passphrase: what a person remembers, stretched as it was typed.

use super::{
    Argon2Params, Version,
    format::Params as RawParams,
    kind::{Kind, Renewed, Typed, Wrong},
};

/// The kind of provider.
pub(super) struct Passphrase;

impl Kind for Passphrase {
    type Params = Argon2Params;
    const TYPE: &'static str = "passphrase";
    const RENEWED: Option<Renewed<Argon2Params>> = Some(Argon2Params::random);

    const TYPED: Option<Typed<Argon2Params>> = Some(|params, typed| {
        let passphrase = without_line_ending(typed);
        if passphrase.is_empty() {
            return Err(Wrong::Malformed("it is empty".into()));
        }
        params.secret(passphrase).map_err(Wrong::Fault)
    });

    fn parse(_: Version, raw: &RawParams) -> Result<Argon2Params, String> {
        Argon2Params::parse(raw)
    }

    fn to_raw(params: &Argon2Params) -> Option<RawParams> {
        Some(params.to_raw())
    }
}

/// What was typed before Enter: one line ending is not part of it, all else is.
fn without_line_ending(typed: &[u8]) -> &[u8] {
    typed.strip_suffix(b"\r\n").or_else(|| typed.strip_suffix(b"\n")).unwrap_or(typed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::ProviderKind;

    #[test]
    fn it_is_taken_verbatim_but_for_one_line_ending() {
        for (typed, passphrase) in [
            (&b"a b"[..], &b"a b"[..]),
            (b" a\n", b" a"),
            (b"a\r\n", b"a"),
            (b"a\n\n", b"a\n"),
            (b"a\r", b"a\r"),
            (b"\xff\x00\n", b"\xff\x00"),
        ] {
            assert_eq!(without_line_ending(typed), passphrase);
        }
        let params = Argon2Params { salt: [7; 32], time: 2, memory_kib: 19456, threads: 1 };
        let kind = ProviderKind::Passphrase(params.clone());
        let secret = kind.typed(b"two words\r\n").unwrap().unwrap();
        assert_eq!(secret.as_bytes(), params.secret(b"two words").unwrap().as_bytes());
        for empty in [&b""[..], b"\n", b"\r\n"] {
            assert!(matches!(kind.typed(empty), Some(Err(Wrong::Malformed(_)))));
        }
        let hostile = ProviderKind::Passphrase(Argon2Params { time: 65, ..params });
        assert!(matches!(hostile.typed(b"two words"), Some(Err(Wrong::Fault(_)))));
    }
}
