//! What each command says, word for word: whatever is different from run to run is replaced.

use std::{fs, path::Path};

use expect_test::{Expect, expect};
use serde_json::json;

use crate::support::{
    Machine, Nitrokey, Output, Running, TestCard, Yubikey,
    ram::{Bound, Ram},
};

pub const KEY: &str = "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721";

/// The output, with what changes from run to run replaced.
fn stable(machine: &Machine, text: &str) -> String {
    let mut text = text.replace(machine.state.to_str().unwrap(), "STATE");
    text = text.replace(machine.runtime.to_str().unwrap(), "RUNTIME");
    text = text.replace(machine.dir().to_str().unwrap(), "DIR");
    // Ids, GUIDs and fingerprints.
    let mut out = String::new();
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let digits = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_id = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let is_recipient = digits.len() == 62 && digits.starts_with("age1");
        out += &match (is_id, is_recipient) {
            (true, _) => word.replace(digits, "ID"),
            (_, true) => word.replace(digits, "RECIPIENT"),
            _ => word.to_owned(),
        };
    }
    out
}

#[track_caller]
pub fn prints(machine: &Machine, output: &Output, expected: &Expect) {
    let text = format!("exit code {}\n{}{}", output.code.unwrap(), output.stdout, output.stderr);
    expected.assert_eq(&stable(machine, &text));
}

pub fn machine_with_a_key() -> (Machine, Yubikey) {
    let machine = Machine::new(1);
    let slot = format!("9d={KEY}");
    let card = Yubikey::with(&machine, 0, &["--slot-key", &slot]);
    machine.vault(&card, json!({ "cardTimeoutSec": 0 }));
    (machine, card)
}

