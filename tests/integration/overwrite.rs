//! `mode = "overwrite"`: which keys are destroyed, and what becomes of what hangs on them.

use std::fs;

use serde_json::{Value, json};

use super::enroll::on_both_cards;
use crate::support::{Machine, Nitrokey, Output, TestCard, Yubikey, published::traces, shared};

on_both_cards!(
    an_empty_slot_gets_a_key_and_the_next_run_does_nothing,
    only_the_named_key_is_destroyed_and_only_once,
    a_profile_that_hangs_on_the_key_is_given_up_only_if_that_is_said,
    a_key_that_another_profile_hangs_on_is_never_destroyed,
    killed_at_each_apdu_it_ends_as_if_it_had_not_been
);

/// A key of the spec that overwrites.
pub fn overwriting<C: TestCard>(machine: &Machine, card: &C, overwrite: Value, extra: Value) {
    let mut key = json!({ "mode": "overwrite", "overwrite": overwrite });
    crate::support::machine::merge(&mut key, extra);
    machine.vault(card, key);
}

pub fn named<C: TestCard>(machine: &Machine, card: &C, fingerprint: &str) {
    overwriting(machine, card, json!({ "fingerprint": fingerprint }), json!({}));
}

/// The line of configuration that a refusal prints: its fingerprint.
fn printed(output: &Output) -> String {
    let (_, rest) = output
        .stderr
        .split_once("`security.cryptkey.keys.vault.overwrite.fingerprint = \"")
        .unwrap_or_else(|| panic!("{output}"));
    let (fingerprint, rest) = rest.split_once('"').unwrap();
    assert!(rest.starts_with(";`"), "{output}");
    fingerprint.into()
}

/// That the secret is the one of this profile and this card's key, and that another run changes nothing.
#[track_caller]
pub fn settled<C: TestCard>(machine: &Machine, card: &C) {
    let expected = machine.expected("vault", &[card.private_key("9d")], "backups");
    assert_eq!(machine.secret("vault", "backup"), expected);
    let (before, generated) = (traces(&machine.state), card.generated());
    let output = machine.apply().exits(0);
    assert_eq!(output.result("vault"), "verified");
    assert!(output.unchanged("vault"), "{output}");
    assert_eq!(traces(&machine.state), before);
    assert_eq!(card.generated(), generated);
}

/// What is in the state directory, without the records of PINs and the lock.
pub fn files(machine: &Machine) -> Vec<String> {
    let entries = fs::read_dir(&machine.state).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> =
        names.filter(|name| !["pin-guard", ".lock", "readers.json"].contains(&&**name)).collect();
    names.sort();
    names
}

fn an_empty_slot_gets_a_key_and_the_next_run_does_nothing<C: TestCard>() {
    let machine = Machine::new(1);
    let card = C::new(&machine, 0);
    overwriting(&machine, &card, Value::Null, json!({}));
    assert_eq!(machine.apply().exits(0).result("vault"), "enrolled");
    assert_eq!((files(&machine), card.generated()), (vec!["vault.toml".to_owned()], 1));
    settled(&machine, &card);

    // A lost profile does not make it overwrite what it made itself.
    machine.lose("vault");
    let output = machine.apply().exits(16);
    output.says(&["names no key that may be destroyed"]);
    assert_eq!(card.generated(), 1);
}

fn only_the_named_key_is_destroyed_and_only_once<C: TestCard>() {
    let machine = Machine::new(1);
    let card = C::new(&machine, 0);
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    machine.lose("vault");
    let old = card.private_key("9d");

    overwriting(&machine, &card, Value::Null, json!({}));
    let fingerprint = printed(&machine.apply().exits(16));
    let other = "SHA256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    named(&machine, &card, other);
    let output = machine.apply().exits(16).says(&[other, "Nothing was destroyed"]);
    assert_eq!(printed(&output), fingerprint);
    named(&machine, &card, &fingerprint);
    machine.vault(
        &card,
        json!({ "mode": "overwrite", "managementKey": null,
        "overwrite": { "fingerprint": fingerprint } }),
    );
    machine.apply().exits(10).says(&["generating a key takes the card's management key"]);
    assert_eq!((card.generated(), card.private_key("9d")), (1, old.clone()));
    assert_eq!(files(&machine), [""; 0]);

    named(&machine, &card, &fingerprint);
    let output = machine.apply().exits(0).says(&["destroying SHA256:"]);
    assert_eq!(output.result("vault"), "enrolled");
    assert_eq!((card.generated(), files(&machine)), (2, vec!["vault.toml".to_owned()]));
    assert_ne!(card.private_key("9d"), old);
    settled(&machine, &card);
}

