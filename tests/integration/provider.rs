//! `provider`: ways in are added and removed by a person at a terminal, and no secret changes.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
};

use expect_test::expect;
use serde_json::{Value, json};

use crate::{
    cli::{KEY, prints},
    support::{
        Machine, Running, TestCard, Yubikey,
        agent::Agent,
        published::traces,
        terminal::{add_code, provider},
    },
};

/// A machine with an enrolled card; a key's name is its questions' id, so each test has its own.
pub fn enrolled(name: &str) -> (Machine, Yubikey) {
    let machine = Machine::new(2);
    let card = Yubikey::new(&machine, 0);
    declare(&machine, &card, name, json!({}));
    machine.apply().exits(0);
    (machine, card)
}

/// Writes a spec of that key.
pub fn declare(machine: &Machine, card: &Yubikey, name: &str, extra: Value) {
    let mut key = machine.key(card, json!({ "cardTimeoutSec": 0 }));
    crate::support::machine::merge(&mut key, extra);
    machine.spec(json!({ name: key }));
}

/// The profile's text, and the files that are kept of it from before.
pub fn files(machine: &Machine, name: &str) -> (String, Vec<PathBuf>) {
    let paths = fs::read_dir(&machine.state).unwrap().map(|entry| entry.unwrap().path());
    let prefix = format!("{name}.toml.");
    let kept =
        paths.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&prefix));
    let kept: Vec<_> = kept.collect();
    (fs::read_to_string(machine.profile(name)).unwrap(), kept)
}

/// The ids of its providers.
pub fn ids(profile: &str) -> Vec<String> {
    let profile: toml::Table = profile.parse().unwrap();
    let providers = profile["providers"].as_array().unwrap();
    providers.iter().map(|provider| provider["id"].as_str().unwrap().to_owned()).collect()
}

fn nothing_of_it_is_kept(machine: &Machine) {
    for dir in [&machine.state, &machine.runtime] {
        let found = Command::new("find").arg(dir).args(["-type", "f"]).output().unwrap();
        for path in String::from_utf8(found.stdout).unwrap().lines() {
            if !machine
                .published()
                .iter()
                .any(|(secret, _)| path.ends_with(secret.rsplit('/').next().unwrap()))
            {
                machine.no_secret_in(path, &fs::read(path).unwrap());
            }
        }
    }
}

#[test]
fn a_recovery_code_opens_the_key_when_the_card_is_gone() {
    let name = "provider-recovery";
    let (machine, card) = enrolled(name);
    let (before, _) = files(&machine, name);
    let published = machine.secret(name, "backup");

    let (code, output, screen) = add_code(&machine, name, &[]);
    let output = output.exits(0);
    assert!(output.stdout.contains("recovery-1 added; it opens the key alone"), "{output}");
    assert!(output.stdout.contains("Back the profile up again"), "{output}");
    // Once, and then wiped off: on the other screen of the terminal, which has no history.
    assert_eq!(screen.matches(&code).count(), 1, "{screen:?}");
    let (page, rest) = screen.split_once(&code).unwrap();
    assert!(page.contains("\x1b[?1049h"), "{screen:?}");
    assert!(
        rest.contains("\x1b[H\x1b[2J") && rest.ends_with("\x1b[H\x1b[2J\x1b[?1049l"),
        "{screen:?}"
    );
    let (after, kept) = files(&machine, name);
    assert_eq!(ids(&after), ["card-1", "recovery-1"]);
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(fs::read_to_string(&kept[0]).unwrap(), before);
    assert!(output.stdout.contains(kept[0].to_str().unwrap()), "{output}");
    nothing_of_it_is_kept(&machine);

    // The card is enough, as before, and nobody is asked.
    assert!(machine.apply().exits(0).unchanged(name));
    assert_eq!(machine.secret(name, "backup"), published);
    drop(card.retire());
    machine.run(&["scrub"]).exits(0);
    let agent = Agent::answer(&format!("cryptkey:{name}"), &code);
    assert_eq!(machine.apply().exits(0).result(name), "verified");
    assert!(agent.question()["Message"].contains("recovery-1"));
    assert_eq!(machine.secret(name, "backup"), published);
    nothing_of_it_is_kept(&machine);
}

