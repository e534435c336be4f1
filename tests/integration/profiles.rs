//! Rule 3: a lost, damaged or strange profile never becomes a new key.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Machine, TestCard, Yubikey, published::traces};

/// A machine with an enrolled virtual card, and the id of the profile.
fn enrolled() -> (Machine, Yubikey, String) {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({}));
    let output = machine.apply().exits(0);
    let json = output.json();
    let id = json["keys"]["vault"]["profileId"].as_str().unwrap();
    (machine, card, id.to_owned())
}

#[test]
fn the_line_that_enrollment_prints_is_right() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({}));
    let output = machine.run(&["apply"]).exits(0);
    let (_, id) = output
        .stdout
        .split_once("security.cryptkey.keys.vault.profileId = \"")
        .unwrap_or_else(|| panic!("{output}"));
    let id = id.split('"').next().unwrap();
    machine.vault(&card, json!({ "profileId": id }));
    assert_eq!(machine.apply().exits(0).result("vault"), "verified");
}

#[test]
fn a_declared_profile_that_is_lost_is_no_new_key() {
    let (machine, card, id) = enrolled();
    let published = machine.published();
    fs::remove_file(machine.profile("vault")).unwrap();
    machine.vault(&card, json!({ "profileId": id }));
    let before = card.log().len();
    let output = machine.apply().exits(17);
    output.says(&[&id, "is declared and is not there", "backup"]);
    assert_eq!(card.log_since(before), []);
    assert!(!machine.profile("vault").exists());
    assert_eq!(machine.published(), published);

    // Nor where the whole state directory is not mounted.
    fs::remove_dir_all(&machine.state).unwrap();
    machine.apply().exits(17).says(&[&id]);
    assert_eq!(card.log_since(before), []);
}

#[test]
fn another_profile_than_the_declared_one_is_refused() {
    let (machine, card, id) = enrolled();
    machine.lose("vault");
    machine.apply().exits(0);
    machine.vault(&card, json!({ "profileId": id }));
    let before = card.presented();
    machine.apply().exits(17).says(&[&id, "declares"]);
    assert_eq!(card.presented(), before);
}

#[test]
fn a_card_that_the_spec_does_not_list_sees_no_pin() {
    let (machine, card, _) = enrolled();
    machine.vault(&card, json!({ "cards": [{ "serial": "55555555" }] }));
    let before = card.presented();
    machine.apply().exits(10).says(&["sealed to card", "does not list"]);
    assert_eq!(card.presented(), before);
}

#[test]
fn a_state_directory_that_can_not_be_made_is_found_before_the_pin() {
    let mut machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.state = machine.dir().join("not-mounted/state");
    machine.vault(&card, json!({}));
    machine.apply().exits(17).says(&["not-mounted/state"]);
    assert_eq!((card.presented(), card.generated()), (0, 0));
}

#[test]
fn enroll_never_enrolls_nothing() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({ "enroll": "never" }));
    machine.apply().exits(17).says(&["enroll", "never"]);
    assert_eq!((card.log(), machine.published()), (vec![], vec![]));
}

