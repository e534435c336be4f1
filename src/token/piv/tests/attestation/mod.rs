//! Attestations, good and bad, as scripted cards give them.

mod authority;
mod nonsense;

use std::{path::PathBuf, sync::LazyLock};

use authority::{Entity, Office, about, ca};
use virtual_card::{Options, state::Hex};

use super::{
    super::{
        Attestation, Fault, PinPolicy, Piv, Roots, Serial, Slot, Statement, StatusWord,
        TouchPolicy, Trust,
    },
    support::{Bench, generated, imported, legacy, scripted, slot, with_key},
};

const SLOT: Slot = Slot::KEY_MANAGEMENT;
const SERIAL: u32 = 12_345_678;
const SHA256: &str = "-sha256";

/// What the tests share: making keys takes the longest.
struct Shared {
    office: Office,
    root: Entity,
    between: Entity,
    /// The attestation keys of two cards.
    rsa: Entity,
    p256: Entity,
    /// The key in the slot.
    key: PathBuf,
}

static SHARED: LazyLock<Shared> = LazyLock::new(|| {
    let office = Office::new();
    let root = office.root("Root", "rsa:2048", &ca(2));
    let between = office.issue(&root, "Between", "rsa:2048", &ca(1), "-sha512");
    let rsa = office.issue(&between, "Card", "rsa:2048", &ca(0), SHA256);
    let p256 = office.issue(&between, "Card", "P-256", &ca(0), "-sha384");
    let key = office.key("P-256");
    Shared { office, root, between, rsa, p256, key }
});

fn leaf(issuer: &Entity) -> Entity {
    leaf_with(issuer, &about(SERIAL, 2, 1))
}

fn leaf_with(issuer: &Entity, extensions: &str) -> Entity {
    SHARED.office.certify(issuer, "Attestation 9d", &SHARED.key, extensions, SHA256)
}

/// A card with these two certificates.
fn card(leaf: Option<Vec<u8>>, authority: Option<Vec<u8>>) -> Piv {
    scripted(move |command| match command[1] {
        0xf9 => leaf.clone().map_or(vec![0x6a, 0x80], |leaf| [&leaf[..], &[0x90, 0]].concat()),
        0xcb => authority.as_ref().map_or(vec![0x6a, 0x82], |der| {
            let inner = [long(0x70, der), vec![0x71, 1, 0, 0xfe, 0]].concat();
            [&long(0x53, &inner)[..], &[0x90, 0]].concat()
        }),
        _ => vec![0x6d, 0],
    })
}

fn long(tag: u8, value: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[tag, 0x82, high, low][..], value].concat()
}

fn roots(entities: &[&Entity]) -> Roots {
    let mut roots = Roots::default();
    for entity in entities {
        roots.add(&entity.pem()).unwrap();
    }
    roots
}

fn ask(leaf: &Entity, authority: &Entity, roots: &Roots) -> Attestation {
    let mut piv = card(Some(leaf.der.clone()), Some(authority.der.clone()));
    piv.attestation(SLOT, roots).unwrap()
}

#[track_caller]
fn made(attestation: Attestation) -> (Trust, Statement) {
    match attestation {
        Attestation::Made(trust, statement) => (trust, statement),
        other => panic!("{other:?}"),
    }
}

/// That it is bad, for a reason with this in it.
#[track_caller]
fn bad(attestation: &Attestation, reason: &str) {
    match attestation {
        Attestation::Bad(why) if why.contains(reason) => {}
        other => panic!("{reason}: {other:?}"),
    }
}

#[test]
fn a_chain_of_rsa_and_p256_up_to_the_root_is_good() {
    let Shared { root, between, rsa, p256, .. } = &*SHARED;
    let expected = Statement {
        public: Err(String::new()),
        serial: Serial::new(SERIAL),
        policies: Some((PinPolicy::Once, TouchPolicy::Never)),
    };
    for authority in [rsa, p256] {
        let leaf = leaf(authority);
        for vouching in [[root, between], [between, root]] {
            let (_, statement) = made(ask(&leaf, authority, &roots(&vouching)));
            assert!(statement.public.is_ok());
            assert_eq!(Statement { public: Err(String::new()), ..statement }, expected);
        }
    }
    // One root, and an attestation key for each card.
    let trust = |card| made(ask(&leaf(card), card, &roots(&[root, between]))).0;
    assert_eq!(trust(rsa).root, trust(p256).root);
    assert_ne!(trust(rsa).card_key, trust(p256).card_key);
}

