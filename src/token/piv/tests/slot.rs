//! What is in a slot, from each source; and key agreements.

use p256::PublicKey;
use virtual_card::{KeySource as CardKeySource, Options, parse_policy, state::Curve};

use super::{
    super::{
        Fault, KeySource, Pin, PinPolicy, Slot, SlotKey, SlotState, StatusWord, TouchPolicy, Wait,
        base_point, fingerprint,
    },
    support::{Bench, PIN, generated, imported, legacy, put, scripted, slot, with_key},
};

const LIMIT: Wait = Wait::ANSWER;

fn told(public: PublicKey, source: KeySource) -> SlotState {
    let policies =
        (source != KeySource::Certificate).then_some((PinPolicy::Once, TouchPolicy::Never));
    let is_generated = source != KeySource::Certificate;
    SlotState::Key(SlotKey { public: Ok(public), policies, source, is_generated })
}

#[test]
fn metadata_and_attestation_tell_key_and_policies() {
    let slot = slot("9d");
    let bench = Bench::new(generated(0x9d));
    for source in [KeySource::Metadata, KeySource::Attestation] {
        let state = bench.piv().ask(slot, source).unwrap();
        assert_eq!(state, told(bench.public_key(slot), source));
    }
    // Metadata comes first, and one question is enough.
    let state = bench.piv().inspect(slot).unwrap();
    assert_eq!(state, told(bench.public_key(slot), KeySource::Metadata));
    assert_eq!(bench.sent.borrow().len(), 2, "SELECT and one question");
}

#[test]
fn every_policy_is_told_by_both() {
    for (pin, touch) in [("never", "always"), ("once", "cached"), ("always", "never")] {
        let mut options = generated(0x82);
        let (_, pin_policy, touch_policy) = parse_policy(&format!("82={pin},{touch}")).unwrap();
        options.slots[0].pin_policy = Some(pin_policy);
        options.slots[0].touch_policy = Some(touch_policy);
        let bench = Bench::new(options);
        for source in [KeySource::Metadata, KeySource::Attestation] {
            let SlotState::Key(found) = bench.piv().ask(slot("82"), source).unwrap() else {
                panic!("no key");
            };
            let policies = found.policies.unwrap();
            let words = (policies.0.to_string(), policies.1.to_string());
            assert_eq!(words, (pin.into(), touch.into()));
        }
    }
}

#[test]
fn an_empty_slot_is_empty_by_metadata_only() {
    let bench = Bench::new(generated(0x82));
    let slot = slot("9d");
    assert_eq!(bench.piv().inspect(slot), Ok(SlotState::Empty));
    for source in [KeySource::Attestation, KeySource::Certificate] {
        assert_eq!(bench.piv().ask(slot, source), Ok(SlotState::Unknown));
    }
}

#[test]
fn an_imported_key_has_metadata_and_no_attestation() {
    let slot = slot("9d");
    let bench = Bench::new(imported(0x9d));
    let SlotState::Key(key) = bench.piv().ask(slot, KeySource::Metadata).unwrap() else {
        panic!("no key");
    };
    assert_eq!(key.public, Ok(bench.public_key(slot)));
    assert!(!key.is_generated, "another card may have a copy");
    let state = bench.piv().ask(slot, KeySource::Attestation);
    assert_eq!(state, Ok(SlotState::Unknown));
}

#[test]
fn a_p_384_key_is_a_key_of_another_kind() {
    let bench = Bench::new(with_key(0x9d, CardKeySource::Generate(Curve::P384)));
    let kind = |source| {
        let SlotState::Key(found) = bench.piv().ask(slot("9d"), source).unwrap() else {
            panic!("no key");
        };
        found.public.unwrap_err()
    };
    assert_eq!(kind(KeySource::Metadata), "P-384");
    assert_eq!(kind(KeySource::Attestation), "elliptic curve 1.3.132.0.34");
}

#[test]
fn keys_of_other_kinds_have_names() {
    for (algorithm, name) in [
        (0x05_u8, "RSA 3072"),
        (0x06, "RSA 1024"),
        (0x07, "RSA 2048"),
        (0x16, "RSA 4096"),
        (0x14, "P-384"),
        (0xe0, "Ed25519"),
        (0xe1, "X25519"),
        (0x99, "algorithm 99"),
    ] {
        let metadata = move |_: &[u8]| vec![1, 1, algorithm, 4, 2, 0x81, 0, 0x90, 0];
        let state = scripted(metadata).inspect(slot("9d")).unwrap();
        let SlotState::Key(SlotKey { public: Err(kind), .. }) = state else {
            panic!("{state:?}");
        };
        assert_eq!(kind, name);
    }
}

#[test]
fn a_legacy_card_tells_nothing_but_its_certificate() {
    let slot = slot("9d");
    let silent = Bench::new(legacy(imported(0x9d)));
    assert_eq!(silent.piv().inspect(slot), Ok(SlotState::Unknown));
    let empty = Bench::new(legacy(Options::default()));
    assert_eq!(empty.piv().inspect(slot), Ok(SlotState::Unknown));

    let certificate = Bench::new(generated(0x9d)).certificate(slot);
    let talking = Bench::with_state(legacy(Options::default()), |state| {
        put(state, "5fc10b", &object(&certificate.0));
    });
    let state = talking.piv().inspect(slot);
    assert_eq!(state, Ok(told(certificate.1, KeySource::Certificate)));
}

impl Bench {
    /// A certificate of the slot's key, and that key.
    fn certificate(&self, slot: Slot) -> (Vec<u8>, PublicKey) {
        (self.attestation(slot), self.public_key(slot))
    }
}

