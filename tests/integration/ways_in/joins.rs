//! A card that the spec lists and the profile does not know: it becomes one more way in.

use std::fs;

use nix::mount::{MntFlags, umount2};
use serde_json::{Value, json};

use super::super::{publishing::read_only, siblings::hold_turn};
use crate::support::{
    Machine, Output, TestCard, Yubikey,
    published::traces,
    ram::Ram,
    sealed::{Sealed, serial},
};

/// A machine with an enrolled card and one that is in no profile, each in a reader; what is declared.
struct Two {
    machine: Machine,
    first: Yubikey,
    new: Yubikey,
    secret: Vec<u8>,
}

impl Two {
    fn new() -> Self {
        let machine = Machine::new(2);
        let first = Yubikey::with(&machine, 0, &["--serial", &serial(0)]);
        let new = Yubikey::with(&machine, 1, &["--serial", &serial(1)]);
        machine.secret_file("new.pin", Yubikey::PIN);
        new.remove();
        let mut two = Self { machine, first, new, secret: Vec::new() };
        two.declare(json!({ "cards": [{ "serial": serial(0) }] }));
        two.machine.apply().exits(0);
        two.secret = two.machine.secret("vault", "backup");
        two.declare(json!({ "cardTimeoutSec": 600 }));
        two
    }

    fn declare(&self, extra: Value) {
        let pin = self.machine.dir().join("new.pin");
        let both = json!([
            { "serial": serial(0) }, { "serial": serial(1), "id": "spare", "pin": { "file": pin } },
        ]);
        let mut key = json!({ "cards": both });
        crate::support::machine::merge(&mut key, extra);
        self.machine.vault(&self.first, key);
    }

    fn boot(&self) -> Output {
        fs::remove_dir_all(&self.machine.runtime).unwrap();
        self.machine.apply()
    }

    #[track_caller]
    fn is_open(&self) {
        assert_eq!(self.machine.secret("vault", "backup"), self.secret);
    }

    /// The ids of the providers with their share indexes.
    fn providers(&self) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.machine.profile("vault")).unwrap();
        let table: toml::Table = text.parse().unwrap();
        let text = |value: &toml::Value| value.as_str().unwrap().to_owned();
        let providers = table["providers"].as_array().unwrap().iter();
        providers.map(|one| (text(&one["id"]), text(&one["params"]["share_index"]))).collect()
    }
}

#[test]
fn it_is_enrolled_once_the_secrets_are_published_and_opens_alone_from_then_on() {
    let two = Two::new();
    let old = fs::read(two.machine.profile("vault")).unwrap();
    two.new.insert();
    two.new.tell("fault ins 47 hang");
    fs::remove_dir_all(&two.machine.runtime).unwrap();
    let running = two.machine.start();
    two.new.tell("wait hang");
    // Its key is being made: nobody waits for that.
    two.is_open();
    two.new.tell("release");
    let output =
        two.machine.finish(running).exits(0).says(&["sealed to card 90210002 too, as spare"]);
    assert_eq!(output.result("vault"), "verified");
    two.is_open();
    assert_eq!(two.providers(), [("card-1".into(), "1".into()), ("spare".into(), "2".into())]);
    assert_eq!((two.first.generated(), two.new.generated()), (1, 1));
    let names = fs::read_dir(&two.machine.state).unwrap().map(|entry| entry.unwrap().path());
    let kept: Vec<_> = names.filter(|path| path.to_str().unwrap().contains(".toml.")).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(fs::read(&kept[0]).unwrap(), old);

    // From now on nothing changes any more.
    let before = (traces(&two.machine.state), two.new.log().len());
    two.boot().exits(0);
    assert_eq!((traces(&two.machine.state), two.new.log().len()), before);

    for card in [&two.first, &two.new] {
        let expected = two.machine.expected("vault", &[card.private_key("9d")], "backups");
        assert_eq!(two.secret, expected);
    }
    two.first.remove();
    assert_eq!(two.boot().exits(0).result("vault"), "verified");
    two.is_open();
}

/// Killed at each APDU of the new card, the next run has it enrolled, with one key.
#[test]
fn killed_anywhere_the_next_run_completes_it() {
    let mut two = Two::new();
    let old = fs::read(two.machine.profile("vault")).unwrap();
    two.new.insert();
    two.boot().exits(0);
    let apdus = two.new.log().len();
    assert!(apdus > 8, "{apdus}");
    for nth in 1..=apdus {
        fs::write(two.machine.profile("vault"), &old).unwrap();
        // As before the first time, when it was found out whether the reader resets.
        fs::remove_file(two.machine.state.join("readers.json")).unwrap();
        drop(two.new.retire());
        two.new = Yubikey::with(&two.machine, 1, &["--serial", &serial(1)]);
        two.new.tell(&format!("fault nth {nth} hang"));
        let mut running = two.machine.start();
        two.new.tell("wait hang");
        running.kill();
        two.new.tell("release");
        drop(running);
        // The last two tell whether the reader resets, when the profile is written.
        let known = if nth > apdus - 2 { 2 } else { 1 };
        assert_eq!(two.providers().len(), known, "killed at APDU {nth}");
        two.boot().exits(0);
        assert_eq!(two.providers().len(), 2, "killed at APDU {nth}");
        assert_eq!(two.new.generated(), 1, "killed at APDU {nth}");
        let expected = two.machine.expected("vault", &[two.new.private_key("9d")], "backups");
        assert_eq!(two.secret, expected, "killed at APDU {nth}");
    }
}