#[test]
fn a_code_that_was_written_down_wrong_is_not_stored() {
    let name = "provider-wrong";
    let (machine, _card) = enrolled(name);
    let before = traces(&machine.state);
    let mut terminal = provider(&machine, name, &["add", "recovery"]);
    let code = terminal.code(&machine);
    terminal.type_line("");
    for wrong in ["", "AAAAAA", &code[..20]] {
        terminal.group(&code);
        terminal.type_line(wrong);
    }
    let (output, screen) = terminal.end(&machine);
    output.exits(21).says(&["Nothing was stored", "Destroy the paper"]);
    assert!(screen.ends_with("\x1b[H\x1b[2J\x1b[?1049l"), "{screen:?}");
    assert_eq!(traces(&machine.state), before);

    // ^C, wherever, leaves the terminal as it was.
    for at_the_group in [false, true] {
        let mut terminal = provider(&machine, name, &["add", "recovery"]);
        let code = terminal.code(&machine);
        if at_the_group {
            terminal.type_line("");
            let group = terminal.group(&code);
            terminal.press(group.as_bytes());
        }
        terminal.press(b"\x03");
        let running = terminal.running();
        running.wait_for("it was interrupted");
        let (output, screen) = terminal.end(&machine);
        output.exits(13).says(&["Nothing was changed"]);
        assert!(screen.ends_with("\x1b[H\x1b[2J\x1b[?1049l"), "{screen:?}");
        assert_eq!(traces(&machine.state), before);
    }

    // Killed while the code is shown.
    let mut terminal = provider(&machine, name, &["add", "recovery"]);
    terminal.code(&machine);
    terminal.running().kill();
    assert_eq!(terminal.end(&machine).0.code, None);
    assert_eq!(traces(&machine.state), before);

    // The third answer counts, too; another code by now, and an id of its own.
    let mut terminal = provider(&machine, name, &["add", "recovery", "--id", "paper"]);
    let other = terminal.code(&machine);
    assert_ne!(other, code);
    terminal.type_line("");
    for _ in 0..2 {
        terminal.group(&other);
        terminal.type_line("WRONG");
    }
    let group = terminal.group(&other).to_owned();
    terminal.type_line(&group);
    terminal.end(&machine).0.exits(0);
    assert_eq!(ids(&files(&machine, name).0), ["card-1", "paper"]);
    let again = machine.run(&["provider", "remove", "--key", name, "card-2"]).exits(10);
    again.says(&["none of that id", "card-1, paper"]);
}

#[test]
fn a_passphrase_is_typed_twice_and_opens_the_key() {
    let name = "provider-passphrase";
    let (machine, card) = enrolled(name);
    let published = machine.secret(name, "backup");
    let passphrase = "walnut zephyr oboe quiche";
    machine.keep_secret("the passphrase", passphrase.as_bytes());
    // What only the unit has is asked for, at the same terminal.
    declare(&machine, &card, name, json!({ "pin": { "credential": "vault.pin" } }));
    let mut terminal = provider(&machine, name, &["add", "passphrase"]);
    terminal.answer("PIN", Yubikey::PIN);
    terminal.wait_for("words that dice chose");
    terminal.answer("Passphrase passphrase-1 of key", "too short");
    terminal.wait_for("it has 9 characters");
    terminal.answer("Passphrase passphrase-1 of key", passphrase);
    terminal.answer("The same again:", &format!("{passphrase}s"));
    terminal.wait_for("differ");
    terminal.answer("Passphrase passphrase-1 of key", passphrase);
    terminal.answer("The same again:", passphrase);
    let (output, screen) = terminal.end(&machine);
    assert!(output.exits(0).stdout.contains("Keep the profile from others"));
    machine.no_secret_in("the terminal", screen.as_bytes());
    nothing_of_it_is_kept(&machine);

    drop(card.retire());
    machine.run(&["scrub"]).exits(0);
    let _agent = Agent::answer(&format!("cryptkey:{name}"), passphrase);
    assert_eq!(machine.apply().exits(0).result(name), "verified");
    assert_eq!(machine.secret(name, "backup"), published);
}

