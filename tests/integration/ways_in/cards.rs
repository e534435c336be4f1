//! Two cards of which one is enough: what is wrong with the first does not keep the second from
//! opening the key.

use std::{fs, process::Command};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Client, Output, TestCard, Yubikey, cards::virtual_card, machine::merge, sealed::Sealed,
};

/// What is wrong with the first card.
struct Wrong {
    name: &'static str,
    /// Makes it so, before each run.
    make: fn(&mut Sealed),
    /// What is said of it, in the first run and in later ones.
    says: [&'static str; 2],
    /// The exit code of a later run where no other card is there.
    alone: i32,
    /// The tries that its PIN has after the first run, and after all.
    tries: u64,
}

const WRONG_PIN: Wrong = Wrong {
    name: "ways-wrong-pin",
    make: |sealed| sealed.pin(0, "583920"),
    says: ["the card rejected it", "rejected this very PIN"],
    alone: 14,
    tries: 2,
};

const LOCKED: Wrong = Wrong {
    name: "ways-locked",
    make: |sealed| {
        let mut other = Client::connected(&sealed.machine, &sealed.cards[0].reader(), "shared");
        other.select();
        for _ in 0..3 {
            other.status("0020008008353833393230ffff");
        }
        assert_eq!(other.status("00200080"), "6983");
    },
    says: ["its PIN is blocked", "its PIN is blocked"],
    alone: 14,
    tries: 0,
};

const NO_PIN_FILE: Wrong = Wrong {
    name: "ways-no-pin",
    make: |sealed| {
        let _ = fs::remove_file(sealed.machine.dir().join("card-1.pin"));
    },
    says: ["card-1.pin", "card-1.pin"],
    alone: 14,
    tries: 3,
};

const OTHER_KEY: Wrong = Wrong {
    name: "ways-other-key",
    make: |sealed| {
        let dir = TempDir::new().unwrap();
        let mut other = Command::new(virtual_card());
        other.arg("--state").arg(dir.path()).args(["--init-only", "--slot-key", "9d=generate"]);
        assert!(other.args(["--port", "1"]).status().unwrap().success());
        let other = fs::read_to_string(dir.path().join("card.json")).unwrap();
        let other: Value = serde_json::from_str(&other).unwrap();
        edit(sealed, |memory| memory["slots"]["9d"] = other["slots"]["9d"].clone());
    },
    says: ["slot 9d holds SHA256:", "slot 9d holds SHA256:"],
    alone: 16,
    tries: 3,
};

const EMPTIED: Wrong = Wrong {
    name: "ways-emptied",
    make: |sealed| {
        edit(sealed, |memory| drop(memory["slots"].as_object_mut().unwrap().remove("9d")));
    },
    says: ["slot 9d is empty", "slot 9d is empty"],
    alone: 16,
    tries: 3,
};

const VANISHED: Wrong = Wrong {
    name: "ways-vanished",
    make: |sealed| {
        sealed.cards[0].remove();
        sealed.cards[0].insert();
        sealed.cards[0].tell("fault ins 87 remove");
    },
    says: ["starting over", "starting over"],
    alone: 11,
    tries: 3,
};

const MUTE: Wrong = Wrong {
    name: "ways-mute",
    make: |sealed| sealed.cards[0].tell("fault ins 87 sw 6f00"),
    says: ["the card answered status 6F00", "the card answered status 6F00"],
    alone: 19,
    tries: 3,
};

const UNTOUCHED: Wrong = Wrong {
    name: "ways-untouched",
    make: |sealed| {
        // It may still wait for the one of the run before, which holds it.
        sealed.cards[0].tell("touch give");
        let mut other = Client::connected(&sealed.machine, &sealed.cards[0].reader(), "shared");
        other.ask("begin");
        other.ask("end leave");
        other.ask("disconnect leave");
        sealed.cards[0].tell("touch wait");
        sealed.cards[1].tell("touch give");
    },
    says: ["no touch came within 5 s", "no touch came within 5 s"],
    alone: 13,
    tries: 3,
};

/// Changes what the first card remembers.
fn edit(sealed: &mut Sealed, change: impl FnOnce(&mut Value)) {
    let card = sealed.cards.remove(0);
    let dir: TempDir = card.retire();
    let file = dir.path().join("card.json");
    let mut memory = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    change(&mut memory);
    fs::write(&file, memory.to_string()).unwrap();
    sealed.cards.insert(0, Yubikey::again(&sealed.machine, 0, dir));
}

impl Wrong {
    fn is(&self, other: &Self) -> bool {
        self.name == other.name
    }

    fn declare(&self, sealed: &Sealed, more: Value) {
        let touch = if self.is(&UNTOUCHED) { "always" } else { "never" };
        let mut extra = json!({ "touchPolicy": touch, "touchTimeoutSec": 5 });
        merge(&mut extra, more);
        sealed.declare(extra);
    }