/// With each digest, and with the one that a card signs with, whatever its key.
#[test]
fn chains_of_p384_and_of_longer_rsa_are_good() {
    let office = &SHARED.office;
    for kind in ["P-384", "rsa:3072", "rsa:4096"] {
        let root = office.root("Root", kind, &ca(1));
        for digest in [SHA256, "-sha384", "-sha512"] {
            let card = office.issue(&root, "Card", "P-384", &ca(0), digest);
            made(ask(&leaf(&card), &card, &roots(&[&root])));
        }
    }
}

/// As a user may set it up who puts a key of their own into slot F9.
#[test]
fn an_attestation_key_may_be_its_own_root() {
    let card = SHARED.office.root("Mine", "P-256", &ca(0));
    let (trust, _) = made(ask(&leaf(&card), &card, &roots(&[&card])));
    assert_eq!(trust.root, trust.card_key);
}

/// A root that was certified anew, with the same name and key, is as good as the old one; other
/// certificates of the same name are no obstacle.
#[test]
fn certificates_of_the_same_name_are_all_tried() {
    let Shared { office, root, between, rsa, .. } = &*SHARED;
    let namesake = office.root("Root", "rsa:2048", &ca(2));
    let double = office.issue(&namesake, "Between", "rsa:2048", &ca(1), SHA256);
    for vouching in [[&namesake, &double, between, root], [root, &double, between, &namesake]] {
        made(ask(&leaf(rsa), rsa, &roots(&vouching)));
    }
    // Two that vouch for each other lead nowhere, and to an end.
    let one = office.issue(between, "One", "P-256", &ca(5), SHA256);
    let two = office.issue(&one, "Two", "P-256", &ca(5), SHA256);
    let again = office.certify(&two, "One", &office.key("P-256"), &ca(5), SHA256);
    let card = office.issue(&two, "Card", "P-256", &ca(0), SHA256);
    bad(&ask(&leaf(&card), &card, &roots(&[&one, &two, &again, &namesake])), "");
}

#[test]
fn another_root_or_a_gap_on_the_way_is_refused() {
    let Shared { office, root, between, rsa, p256, .. } = &*SHARED;
    let stranger = office.root("Stranger", "P-256", &ca(2));
    let namesake = office.root("Root", "rsa:2048", &ca(2));
    let leaf = leaf(rsa);
    bad(&ask(&leaf, rsa, &roots(&[&stranger])), "CN=Between, is not among the roots");
    bad(&ask(&leaf, rsa, &roots(&[root])), "CN=Between, is not among the roots");
    bad(&ask(&leaf, rsa, &roots(&[between])), "CN=Root, is not among the roots");
    bad(&ask(&leaf, rsa, &roots(&[&namesake, between])), "its signature is wrong");
    bad(&ask(&leaf, rsa, &Roots::default()), "is not among the roots");
    // Of another card: the same name, another key.
    let vouching = roots(&[root, between]);
    let of_p256 = SHARED.office.certify(p256, "Leaf", &SHARED.key, &about(1, 2, 1), SHA256);
    bad(&ask(&of_p256, rsa, &vouching), "unknown here");
    let other = office.issue(between, "Card", "rsa:2048", &ca(0), SHA256);
    bad(&ask(&leaf, &other, &vouching), "its signature is wrong");
    let renamed = office.issue(between, "Other card", "rsa:2048", &ca(0), SHA256);
    bad(&ask(&leaf, &renamed, &vouching), "its issuer is not the card's attestation key");
    // The right key under another name vouches for nothing.
    let alias = office.certify(root, "Alias", &between.key, &ca(1), SHA256);
    bad(&ask(&leaf, rsa, &roots(&[root, &alias])), "CN=Between, is not among the roots");
}