#[test]
fn a_damaged_profile_is_named_and_left_alone() {
    let (machine, _card, _) = enrolled();
    let path = machine.profile("vault");
    let whole = fs::read_to_string(&path).unwrap();
    let published = machine.published();
    let mut damaged: Vec<String> = [0, 1, whole.len() / 3, whole.len() / 2, whole.len() - 2]
        .map(|length| whole[..length].to_owned())
        .into();
    // A digit of every value that is sealed in one way or another.
    for field in ["output_salt", "integrity", "encrypted_share", "nonce", "share_salt", "salt"] {
        damaged.push(with_another_digit(&whole, field));
    }
    damaged.push(whole.replace("threshold = 1", "threshold = 2"));
    damaged.push(whole.replace("version = 2", "version = 3"));
    damaged.push(whole.replace("name = \"vault\"", "name = \"other\""));
    damaged.push(whole.replace("card_name = \"", "card_name = \"other \""));
    damaged.push(format!("{whole}\nsurplus = 1\n"));
    for text in damaged {
        assert_ne!(text, whole);
        fs::write(&path, &text).unwrap();
        let before = traces(&machine.state);
        let output = machine.apply().says(&["vault.toml"]);
        // Of a share that does not open, it may be the card that changed.
        assert!([Some(16), Some(17)].contains(&output.code), "{output}");
        assert_eq!(traces(&machine.state), before, "{output}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(machine.published(), published);
    }
    // What the card tells otherwise is told before the profile is opened.
    fs::write(&path, whole.replace("never", "always")).unwrap();
    machine
        .apply()
        .exits(16)
        .says(&["its profile remembers once and always", "restore the profile"]);
    assert_eq!(machine.published(), published);
    fs::write(&path, &whole).unwrap();
    assert_eq!(machine.apply().exits(0).result("vault"), "verified");
}

/// The text with the first digit of a field's value replaced.
fn with_another_digit(text: &str, field: &str) -> String {
    let start = format!("{field} = \"");
    let lines = text.lines().map(|line| {
        let Some((before, value)) = line.split_once(&start) else {
            return line.to_owned();
        };
        if !before.trim().is_empty() {
            return line.to_owned();
        }
        let digit = if value.starts_with('0') { '1' } else { '0' };
        format!("{before}{start}{digit}{}", &value[1..])
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// A profile of cryptkey v1 from the vectors, as a key of this machine, and what is known of it.
fn vector(machine: &Machine, name: &str, mode: u32) -> Value {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/profiles");
    let path = machine.profile("vault");
    fs::copy(dir.join(format!("{name}.toml")), &path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    let known = fs::read_to_string(dir.join(format!("{name}.json"))).unwrap();
    serde_json::from_str(&known).unwrap()
}

/// A card of the vectors in a reader.
fn card_of(machine: &Machine, known: &Value, index: usize) -> Yubikey {
    let card = &known["cards"][index];
    let text = |field: &str| card[field].as_str().unwrap();
    let key = format!("{}={}", text("slot"), text("private_key"));
    // "0" or nothing: any card.
    let serial = card["serial"].as_str().filter(|s| !s.is_empty() && *s != "0");
    let serial = serial.unwrap_or(Yubikey::SERIAL);
    Yubikey::with(machine, index, &["--serial", serial, "--slot-key", &key])
}

/// Two cards in two readers reach the threshold of two.
#[test]
fn a_profile_of_cryptkey_v1_opens_with_two_cards() {
    let machine = Machine::new(2);
    let known = vector(&machine, "piv-piv-recovery", 0o600);
    let cards = [card_of(&machine, &known, 0), card_of(&machine, &known, 1)];
    let outputs = known["outputs"].as_object().unwrap();
    let secrets: serde_json::Map<_, _> = outputs
        .keys()
        .map(|usage| (usage.clone(), json!({ "use": usage, "format": "hex" })))
        .collect();
    machine.vault(&cards[0], json!({ "secrets": secrets }));
    let output = machine.apply().exits(0);
    let output = output.says(&["warning: ", "version 1", "without a card"]);
    assert_eq!(output.result("vault"), "verified");
    for (usage, expected) in outputs {
        let published = machine.secret("vault", usage);
        assert_eq!(published, expected.as_str().unwrap().as_bytes());
    }
    for card in &cards {
        assert_eq!(card.presented(), 1);
    }
    // The plan lets go of the first card before it looks for the second.
    let plan = machine.run(&["plan", "--json"]).exits(0).json();
    assert_eq!(plan["keys"]["vault"]["hangsOn"], Value::Null, "{plan:#}");
    let [_first, second] = cards;
    drop(second.retire());
    let plan = machine.run(&["plan", "--json"]).exits(0).json();
    let hangs_on = "the card; if it stays away: ask a person for what opens share 3";
    assert_eq!(plan["keys"]["vault"]["hangsOn"], hangs_on, "{plan:#}");
}

/// Threshold 1: either card is enough.
#[test]
fn a_profile_of_two_cards_opens_with_either() {
    for index in [0, 1] {
        let machine = Machine::new(2);
        let known = vector(&machine, "piv-piv-recovery-any", 0o600);
        let card = card_of(&machine, &known, index);
        let secrets = json!({ "backups": { "format": "hex" } });
        machine.vault(&card, json!({ "secrets": secrets }));
        assert_eq!(machine.apply().exits(0).result("vault"), "verified");
        let expected = known["outputs"]["backups"].as_str().unwrap();
        assert_eq!(machine.secret("vault", "backups"), expected.as_bytes());
        assert_eq!(card.presented(), 1);
    }
}

#[test]
fn a_profile_that_takes_more_than_its_cards_is_out_of_reach_where_nobody_is_asked() {
    let machine = Machine::new(1);
    let known = vector(&machine, "piv-recovery", 0o600);
    let card = card_of(&machine, &known, 0);
    machine.vault(&card, json!({ "ask": false }));
    machine.apply().exits(10).says(&["takes 2 providers", "keys.vault.ask = true"]);
    assert_eq!(card.log(), []);
}

#[test]
fn a_profile_of_cryptkey_v1_that_others_may_read_is_refused() {
    let machine = Machine::new(2);
    let known = vector(&machine, "piv-piv-recovery", 0o644);
    let cards = [card_of(&machine, &known, 0), card_of(&machine, &known, 1)];
    machine.vault(&cards[0], json!({}));
    machine.apply().exits(18).says(&["vault.toml", "0644"]);
    assert_eq!(cards.map(|card| card.presented()), [0, 0]);
}

#[test]
fn a_shipped_profile_is_used_and_nothing_enrolled_beside_it() {
    let (machine, card, _) = enrolled();
    let secret = machine.secret("vault", "backup");
    let shipped = machine.dir().join("shipped.toml");
    fs::copy(machine.profile("vault"), &shipped).unwrap();
    fs::set_permissions(&shipped, Permissions::from_mode(0o444)).unwrap();
    machine.lose("vault");
    machine.vault(&card, json!({ "profile": shipped }));
    assert_eq!(machine.apply().exits(0).result("vault"), "verified");
    assert_eq!(machine.secret("vault", "backup"), secret);
    assert_eq!(machine.profiles(), [""; 0]);

    // The same one in the state directory is no conflict, another one is.
    fs::copy(&shipped, machine.profile("vault")).unwrap();
    fs::set_permissions(machine.profile("vault"), Permissions::from_mode(0o600)).unwrap();
    assert_eq!(machine.apply().exits(0).result("vault"), "verified");
    machine.lose("vault");
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    machine.vault(&card, json!({ "profile": shipped }));
    let presented = card.presented();
    let output = machine.apply().exits(17);
    output.says(&["shipped.toml", "vault.toml", "in the state directory"]);
    assert_eq!(card.presented(), presented);

    // One that is not there is an error, and no reason to make one.
    machine.lose("vault");
    machine.vault(&card, json!({ "profile": machine.dir().join("missing.toml") }));
    machine.apply().exits(17).says(&["missing.toml"]);
    assert_eq!(card.presented(), presented);
}

#[test]
fn a_replaced_key_is_told_before_the_pin() {
    let (machine, card, _) = enrolled();
    let done = machine
        .pcscd
        .command("ykman")
        .args(["--reader", &card.reader(), "piv", "keys", "generate"])
        .args(["--algorithm", "ECCP256", "9d"])
        .args(["--management-key", "010203040506070801020304050607080102030405060708"])
        .arg("-")
        .output()
        .expect("apt-get install yubikey-manager");
    assert!(done.status.success(), "{done:?}");
    let presented = card.presented();
    machine.apply().exits(16).says(&["slot 9d holds SHA256:", "sealed to SHA256:"]);
    assert_eq!(card.presented(), presented);
}

#[test]
fn an_emptied_slot_is_told_before_the_pin() {
    let (machine, card, _) = enrolled();
    let presented = card.presented();
    let dir = card.retire();
    edit_memory(&dir, |memory| {
        assert!(memory["slots"].as_object_mut().unwrap().remove("9d").is_some());
    });
    let card = Yubikey::again(&machine, 0, dir);
    machine.apply().exits(16).says(&["slot 9d is empty"]);
    assert_eq!(card.presented(), presented);
    assert_eq!(card.generated(), 1);
}

/// Such a card tells its key in no way: it takes the PIN and a key agreement to find out.
#[test]
fn a_replaced_key_of_a_card_that_cannot_tell_is_told_too() {
    let machine = Machine::new(1);
    let key = ["--legacy", "--slot-key", "9d=generate"];
    let other = Yubikey::with(&machine, 0, &key).retire();
    let card = Yubikey::with(&machine, 0, &key);
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    let published = machine.published();
    let dir = card.retire();
    edit_memory(&dir, |memory| {
        memory["slots"] = memory_of(&other)["slots"].take();
    });
    let card = Yubikey::again(&machine, 0, dir);
    machine.apply().exits(16).says(&["vault.toml", "its key was replaced or the file was changed"]);
    assert_eq!((card.generated(), card.tries()), (0, 3));
    assert_eq!(machine.published(), published);
}

fn memory_of(dir: &TempDir) -> Value {
    serde_json::from_str(&fs::read_to_string(dir.path().join("card.json")).unwrap()).unwrap()
}

/// Changes what a card that is in no reader remembers.
fn edit_memory(dir: &TempDir, edit: impl FnOnce(&mut Value)) {
    let mut memory = memory_of(dir);
    edit(&mut memory);
    fs::write(dir.path().join("card.json"), memory.to_string()).unwrap();
}

#[test]
fn a_renamed_key_is_no_new_key() {
    let (machine, card, _) = enrolled();
    machine.spec(json!({ "renamed": machine.key(&card, json!({})) }));
    let presented = card.presented();
    let output = machine.apply().exits(17);
    output.says(&["vault.toml", "sealed to slot 9d", "renamed.toml"]);
    assert_eq!(card.presented(), presented);
    assert!(!machine.profile("renamed").exists());
    // Another slot of the card is free.
    machine.spec(json!({ "renamed": machine.key(&card, json!({ "slot": "82" })) }));
    machine.apply().exits(0);
}

#[test]
fn another_slot_than_the_sealed_one_is_refused() {
    let (machine, card, _) = enrolled();
    let before = card.log().len();
    machine.vault(&card, json!({ "slot": "82" }));
    machine.apply().exits(10).says(&["slot 82", "sealed to 9d"]);
    assert_eq!(card.log_since(before), []);
}

#[test]
fn two_runs_at_first_boot_make_one_profile() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({}));
    let both = [machine.start(), machine.start()];
    let mut results = both.map(|running| machine.finish(running).exits(0).result("vault"));
    results.sort();
    assert_eq!(results, ["enrolled", "verified"]);
    assert_eq!(card.generated(), 1);
    let expected = machine.expected("vault", &[card.private_key("9d")], "backups");
    assert_eq!(machine.secret("vault", "backup"), expected);
}

/// The id is public, and another program computes it too: SHA-256 or not, it follows from the file.
#[test]
fn every_command_names_the_same_id() {
    let (machine, _card, id) = enrolled();
    let status = machine.run(&["status", "--json"]).exits(0).json();
    assert_eq!(status["keys"]["vault"]["profile"]["id"], id.as_str());
    let plan = machine.run(&["plan"]).exits(0);
    assert!(plan.stdout.contains(&id), "{plan}");
    let verified = machine.apply().exits(0).json();
    assert_eq!(verified["keys"]["vault"]["profileId"], id.as_str());
    // The binary that the tests run is the one that was built for them.
    let version =
        Command::new(env!("CARGO_BIN_EXE_nixos-cryptkey")).arg("--version").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    assert_eq!(version.trim(), concat!("nixos-cryptkey ", env!("CARGO_PKG_VERSION")));
}
