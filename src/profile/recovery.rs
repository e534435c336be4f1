//! The recovery code: 42 characters that a person keeps on paper, about 208 bits.

use std::str::FromStr;

use zeroize::Zeroizing;

use super::{
    Argon2Params, Version,
    format::Params as RawParams,
    kind::{Kind, Renewed, Typed, Wrong},
};
use crate::error::Result;

/// The kind of provider.
pub(super) struct Recovery;

impl Kind for Recovery {
    type Params = Argon2Params;
    const TYPE: &'static str = "recovery";
    const RENEWED: Option<Renewed<Argon2Params>> = Some(Argon2Params::random);

    const TYPED: Option<Typed<Argon2Params>> = Some(|params, typed| {
        let code = RecoveryCode::read(typed).map_err(Wrong::Malformed)?;
        params.secret(code.as_bytes()).map_err(Wrong::Fault)
    });

    fn parse(_: Version, raw: &RawParams) -> std::result::Result<Argon2Params, String> {
        Argon2Params::parse(raw)
    }

    fn to_raw(params: &Argon2Params) -> Option<RawParams> {
        Some(params.to_raw())
    }
}

/// Its characters: no I, L, O, 0 and 1, which look alike.
const ALPHABET: &[u8; 31] = b"ABCDEFGHJKMNPQRSTUVWXYZ23456789";
/// How many it has.
const LENGTH: usize = 42;
/// How many are shown together.
const GROUP: usize = 6;

/// A recovery code, as it is stretched: without dashes, in upper case. It has no checksum.
pub struct RecoveryCode(Zeroizing<[u8; LENGTH]>);

impl RecoveryCode {
    /// A new one.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub fn random() -> Result<Self> {
        /// The largest multiple of the alphabet's size that a byte holds: what is beyond would make
        /// some characters likelier.
        const FAIR: u8 = 31 * (255 / 31);
        let mut code = Zeroizing::new([0; LENGTH]);
        for place in code.iter_mut() {
            let mut byte = Zeroizing::new([u8::MAX]);
            while byte[0] >= FAIR {
                super::random(&mut *byte)?;
            }
            *place = ALPHABET[usize::from(byte[0]) % ALPHABET.len()];
        }
        Ok(Self(code))
    }

    /// What is stretched.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0[..]
    }

    /// As people write it: 7 groups of 6, joined by dashes.
    #[must_use]
    pub fn shown(&self) -> Zeroizing<String> {
        let mut shown = Zeroizing::new(String::with_capacity(LENGTH + LENGTH / GROUP));
        for (index, &character) in self.0.iter().enumerate() {
            if index > 0 && index % GROUP == 0 {
                shown.push('-');
            }
            shown.push(character.into());
        }
        shown
    }

    /// The group with this number, 0 to 6.
    #[must_use]
    pub fn group(&self, number: usize) -> Option<&[u8]> {
        self.0.chunks(GROUP).nth(number)
    }

    /// Whether a person typed the group with this number: letters of either case, blanks don't count.
    #[must_use]
    pub fn is_group(&self, number: usize, typed: &[u8]) -> bool {
        let typed = typed.iter().filter(|byte| !byte.is_ascii_whitespace() && **byte != b'-');
        self.group(number)
            .is_some_and(|group| group.iter().copied().eq(typed.map(u8::to_ascii_uppercase)))
    }

    /// The number of a group that is drawn at random.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub fn any_group() -> Result<usize> {
        let mut byte = [0];
        super::random(&mut byte)?;
        Ok(usize::from(byte[0]) % (LENGTH / GROUP))
    }

    /// Reads what a person typed, without dashes, blanks and line ends; letters of either case.
    ///
    /// # Errors
    /// What is wrong with it, without repeating any of it.
    pub fn read(typed: &[u8]) -> std::result::Result<Self, String> {
        let mut code = Zeroizing::new([0; LENGTH]);
        let mut length = 0;
        for byte in typed {
            let upper = byte.to_ascii_uppercase();
            match upper {
                b'-' | b' ' | b'\t' | b'\n' | b'\r' => continue,
                _ if ALPHABET.contains(&upper) => {}
                _ => {
                    return Err(format!(
                        "character {} is none that a recovery code has (no I, L, O, 0 and 1)",
                        length + 1
                    ));
                }
            }
            if let Some(place) = code.get_mut(length) {
                *place = upper;
            }
            length += 1;
        }
        if length == LENGTH {
            Ok(Self(code))
        } else {
            Err(format!("it has {length} characters, and a recovery code has {LENGTH}"))
        }
    }
}