#[test]
fn who_may_not_sign_certificates_vouches_for_nobody() {
    let Shared { office, root, between, .. } = &*SHARED;
    let vouching = roots(&[root, between]);
    let no_ca = "basicConstraints = critical, CA:FALSE";
    let no_usage = format!("{}\nkeyUsage = critical, digitalSignature", ca(5));
    let usage = format!("{}\nkeyUsage = critical, keyCertSign", ca(5));
    let unknown = format!("{}\n1.2.3.4 = critical, DER:05:00", ca(5));
    for (extensions, reason) in [
        (no_ca, "it is no CA"),
        ("subjectKeyIdentifier = none", "it is no CA"),
        (&no_usage, "may not sign"),
        (&unknown, "1.2.3.4 is critical"),
    ] {
        let card = office.issue(between, "Card", "P-256", extensions, SHA256);
        bad(&ask(&leaf(&card), &card, &vouching), reason);
        // Nor on the way, nor as the root itself.
        let between = office.issue(root, "Between it", "P-256", extensions, SHA256);
        let card = office.issue(&between, "Card", "P-256", &ca(0), SHA256);
        bad(&ask(&leaf(&card), &card, &roots(&[root, &between])), reason);
        let root = office.root("Poor root", "P-256", extensions);
        let card = office.issue(&root, "Card", "P-256", &ca(0), SHA256);
        bad(&ask(&leaf(&card), &card, &roots(&[&root])), reason);
    }
    let card = office.issue(between, "Card", "P-256", &usage, SHA256);
    made(ask(&leaf(&card), &card, &vouching));
    let critical = format!("{}\n1.2.3.4 = critical, DER:05:00", about(SERIAL, 2, 1));
    bad(&ask(&leaf_with(&card, &critical), &card, &vouching), "1.2.3.4 is critical");
    // An attested key is none that vouches: what it signs is not attested.
    let attested = office.certify(&card, "Attested", &SHARED.key, &about(SERIAL, 2, 1), SHA256);
    let forged = leaf(&attested);
    bad(&ask(&forged, &attested, &roots(&[root, between, &card])), "it is no CA");
}

#[test]
fn a_chain_that_is_too_long_is_refused() {
    let office = &SHARED.office;
    // More than its root allows.
    let strict = office.root("Strict", "P-256", &ca(0));
    let card = office.issue(&strict, "Card", "P-256", &ca(0), SHA256);
    bad(&ask(&leaf(&card), &card, &roots(&[&strict])), "allows fewer");
    // More than is allowed here: 7 between the root and the slot's are the most.
    let endless = "basicConstraints = critical, CA:TRUE";
    let mut chain = vec![office.root("Level", "P-256", endless)];
    for level in 1..=8 {
        let name = ["1", "2", "3", "4", "5", "6", "7", "8"][level - 1];
        let next = office.issue(chain.last().unwrap(), name, "P-256", endless, SHA256);
        let all: Vec<_> = chain.iter().collect();
        let came = ask(&leaf(&next), &next, &roots(&all));
        if level < 8 {
            made(came);
        } else {
            bad(&came, "longer than any");
        }
        chain.push(next);
    }
}

#[test]
fn weak_and_unknown_keys_and_digests_are_refused() {
    let Shared { office, root, between, rsa, .. } = &*SHARED;
    let short = office.root("Short", "rsa:1024", &ca(1));
    let mut vouching = Roots::default();
    assert!(vouching.add(&short.pem()).unwrap_err().contains("2048 to 4096 bits"));
    let curve = office.root("Curve", "P-521", &ca(1));
    assert!(vouching.add(&curve.pem()).unwrap_err().contains("unknown here"));
    let sha1 = SHARED.office.certify(rsa, "Leaf", &SHARED.key, &about(1, 2, 1), "-sha1");
    bad(&ask(&sha1, rsa, &roots(&[root, between])), "unknown here");
}

#[test]
fn what_the_statement_lacks_is_not_made_up() {
    let Shared { root, between, rsa, .. } = &*SHARED;
    let vouching = roots(&[root, between]);
    let none = made(ask(&leaf_with(rsa, "1.2.3 = DER:05:00"), rsa, &vouching)).1;
    assert_eq!((none.serial, none.policies), (None, None));
    let odd = "1.3.6.1.4.1.41482.3.7 = DER:02:01:00\n1.3.6.1.4.1.41482.3.8 = DER:02:09";
    let odd = made(ask(&leaf_with(rsa, odd), rsa, &vouching)).1;
    assert_eq!((odd.serial, odd.policies), (None, None));
    for serial in ["04:01:00", "02:05:01:00:00:00:00", "02:01:ff", "02:02:01"] {
        let serial = format!("1.3.6.1.4.1.41482.3.7 = DER:{serial}");
        bad(&ask(&leaf_with(rsa, &serial), rsa, &vouching), "serial of the card is malformed");
    }
    let p384 = SHARED.office.issue(rsa, "Leaf", "P-384", &about(SERIAL, 2, 1), SHA256);
    let about_p384 = made(ask(&p384, rsa, &vouching)).1;
    assert_eq!(about_p384.public, Err("elliptic curve 1.3.132.0.34".into()));
}