/// What the spec makes of what is left is said at once, not at the next boot.
#[test]
fn what_no_start_could_open_is_told() {
    let name = "provider-misfits";
    let (machine, card) = enrolled(name);
    add_code(&machine, name, &[]);
    declare(&machine, &card, name, json!({ "ask": false }));
    let removed = machine.run(&["provider", "remove", "--key", name, "card-1"]).exits(0);
    let says = "no start of the unit opens the key: 0 of these providers can be used";
    assert!(removed.stdout.contains(says), "{removed}");
    machine.apply().exits(10).says(&[".ask = true"]);
}

#[test]
fn without_a_terminal_nothing_is_asked() {
    let name = "provider-no-terminal";
    let (machine, card) = enrolled(name);
    let log = card.log().len();
    for kind in ["recovery", "passphrase"] {
        let command = machine.command(&["provider", "add", kind, "--key", name]);
        // A session of its own has no terminal.
        let mut apart = Command::new("setsid");
        apart.arg(command.get_program()).args(command.get_args());
        apart.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let output = machine.finish(Running::start(apart)).exits(13);
        output.says(&["there is no terminal", "Run it at a terminal"]);
    }
    assert_eq!(card.log_since(log), []);
}

#[test]
fn a_shipped_profile_is_changed_into_another_file() {
    let name = "provider-shipped";
    let (machine, card) = enrolled(name);
    let published = machine.secret(name, "backup");
    let shipped = machine.ship(name);
    declare(&machine, &card, name, json!({ "profile": shipped }));
    let before = fs::read(&shipped).unwrap();
    let log = card.log().len();
    let refused = machine.run(&["provider", "add", "recovery", "--key", name]).exits(10);
    refused.says(&["comes with the configuration", "--output"]);
    let there = shipped.to_str().unwrap();
    let taken = machine.run(&["provider", "add", "recovery", "--key", name, "--output", there]);
    taken.exits(10).says(&["it is there already"]);
    assert_eq!(card.log_since(log), []);

    let output = machine.dir().join("changed.toml");
    let (code, done, _) = add_code(&machine, name, &["--output", output.to_str().unwrap()]);
    assert!(done.exits(0).stdout.contains("the key's own profile is as it was"));
    assert_eq!(fs::read(&shipped).unwrap(), before);
    assert_eq!(fs::metadata(&output).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!machine.profile(name).exists());

    declare(&machine, &card, name, json!({ "profile": output }));
    drop(card.retire());
    machine.run(&["scrub"]).exits(0);
    let _agent = Agent::answer(&format!("cryptkey:{name}"), &code);
    assert_eq!(machine.apply().exits(0).result(name), "verified");
    assert_eq!(machine.secret(name, "backup"), published);
}

#[test]
fn a_profile_of_cryptkey_v1_is_brought_over_first() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    let name = "vault";
    declare(&machine, &card, name, json!({}));
    let vectors = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/profiles");
    fs::copy(vectors.join("piv-recovery.toml"), machine.profile(name)).unwrap();
    fs::set_permissions(machine.profile(name), Permissions::from_mode(0o600)).unwrap();
    let add = machine.run(&["provider", "add", "piv", "--key", name, "--card", "7"]).exits(17);
    add.says(&["version 1", "nixos-cryptkey import"]);
    let profile = files(&machine, name).0;
    let remove = machine.run(&["provider", "remove", "--key", name, &ids(&profile)[0]]).exits(17);
    remove.says(&["version 1", "nixos-cryptkey import"]);
    let status = machine.run(&["provider", "list", "--key", name]).exits(0);
    assert!(status.stdout.contains("version 1, opened by 2 of 2"), "{status}");
    assert_eq!(card.log(), []);
}

