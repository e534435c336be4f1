//! What users read when something is wrong, and what to do about it: word for word.

use std::fs;

use expect_test::expect;
use serde_json::json;

use super::cli::{machine_with_a_key, prints};
use crate::support::{Machine, TestCard, Yubikey};

#[test]
fn check_finds_all_faults_and_needs_no_pcscd() {
    let (mut machine, _card) = machine_with_a_key();
    machine.pcscd.stop();
    let output = machine.run(&["check"]).exits(0);
    prints(
        &machine,
        &output,
        &expect![[r#"
        exit code 0
        The spec is good.
    "#]],
    );
    let spec = json!({
        "version": 1,
        "stateDir": "relative",
        "keys": { "vault": { "slot": "9c", "pin": { "file": "/nix/store/x-pin" }, "surplus": 1 } },
    });
    fs::write(machine.spec_file(), spec.to_string()).unwrap();
    let output = machine.run(&["check"]).exits(10);
    prints(
        &machine,
        &output,
        &expect![[r#"
            exit code 10
            keys.vault.pin.file: found "/nix/store/x-pin"; allowed is a file outside the Nix store, which everybody can read. What was in there is no secret any more: change it
            keys.vault.slot: slot 9c is refused: the standard keeps it for signatures, and this key must agree on keys; allowed are 9a, 9d, 9e and 82 to 95
            keys.vault.surplus: unknown field; allowed are cards, threshold, slot, touchPolicy, pinPolicy, mode, overwrite, attestation, enroll, profileId, profile, softFail, pin, minTries, managementKey, cardTimeoutSec, touchTimeoutSec, ask, askTimeoutSec, secrets
            stateDir: found "relative"; allowed is an absolute path (from /, without `.` and `..` and without control characters)
            The spec has 4 faults.
        "#]],
    );
}

#[test]
fn a_typo_in_the_spec() {
    let (machine, card) = machine_with_a_key();
    machine.vault(&card, json!({ "softfail": true }));
    let output = machine.run(&["apply"]).exits(10);
    prints(
        &machine,
        &output,
        &expect![[r#"
        exit code 10
        error: reading spec DIR/spec.json: 1 fault. Correct it in the configuration:
        error:   keys.vault.softfail: unknown field; did you mean softFail?
    "#]],
    );
    assert_eq!(card.log(), []);
}

#[test]
fn apply_tells_how_to_go_on() {
    let (machine, card) = machine_with_a_key();
    let output = machine.run(&["apply"]).exits(0);
    prints(
        &machine,
        &output,
        &expect![[r#"
        exit code 0
        vault: enrolled, added backup
          So that a lost profile never becomes a new key, add to configuration.nix:
          security.cryptkey.keys.vault.profileId = "ID";
    "#]],
    );
    card.remove();
    let output = machine.run(&["apply"]).exits(11);
    prints(
        &machine,
        &output,
        &expect![[r#"
        exit code 11
        vault: failed (no-card)
        error: key vault: looking for card 90210001: it was not there; 2 of 2 readers are empty. Insert the card, and start the unit again, or reload it if it is up. `nixos-cryptkey cards` shows what is there.
    "#]],
    );
    let output = machine.run(&["apply", "--key", "volt"]).exits(10);
    prints(
        &machine,
        &output,
        &expect![[r#"
        exit code 10
        error: looking for key volt: the spec has none of that name. It has: vault.
    "#]],
    );
}

/// What the three failures look like that users meet most.
#[test]
fn what_goes_wrong_most() {
    let (machine, card) = machine_with_a_key();
    let wrong = machine.secret_file("wrong.pin", "583920");
    machine.vault(&card, json!({ "pin": wrong }));
    let output = machine.run(&["apply"]).exits(15);
    prints(
        &machine,
        &output,
        &expect![[r#"
            exit code 15
            vault: failed (pin-wrong)
            error: key vault: presenting the PIN (DIR/wrong.pin) to card 90210001: the card rejected it; tries left: 2. It is not presented again before it changes, or the card has more tries again. Correct it: each wrong one costs a try, and with none left the card locks itself until it is unblocked with the PUK.
        "#]],
    );
    machine.vault(&card, json!({ "pin": { "file": machine.dir().join("missing.pin") } }));
    let output = machine.run(&["apply"]).exits(14);
    prints(
        &machine,
        &output,
        &expect![[r#"
        exit code 14
        vault: failed (pin-refused)
        error: key vault: getting the PIN of card 90210001: reading DIR/missing.pin: No such file or directory (os error 2). Create it, or correct its path in the spec.
    "#]],
    );
    machine.vault(&card, json!({ "pinPolicy": "always" }));
    let output = machine.run(&["apply"]).exits(16);
    prints(
        &machine,
        &output,
        &expect![[r#"
        exit code 16
        vault: failed (key-changed)
        error: key vault: checking the policies of the card's key: its key has PIN policy once and touch policy never, and the spec declares always and never. Declare what the key has (security.cryptkey.keys.vault.pinPolicy = "once", security.cryptkey.keys.vault.touchPolicy = "never"), or choose another slot: policies are fixed when a key is generated.
    "#]],
    );
}

#[test]
fn a_damaged_record_is_an_error() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({ "mode": "overwrite" }));
    let record = machine.state.join("vault.generating");
    for text in ["", "version = 1\nslot = \"9d\"\n", "version = 2\nserial = \"1\"\nslot = \"9d\"\n"]
    {
        fs::write(&record, text).unwrap();
        machine.apply().exits(17).says(&["vault.generating", "the record is damaged"]);
    }
    assert_eq!(card.log(), []);
}