fn a_profile_that_hangs_on_the_key_is_given_up_only_if_that_is_said<C: TestCard>() {
    let machine = Machine::new(1);
    let card = C::new(&machine, 0);
    machine.vault(&card, json!({}));
    let id = machine.apply().exits(0).json()["keys"]["vault"]["profileId"].clone();
    let profile = fs::read(machine.profile("vault")).unwrap();
    let (secret, old) = (machine.secret("vault", "backup"), card.private_key("9d"));
    // As a run without a profile prints it.
    machine.lose("vault");
    overwriting(&machine, &card, Value::Null, json!({}));
    let fingerprint = printed(&machine.apply().exits(16));
    fs::write(machine.profile("vault"), &profile).unwrap();
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    let presented = card.presented();

    named(&machine, &card, &fingerprint);
    machine.apply().exits(17).says(&["Nothing was destroyed", "overwrite.abandonProfile = true"]);
    let abandon = json!({ "fingerprint": fingerprint, "abandonProfile": true });
    overwriting(&machine, &card, abandon.clone(), json!({ "profileId": id }));
    machine.apply().exits(10).says(&["profileId forbids"]);
    overwriting(&machine, &card, abandon.clone(), json!({ "enroll": "never" }));
    machine.apply().exits(10).says(&["enroll forbids"]);
    overwriting(&machine, &card, abandon.clone(), json!({ "profile": machine.profile("vault") }));
    machine.apply().exits(10).says(&["which the configuration ships"]);
    assert_eq!((card.presented(), card.generated()), (presented, 1));
    assert_eq!(card.private_key("9d"), old);
    assert_eq!(
        (files(&machine), machine.secret("vault", "backup")),
        (vec!["vault.toml".into()], secret.clone())
    );

    overwriting(&machine, &card, abandon, json!({}));
    let plan = machine.run(&["plan"]).exits(0);
    if C::NAME == Yubikey::NAME {
        assert!(plan.stdout.contains(&format!("DESTROY {fingerprint}")), "{plan}");
        assert!(plan.stdout.contains("GIVE UP the profile"), "{plan}");
    }
    let output = machine.apply().exits(0).says(&["the old profile is kept as"]);
    assert_eq!(output.result("vault"), "enrolled");
    assert_ne!(machine.secret("vault", "backup"), secret);
    assert_eq!(card.generated(), 2);
    let kept = kept(&machine);
    assert_eq!(fs::read(machine.state.join(kept)).unwrap(), profile);
    settled(&machine, &card);
}

/// The one dated profile.
fn kept(machine: &Machine) -> String {
    let files = files(machine);
    assert_eq!((files.len(), &*files[0]), (2, "vault.toml"), "{files:?}");
    assert!(files[1].starts_with("vault.toml.20") && files[1].ends_with('Z'), "{files:?}");
    files[1].clone()
}

fn a_key_that_another_profile_hangs_on_is_never_destroyed<C: TestCard>() {
    let machine = Machine::new(1);
    let card = C::new(&machine, 0);
    machine.spec(json!({ "desk": machine.key(&card, json!({})) }));
    machine.apply().exits(0);
    let key = |overwrite: Value| {
        machine.key(&card, json!({ "mode": "overwrite", "overwrite": overwrite }))
    };
    let both = |overwrite| {
        machine.spec(json!({ "desk": machine.key(&card, json!({})), "vault": key(overwrite) }));
    };
    both(Value::Null);
    let abandon =
        json!({ "fingerprint": printed(&machine.apply().exits(16)), "abandonProfile": true });
    both(abandon.clone());
    machine
        .apply()
        .exits(17)
        .says(&["desk.toml, the profile of another key", "Nothing was destroyed"]);
    // An orphan is no better.
    machine.spec(json!({ "vault": key(abandon) }));
    machine.apply().exits(17).says(&["desk.toml"]);
    assert_eq!((card.generated(), files(&machine)), (1, vec!["desk.toml".to_owned()]));
    // Nor is one that the configuration ships for a key of another spec.
    let shipped = machine.ship("desk");
    let mut spec: Value = serde_json::from_slice(&fs::read(machine.spec_file()).unwrap()).unwrap();
    spec["otherProfiles"] = json!([shipped]);
    fs::write(machine.spec_file(), spec.to_string()).unwrap();
    machine.apply().exits(17).says(&["shipped.toml, the profile of another key"]);
    assert_eq!((card.generated(), files(&machine)), (1, Vec::new()));
}