#[test]
fn help() {
    let machine = Machine::new(0);
    let output = machine.run(&["--help"]).exits(0);
    prints(
        &machine,
        &output,
        &expect![[r#"
            exit code 0
            Secrets for services that only a smart card in the machine can unlock.

            A spec (JSON) says which keys the machine should have and which secrets they give. `apply` finds the
            card, enrolls it the first time and verifies it every time after, and writes the secrets to a RAM
            file system. Only `apply`, `restart`, `scrub`, which removes the secrets again, `provider`,
            `reseal`, `rotate`, `rename`, `import`, `pin forget` and `polkit` change anything.

            Usage: nixos-cryptkey [OPTIONS] <COMMAND>

            Commands:
              apply     Enroll or verify the keys of a spec, and publish their secrets
              check     Find all faults of a spec; needs no card and no pcscd
              plan      Show what apply --always would do and why; changes nothing, spends no PIN try, waits for
                        no card
              status    Show the keys' profiles and providers, the cards and their PIN tries, and what is
                        published
              cards     Show every reader, its card and the keys in its slots; presents no PIN
              restart   Have the units restarted that read a secret whose bytes have changed since
              scrub     Remove the published secrets of the spec's keys
              provider  The ways in of a key: cards, recovery codes, passphrases
              reseal    Share a key anew among the providers that stay, with another threshold; no secret
                        changes
              rotate    Make a new key with the same providers: every secret changes
              rename    Give a key another name; no secret changes
              export    Print a key's sealed profile, for another machine or a backup; opens nothing
              import    Take a profile from cryptkey or from another machine; no secret changes
              public    Print what may be shown to everybody: a key's age recipient, and its secrets' public
                        halves
              derive    Open a key and print an output, or hand it to a command on its standard input
              pin       What is remembered of cards' PINs
              polkit    Let the users and groups that the spec lists reach cards and readers; needs no card
              schema    Print the JSON Schema of the spec
              help      Print this message or the help of the given subcommand(s)

            Options:
              -v, --verbose...
                      Says more: once each step, twice each APDU too (never a secret)

                  --json
                      Prints JSON instead of text on standard output

              -h, --help
                      Print help (see a summary with '-h')

              -V, --version
                      Print version

            Exit codes: 0 done (or skipped by softFail), 1 internal, 2 usage, 10 bad spec, 11 no card, 12 card
            busy, 13 no touch or answer, 14 PIN not presented, 15 PIN wrong, 16 key changed, 17 profile damaged
            or lost, 18 permission, 19 card failed, 20 not published, 21 wrong passphrase or recovery code.
            docs/exit-codes.md says what to do about each.
        "#]],
    );
}

#[test]
fn help_says_where_the_spec_is() {
    let machine = Machine::new(0);
    for command in ["apply", "check", "plan", "status", "scrub"] {
        let output = machine.run(&["help", command]).exits(0);
        for part in ["the NixOS module puts", "[default: /etc/cryptkey/spec.json]"] {
            assert!(output.stdout.contains(part), "{output}");
        }
    }
}

/// `/etc` is an empty one of this test's own.
#[test]
fn the_machine_s_own_spec_is_the_default() {
    let machine = Machine::new(0);
    let etc = Ram::tmpfs("");
    let bound = Bound::new(etc.path(), Path::new("/etc"));
    let run = |command: &str| {
        let mut program = machine.pcscd.command(env!("CARGO_BIN_EXE_nixos-cryptkey"));
        program.arg(command);
        machine.finish(Running::start(program))
    };
    for command in ["apply", "plan", "status", "scrub"] {
        run(command).exits(10).says(&["reading spec /etc/cryptkey/spec.json", "--spec"]);
    }
    let missing = run("check");
    prints(
        &machine,
        &missing,
        &expect![[r#"
        exit code 10
        error: reading spec /etc/cryptkey/spec.json: No such file or directory (os error 2). The NixOS module writes it: set security.cryptkey.enable = true and switch to that configuration. Or name another spec with --spec.
    "#]],
    );
    fs::create_dir("/etc/cryptkey").unwrap();
    fs::write("/etc/cryptkey/spec.json", r#"{"version": 1, "keys": {}}"#).unwrap();
    let found = run("check");
    drop(bound);
    assert_eq!(found.exits(0).stdout, "The spec is good.\n");
}

#[test]
fn plan_before_and_after_enrollment() {
    let (machine, card) = machine_with_a_key();
    let before = machine.run(&["plan"]).exits(0);
    prints(
        &machine,
        &before,
        &expect![[r#"
            exit code 0
            vault:
              found: no profile
              found: card 90210001 in "Yubico YubiKey CCID 0 00 00"
              found: slot 9d: P-256 key SHA256:Wnp4zKSg9CDZvGK7Zpw8J1njn3I9OuENy+DwgVoH7NQ
              found: 3 PIN tries left
              1. look up whether the card rejected the PIN before
              2. present the PIN
              3. seal a new key to the card and write its profile
              4. publish the secrets, if anything changed
        "#]],
    );
    assert_eq!((card.presented(), machine.published()), (0, vec![]));
    assert!(!machine.profile("vault").exists());
    machine.apply().exits(0);
    let after = machine.run(&["plan"]).exits(0);
    prints(
        &machine,
        &after,
        &expect![[r#"
            exit code 0
            vault:
              found: profile ID
              found: card 90210001 in "Yubico YubiKey CCID 0 00 00"; slot 9d: P-256 key SHA256:Wnp4zKSg9CDZvGK7Zpw8J1njn3I9OuENy+DwgVoH7NQ
              found: 3 PIN tries left
              1. look up whether the card rejected the PIN before
              2. present the PIN
              3. open share 1 with a key agreement
              4. publish the secrets, if anything changed
        "#]],
    );
    card.remove();
    let absent = machine.run(&["plan"]).exits(0);
    prints(
        &machine,
        &absent,
        &expect![[r#"
        exit code 0
        vault:
          found: profile ID
          found: it was not there; 2 of 2 readers are empty
          1. find the card
          What follows hangs on this: the card.
    "#]],
    );
    assert_eq!(card.presented(), 1);
}

#[test]
fn plan_of_an_empty_slot() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({ "touchPolicy": "cached" }));
    let output = machine.run(&["plan"]).exits(0);
    prints(
        &machine,
        &output,
        &expect![[r#"
            exit code 0
            vault:
              found: no profile
              found: card 90210001 in "Yubico YubiKey CCID 0 00 00"
              found: slot 9d: empty
              found: 3 PIN tries left
              1. look up whether the card rejected the PIN before
              2. present the PIN
              3. generate a P-256 key in the slot
              4. seal a new key to the card and write its profile
              5. publish the secrets, if anything changed
        "#]],
    );
    machine.vault(&card, json!({ "managementKey": null }));
    let output = machine.run(&["plan"]).exits(10);
    prints(
        &machine,
        &output,
        &expect![[r#"
        exit code 10
        vault:
          found: no profile
          found: card 90210001 in "Yubico YubiKey CCID 0 00 00"
          found: slot 9d: empty
          It would fail (bad-spec): key vault: enrolling: the slot is empty, and generating a key takes the card's management key, which is still the one that every card is shipped with. Change it with `ykman piv access change-management-key --protect` and set security.cryptkey.keys.vault.managementKey to {"protected": true}; or name a file that holds it with {"file": …}; or allow the maker's with {"factoryDefault": true}.
    "#]],
    );
}

#[test]
fn plan_with_a_card_that_cannot_tell() {
    let machine = Machine::new(1);
    let card = Nitrokey::new(&machine, 0);
    machine.vault(&card, json!({}));
    let output = machine.run(&["plan"]).exits(0);
    prints(
        &machine,
        &output,
        &expect![[r#"
            exit code 0
            vault:
              found: no profile
              found: card 5437251 in "Yubico YubiKey CCID 0 00 00"
              found: slot 9d: not told without the PIN
              found: 3 PIN tries left
              1. look up whether the card rejected the PIN before
              2. present the PIN
              3. find out by key agreements what is in the slot
              What follows hangs on this: find out by key agreements what is in the slot.
        "#]],
    );
    assert_eq!(card.presented(), 0);
}

#[test]
fn status_before_and_after_enrollment() {
    let (machine, card) = machine_with_a_key();
    let before = machine.run(&["status"]).exits(0);
    prints(
        &machine,
        &before,
        &expect![[r#"
        exit code 0
        vault:
          profile: none yet
          published: nothing
        Yubico YubiKey CCID 0 00 00: card 90210001, GUID ID, 3 PIN tries left, the maker's management key
          9d: P-256 key SHA256:Wnp4zKSg9CDZvGK7Zpw8J1njn3I9OuENy+DwgVoH7NQ, PIN once, touch never
        Yubico YubiKey CCID 0 00 01: empty
    "#]],
    );
    machine.apply().exits(0);
    let after = machine.run(&["status"]).exits(0);
    prints(
        &machine,
        &after,
        &expect![[r#"
            exit code 0
            vault:
              profile: ID, version 2, opened by 1 of 1
              recipient: RECIPIENT (not verified: no profileId declares it)
              provider card-1: piv, card 90210001, slot 9d, present
              published: backup (root:root 0400, 64 bytes)
            Yubico YubiKey CCID 0 00 00: card 90210001, GUID ID, 3 PIN tries left, the maker's management key
              9d: P-256 key SHA256:Wnp4zKSg9CDZvGK7Zpw8J1njn3I9OuENy+DwgVoH7NQ, PIN once, touch never
            Yubico YubiKey CCID 0 00 01: empty
        "#]],
    );
    card.remove();
    let absent = machine.run(&["status"]).exits(0);
    prints(
        &machine,
        &absent,
        &expect![[r#"
            exit code 0
            vault:
              profile: ID, version 2, opened by 1 of 1
              recipient: RECIPIENT (not verified: no profileId declares it)
              provider card-1: piv, card 90210001, slot 9d, absent
              published: backup (root:root 0400, 64 bytes)
            Yubico YubiKey CCID 0 00 00: empty
            Yubico YubiKey CCID 0 00 01: empty
        "#]],
    );
    assert_eq!(card.presented(), 1);
}

#[test]
fn cards_of_two_makers() {
    let machine = Machine::new(2);
    let slot = format!("9d={KEY}");
    let card = Yubikey::with(&machine, 0, &["--slot-key", &slot, "--slot-key", "9a=p384"]);
    let other = Nitrokey::new(&machine, 1);
    let output = machine.run(&["cards"]).exits(0);
    prints(
        &machine,
        &output,
        &expect![[r#"
            exit code 0
            Yubico YubiKey CCID 0 00 00: card 90210001, GUID ID, 3 PIN tries left, the maker's management key
              9a: P-384 key, PIN once, touch never
              9d: P-256 key SHA256:Wnp4zKSg9CDZvGK7Zpw8J1njn3I9OuENy+DwgVoH7NQ, PIN once, touch never
              9e 82 83 84 85 86 87 88 89 8a 8b 8c 8d 8e 8f 90 91 92 93 94 95: empty
            Yubico YubiKey CCID 0 00 01: empty
            Yubico YubiKey CCID 1 00 00: card 5437251, GUID ID, 3 PIN tries left
              9a 9d 9e 82 83 84 85 86 87 88 89 8a 8b 8c 8d 8e 8f 90 91 92 93 94 95: not told without the PIN
            Yubico YubiKey CCID 1 00 01: empty
        "#]],
    );
    assert_eq!((card.presented(), other.presented()), (0, 0));
}

#[test]
fn no_card_and_no_pcscd() {
    let mut machine = Machine::new(1);
    let output = machine.run(&["cards"]).exits(0);
    prints(
        &machine,
        &output,
        &expect![[r#"
        exit code 0
        Yubico YubiKey CCID 0 00 00: empty
        Yubico YubiKey CCID 0 00 01: empty
    "#]],
    );
    machine.pcscd.stop();
    let output = machine.run(&["cards"]);
    prints(
        &machine,
        &output,
        &expect![[r#"
        exit code 11
        error: looking for readers: pcscd is not there. See `systemctl status pcscd`: on NixOS, services.pcscd.enable = true starts it, and security.cryptkey.pcsc.users names those who may reach it.
    "#]],
    );
}

#[test]
fn everything_that_prints_prints_json() {
    let (machine, _card) = machine_with_a_key();
    for command in ["check", "plan", "apply", "status", "cards", "scrub", "schema"] {
        let output = machine.run(&[command, "--json"]).exits(0);
        assert!(output.json().is_object(), "{output}");
    }
    let missing = machine.dir().join("spec.json");
    fs::remove_file(missing).unwrap();
    for command in ["check", "plan", "apply", "status", "scrub"] {
        let output = machine.run(&[command, "--json"]).exits(10);
        let error = &output.json()["error"];
        for field in ["class", "tried", "found", "advice"] {
            assert!(error[field].is_string(), "{output}");
        }
    }
}

#[test]
fn a_key_that_is_named_is_the_only_one_that_is_done() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.spec(json!({
        "one": machine.key(&card, json!({})),
        "two": machine.key(&card, json!({ "slot": "82" })),
    }));
    let output = machine.run(&["apply", "--json", "--key", "two"]).exits(0);
    assert_eq!(output.result("two"), "enrolled");
    assert!(output.json()["keys"]["one"].is_null(), "{output}");
    assert!(!machine.profile("one").exists());
}