#[test]
fn a_card_without_one_of_its_certificates_is_told_so() {
    let Shared { root, between, rsa, .. } = &*SHARED;
    let vouching = roots(&[root, between]);
    let ask = |leaf, authority| card(leaf, authority).attestation(SLOT, &vouching).unwrap();
    let (der, own) = (leaf(rsa).der, rsa.der.clone());
    assert_eq!(ask(None, None), Attestation::None);
    assert!(matches!(ask(None, Some(own.clone())), Attestation::Able(_)));
    bad(&ask(Some(der.clone()), None), "no certificate of its attestation key");
    assert!(matches!(ask(None, Some(b"no DER".to_vec())), Attestation::Untrusted(_)));
    bad(&ask(Some(der), Some(b"no DER".to_vec())), "malformed");
    bad(&ask(Some(b"no DER".to_vec()), Some(own)), "malformed");
}

#[test]
fn roots_are_certificates_in_pem_and_nothing_else() {
    let Shared { root, between, .. } = &*SHARED;
    let mut roots = Roots::default();
    for (text, reason) in [
        ("", "no certificate"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n", "no PEM"),
        ("-----BEGIN CERTIFICATE-----\nA*AA\n-----END CERTIFICATE-----\n", "no PEM"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "malformed"),
    ] {
        assert!(roots.add(text).unwrap_err().contains(reason), "{text}");
    }
    roots.add(&between.pem()).unwrap();
    assert!(roots.is_empty(), "nothing is trusted for what is between");
    let text = format!("Some words\r\n{}More\n{}", root.pem().replace('\n', "\r\n"), between.pem());
    roots.add(&text).unwrap();
    assert!(!roots.is_empty());
}

/// The workspace's card, with its own root.
#[test]
fn the_virtual_card_attests_what_it_made() {
    let attest = |options: Options| {
        let bench = Bench::new(options);
        let Hex(der) = bench.card.borrow().state().attestation_root.clone();
        let digits = <base64ct::Base64 as base64ct::Encoding>::encode_string(&der);
        let mut roots = Roots::default();
        let armor = |what| format!("-----{what} CERTIFICATE-----\n");
        roots.add(&format!("{}{digits}\n{}", armor("BEGIN"), armor("END"))).unwrap();
        let told = bench.piv().attestation(slot("9d"), &roots).unwrap();
        (told, bench)
    };
    let (told, bench) = attest(generated(0x9d));
    let (_, statement) = made(told);
    assert_eq!(statement.public, Ok(bench.public_key(slot("9d"))));
    assert_eq!(statement.serial, Serial::new(SERIAL));
    assert!(matches!(attest(imported(0x9d)).0, Attestation::Able(_)));
    assert!(matches!(attest(Options::default()).0, Attestation::Able(_)));
    let p384 = with_key(0x9d, virtual_card::KeySource::Generate(virtual_card::state::Curve::P384));
    assert!(made(attest(p384).0).1.public.is_err());
    // An old one has no such command, though its attestation key is there.
    assert!(!matches!(attest(legacy(generated(0x9d))).0, Attestation::Made(..)));
}

/// A refusal says that the card makes no attestation; that it failed at making one says nothing.
#[test]
fn a_card_that_fails_is_not_one_that_refuses() {
    let answering = |[high, low]: [u8; 2]| {
        scripted(move |command| match command[1] {
            0xf9 => vec![high, low],
            _ => vec![0x6a, 0x82],
        })
    };
    for word in [[0x69, 0x82], [0x69, 0x85], [0x6a, 0x80], [0x6a, 0x88], [0x6d, 0], [0x6e, 0]] {
        let told = answering(word).attestation(SLOT, &Roots::default());
        assert!(matches!(told, Ok(Attestation::None)), "{word:x?}: {told:?}");
    }
    for word in [[0x64, 0], [0x65, 0x81], [0x6f, 0]] {
        let told = answering(word).attestation(SLOT, &Roots::default());
        assert_eq!(told.err(), Some(Fault::Status(StatusWord(u16::from_be_bytes(word)))));
    }
}