impl FromStr for RecoveryCode {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        Self::read(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{chance::cases, profile::ProviderKind};

    #[test]
    fn a_code_is_shown_in_groups_and_read_again() {
        let code = RecoveryCode::random().unwrap();
        let shown = code.shown();
        assert_eq!((shown.len(), shown.split('-').count()), (48, 7));
        for typed in
            [&*shown, &shown.to_lowercase(), &shown.replace('-', " "), &format!("{}\r\n", &*shown)]
        {
            assert_eq!(RecoveryCode::read(typed.as_bytes()).unwrap().as_bytes(), code.as_bytes());
        }
        assert_eq!(code.group(6).unwrap(), &code.as_bytes()[36..]);
        assert_eq!(code.group(7), None);
        let group = String::from_utf8(code.group(3).unwrap().to_vec()).unwrap().to_lowercase();
        assert!(code.is_group(3, format!(" {}-{}\r", &group[..2], &group[2..]).as_bytes()));
        for wrong in [&group[1..], "", &format!("{group}a")] {
            assert!(!code.is_group(3, wrong.as_bytes()));
        }
        assert!((0..100).all(|_| RecoveryCode::any_group().unwrap() < 7));
        assert_ne!(code.as_bytes(), RecoveryCode::random().unwrap().as_bytes());
    }

    #[test]
    fn a_provider_of_the_kind_takes_it_as_it_was_typed() {
        let params = Argon2Params { salt: [7; 32], time: 2, memory_kib: 19456, threads: 1 };
        let kind = ProviderKind::Recovery(params.clone());
        let code = RecoveryCode::random().unwrap();
        let typed = format!(" {}\n", code.shown().to_lowercase());
        let secret = kind.typed(typed.as_bytes()).unwrap().unwrap();
        assert_eq!(secret.as_bytes(), params.secret(code.as_bytes()).unwrap().as_bytes());
        assert!(matches!(kind.typed(b"ABC"), Some(Err(Wrong::Malformed(_)))));
        assert!(kind.is_typed());
        assert!(ProviderKind::Unknown("fido2".into()).typed(b"x").is_none());
    }

    #[test]
    fn what_is_no_code_is_refused_and_not_repeated() {
        let good = RecoveryCode::random().unwrap().shown();
        for (bad, says) in [
            (good[..47].to_owned(), "it has 41 characters"),
            (format!("{}2", &*good), "it has 43 characters"),
            (String::new(), "it has 0 characters"),
            (good.replacen(&good[..1], "0", 1), "character 1 is none"),
        ] {
            let error = RecoveryCode::read(bad.as_bytes()).err().unwrap();
            assert!(error.starts_with(says), "{error}");
        }
    }

    proptest! {
        #![proptest_config(cases!(256))]

        #[test]
        fn anything_is_read_or_refused(typed in any::<Vec<u8>>()) {
            if let Ok(code) = RecoveryCode::read(&typed) {
                prop_assert!(code.as_bytes().iter().all(|byte| ALPHABET.contains(byte)));
            }
        }
    }

    /// Over 42000 characters each comes 1355 times, give or take 7 standard deviations.
    #[test]
    fn characters_are_drawn_evenly() {
        let mut seen = [0_u32; 31];
        for _ in 0..1000 {
            for byte in RecoveryCode::random().unwrap().as_bytes() {
                seen[ALPHABET.iter().position(|b| b == byte).unwrap()] += 1;
            }
        }
        assert!(seen.iter().all(|&count| (1100..1610).contains(&count)), "{seen:?}");
    }
}
