//! Attestation: the card's word that it made its key, asked for at enrollment; and what a profile
//! remembers of its card.

use std::{fs, path::PathBuf, process::Command};

use serde_json::{Value, json};

use crate::support::{Machine, Nitrokey, Output, TestCard, Yubikey};

const IMPORTED: &str = "9d=1111111111111111111111111111111111111111111111111111111111111111";

/// The file of the root of another maker.
fn another_root(machine: &Machine) -> PathBuf {
    let path = machine.dir().join("other.pem");
    let args = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Other", "-keyout"];
    let mut command = Command::new("openssl");
    command.args(args).arg(machine.dir().join("other.key")).arg("-out").arg(&path);
    assert!(command.output().unwrap().status.success());
    path
}

fn attestation(policy: &str, roots: &[PathBuf]) -> Value {
    json!({ "attestation": { "policy": policy, "roots": roots } })
}

/// The profile's params about its card, by name.
fn remembered(machine: &Machine) -> toml::Table {
    let text = fs::read_to_string(machine.profile("vault")).unwrap();
    let profile: toml::Table = text.parse().unwrap();
    profile["providers"][0]["params"].as_table().unwrap().clone()
}

#[track_caller]
fn prints(output: &Output, parts: &[&str]) {
    for part in parts {
        assert!(output.stdout.contains(part), "no {part:?} in: {output}");
    }
}

#[test]
fn a_key_that_the_card_made_is_enrolled_and_the_root_recorded() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine
        .vault(&card, attestation("required", &[another_root(&machine), card.root_file(&machine)]));
    // First a key is generated, and then the one that is there is enrolled again.
    for generated in [1, 1] {
        assert_eq!(machine.apply().exits(0).result("vault"), "enrolled");
        assert_eq!(card.generated(), generated);
        let keys = [card.private_key("9d")];
        assert_eq!(machine.secret("vault", "backup"), machine.expected("vault", &keys, "backups"));
        let params = remembered(&machine);
        for param in ["attestation", "attestation_key"] {
            assert!(params[param].as_str().unwrap().starts_with("SHA256:"), "{params}");
        }
        assert_ne!(params["attestation"], params["attestation_key"]);
        // An enrolled card is asked for nothing but its key.
        card.reset_counts();
        let output = machine.apply().exits(0);
        assert!(output.unchanged("vault"), "{output}");
        assert!(card.count() <= super::enroll::MOST_APDUS, "{:#?}", card.log());
        machine.lose("vault");
    }
}

#[test]
fn without_the_right_root_nothing_is_generated_or_enrolled() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    for policy in ["required", "if-available"] {
        // Not even softly.
        let mut extra = attestation(policy, &[another_root(&machine)]);
        extra["softFail"] = json!(true);
        machine.vault(&card, extra);
        let output = machine.apply().exits(16);
        output.says(&["is not among the roots", "attestation.roots", "developers.yubico.com/PKI"]);
        assert_eq!((card.presented(), card.generated()), (0, 0));
        assert!(!machine.profile("vault").exists());
    }
    // What `plan` says is the same.
    prints(&machine.run(&["plan"]).exits(16), &["is not among the roots"]);
    machine.vault(&card, attestation("off", &[]));
    assert_eq!(machine.apply().exits(0).result("vault"), "enrolled");
    assert!(!remembered(&machine).contains_key("attestation"));
    // A key that is there is refused before the PIN.
    machine.lose("vault");
    let presented = card.presented();
    machine.vault(&card, attestation("if-available", &[another_root(&machine)]));
    machine.apply().exits(16).says(&["is not among the roots"]);
    assert_eq!(card.presented(), presented);
}

#[test]
fn plan_foretells_the_attestation() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, attestation("required", &[card.root_file(&machine)]));
    let output = machine.run(&["plan"]).exits(0);
    prints(
        &output,
        &["vouches for the card", "generate", "hangs on this: check what the card attests"],
    );
    assert_eq!((card.presented(), card.generated()), (0, 0));
}

#[test]
fn an_imported_key_is_enrolled_only_where_that_is_allowed() {
    let machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &["--slot-key", IMPORTED]);
    let roots = [card.root_file(&machine)];
    machine.vault(&card, attestation("required", &roots));
    let output = machine.apply().exits(16);
    output.says(&["none of the key in slot 9d", "the card did not make it itself"]);
    assert_eq!(card.presented(), 0);
    assert!(!machine.profile("vault").exists());
    machine.vault(&card, attestation("if-available", &roots));
    assert_eq!(machine.apply().exits(0).result("vault"), "enrolled");
    assert!(!remembered(&machine).contains_key("attestation"));
}

#[test]
fn a_card_that_can_not_attest_is_enrolled_only_where_that_is_allowed() {
    let machine = Machine::new(1);
    let card = Nitrokey::new(&machine, 0);
    let roots = [another_root(&machine)];
    machine.vault(&card, attestation("required", &roots));
    let output = machine.apply().exits(16);
    output.says(&["it has no attestation key", "if-available"]);
    assert_eq!((card.presented(), card.generated()), (0, 0));
    machine.vault(&card, attestation("if-available", &roots));
    assert_eq!(machine.apply().exits(0).result("vault"), "enrolled");
    assert_eq!(machine.apply().exits(0).result("vault"), "verified");
}

