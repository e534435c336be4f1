//! What the formats have in common; `tests/integration/formats.rs` holds each against the tools that read it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::chance;

const CLASSES: [CharClass; 4] =
    [CharClass::Upper, CharClass::Lower, CharClass::Digit, CharClass::Symbol];

fn alphabet(text: &str) -> Alphabet {
    text.to_owned().try_into().unwrap()
}

#[test]
fn no_buffer_grows() {
    let bytes = [0x5a; 32];
    let scalar = kdf::p256_scalar(&[0x5a; 64]);
    for (secret, public) in [
        x25519::age(&bytes),
        x25519::wireguard(&bytes),
        ssh::ed25519(&bytes),
        pem::ed25519(&bytes),
        pem::x25519(&bytes),
        pem::p256(&scalar),
    ] {
        let ends = secret.last() == Some(&b'\n');
        // A line has room for the line feed that may follow.
        assert_eq!(secret.capacity(), secret.len() + usize::from(!ends), "{public}");
        assert!(public.ends_with('\n'));
    }
}

#[test]
fn an_alphabet_has_two_to_ninety_four_different_printable_characters() {
    let all: String = ('!'..='~').collect();
    for good in ["ab", "01", &all] {
        assert!(Alphabet::try_from(good.to_owned()).is_ok(), "{good}");
    }
    for bad in ["", "a", "aa", "a b", "aä", "a\n", "a\x7f"] {
        assert!(Alphabet::try_from(bad.to_owned()).is_err(), "{bad}");
    }
}

#[test]
fn each_character_is_as_likely_as_any_other() {
    // Each byte once: with 62 characters 8 are passed over, and each of the others has 4.
    let stream: Vec<u8> = (0..=255).collect();
    let drawn = password::draw(&stream, 248, &Alphabet::default(), &[]).unwrap();
    let mut counts = BTreeMap::new();
    drawn.iter().for_each(|byte| *counts.entry(*byte).or_insert(0) += 1);
    assert_eq!(counts.len(), 62);
    assert!(counts.values().all(|count| *count == 4));
    assert!(password::draw(&stream, 249, &Alphabet::default(), &[]).is_none());
}

#[test]
fn a_password_that_lacks_a_class_is_passed_over_whole() {
    let of = |stream: &[u8], classes: &[CharClass]| {
        password::draw(stream, 2, &alphabet("aB"), classes).map(|drawn| drawn.to_vec())
    };
    let stream = [0, 0, 0, 1, 1, 1];
    assert_eq!(of(&stream, &[]), Some(b"aa".to_vec()));
    assert_eq!(of(&stream, &[CharClass::Upper]), Some(b"aB".to_vec()));
    assert_eq!(of(&stream, &[CharClass::Upper, CharClass::Lower]), Some(b"aB".to_vec()));
    assert_eq!(of(&stream, &[CharClass::Digit]), None);
    assert_eq!(password::draw(&stream, 0, &alphabet("aB"), &[]), None);
}

proptest! {
    #![proptest_config(chance::config("secret::passwords", 256))]

    #[test]
    fn a_password_has_what_is_asked_for(
        stream in proptest::collection::vec(any::<u8>(), 512),
        letters in proptest::sample::subsequence(('!'..='~').collect::<Vec<_>>(), 2..=94),
        classes in proptest::sample::subsequence(&CLASSES[..], 0..=4),
        length in 1_usize..=32,
    ) {
        let letters: String = letters.into_iter().collect();
        let drawn = password::draw(&stream, length, &alphabet(&letters), &classes);
        if let Some(drawn) = drawn {
            prop_assert_eq!(drawn.len(), length);
            prop_assert!(drawn.iter().all(|byte| letters.contains(char::from(*byte))));
            for class in classes {
                let of_class = |byte: &u8| match class {
                    CharClass::Upper => byte.is_ascii_uppercase(),
                    CharClass::Lower => byte.is_ascii_lowercase(),
                    CharClass::Digit => byte.is_ascii_digit(),
                    CharClass::Symbol => !byte.is_ascii_alphanumeric(),
                };
                prop_assert!(drawn.iter().any(of_class));
            }
        }
    }
}