/// Killed where the card has carried out an APDU and nobody has heard of it, at every APDU.
fn killed_at_each_apdu_it_ends_as_if_it_had_not_been<C: TestCard>() {
    if C::NAME == Nitrokey::NAME {
        // It takes no fault scripts: it is killed where the log says that it generates.
        return killed_after_generating::<C>();
    }
    let (machine, card) = about_to_overwrite::<C>();
    let before = card.log().len();
    machine.apply().exits(0);
    let apdus = card.log_since(before).len();
    for nth in 1..=apdus {
        let (machine, card) = about_to_overwrite::<C>();
        card.tell(&format!("fault nth {nth} hang"));
        let mut running = machine.start();
        card.tell("wait hang");
        running.kill();
        card.tell("release");
        drop(running);
        let output = machine.apply();
        assert_eq!(output.code, Some(0), "killed at APDU {nth}: {output}");
        assert_eq!(files(&machine), ["vault.toml"], "killed at APDU {nth}");
        assert_eq!(card.generated(), 2, "killed at APDU {nth}");
        settled(&machine, &card);
    }
}

/// A card with a key that the next run is to destroy.
fn about_to_overwrite<C: TestCard>() -> (Machine, C) {
    let machine = Machine::new(1);
    let card = C::new(&machine, 0);
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    machine.lose("vault");
    overwriting(&machine, &card, Value::Null, json!({}));
    let fingerprint = printed(&machine.apply().exits(16));
    named(&machine, &card, &fingerprint);
    (machine, card)
}

/// Killed once it has told that it generated a key.
fn killed_after_generating<C: TestCard>() {
    let (machine, card) = about_to_overwrite::<C>();
    let mut running = machine.start();
    running.wait_for("key vault: generated SHA256:");
    running.kill();
    drop(running);
    let output = machine.apply().exits(0);
    assert!(["enrolled", "verified"].contains(&&*output.result("vault")), "{output}");
    assert_eq!((files(&machine), card.generated()), (vec!["vault.toml".to_owned()], 2));
    settled(&machine, &card);
}

/// Two cards of which one opens the profile.
struct Two {
    machine: Machine,
    cards: [Yubikey; 2],
    fingerprint: String,
    profile: Vec<u8>,
    secret: Vec<u8>,
}

impl Two {
    fn new() -> Self {
        let machine = Machine::new(2);
        let cards = [0, 1].map(|reader| {
            let serial = format!("9021000{reader}");
            Yubikey::with(&machine, reader, &["--serial", &serial, "--slot-key", "9d=generate"])
        });
        shared::save(&machine, &[&cards[0], &cards[1]], "9d");
        machine.vault(&cards[0], json!({}));
        machine.apply().exits(0);
        let fingerprint = cards[0].fingerprint("9d");
        let profile = fs::read(machine.profile("vault")).unwrap();
        let secret = machine.secret("vault", "backup");
        named(&machine, &cards[0], &fingerprint);
        Self { machine, cards, fingerprint, profile, secret }
    }

    /// That the first card has a new key, which opens what the second one opens.
    fn settled(&self) {
        let Self { machine, cards, .. } = self;
        assert_eq!(machine.secret("vault", "backup"), self.secret);
        for card in cards {
            let expected = machine.expected("vault", &[card.private_key("9d")], "backups");
            assert_eq!(self.secret, expected);
        }
        assert_eq!(fs::read(machine.state.join(kept(machine))).unwrap(), self.profile);
        assert_eq!((cards[0].generated(), cards[1].generated()), (1, 0));
        settled(machine, &cards[0]);
        // Each opens it alone.
        cards[1].remove();
        assert_eq!(machine.apply().exits(0).result("vault"), "verified");
    }
}

