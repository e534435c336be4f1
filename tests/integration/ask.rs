//! The PIN from a person, through the real systemd-ask-password and an agent of our own.

use std::os::unix::net::UnixDatagram;

use serde_json::json;

use crate::support::{Client, Machine, TestCard, Yubikey, agent::Agent};

const READER: &str = "Yubico YubiKey CCID 0 00 00";

/// A machine with one key of that name (a name is also the question's id, so that each test has its
/// own), whose PIN is asked for.
fn machine(name: &str, soft: bool) -> (Machine, Yubikey) {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    let key = machine.key(&card, json!({ "pin": { "ask": true }, "softFail": soft }));
    machine.spec(json!({ name: key }));
    (machine, card)
}

#[test]
fn the_right_answer_opens() {
    let (machine, card) = machine("ask-right", false);
    let agent = Agent::answer("cryptkey:ask-right", Yubikey::PIN);
    let output = machine.apply().exits(0);
    assert_eq!(output.result("ask-right"), "enrolled");
    let question = agent.question();
    let message = &question["Message"];
    for part in ["PIN", "card 90210001", "ask-right", "tries left: 3"] {
        assert!(message.contains(part), "{message}");
    }
    drop(agent);
    let _again = Agent::answer("cryptkey:ask-right", Yubikey::PIN);
    assert_eq!(machine.apply().exits(0).result("ask-right"), "verified");
    assert_eq!(card.presented(), 2);
}

#[test]
fn a_rejected_answer_is_not_asked_for_again_in_that_run() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    let ask = json!({ "ask": true });
    machine.spec(json!({
        "ask-rejected-1": machine.key(&card, json!({ "pin": ask })),
        "ask-rejected-2": machine.key(&card, json!({ "pin": ask, "slot": "82" })),
    }));
    machine.keep_secret("the typed PIN", b"583920");
    let first = Agent::answer("cryptkey:ask-rejected-1", "583920");
    let second = Agent::answer("cryptkey:ask-rejected-2", "583920");
    let output = machine.apply().exits(15);
    first.question();
    assert!(!output.stderr.contains("ask-rejected-2: asking"), "{output}");
    assert!(second.asked().is_none(), "{output}");
    assert_eq!((card.presented(), card.tries()), (1, 2));
}

#[test]
fn who_declines_gives_no_answer() {
    for soft in [false, true] {
        let (machine, card) = machine("ask-declined", soft);
        let _agent = Agent::decline("cryptkey:ask-declined");
        let output = machine.apply();
        if soft {
            assert_eq!(output.exits(0).result("ask-declined"), "skipped");
        } else {
            output.exits(13).says(&["no answer"]);
        }
        assert_eq!((card.presented(), card.generated()), (0, 0));
    }
}

#[test]
fn an_answer_that_is_no_pin_is_not_presented() {
    let (machine, card) = machine("ask-short", false);
    let _agent = Agent::answer("cryptkey:ask-short", "12");
    machine.apply().exits(14).says(&["2 characters"]);
    assert_eq!(card.presented(), 0);
}

#[test]
fn no_transaction_is_held_while_a_person_types() {
    let (machine, card) = machine("ask-slow", false);
    let agent = Agent::ignore("cryptkey:ask-slow");
    let running = machine.start();
    let question = agent.question();
    // Another program has the card to itself, and leaves it reset.
    let mut other = Client::connected(&machine, READER, "exclusive");
    other.ask("begin");
    other.select();
    assert_eq!(other.status("00200080"), "63c3");
    other.ask("end reset");
    other.ask("disconnect reset");
    let socket = UnixDatagram::unbound().unwrap();
    let answer = format!("+{}", Yubikey::PIN);
    socket.send_to(answer.as_bytes(), &question["Socket"]).unwrap();
    let output = machine.finish(running).exits(0);
    assert_eq!(output.result("ask-slow"), "enrolled");
    assert_eq!(card.presented(), 1);
}

/// The answer is for the card that was there when it was asked for.
#[test]
fn an_answer_is_not_presented_to_another_card() {
    let (machine, card) = machine("ask-swapped", false);
    let agent = Agent::ignore("cryptkey:ask-swapped");
    let running = machine.start();
    let question = agent.question();
    drop(card.retire());
    let other = Yubikey::with(&machine, 0, &["--serial", "90210002"]);
    let socket = UnixDatagram::unbound().unwrap();
    let again = Agent::decline_where("cryptkey:ask-swapped", "card 90210002");
    let answer = format!("+{}", Yubikey::PIN);
    socket.send_to(answer.as_bytes(), &question["Socket"]).unwrap();
    machine.finish(running).exits(13);
    assert!(again.asked().is_some());
    assert_eq!(other.presented(), 0);
}
