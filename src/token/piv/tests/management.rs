//! The management key: mutual authentication with all its ciphers, and the one behind the PIN.

use virtual_card::{
    Options,
    state::{Cipher as CardCipher, Hex, ManagementKey as CardKey},
};
use zeroize::Zeroizing;

use super::{
    super::{Cipher, Fault, ManagementKey, ManagementMetadata, Pin, StatusWord, TouchPolicy},
    support::{Bench, PIN, generated, legacy, put, scripted, slot},
};
use crate::token::PinPolicy;

const CIPHERS: [(CardCipher, Cipher, usize); 4] = [
    (CardCipher::TripleDes, Cipher::TripleDes, 24),
    (CardCipher::Aes128, Cipher::Aes128, 16),
    (CardCipher::Aes192, Cipher::Aes192, 24),
    (CardCipher::Aes256, Cipher::Aes256, 32),
];

fn key(bytes: &[u8]) -> ManagementKey {
    ManagementKey::new(Zeroizing::new(bytes.to_vec())).unwrap()
}

/// A card whose management key is this one.
fn bench(algorithm: CardCipher, bytes: &[u8], options: Options) -> Bench {
    Bench::with_state(options, |state| {
        state.management_key = CardKey { algorithm, key: Hex(bytes.to_vec()), default: false };
    })
}

fn any_key(length: usize) -> Vec<u8> {
    (0x40..).take(length).collect()
}

#[test]
fn management_keys_have_16_24_or_32_bytes() {
    for length in 0..40 {
        let made = ManagementKey::new(vec![0; length].into()).is_some();
        assert_eq!(made, matches!(length, 16 | 24 | 32), "{length}");
    }
}

#[test]
fn every_cipher_authenticates_and_lets_a_key_be_generated() {
    for (algorithm, cipher, length) in CIPHERS {
        let bytes = any_key(length);
        let bench = bench(algorithm, &bytes, Options::default());
        let mut piv = bench.piv();
        let expected = ManagementMetadata { cipher, factory_default: false };
        assert_eq!(piv.management_metadata(), Ok(Some(expected)));
        assert_eq!(piv.authenticate(&key(&bytes)), Ok(true), "{cipher:?}");
        assert!(bench.reset_at_end.get(), "the card must forget it");
        let slot = slot("9d");
        let made = piv.generate(slot, PinPolicy::Once, TouchPolicy::Never);
        assert_eq!(made, Ok(bench.public_key(slot)));
    }
}

#[test]
fn a_card_without_metadata_is_taken_at_the_length_of_the_key() {
    for (algorithm, cipher, length) in CIPHERS {
        if cipher == Cipher::Aes192 {
            continue; // 24 bytes are 3DES first.
        }
        let bytes = any_key(length);
        let bench = bench(algorithm, &bytes, legacy(Options::default()));
        assert_eq!(bench.piv().authenticate(&key(&bytes)), Ok(true), "{cipher:?}");
    }
}

#[test]
fn another_key_is_not_accepted_and_generates_nothing() {
    for (algorithm, cipher, length) in CIPHERS {
        let bench = bench(algorithm, &any_key(length), Options::default());
        let mut piv = bench.piv();
        assert_eq!(piv.authenticate(&key(&vec![7; length])), Ok(false), "{cipher:?}");
        let made = piv.generate(slot("9d"), PinPolicy::Once, TouchPolicy::Never);
        assert_eq!(made, Err(Fault::Status(StatusWord::SECURITY_STATUS)));
    }
}

/// A key of another length than the cipher's is a wrong key, and no fault of the card's.
#[test]
fn a_key_of_another_length_is_not_accepted() {
    for (algorithm, _, length) in CIPHERS {
        for other in [16, 24, 32] {
            if other != length {
                let bench = bench(algorithm, &any_key(length), Options::default());
                assert_eq!(bench.piv().authenticate(&key(&any_key(other))), Ok(false));
            }
        }
    }
}

#[test]
fn a_card_that_does_not_hold_the_key_itself_is_not_believed() {
    for (algorithm, cipher, length) in CIPHERS {
        let bytes = any_key(length);
        let bench = bench(algorithm, &bytes, Options::default());
        // The last byte of the proof, before the status word.
        let mut piv = bench.tampered(|command, mut answer| {
            if command[1] == 0x87 && command.len() > 12 {
                let last = answer.len() - 3;
                answer[last] ^= 1;
            }
            answer
        });
        assert_eq!(piv.authenticate(&key(&bytes)), Ok(false), "{cipher:?}");
        // Nor one that sends the challenge back, or too little of a proof.
        for proof in [&[][..], &[0; 1], &[0; 8], &[0; 16], &[0; 32]] {
            let proof = proof.to_vec();
            let mut piv = bench.tampered(move |command, answer| {
                if command[1] != 0x87 || command.len() <= 12 {
                    return answer;
                }
                let length = u8::try_from(proof.len()).unwrap();
                [&[0x7c, length + 2, 0x82, length], &proof[..], &[0x90, 0]].concat()
            });
            assert_eq!(piv.authenticate(&key(&bytes)), Ok(false), "{cipher:?}");
        }
    }
}

