//! Key agreements that tell what nothing else could (Rule 7: only "empty" is empty).

use virtual_card::{KeySource as CardKeySource, Options, state::Curve};

use super::{
    super::{Fault, KeySource, Pin, Piv, SlotState, StatusWord, Wait, even_key},
    support::{Bench, PIN, imported, legacy, scripted, slot, with_key},
};
use crate::token::same_key;

const LIMIT: Wait = Wait::ANSWER;

/// Status words for P-256, RSA 2048 and P-384.
fn probe(p256: u16, rsa: u16, p384: u16) -> Result<SlotState, Fault> {
    let mut piv = scripted(move |command| {
        // A long command is chained: all parts but the last are just taken.
        let word = match (command[0], command[2]) {
            (0x10, _) => 0x9000,
            (_, 0x11) => p256,
            (_, 0x07) => rsa,
            _ => p384,
        };
        word.to_be_bytes().to_vec()
    });
    piv.probe(slot("9d"), LIMIT)
}

fn verified(bench: &Bench) -> Piv {
    let mut piv = bench.piv();
    piv.verify_pin(&Pin::new(PIN).unwrap()).unwrap();
    piv
}

#[test]
fn a_key_is_known_by_its_agreement_with_the_base_point() {
    let bench = Bench::new(legacy(imported(0x9d)));
    let state = verified(&bench).probe(slot("9d"), LIMIT).unwrap();
    let SlotState::Key(found) = state else {
        panic!("{state:?}");
    };
    let public = found.public.unwrap();
    assert!(same_key(&public, &bench.public_key(slot("9d"))));
    assert_eq!((found.source, found.policies), (KeySource::KeyAgreement, None));
    assert_eq!(public.to_sec1_bytes()[64] & 1, 0, "the even one");
    let x: [u8; 32] = public.to_sec1_bytes()[1..33].try_into().unwrap();
    assert_eq!(even_key(&x), Some(public));
}

/// A YubiKey says "wrong data" of an empty slot and of a key of another kind alike.
#[test]
fn a_yubikey_that_has_no_metadata_leaves_it_open() {
    let empty = Bench::new(legacy(Options::default()));
    let p384 = Bench::new(legacy(with_key(0x9d, CardKeySource::Generate(Curve::P384))));
    for bench in [empty, p384] {
        let state = verified(&bench).probe(slot("9d"), LIMIT);
        assert_eq!(state, Ok(SlotState::Unknown));
    }
}

#[test]
fn without_the_pin_nothing_is_concluded() {
    let bench = Bench::new(legacy(imported(0x9d)));
    let state = bench.piv().probe(slot("9d"), LIMIT);
    assert_eq!(state, Err(Fault::Status(StatusWord::SECURITY_STATUS)));
    assert_eq!(probe(0x6982, 0x6985, 0x6985), state);
}

/// As the Nitrokey 3's firmware answers after the PIN.
#[test]
fn a_nitrokey_tells() {
    assert_eq!(probe(0x6985, 0x6985, 0x6985), Ok(SlotState::Empty), "empty 9d, 82, 95");
    assert_eq!(probe(0x6400, 0x6400, 0x6400), Ok(SlotState::Unknown), "empty 9a");
    assert_eq!(probe(0x6a86, 0x6a86, 0x6985), Ok(SlotState::Unknown), "a P-384 key");
    assert_eq!(probe(0x6982, 0x6982, 0x6982).ok(), None, "no PIN");
}

/// Rule 7: every kind of key has to be missing, in one and the same word.
#[test]
fn only_a_slot_that_refuses_every_kind_as_missing_is_empty() {
    let words = [0x6985, 0x6a88, 0x6a80, 0x6a82, 0x6a86, 0x6982, 0x6983, 0x6d00, 0x6400, 0x9000];
    for p256 in words {
        for rsa in words {
            for p384 in words {
                let missing = [0x6985, 0x6a88].contains(&p256) && p256 == rsa && p256 == p384;
                let state = probe(p256, rsa, p384);
                assert_eq!(state == Ok(SlotState::Empty), missing, "{p256:x} {rsa:x} {p384:x}");
            }
        }
    }
}

#[test]
fn an_answer_that_is_no_x_coordinate_is_a_fault() {
    // Beyond the field, too short, too long, nothing.
    for x in [&[0xff; 32][..], &[1; 31], &[1; 33], &[]] {
        let length = u8::try_from(x.len()).unwrap();
        let answer = [&[0x7c, length + 2, 0x82, length], x, &[0x90, 0]].concat();
        let state = scripted(move |_| answer.clone()).probe(slot("9d"), LIMIT);
        assert!(matches!(state, Err(Fault::Garbage(_))), "{x:02x?}");
    }
}