#[test]
fn roots_that_can_not_be_read_are_a_bad_spec() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    let missing = machine.dir().join("missing.pem");
    let empty = machine.dir().join("empty.pem");
    fs::write(&empty, "no certificate\n").unwrap();
    for (file, why) in [(missing, "No such file"), (empty, "no certificate")] {
        machine.vault(&card, attestation("required", std::slice::from_ref(&file)));
        machine.apply().exits(10).says(&[file.to_str().unwrap(), why]);
    }
    machine.vault(&card, attestation("required", &[]));
    machine.apply().exits(10).says(&["attestation.roots"]);
    assert_eq!(card.log(), []);
}

/// A bad attestation: the leaf is another slot's, the serial is another card's.
#[test]
fn what_the_card_attests_has_to_be_about_this_card() {
    let machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &["--slot-key", "9d=generate"]);
    let roots = [card.root_file(&machine)];
    machine.vault(&card, attestation("required", &roots));
    // Its attestation key is another one than its certificate says.
    let dir = card.retire();
    let path = dir.path().join("card.json");
    let mut memory: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let own = memory["slots"]["f9"].clone();
    memory["slots"]["f9"] = memory["slots"]["9d"].clone();
    fs::write(&path, memory.to_string()).unwrap();
    let card = Yubikey::again(&machine, 0, dir);
    let output = machine.apply().exits(16);
    output.says(&["the slot's attestation: its signature is wrong", "Do not trust this card"]);
    assert_eq!(card.presented(), 0);
    assert!(!machine.profile("vault").exists());

    let dir = card.retire();
    memory["slots"]["f9"] = own;
    fs::write(&path, memory.to_string()).unwrap();
    let card = Yubikey::again(&machine, 0, dir);
    assert_eq!(machine.apply().exits(0).result("vault"), "enrolled");
    assert_eq!(card.presented(), 1);
}

/// A card that says once that its slot is empty, which it is not.
#[test]
fn a_key_is_not_destroyed_on_the_strength_of_one_answer() {
    let machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &["--slot-key", "9d=generate"]);
    let key = card.private_key("9d");
    let required = attestation("required", &[card.root_file(&machine)]);
    for (extra, code) in [(required, 16), (json!({}), 0)] {
        machine.vault(&card, extra);
        // After SELECT, the serial and the GUID the slot is asked for.
        card.tell("fault nth 4 sw 6a88");
        machine.apply().exits(code);
        assert_eq!((card.generated(), card.private_key("9d")), (0, key.clone()));
    }
}

/// The same serial, and everything else another card's.
#[test]
fn another_card_of_the_same_serial_is_named() {
    for policy in ["off", "required"] {
        let machine = Machine::new(1);
        let card = Yubikey::with(&machine, 0, &["--slot-key", "9d=generate"]);
        machine.vault(
            &card,
            match policy {
                "off" => json!({}),
                _ => attestation(policy, &[card.root_file(&machine)]),
            },
        );
        assert_eq!(machine.apply().exits(0).result("vault"), "enrolled");
        drop(card.retire());
        for slot in [&["--slot-key", "9d=generate"][..], &[]] {
            let other = Yubikey::with(&machine, 0, slot);
            let output = machine.apply().exits(16);
            let what = if policy == "off" { "GUID" } else { "its attestation key is SHA256:" };
            output.says(&["card 90210001 is another card than the enrolled one", what]);
            assert_eq!((other.presented(), other.generated()), (0, 0));
            drop(other.retire());
        }
    }
}

/// A reset card has no GUID and no keys, and its attestation key still.
#[test]
fn a_card_that_was_reset_is_no_other_card() {
    let machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &["--slot-key", "9d=generate"]);
    machine.vault(&card, attestation("required", &[card.root_file(&machine)]));
    assert_eq!(machine.apply().exits(0).result("vault"), "enrolled");
    let dir = card.retire();
    let path = dir.path().join("card.json");
    let mut memory: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    memory["slots"].as_object_mut().unwrap().remove("9d");
    memory["objects"].as_object_mut().unwrap().remove("5fc102");
    fs::write(&path, memory.to_string()).unwrap();
    let _card = Yubikey::again(&machine, 0, dir);
    machine.apply().exits(16).says(&["slot 9d is empty"]);
}

#[test]
fn policies_that_changed_under_a_profile_are_named() {
    let machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &["--slot-key", IMPORTED]);
    machine.vault(&card, json!({}));
    assert_eq!(machine.apply().exits(0).result("vault"), "enrolled");
    drop(card.retire());
    let args = ["--slot-key", IMPORTED, "--slot-policy", "9d=always,never"];
    let again = Yubikey::with(&machine, 0, &args);
    machine.vault(&again, json!({ "pinPolicy": "once" }));
    let output = machine.apply().exits(16);
    output.says(&["PIN policy always and touch policy never", "remembers once and never"]);
    assert_eq!(again.presented(), 0);
    // They want no less, so that the declaration is enough.
    machine.vault(&again, json!({ "pinPolicy": "always" }));
    assert_eq!(machine.apply().exits(0).result("vault"), "verified");
}
