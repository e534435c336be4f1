//! A new key that takes two cards to open.

use serde_json::{Value, json};

use crate::support::{Machine, TestCard, Yubikey, sealed::serial};

/// The spec of a key that takes two cards.
fn declare(machine: &Machine, card: &Yubikey, extra: Value) {
    let cards = [0, 1].map(|at| json!({ "serial": serial(at) }));
    let mut key = json!({ "cards": cards, "threshold": 2 });
    crate::support::machine::merge(&mut key, extra);
    machine.vault(card, key);
}

fn card(machine: &Machine, reader: usize, at: usize) -> Yubikey {
    Yubikey::with(machine, reader, &["--serial", &serial(at)])
}

/// That both cards together give the secret, and that another run changes nothing.
fn settled(machine: &Machine, keys: &[String; 2]) {
    let expected = machine.expected("vault", keys, "backups");
    assert_eq!(machine.secret("vault", "backup"), expected);
}

#[test]
fn two_cards_in_two_readers() {
    let machine = Machine::new(2);
    let cards = [0, 1].map(|at| card(&machine, at, at));
    declare(&machine, &cards[0], json!({}));
    assert_eq!(machine.apply().exits(0).result("vault"), "enrolled");
    settled(&machine, &[0, 1].map(|at| cards[at].private_key("9d")));
    assert_eq!(machine.apply().exits(0).result("vault"), "verified");
    assert_eq!([0, 1].map(|at| cards[at].generated()), [1, 1]);
    declare(&machine, &cards[0], json!({ "cardTimeoutSec": 1 }));
    for (at, card) in cards.iter().enumerate() {
        card.remove();
        machine.apply().exits(11).says(&[&serial(at)]);
        card.insert();
    }
}

#[test]
fn one_after_the_other_in_one_reader() {
    let machine = Machine::new(1);
    let first = card(&machine, 0, 0);
    declare(&machine, &first, json!({ "cardTimeoutSec": 600 }));
    let mut running = machine.start();
    running.wait_for("key vault: waiting for card 90210002");
    let keys = [first.private_key("9d")];
    let state = first.retire();
    let second = card(&machine, 0, 1);
    assert_eq!(machine.finish(running).exits(0).result("vault"), "enrolled");
    let keys = [keys[0].clone(), second.private_key("9d")];
    settled(&machine, &keys);
    let secret = machine.secret("vault", "backup");

    // And so at each boot.
    std::fs::remove_dir_all(&machine.runtime).unwrap();
    let mut running = machine.start();
    running.wait_for("key vault: waiting for card 90210001");
    assert!(machine.published().is_empty());
    drop(second.retire());
    let first = Yubikey::at(&machine, 0, state, &["--serial", &serial(0)]);
    assert_eq!(machine.finish(running).exits(0).result("vault"), "verified");
    assert_eq!(machine.secret("vault", "backup"), secret);
    assert_eq!(first.generated(), 1);
}

/// Killed while it waits for the second card, and at each APDU of that one.
#[test]
fn killed_between_the_cards_no_key_is_made_twice() {
    let machine = Machine::new(2);
    let cards = [0, 1].map(|at| card(&machine, at, at));
    cards[1].remove();
    declare(&machine, &cards[0], json!({}));
    let mut running = machine.start();
    running.wait_for("key vault: waiting for card 90210002");
    running.kill();
    drop(running);
    assert_eq!(machine.profiles(), [""; 0]);
    cards[1].insert();
    for nth in 1.. {
        cards[1].tell(&format!("fault nth {nth} hang"));
        let mut running = machine.start();
        let hangs = || cards[1].control("wait hang 1") == "ok";
        let comes_to_it = loop {
            if hangs() {
                break true;
            }
            if running.has_ended() {
                break false;
            }
        };
        // The last one ends before there is so many.
        if !comes_to_it {
            assert!((9..40).contains(&nth), "{nth}");
            cards[1].tell("faults clear");
            assert_eq!(machine.finish(running).exits(0).result("vault"), "enrolled");
            break;
        }
        running.kill();
        cards[1].tell("release");
        drop(running);
        assert_eq!(machine.profiles(), [""; 0], "killed at APDU {nth}");
    }
    settled(&machine, &[0, 1].map(|at| cards[at].private_key("9d")));
    assert_eq!([0, 1].map(|at| cards[at].generated()), [1, 1]);
}

#[test]
fn what_the_list_of_cards_can_not_meet_is_refused_before_any_card() {
    let machine = Machine::new(1);
    let first = card(&machine, 0, 0);
    for cards in [json!([]), json!([{ "serial": serial(0) }])] {
        declare(&machine, &first, json!({ "cards": cards }));
        let output = machine.apply().exits(10);
        output.says(&["threshold is 2", "security.cryptkey.keys.vault.cards", "provider add"]);
        assert_eq!(first.log(), []);
    }
}

/// What is wrong with one of them is the run's failure: a share of it would open nothing.
#[test]
fn a_card_that_fails_stops_it_and_leaves_nothing() {
    let machine = Machine::new(2);
    let cards = [0, 1].map(|at| card(&machine, at, at));
    let wrong = machine.secret_file("wrong.pin", "583920");
    let second = json!({ "serial": serial(1), "pin": wrong });
    declare(&machine, &cards[0], json!({ "cards": [{ "serial": serial(0) }, second] }));
    machine.apply().exits(15);
    assert_eq!(machine.profiles(), [""; 0]);
    assert!(machine.published().is_empty());
    assert_eq!(cards[1].generated(), 0);
    declare(&machine, &cards[0], json!({}));
    machine.apply().exits(0);
    assert_eq!([0, 1].map(|at| cards[at].generated()), [1, 1]);
}
