//! The vectors of an independent program: peer points, secrets, profiles and their outputs, and
//! what becomes of a profile that was changed or cut short.
#![allow(clippy::unwrap_used)]

#[path = "support/attack.rs"]
mod attack;
#[path = "support/vectors.rs"]
mod vectors;

use cryptkey::{
    profile::{
        Profile, ProviderKind, Version,
        piv::{Params, Peer, Scheme, from_uncompressed, uncompressed},
        seal::{self, OpenError},
    },
    token::{Serial, TouchPolicy},
};
use serde::Deserialize;
use vectors::{agree, by_reference, unhex};

#[derive(Deserialize)]
struct PivVector {
    scheme: String,
    salt: String,
    peer_public: String,
    slot_private: String,
    slot_public: String,
    shared_x: String,
    secret: String,
}

#[test]
fn piv_secrets_are_those_of_the_vectors() {
    let mut seen = [0, 0];
    for line in include_str!("vectors/piv.jsonl").lines() {
        let vector: PivVector = serde_json::from_str(line).unwrap();
        let scheme = match vector.scheme.as_str() {
            "hash-to-curve" => Scheme::HashToCurve,
            "salt-derived" => Scheme::SaltDerived,
            other => panic!("{other}"),
        };
        seen[usize::from(scheme == Scheme::SaltDerived)] += 1;
        let peer = Peer::new(scheme, unhex(&vector.salt)).unwrap();
        assert_eq!(uncompressed(peer.point()), unhex(&vector.peer_public));
        let x = agree(&unhex(&vector.slot_private), peer.point());
        assert_eq!(x.as_bytes(), &unhex(&vector.shared_x));
        let params = Params {
            peer,
            public_key: from_uncompressed(&unhex(&vector.slot_public)).unwrap(),
            slot: "9d".parse().unwrap(),
            serial: Serial::new(1),
            guid: None,
            card_name: String::new(),
            touch_policy: TouchPolicy::Never,
            pin_policy: None,
            key_source: None,
            attestation: None,
        };
        assert_eq!(params.secret(&x).as_bytes(), &unhex(&vector.secret), "{line}");
    }
    assert_eq!(seen, [8, 8]);
}

#[test]
fn profiles_open_to_the_outputs_of_the_vectors() {
    let mut opened = 0;
    for vector in vectors::profiles() {
        let profile = Profile::parse(vector.text).unwrap();
        let threshold = usize::from(profile.threshold());
        if vector.secrets(&profile).len() < threshold {
            let error = vector.open(&profile).unwrap_err();
            assert_eq!(error, OpenError::TooFew { given: 1, threshold: 2 }, "{}", vector.name);
        }
        let mut secrets = vector.secrets(&profile);
        secrets.extend(vector.recovered(&profile));
        for some in by_reference(&secrets).windows(threshold) {
            let key = seal::open(&profile, some).unwrap();
            for (label, expected) in &vector.opens.outputs {
                let output = key.output(label, 32).unwrap();
                assert_eq!(&base16ct::lower::encode_string(&output), expected, "{}", vector.name);
            }
            opened += 1;
        }
    }
    // One card; any one of two cards and a code; any two of them that stand side by side; both.
    assert_eq!(opened, 1 + 3 + 2 + 1);
}

#[test]
fn profiles_are_written_as_they_were_read() {
    for vector in vectors::profiles() {
        let profile = Profile::parse(vector.text).unwrap();
        assert_eq!(profile.to_toml(), vector.text);
        assert_eq!(profile.name(), vector.name);
    }
}

#[test]
fn recovery_codes_are_parsed() {
    for vector in vectors::profiles().iter().filter(|vector| vector.name.contains("recovery")) {
        let profile = Profile::parse(vector.text).unwrap();
        let ProviderKind::Recovery(argon2) = profile.providers().last().unwrap().kind() else {
            panic!("{}", vector.name);
        };
        assert_eq!((argon2.time, argon2.memory_kib, argon2.threads), (2, 19456, 1));
    }
}

#[test]
fn the_attack_opens_version_1_and_nothing_else() {
    for vector in vectors::profiles() {
        let version = Profile::parse(vector.text).unwrap().version();
        let expected = match (version, vector.opens.cards.len()) {
            (Version::V1, 1) => vec!["card-1"],
            (Version::V1, 2) => vec!["card-1", "card-2"],
            _ => vec![],
        };
        assert_eq!(attack::opened_without_a_card(vector.text), expected, "{}", vector.name);
    }
}

/// Refused, or the same profile: by the parser, or else by the integrity. What the cards here
/// can't open ends with the parser.
fn harmless(vector: &vectors::Vector, original: &Profile, changed: &str) {
    let Ok(read) = Profile::parse(changed) else {
        return;
    };
    if read == *original {
        return;
    }
    let opened = vector.open(&read);
    assert!(opened.is_err(), "{} opens after a change:\n{changed}", vector.name);
}

#[test]
fn every_changed_byte_is_refused_or_changes_nothing() {
    std::thread::scope(|scope| {
        for vector in vectors::profiles() {
            scope.spawn(move || change_every_byte(&vector));
        }
    });
}

fn change_every_byte(vector: &vectors::Vector) {
    let original = Profile::parse(vector.text).unwrap();
    for at in 0..vector.text.len() {
        let (before, after) = (&vector.text[..at], &vector.text[at + 1..]);
        // Another digit or letter; another case, or a control character; nothing.
        for change in [1, 0x20] {
            let changed = char::from(vector.text.as_bytes()[at] ^ change);
            harmless(vector, &original, &format!("{before}{changed}{after}"));
        }
        harmless(vector, &original, &format!("{before}{after}"));
    }
}

#[test]
fn a_truncated_profile_is_refused() {
    for vector in vectors::profiles() {
        let original = Profile::parse(vector.text).unwrap();
        for length in 0..vector.text.len() - 1 {
            let cut = &vector.text[..length];
            assert!(Profile::parse(cut).ok().as_ref() != Some(&original), "{length}");
            harmless(&vector, &original, cut);
        }
    }
}
