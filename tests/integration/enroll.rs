//! The first run and every one after it, on both cards.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::json;

use crate::support::{
    Client, Machine, Nitrokey, Running, TestCard, Yubikey, cards::Apdu, published::traces,
};

/// What a verify run may cost at the card (issue 2, "Cost").
pub const MOST_APDUS: u64 = 5;

/// Has a test run on each card.
macro_rules! on_both_cards {
    ($($test:ident),*) => {
        mod yubikey {
            $(#[test] fn $test() { super::$test::<super::Yubikey>(); })*
        }
        mod nitrokey {
            $(#[test] fn $test() { super::$test::<super::Nitrokey>(); })*
        }
    };
}
pub(crate) use on_both_cards;

on_both_cards!(
    generates_enrolls_and_publishes,
    an_unchanged_machine_costs_five_apdus_and_no_write,
    five_secrets_cost_as_much_as_one,
    every_format_is_what_an_independent_program_computes,
    starts_no_other_process,
    adopts_its_own_key_when_the_profile_is_gone,
    a_new_key_of_the_same_card_gives_other_secrets,
    the_card_forgets_the_pin_when_the_run_ends
);

fn generates_enrolls_and_publishes<C: TestCard>() {
    let machine = Machine::new(1);
    let card = C::new(&machine, 0);
    machine.vault(&card, json!({}));
    let output = machine.apply().exits(0);
    assert_eq!(output.result("vault"), "enrolled");
    let keys = [card.private_key("9d")];
    assert_eq!(machine.secret("vault", "backup"), machine.expected("vault", &keys, "backups"));
    let mode = fs::metadata(machine.profile("vault")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);

    // The tries are counted before the PIN is presented, and that is before the key is made.
    let log = card.log();
    let first = |what: &str, is: fn(&Apdu) -> bool| {
        let found = log.iter().position(is);
        found.unwrap_or_else(|| panic!("no {what} in {log:#?}"))
    };
    let counted = first("count", Apdu::counts);
    let presented = first("PIN", Apdu::verifies);
    let generated = first("generation", Apdu::generates);
    assert!(counted < presented && presented < generated, "{log:#?}");
    assert_eq!((card.presented(), card.generated()), (1, 1));
}

fn an_unchanged_machine_costs_five_apdus_and_no_write<C: TestCard>() {
    let machine = Machine::new(1);
    let card = C::new(&machine, 0);
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    let before = (traces(&machine.state), traces(&machine.runtime));
    card.reset_counts();
    let output = machine.apply().exits(0);
    assert_eq!(output.result("vault"), "verified");
    assert!(output.unchanged("vault"), "{output}");
    assert!(card.count() <= MOST_APDUS, "{:#?}", card.log());
    assert_eq!((traces(&machine.state), traces(&machine.runtime)), before);
    // Told in one line, and nothing else.
    let told = machine.run(&["apply"]).exits(0);
    assert_eq!(told.stdout, "vault: verified, unchanged\n");
    assert_eq!(told.stderr, "");
}

fn five_secrets_cost_as_much_as_one<C: TestCard>() {
    let machine = Machine::new(1);
    let card = C::new(&machine, 0);
    let secrets: serde_json::Map<_, _> =
        (0..5).map(|i| (format!("secret-{i}"), json!({ "use": format!("use {i}") }))).collect();
    machine.vault(&card, json!({ "secrets": secrets }));
    machine.apply().exits(0);
    card.reset_counts();
    let output = machine.apply().exits(0);
    assert!(output.unchanged("vault"), "{output}");
    assert!(card.count() <= MOST_APDUS, "{:#?}", card.log());
    let published: Vec<_> = machine.published().into_iter().map(|(_, bytes)| bytes).collect();
    let distinct: std::collections::BTreeSet<_> = published.iter().collect();
    assert_eq!(distinct.len(), 5);
}

fn every_format_is_what_an_independent_program_computes<C: TestCard>() {
    let machine = Machine::new(1);
    let card = C::new(&machine, 0);
    machine.vault(
        &card,
        json!({ "secrets": {
            "raw": { "use": "one", "length": 1024 },
            "hex": { "use": "two", "format": "hex", "length": 1 },
            "base64": { "use": "three", "format": "base64", "length": 33, "newline": true },
        }}),
    );
    machine.apply().exits(0);
    let keys = [card.private_key("9d")];
    let of = |args: &[&str]| machine.expected_as("vault", &keys, args);
    let raw = of(&["--use", "one", "--length", "1024"]);
    assert_eq!(machine.secret("vault", "raw"), raw);
    let hex = of(&["--use", "two", "--format", "hex", "--length", "1"]);
    assert_eq!(machine.secret("vault", "hex"), hex);
    let base64 = of(&["--use", "three", "--format", "base64", "--length", "33", "--newline"]);
    assert_eq!(machine.secret("vault", "base64"), base64);
}

fn starts_no_other_process<C: TestCard>() {
    let machine = Machine::new(1);
    let card = C::new(&machine, 0);
    machine.vault(&card, json!({}));
    for expected in ["enrolled", "verified"] {
        let trace = machine.dir().join("trace");
        let plain = machine.command(&["apply", "--json"]);
        let mut traced = machine.pcscd.command("strace");
        traced.args(["-f", "-qq", "-e", "trace=process", "-o"]).arg(&trace);
        traced.arg(plain.get_program()).args(plain.get_args());
        let output = machine.finish(Running::start(traced)).exits(0);
        assert_eq!(output.result("vault"), expected);
        let trace = fs::read_to_string(trace).unwrap();
        assert_eq!(trace.matches("execve(").count(), 1, "{trace}");
        let other = |line: &&str| {
            let starts = ["fork(", "clone(", " clone3("].iter().any(|call| line.contains(call));
            starts && !line.contains("CLONE_THREAD")
        };
        assert_eq!(trace.lines().find(other), None);
    }
}

fn adopts_its_own_key_when_the_profile_is_gone<C: TestCard>() {
    let machine = Machine::new(1);
    let card = C::new(&machine, 0);
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    let first = machine.secret("vault", "backup");
    let key = card.private_key("9d");
    machine.lose("vault");

    // An existing key needs no management key.
    machine.vault(&card, json!({ "managementKey": null }));
    assert_eq!(machine.apply().exits(0).result("vault"), "enrolled");
    assert_eq!((card.generated(), card.private_key("9d")), (1, key.clone()));
    let second = machine.secret("vault", "backup");
    assert_ne!(first, second, "a new profile has a new master key");
    assert_eq!(second, machine.expected("vault", &[key], "backups"));
    assert_eq!(machine.apply().exits(0).result("vault"), "verified");
}

fn a_new_key_of_the_same_card_gives_other_secrets<C: TestCard>() {
    let machine = Machine::new(1);
    let card = C::new(&machine, 0);
    let one = json!({ "backup": { "use": "backups", "format": "hex" } });
    machine.spec(json!({
        "first": machine.key(&card, json!({ "secrets": one })),
        "second": machine.key(&card, json!({ "slot": "82", "secrets": one })),
    }));
    machine.apply().exits(0);
    assert_eq!(card.generated(), 2);
    assert_ne!(machine.secret("first", "backup"), machine.secret("second", "backup"));
    for (key, slot) in [("first", "9d"), ("second", "82")] {
        let expected = machine.expected(key, &[card.private_key(slot)], "backups");
        assert_eq!(machine.secret(key, "backup"), expected);
    }
    // One presentation of the PIN for each session; all of them were accepted.
    assert_eq!(card.presented(), 2);
}

fn the_card_forgets_the_pin_when_the_run_ends<C: TestCard>() {
    let machine = Machine::new(1);
    let card = C::new(&machine, 0);
    machine.vault(&card, json!({}));
    for _ in 0..2 {
        machine.apply().exits(0);
        let reader = virtual_card::stack::Pcscd::reader_name(0);
        let mut other = Client::connected(&machine, &reader, "shared");
        other.select();
        assert_eq!(other.status("00200080"), "63c3");
    }
}

/// A card that cannot tell its key: it is found by key agreement, whose sign nobody knows.
#[test]
fn a_key_found_by_agreement_is_stored_with_even_y() {
    let machine = Machine::new(1);
    let card = Nitrokey::new(&machine, 0);
    machine.vault(&card, json!({}));
    // Until a key with odd y has been seen: with one that is even this would prove nothing.
    for number in 0.. {
        machine.apply().exits(0);
        let generated = stored_key(&machine);
        machine.lose("vault");
        machine.apply().exits(0);
        let adopted = stored_key(&machine);
        assert_eq!(generated[..32], adopted[..32]);
        assert_eq!(adopted[63] & 1, 0);
        let expected = machine.expected("vault", &[card.private_key(SLOTS[number])], "backups");
        assert_eq!(machine.secret("vault", "backup"), expected);
        if generated[63] & 1 == 1 {
            return;
        }
        machine.lose("vault");
        machine.vault(&card, json!({ "slot": SLOTS[number + 1] }));
    }
}

const SLOTS: [&str; 21] = [
    "9d", "82", "83", "84", "85", "86", "87", "88", "89", "8a", "8b", "8c", "8d", "8e", "8f", "90",
    "91", "92", "93", "94", "95",
];

/// x and y of the key that the profile is sealed to.
fn stored_key(machine: &Machine) -> Vec<u8> {
    let text = fs::read_to_string(machine.profile("vault")).unwrap();
    let profile: toml::Table = toml::from_str(&text).unwrap();
    let key = &profile["providers"][0]["params"]["public_key"];
    base16ct::lower::decode_vec(key.as_str().unwrap()).unwrap()[1..].to_vec()
}

#[test]
fn uses_a_key_that_another_tool_generated() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    let public = machine.dir().join("public.pem");
    let made = machine
        .pcscd
        .command("ykman")
        .args(["--reader", &card.reader(), "piv", "keys", "generate", "--algorithm", "ECCP256"])
        .args(["--management-key", "010203040506070801020304050607080102030405060708", "9d"])
        .arg(&public)
        .output()
        .expect("apt-get install yubikey-manager");
    assert!(made.status.success(), "{made:?}");
    let generated = card.generated();
    machine.vault(&card, json!({ "managementKey": null }));
    assert_eq!(machine.apply().exits(0).result("vault"), "enrolled");
    assert_eq!(card.generated(), generated);
    let expected = machine.expected("vault", &[card.private_key("9d")], "backups");
    assert_eq!(machine.secret("vault", "backup"), expected);
}

#[test]
fn uses_a_key_that_was_imported() {
    let machine = Machine::new(1);
    let key = "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721";
    for legacy in [&[][..], &["--legacy"]] {
        let slot = format!("9d={key}");
        let args = [&["--slot-key", &slot][..], legacy].concat();
        let card = Yubikey::with(&machine, 0, &args);
        machine.vault(&card, json!({ "managementKey": null }));
        assert_eq!(machine.apply().exits(0).result("vault"), "enrolled");
        assert_eq!(card.generated(), 0);
        let expected = machine.expected("vault", &[key.into()], "backups");
        assert_eq!(machine.secret("vault", "backup"), expected);
        assert_eq!(machine.apply().exits(0).result("vault"), "verified");
        machine.lose("vault");
    }
}

/// What is generated over is gone: a card that says "empty" has to say so twice.
#[test]
fn a_slot_that_is_called_empty_by_mistake_keeps_its_key() {
    let machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &["--slot-key", "9d=generate"]);
    machine.vault(&card, json!({}));
    card.tell("fault ins f7 p2 9d sw 6a88");
    assert_eq!(machine.apply().exits(0).result("vault"), "enrolled");
    assert_eq!(card.generated(), 0);
    let expected = machine.expected("vault", &[card.private_key("9d")], "backups");
    assert_eq!(machine.secret("vault", "backup"), expected);
}