/// A certificate as it lies on a card: the certificate, "not compressed", no checksum.
fn object(certificate: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(certificate.len()).unwrap().to_be_bytes();
    [&[0x70, 0x82, high, low], certificate, &[0x71, 1, 0, 0xfe, 0]].concat()
}

/// `61xx`: an answer in several parts, whatever the card calls the rest of it.
#[test]
fn long_certificates_are_put_together() {
    let slot = slot("9d");
    let (der, public) = Bench::new(generated(0x9d)).certificate(slot);
    let padding = vec![0; 1800];
    for extra in [0, 255, 256, 257, 1800] {
        // An element of no meaning before the certificate makes the object longer.
        let padding = &padding[..extra];
        let [high, low] = u16::try_from(extra).unwrap().to_be_bytes();
        let long = [&[0x99, 0x82, high, low], padding, &object(&der)[..]].concat();
        let bench = Bench::with_state(legacy(Options::default()), |state| {
            put(state, "5fc10b", &long);
        });
        let state = bench.piv().inspect(slot);
        assert_eq!(state, Ok(told(public, KeySource::Certificate)), "{extra}");
        assert!(bench.count(0xc0) >= long.len() / 256, "GET RESPONSE");
    }
}

/// What is stored with the slot is only a hint: what can't be read is no fault, and no key.
#[test]
fn a_certificate_that_cannot_be_read_tells_nothing() {
    let p384 = Bench::new(with_key(0x9d, CardKeySource::Generate(Curve::P384)));
    let mut der = p384.attestation(slot("9d"));
    let other_kind = object(&der);
    der.truncate(100);
    let cut = object(&der);
    for contents in [&b""[..], b"\x70\x00", b"\x71\x01\x00", b"\x70\x05", &other_kind, &cut] {
        let bench = Bench::with_state(legacy(imported(0x9d)), |state| {
            put(state, "5fc10b", contents);
        });
        assert_eq!(bench.piv().inspect(slot("9d")), Ok(SlotState::Unknown));
    }
}

/// Rule 7: "no such key" counts only from a card that has the command.
#[test]
fn no_such_key_is_no_empty_slot_where_the_card_has_no_metadata() {
    for word in [0x6a88_u16, 0x6a80, 0x6a82, 0x6985, 0x6d00, 0x6982, 0x6b00, 0x6a86, 0x6f00] {
        let all = move |_: &[u8]| word.to_be_bytes().to_vec();
        let state = scripted(all).inspect(slot("9d"));
        assert_ne!(state, Ok(SlotState::Empty), "{word:04x}");
    }
}

/// The Nitrokey 3 and `PivApplet` answer an empty slot with success: with nothing, or no key.
#[test]
fn metadata_without_a_key_tells_nothing() {
    let pivapplet = [0x02, 2, 2, 1, 0x03, 1, 0, 0x90, 0];
    let nitrokey_9e = [0x02, 2, 1, 0, 0x90, 0];
    for metadata in [&[0x90, 0][..], &nitrokey_9e, &pivapplet, &[1, 1, 0x11, 0x90, 0]] {
        let metadata = metadata.to_vec();
        let mut piv = scripted(move |command| match command[1] {
            0xf7 => metadata.clone(),
            _ => vec![0x6a, 0x82],
        });
        assert_eq!(piv.inspect(slot("9e")), Ok(SlotState::Unknown));
    }
}

#[test]
fn a_key_that_is_no_point_of_the_curve_is_a_fault() {
    let mut off_curve = base_point().to_sec1_bytes().to_vec();
    off_curve[64] ^= 1;
    let compressed = [&[0x02][..], &off_curve[1..33]].concat();
    for point in [&off_curve[..], &compressed, &[0], &[], &[4; 64]] {
        let length = u8::try_from(point.len()).unwrap();
        let key = [&[0x86, length], point].concat();
        let metadata = [&[1, 1, 0x11, 4, length + 2], &key[..], &[0x90, 0]].concat();
        let state = scripted(move |_| metadata.clone()).inspect(slot("9d"));
        assert!(matches!(state, Err(Fault::Garbage(_))), "{point:02x?}");
    }
}

#[test]
fn a_key_agreement_is_what_p256_computes() {
    let slot = slot("9d");
    for options in [imported(0x9d), legacy(generated(0x9d))] {
        let bench = Bench::new(options);
        let mut piv = bench.piv();
        let early = piv.key_agreement(slot, &base_point(), LIMIT);
        assert_eq!(early.err(), Some(Fault::Status(StatusWord::SECURITY_STATUS)));
        piv.verify_pin(&Pin::new(PIN).unwrap()).unwrap();
        let other = Bench::new(generated(0x9d)).public_key(slot);
        for peer in [base_point(), other] {
            let x = piv.key_agreement(slot, &peer, LIMIT).unwrap();
            assert_eq!(*x, bench.agreement(slot, &peer));
        }
    }
}

/// The fingerprint is of the `SubjectPublicKeyInfo`, as `openssl pkey -pubin -outform DER` writes it.
#[test]
fn a_fingerprint_is_what_openssl_and_sha_256_say() {
    // Of the base point, by `openssl pkey -pubin -inform DER -pubout -outform DER | sha256sum`.
    let expected = "SHA256:XNJS+wzokyQ2+vjM0QQJgbie5K1rn+niorfnGqyyfNM";
    assert_eq!(fingerprint(&base_point()).to_string(), expected);
}