#[test]
fn the_factory_key_is_known_as_such() {
    let bench = Bench::new(Options::default());
    let mut piv = bench.piv();
    assert!(piv.management_metadata().unwrap().unwrap().factory_default);
    assert_eq!(piv.authenticate(&ManagementKey::factory_default()), Ok(true));
    let old = Bench::new(legacy(Options::default()));
    assert_eq!(old.piv().management_metadata(), Ok(None));
    assert_eq!(old.piv().authenticate(&ManagementKey::factory_default()), Ok(true));
}

/// The Nitrokey 3 answers metadata with success and nothing: that tells nothing.
#[test]
fn an_empty_answer_is_no_metadata() {
    assert_eq!(scripted(|_| vec![0x90, 0]).management_metadata(), Ok(None));
}

#[test]
fn the_key_behind_the_pin_is_read_after_the_pin() {
    let bytes = any_key(24);
    let bench = Bench::with_state(generated(0x82), |state| {
        let protected = [&[0x88, 26, 0x89, 24], &bytes[..]].concat();
        put(state, "5fc109", &protected);
        state.management_key.key = Hex(bytes.clone());
    });
    let mut piv = bench.piv();
    let early = piv.protected_management_key().err();
    assert_eq!(early, Some(Fault::Status(StatusWord::SECURITY_STATUS)));
    piv.verify_pin(&Pin::new(PIN).unwrap()).unwrap();
    let found = piv.protected_management_key().unwrap().unwrap();
    assert_eq!(piv.authenticate(&found), Ok(true));
}

#[test]
fn printed_information_that_is_none_of_ykmans_holds_no_key() {
    for printed in [
        &[][..],
        &[0x01, 3, b'a', b'b', b'c'],
        &[0x88, 0],
        &[0x88, 2, 0x89, 0],
        &[0x88, 4, 0x89, 2, 1, 2],
    ] {
        let bench = Bench::with_state(Options::default(), |state| put(state, "5fc109", printed));
        let mut piv = bench.piv();
        piv.verify_pin(&Pin::new(PIN).unwrap()).unwrap();
        assert!(piv.protected_management_key().unwrap().is_none(), "{printed:02x?}");
    }
}

/// A second key would take the place of the first: `6Cxx` or not, it is generated once.
#[test]
fn generate_is_sent_once_whatever_the_card_answers() {
    let bench = Bench::new(Options::default());
    let mut piv = bench.tampered(|command, answer| match command[1] {
        0x47 => vec![0x6c, 0x46],
        _ => answer,
    });
    piv.authenticate(&ManagementKey::factory_default()).unwrap();
    let made = piv.generate(slot("9d"), PinPolicy::Once, TouchPolicy::Never);
    assert_eq!(made, Err(Fault::Status(StatusWord(0x6c46))));
    assert_eq!(bench.count(0x47), 1);
}

#[test]
fn policies_are_told_a_card_with_metadata_and_else_where_they_differ_from_the_slots() {
    use PinPolicy::{Always, Never, Once};
    for (legacy, name, pin, touch, told) in [
        (true, "9d", Once, TouchPolicy::Never, &[][..]),
        (true, "9e", Never, TouchPolicy::Never, &[]),
        (false, "9d", Once, TouchPolicy::Never, &[0xaa, 1, 2, 0xab, 1, 1]),
        (false, "9e", Never, TouchPolicy::Never, &[0xaa, 1, 1, 0xab, 1, 1]),
        (true, "9e", Once, TouchPolicy::Never, &[0xaa, 1, 2, 0xab, 1, 1]),
        (true, "9d", Never, TouchPolicy::Always, &[0xaa, 1, 1, 0xab, 1, 2]),
        (false, "82", Always, TouchPolicy::Cached, &[0xaa, 1, 3, 0xab, 1, 3]),
    ] {
        let bench = Bench::new(Options { legacy, ..Options::default() });
        let mut piv = bench.piv();
        piv.authenticate(&ManagementKey::factory_default()).unwrap();
        piv.generate(slot(name), pin, touch).unwrap();
        let sent = bench.sent.borrow();
        let generate = sent.iter().find(|command| command[1] == 0x47).unwrap();
        // Header and Lc; AC and its length; 80 01 11; the policies; Le.
        assert_eq!(&generate[7..10], [0x80, 1, 0x11]);
        assert_eq!(&generate[10..generate.len() - 1], told, "{name} {pin} {touch}");
    }
}