    /// A boot with the card as it is.
    fn boot(&self, sealed: &mut Sealed) -> Output {
        (self.make)(sealed);
        sealed.boot()
    }

    fn check(&self) {
        let touched = ["--slot-policy", "9d=once,always", "--touch-timeout-ms", "8000"];
        let args = if self.is(&UNTOUCHED) { &touched[..] } else { &[] };
        let mut sealed = Sealed::with(self.name, 1, 2, &[], args);
        self.declare(&sealed, json!({}));
        let profile = sealed.profile();
        for says in [self.says[0], self.says[1], self.says[1]] {
            let output = self.boot(&mut sealed).exits(0).says(&[says]);
            assert_eq!(output.result(self.name), "verified");
            let is_warned = output.stderr.contains("Going on with what else opens the key.");
            // One that is gone is one that is not there.
            assert_eq!(is_warned, !self.is(&VANISHED), "{output}");
            sealed.is_open();
            assert_eq!(sealed.cards[0].tries(), self.tries);
        }

        // Alone, it is what is wrong.
        sealed.cards[1].remove();
        for soft in [false, true] {
            self.declare(&sealed, json!({ "softFail": soft, "cardTimeoutSec": 1 }));
            let is_forgiven = soft && [11, 13].contains(&self.alone);
            let output = self.boot(&mut sealed).exits(if is_forgiven { 0 } else { self.alone });
            let output = output.says(&[self.says[1], "looking for card", "card 90210002"]);
            assert_eq!(output.result(self.name), if is_forgiven { "skipped" } else { "failed" });
            assert!(sealed.machine.published().is_empty());
            assert_eq!(sealed.cards[0].tries(), self.tries);
        }

        // And the second one opens it alone.
        sealed.cards[0].remove();
        sealed.cards[1].insert();
        self.declare(&sealed, json!({}));
        sealed.boot().exits(0);
        sealed.is_open();
        assert_eq!(sealed.profile(), profile);
    }
}

#[test]
fn a_wrong_pin() {
    WRONG_PIN.check();
}

/// With no other card there, its first rejection is the run's failure, which nothing forgives.
#[test]
fn a_wrong_pin_alone() {
    let sealed = Sealed::new("ways-wrong-pin-alone", 1, 2, &[]);
    sealed.cards[1].remove();
    for (pin, soft) in [("583920", false), ("583921", true)] {
        sealed.pin(0, pin);
        sealed.declare(json!({ "softFail": soft, "cardTimeoutSec": 0 }));
        let output = sealed.boot().exits(15);
        output.says(&["the card rejected it", "; and", "card 90210002: it was not there"]);
    }
    assert_eq!(sealed.cards[0].tries(), 1);
}

#[test]
fn a_locked_card() {
    LOCKED.check();
}

#[test]
fn a_pin_file_that_is_not_there() {
    NO_PIN_FILE.check();
}

#[test]
fn another_key_in_the_slot() {
    OTHER_KEY.check();
}

#[test]
fn an_emptied_slot() {
    EMPTIED.check();
}

#[test]
fn a_card_that_vanishes() {
    VANISHED.check();
}

#[test]
fn a_card_that_fails() {
    MUTE.check();
}

#[test]
fn a_card_that_nobody_touches() {
    UNTOUCHED.check();
}

/// Either opens it, and the one that is there is not asked for where the other one is.
#[test]
fn either_opens_it_and_the_other_one_is_left_alone() {
    let sealed = Sealed::new("ways-either", 1, 2, &[]);
    for at in [0, 1] {
        sealed.cards[1 - at].remove();
        let output = sealed.boot().exits(0);
        sealed.is_open();
        assert!(!output.stderr.contains("waiting for"), "{output}");
        sealed.cards[1 - at].insert();
    }
    let presented = [0, 1].map(|at| sealed.cards[at].presented());
    assert_eq!(presented, [1, 1]);
    sealed.boot().exits(0);
    let log = sealed.cards[1].log().len();
    sealed.boot().exits(0);
    assert_eq!(sealed.cards[1].log().len(), log);
    assert_eq!(sealed.cards[0].presented(), 3);
}

/// Two shares of three, of whichever cards are there; the one that is away is not waited for.
#[test]
fn two_of_three_cards_are_enough_whichever_they_are() {
    let sealed = Sealed::new("ways-two-of-three", 2, 3, &[]);
    sealed.declare(json!({ "cardTimeoutSec": 600 }));
    for away in 0..3 {
        sealed.cards[away].remove();
        let output = sealed.boot().exits(0);
        sealed.is_open();
        assert!(!output.stderr.contains("waiting for"), "{output}");
        sealed.cards[away].insert();
    }
    sealed.declare(json!({ "cardTimeoutSec": 1 }));
    for away in [1, 2] {
        sealed.cards[away].remove();
    }
    let output = sealed.boot().exits(11);
    output.says(&["looking for card 90210002 or card 90210003", "not there within 1 s"]);
}