#[test]
fn list_says_what_status_says_and_more() {
    let name = "vault";
    let machine = Machine::new(2);
    let card = Yubikey::with(&machine, 0, &["--slot-key", &format!("9d={KEY}")]);
    declare(&machine, &card, name, json!({}));
    machine.apply().exits(0);
    let other = Yubikey::with(&machine, 1, &["--serial", "90210002"]);
    add_code(&machine, name, &[]).1.exits(0);
    machine.run(&["provider", "add", "piv", "--key", name, "--card", "90210002"]).exits(0);
    drop(other.retire());
    let cards = json!([{ "serial": Yubikey::SERIAL }, { "serial": "90210003" }]);
    declare(&machine, &card, name, json!({ "cards": cards, "threshold": 2 }));
    let log = card.log().len();
    let list = machine.run(&["provider", "list", "--key", name]).exits(0);
    prints(
        &machine,
        &list,
        &expect![[r#"
            exit code 0
            vault:
              profile: ID, version 2, opened by 1 of 3
              recipient: RECIPIENT (not verified: no profileId declares it)
              threshold: the spec declares 2; `nixos-cryptkey reseal` changes the profile's
              provider card-1: piv, card 90210001, slot 9d, GUID ID, PIN once, touch never, enrolled in "Yubico YubiKey CCID 0 00 00", share 1
              provider recovery-1: recovery, share 2
              provider card-2: piv, card 90210002, slot 9d, GUID ID, PIN once, touch never, enrolled in "Yubico YubiKey CCID 1 00 00", share 3; not used, as `cards` does not list it
              not enrolled: card 90210003; the next start at which it is there enrolls it
        "#]],
    );
    assert_eq!(card.log_since(log), []);
    let status = machine.run(&["status"]).exits(0);
    prints(
        &machine,
        &status,
        &expect![[r#"
            exit code 0
            vault:
              profile: ID, version 2, opened by 1 of 3
              recipient: RECIPIENT (not verified: no profileId declares it)
              threshold: the spec declares 2; `nixos-cryptkey reseal` changes the profile's
              provider card-1: piv, card 90210001, slot 9d, present
              provider recovery-1: recovery
              provider card-2: piv, card 90210002, slot 9d, absent; not used, as `cards` does not list it
              not enrolled: card 90210003; the next start at which it is there enrolls it
              published: backup (root:root 0400, 64 bytes)
            Yubico YubiKey CCID 0 00 00: card 90210001, GUID ID, 3 PIN tries left, the maker's management key
              9d: P-256 key SHA256:Wnp4zKSg9CDZvGK7Zpw8J1njn3I9OuENy+DwgVoH7NQ, PIN once, touch never
            Yubico YubiKey CCID 0 00 01: empty
            Yubico YubiKey CCID 1 00 00: empty
            Yubico YubiKey CCID 1 00 01: empty
        "#]],
    );

    let list = machine.run(&["provider", "list", "--key", name, "--json"]).exits(0).json();
    let mut status = machine.run(&["status", "--json"]).exits(0).json();
    let profile = &mut status["keys"][name]["profile"];
    let present = profile["providers"].as_array_mut().unwrap().iter_mut();
    let present: Vec<_> =
        present.map(|provider| provider.as_object_mut().unwrap().shift_remove("present")).collect();
    assert_eq!(present, [Some(json!(true)), None, Some(json!(false))]);
    assert_eq!(list["profile"], *profile);
    assert_eq!(list["profile"]["notEnrolled"][0]["serial"], "90210003");
    assert_eq!(list["profile"]["declaredThreshold"], 2);

    machine.lose(name);
    machine.run(&["provider", "list", "--key", name]).exits(17).says(&["there is none"]);
}