/// Nobody waits for a card that is to open the key some day.
#[test]
fn while_it_is_away_nothing_waits_and_nothing_is_written() {
    let two = Two::new();
    let before = (traces(&two.machine.state), two.new.log());
    for _ in 0..2 {
        let output = two.boot().exits(0);
        two.is_open();
        for said in ["waiting for", "warning: "] {
            assert!(!output.stderr.contains(said), "{output}");
        }
    }
    assert_eq!((traces(&two.machine.state), two.new.log()), before);
}

/// Nor, for long, for the run of another key that uses it.
#[test]
fn while_another_run_has_its_turn_at_it_the_key_goes_on_without() {
    let two = Two::new();
    two.declare(json!({ "cardTimeoutSec": 1 }));
    two.new.insert();
    let turn = hold_turn(&two.machine, &two.new);
    let output = two.machine.apply().exits(0);
    output.says(&["its turn at the card", "not sealed to that card yet"]);
    assert_eq!(two.providers().len(), 1);
    drop(turn);
    two.machine.apply().exits(0);
    assert_eq!(two.providers().len(), 2);
}

#[test]
fn a_wrong_pin_of_it_is_a_warning_and_one_try() {
    let two = Two::new();
    two.machine.secret_file("new.pin", "583920");
    two.new.insert();
    let old = fs::read(two.machine.profile("vault")).unwrap();
    for boot in 0..5 {
        let output = two.boot().exits(0);
        let said = if boot == 0 { "the card rejected it" } else { "rejected this very PIN" };
        let output = output.says(&["warning: ", said, "not sealed to that card yet"]);
        assert_eq!(output.result("vault"), "verified");
        two.is_open();
        assert_eq!((two.new.presented(), two.new.tries(), two.new.generated()), (1, 2, 0));
    }
    assert_eq!(fs::read(two.machine.profile("vault")).unwrap(), old);
    // Once the file is right, it joins.
    two.machine.secret_file("new.pin", Yubikey::PIN);
    two.boot().exits(0);
    assert_eq!(two.providers().len(), 2);
}

#[test]
fn what_fails_at_it_is_a_warning() {
    for fault in ["ins 47 sw 6f00", "ins 87 remove", "ins 20 remove-after", "ins fd flip 0 ff"] {
        let two = Two::new();
        two.new.insert();
        two.new.tell(&format!("fault {fault}"));
        let output = two.boot().exits(0);
        assert_eq!(output.result("vault"), "verified", "{fault}: {output}");
        two.is_open();
        assert!(two.new.tries() >= 2, "{fault}");
        // Until pcscd has seen that it was away, it takes it for what it was.
        two.new.remove();
        two.new.insert();
        let output = two.boot().exits(0);
        assert_eq!(two.providers().len(), 2, "{fault}: {output}");
        two.is_open();
    }
}

#[test]
fn a_state_directory_that_takes_no_profile_is_a_warning() {
    let ram = Ram::tmpfs("size=4m");
    let two = Two::new();
    two.new.insert();
    read_only(&ram, &two.machine.state);
    let output = two.boot().exits(0);
    let output =
        output.says(&["warning: ", "Read-only file system", "not sealed to that card yet"]);
    assert_eq!(output.result("vault"), "verified");
    two.is_open();
    assert_eq!((two.new.presented(), two.new.generated()), (0, 0));
    umount2(&two.machine.state, MntFlags::MNT_DETACH).unwrap();
    two.boot().exits(0);
    assert_eq!(two.providers().len(), 2);
}

#[test]
fn a_shipped_profile_is_not_changed() {
    let two = Two::new();
    two.new.insert();
    let shipped = two.machine.ship("vault");
    let old = fs::read(&shipped).unwrap();
    two.declare(json!({ "profile": shipped }));
    let output = two.boot().exits(0);
    output.says(&["warning: ", "card 90210002 can't open it", "comes with the configuration"]);
    two.is_open();
    assert_eq!((two.new.presented(), two.new.generated()), (0, 0));
    assert_eq!(fs::read(&shipped).unwrap(), old);
    assert_eq!(two.machine.profiles(), [""; 0]);
}

/// With a threshold of 2 a third card comes to two that open the key together, and to what a person
/// typed.
#[test]
fn it_joins_whatever_opened_the_key() {
    for away in [None, Some(0)] {
        let sealed = Sealed::new("ways-joins", 2, 3, &["recovery-1"]);
        // What the third card knows is forgotten: it is another one now.
        let third = json!({ "serial": "90210009", "id": "third" });
        let listed = json!([sealed.listed(0), sealed.listed(1), third]);
        sealed.declare(json!({ "cards": listed, "cardTimeoutSec": 0 }));
        sealed.cards[2].remove();
        let new = {
            let machine = &sealed.machine;
            machine.secret_file("virtual card.pin", Yubikey::PIN);
            Yubikey::with(machine, 2, &["--serial", "90210009"])
        };
        if let Some(away) = away {
            sealed.cards[away].remove();
        }
        let person = sealed.person(&[&sealed.code]);
        sealed.boot().exits(0).says(&["sealed to card 90210009 too, as third"]);
        sealed.is_open();
        assert_eq!(person.asked().is_some(), away.is_some());
        drop(person);
        let bystander = sealed.bystander();
        sealed.boot().exits(0);
        sealed.is_open();
        assert!(bystander.asked().is_none());
        assert_eq!(new.generated(), 1);
        assert!(sealed.profile().contains("share_index = \"5\""), "{}", sealed.profile());
    }
}