/// A profile with a wrong name is one whose card is never found again.
#[test]
fn a_card_that_changes_its_name_is_not_enrolled() {
    let machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &["--legacy", "--slot-key", "9d=generate"]);
    machine.vault(&card, json!({}));
    // In the middle of the GUID.
    card.tell("fault ins cb flip 40 01");
    let output = machine.apply().exits(19);
    output.says(&["asked again, the card says that it is", "Nothing was written"]);
    assert!(machine.published().is_empty() && !machine.profile("vault").exists());
    assert_eq!(machine.apply().exits(0).result("vault"), "enrolled");
    assert_eq!(machine.apply().exits(0).result("vault"), "verified");
}

/// A card of before firmware 5 (no serial, metadata or attestation) says the same of an empty slot
/// and of a key of another kind: so nothing is generated over it.
#[test]
fn a_card_that_cannot_say_empty_is_not_written_to() {
    let machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &["--legacy"]);
    machine.vault(&card, json!({}));
    let output = machine.apply().exits(19);
    output.says(&["does not tell whether the slot is empty", "Nothing was generated"]);
    assert_eq!(card.generated(), 0);
    assert_eq!(card.tries(), 3);
}

#[test]
fn an_old_card_is_enrolled_and_verified_within_five_apdus() {
    let machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &["--legacy", "--slot-key", "9d=generate"]);
    machine.vault(&card, json!({}));
    assert_eq!(machine.apply().exits(0).result("vault"), "enrolled");
    card.reset_counts();
    assert_eq!(machine.apply().exits(0).result("vault"), "verified");
    assert!(card.count() <= MOST_APDUS, "{:#?}", card.log());
    let expected = machine.expected("vault", &[card.private_key("9d")], "backups");
    assert_eq!(machine.secret("vault", "backup"), expected);
}