#[test]
fn what_another_card_opens_keeps_its_secrets() {
    let two = Two::new();
    let plan = two.machine.run(&["plan"]).exits(0);
    assert!(plan.stdout.contains("open share 2"), "{plan}");
    assert!(plan.stdout.contains(&format!("DESTROY {}", two.fingerprint)), "{plan}");
    assert!(plan.stdout.contains("no secret changes"), "{plan}");
    two.machine.apply().exits(0);
    two.settled();
}

#[test]
fn what_another_card_could_open_is_not_given_up() {
    let two = Two::new();
    let abandon = json!({ "fingerprint": two.fingerprint, "abandonProfile": true });
    overwriting(&two.machine, &two.cards[0], abandon, json!({ "cardTimeoutSec": 0 }));
    two.cards[1].remove();
    two.machine.apply().exits(11).says(&["90210001"]);
    assert_eq!(two.cards[0].generated(), 0);
    assert_eq!(fs::read(two.machine.profile("vault")).unwrap(), two.profile);
}

#[test]
fn killed_between_generation_and_resealing_the_secrets_stay() {
    for (ins, nth) in [("47", 1), ("87", 1), ("87", 2)] {
        let two = Two::new();
        // The first card's part begins with the management key, which takes two of the same.
        let nth = if ins == "87" { nth + 2 } else { nth };
        two.cards[0].tell(&format!("fault ins {ins} nth {nth} hang"));
        let mut running = two.machine.start();
        two.cards[0].tell("wait hang");
        running.kill();
        two.cards[0].tell("release");
        drop(running);
        assert_eq!(files(&two.machine), ["vault.generating", "vault.toml"]);
        // Without the other card nothing is lost either.
        two.machine.apply().exits(0);
        two.settled();
    }
}

/// The record of a generation names the card: a name that was read wrong would hide the new key from
/// the next run.
#[test]
fn a_name_that_is_read_wrong_destroys_nothing() {
    let (machine, card) = about_to_overwrite::<Yubikey>();
    // A bit of the GUID in the CHUID.
    card.tell("fault ins cb nth 1 flip 34 01");
    machine.apply().exits(19).says(&["asked again, the card tells another GUID"]);
    assert_eq!(card.generated(), 1);
    machine.apply().exits(0);
    assert_eq!((card.generated(), files(&machine)), (2, vec!["vault.toml".to_owned()]));
    settled(&machine, &card);
}

/// A profile names the slot that it was sealed in. YubiKeys of firmware 5.7 move keys between slots.
#[test]
fn a_key_that_another_profile_found_in_another_slot_is_not_destroyed() {
    const KEY: &str = "1111111111111111111111111111111111111111111111111111111111111111";
    let machine = Machine::new(1);
    let slots = ["82", "9d"].map(|slot| format!("{slot}={KEY}"));
    let card = Yubikey::with(&machine, 0, &["--slot-key", &slots[0], "--slot-key", &slots[1]]);
    let desk = machine.key(&card, json!({ "slot": "82" }));
    machine.spec(json!({ "desk": desk }));
    machine.apply().exits(0);
    overwriting(&machine, &card, Value::Null, json!({}));
    let fingerprint = printed(&machine.apply().exits(16));
    named(&machine, &card, &fingerprint);
    machine.apply().exits(17).says(&["desk.toml, the profile of another key"]);
    assert_eq!((card.generated(), files(&machine)), (0, vec!["desk.toml".to_owned()]));
}

/// A certificate is only a hint: what is destroyed is what the card itself answers with.
#[test]
fn a_card_that_shows_only_a_certificate_is_asked_itself() {
    let machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &["--legacy", "--slot-key", "9d=generate"]);
    overwriting(&machine, &card, Value::Null, json!({}));
    let fingerprint = printed(&machine.apply().exits(16));
    assert_eq!(card.generated(), 0);
    named(&machine, &card, &fingerprint);
    assert_eq!(machine.apply().exits(0).result("vault"), "enrolled");
    assert_eq!(card.generated(), 1);
    settled(&machine, &card);
}
