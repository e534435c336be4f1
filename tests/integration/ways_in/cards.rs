//! Two cards of which one is enough: what is wrong with the first does not keep the second from
//! opening the key.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Client, TestCard, Yubikey, sealed::Sealed};

/// What is wrong with the first card.
struct Wrong {
    name: &'static str,
    /// Makes it so, before each of the runs.
    make: fn(&mut Sealed),
    /// The exit code where no other card is there.
    alone: i32,
    /// What is said of it.
    says: &'static [&'static str],
    /// What opening the key with the second card costs the first one's PIN, and the run after that.
    tries: [u64; 2],
}

const WRONG_PIN: Wrong = Wrong {
    name: "ways-wrong-pin",
    make: |sealed| sealed.pin(0, "583920"),
    alone: 15,
    says: &["the card rejected it"],
    tries: [2, 2],
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
    alone: 14,
    says: &["its PIN is blocked"],
    tries: [0, 0],
};

const NO_PIN_FILE: Wrong = Wrong {
    name: "ways-no-pin",
    make: |sealed| {
        let _ = fs::remove_file(sealed.machine.dir().join("card-1.pin"));
    },
    alone: 14,
    says: &["card-1.pin"],
    tries: [3, 3],
};

const OTHER_KEY: Wrong = Wrong {
    name: "ways-other-key",
    make: |sealed| {
        let other = ["--serial", "1", "--slot-key", "9d=generate"];
        let other = Yubikey::with(&sealed.machine, 2, &other);
        let key = other.memory()["slots"]["9d"].clone();
        drop(other.retire());
        edit(sealed, |memory| memory["slots"]["9d"] = key);
    },
    alone: 16,
    says: &["slot 9d holds SHA256:", "sealed to SHA256:"],
    tries: [3, 3],
};

const EMPTIED: Wrong = Wrong {
    name: "ways-emptied",
    make: |sealed| {
        edit(sealed, |memory| drop(memory["slots"].as_object_mut().unwrap().remove("9d")));
    },
    alone: 16,
    says: &["slot 9d is empty"],
    tries: [3, 3],
};

const VANISHED: Wrong = Wrong {
    name: "ways-vanished",
    make: |sealed| {
        sealed.cards[0].insert();
        sealed.cards[0].tell("fault ins 87 remove");
    },
    alone: 11,
    says: &["starting over"],
    tries: [3, 3],
};

const MUTE: Wrong = Wrong {
    name: "ways-mute",
    make: |sealed| sealed.cards[0].tell("fault ins 87 sw 6f00"),
    alone: 19,
    says: &["6f00"],
    tries: [3, 3],
};

const UNTOUCHED: Wrong = Wrong {
    name: "ways-untouched",
    make: |sealed| {
        sealed.cards[0].tell("touch wait");
        sealed.cards[1].tell("touch give");
    },
    alone: 13,
    says: &["no touch came within 1 s"],
    tries: [3, 3],
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
    fn extra(&self, more: Value) -> Value {
        let touched = self.name == UNTOUCHED.name;
        let mut extra = json!({
            "touchPolicy": if touched { "always" } else { "never" }, "touchTimeoutSec": 1,
        });
        crate::support::machine::merge(&mut extra, more);
        extra
    }

    fn check(&self) {
        // The third reader is for a test that makes a card.
        let args: &[&str] = if self.name == UNTOUCHED.name {
            &["--slot-policy", "9d=once,always", "--touch-timeout-ms", "600000"]
        } else {
            &[]
        };
        let mut sealed = Sealed::with(self.name, 1, 3, &[], args);
        drop(sealed.cards.pop().unwrap().retire());

        sealed.declare(self.extra(json!({})));
        (self.make)(&mut sealed);
        let profile = sealed.profile();
        for tries in self.tries {
            let output = sealed.boot().exits(0).says(self.says);
            assert_eq!(output.result(self.name), "verified");
            if self.name != VANISHED.name {
                output.says(&["warning: ", "Going on with what else opens the key"]);
            }
            sealed.is_open();
            assert_eq!(sealed.cards[0].tries(), tries);
            assert_eq!(sealed.profile(), profile);
            if self.name == VANISHED.name || self.name == MUTE.name {
                (self.make)(&mut sealed);
            }
            if self.name == WRONG_PIN.name {
                // From now on it is not presented.
                assert_eq!(sealed.cards[0].presented(), 1);
            }
        }

        // Alone, it is what is wrong.
        sealed.cards[1].remove();
        if self.name == WRONG_PIN.name {
            sealed.machine.run(&["pin", "forget", "--card", "90210001"]).exits(0);
        }
        for soft in [false, true] {
            sealed.declare(self.extra(json!({ "softFail": soft, "cardTimeoutSec": 1 })));
            let is_forgiven = soft && [11, 13].contains(&self.alone);
            let output = sealed.boot().exits(if is_forgiven { 0 } else { self.code(soft) });
            let is_said = if soft && self.name == WRONG_PIN.name {
                output.says(&["rejected this very PIN", "; and", "it was not there"])
            } else {
                output.says(self.says).says(&["it was not there"])
            };
            let result = if is_forgiven { "skipped" } else { "failed" };
            assert_eq!(is_said.result(self.name), result);
            assert!(sealed.machine.published().is_empty());
            if self.name == VANISHED.name || self.name == MUTE.name {
                (self.make)(&mut sealed);
            }
        }

        // And the second one opens it alone.
        sealed.cards[0].remove();
        sealed.cards[1].insert();
        sealed.declare(self.extra(json!({})));
        sealed.boot().exits(0);
        sealed.is_open();
        assert_eq!(sealed.profile(), profile);
    }

    /// The exit code where it is alone; a rejected PIN is refused from then on.
    fn code(&self, again: bool) -> i32 {
        if again && self.name == WRONG_PIN.name { 14 } else { self.alone }
    }
}

#[test]
fn a_wrong_pin() {
    WRONG_PIN.check();
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
