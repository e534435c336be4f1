//! People are asked where the cards that are there do not open the key, and only there.

use std::os::unix::net::UnixDatagram;

use expect_test::expect;
use serde_json::json;

use crate::{
    cli::prints,
    support::{
        TestCard, Yubikey,
        agent::Agent,
        sealed::{PASSPHRASE, Sealed, serial},
    },
};

/// A code that opens nothing.
const OTHER_CODE: &str = "AAAAAA-BBBBBB-CCCCCC-DDDDDD-EEEEEE-FFFFFF-GGGGGG";

/// Two of: two cards and a recovery code.
fn two_of_three(name: &'static str) -> Sealed {
    let sealed = Sealed::new(name, 2, 2, &["recovery-1"]);
    sealed.declare(json!({ "cardTimeoutSec": 0 }));
    sealed
}

#[test]
fn which_cards_are_there_decides_whether_somebody_is_asked() {
    let sealed = two_of_three("ways-decides");
    let bystander = sealed.bystander();
    sealed.boot().exits(0);
    sealed.is_open();
    assert!(bystander.asked().is_none());
    drop(bystander);
    for away in [0, 1] {
        sealed.cards[away].remove();
        let presented = sealed.cards[1 - away].presented();
        let person = sealed.person(&[&sealed.code.to_lowercase()]);
        let output = sealed.boot().exits(0);
        assert_eq!(output.result(sealed.name), "verified");
        sealed.is_open();
        let question = person.question();
        assert_eq!(question["Message"], "Key ways-decides, recovery code recovery-1:");
        // The card comes first, so that nobody is asked for nothing.
        assert_eq!(sealed.cards[1 - away].presented(), presented + 1);
        let (card, asked) = (output.stderr.find("open share"), output.stderr.find("asking for"));
        assert!(card.unwrap() < asked.unwrap(), "{output}");
        sealed.cards[away].insert();
    }
    // No card at all: nobody is asked for what would be too little.
    for card in &sealed.cards {
        card.remove();
    }
    let bystander = sealed.bystander();
    sealed.boot().exits(11);
    assert!(bystander.asked().is_none());
}

/// With a threshold of 1 the code is enough.
#[test]
fn a_code_alone_opens_and_no_try_of_a_card_is_spent() {
    let sealed = Sealed::new("ways-code", 1, 2, &["recovery-1"]);
    sealed.pin(0, "583920");
    sealed.cards[1].remove();
    sealed.declare(json!({ "cardTimeoutSec": 0 }));
    let person = sealed.person(&[OTHER_CODE, "ABC", &sealed.code]);
    let output = sealed.boot().exits(0);
    let output = output.says(&[
        "the card rejected it",
        "Going on with what else opens the key",
        "it does not open the key; tries left: 2",
        "it has 3 characters, and a recovery code has 42; tries left: 1",
    ]);
    assert_eq!(output.result(sealed.name), "verified");
    sealed.is_open();
    let asked = person.questions(3);
    assert_eq!(
        asked.iter().map(|question| &question["Message"]).collect::<Vec<_>>(),
        [
            "Key ways-code, recovery code recovery-1:",
            "Wrong: it does not open the key. Key ways-code, recovery code recovery-1:",
            "Wrong: it has 3 characters, and a recovery code has 42. Key ways-code, recovery code \
             recovery-1:",
        ]
    );
    assert_eq!((sealed.cards[0].presented(), sealed.cards[0].tries()), (1, 2));
}

/// It waits for no card, and asks nobody.
#[test]
fn plan_tells_that_somebody_would_be_asked() {
    let sealed = Sealed::new("ways-plan", 1, 1, &["recovery-1"]);
    sealed.cards[0].remove();
    let bystander = sealed.bystander();
    let plan = sealed.machine.run(&["plan"]).exits(0);
    prints(
        &sealed.machine,
        &plan,
        &expect![[r#"
        exit code 0
        ways-plan:
          found: profile ID
          found: it was not there; 2 of 2 readers are empty
          1. find the card
          What follows hangs on this: the card; if it stays away: ask a person for what opens share 2.
    "#]],
    );
    assert!(bystander.asked().is_none());
}

#[test]
fn after_three_wrong_answers_it_ends_and_the_next_run_asks_again() {
    let sealed = Sealed::new("ways-three", 1, 1, &["recovery-1"]);
    sealed.cards[0].remove();
    sealed.declare(json!({ "cardTimeoutSec": 0, "softFail": true }));
    // What a person mistypes is as secret as what is right.
    sealed.machine.keep_secret("a mistyped code", OTHER_CODE.as_bytes());
    let person = sealed.person(&[OTHER_CODE, OTHER_CODE, OTHER_CODE, &sealed.code]);
    let output = sealed.boot();
    let class = output.json()["keys"][sealed.name]["error"]["class"].clone();
    assert_eq!(class, "wrong-answer", "{output}");
    assert_ne!(output.code, Some(0), "softFail forgives no wrong answer: {output}");
    output.says(&["3 answers did not open it", "No try of a card was spent"]);
    assert!(sealed.machine.published().is_empty());
    sealed.machine.apply().exits(0);
    sealed.is_open();
    person.questions(4);
    assert_eq!(sealed.cards[0].log(), []);
}

#[test]
fn nobody_answers() {
    let sealed = Sealed::new("ways-nobody", 1, 1, &["recovery-1", "passphrase-1"]);
    sealed.cards[0].remove();
    let id = "cryptkey:ways-nobody";
    for (is_declined, soft) in [(true, false), (true, true), (false, true)] {
        let limit = if is_declined { 60 } else { 1 };
        sealed.declare(json!({ "cardTimeoutSec": 0, "softFail": soft, "askTimeoutSec": limit }));
        let person = if is_declined { Agent::decline(id) } else { Agent::ignore(id) };
        let output = sealed.boot();
        assert_eq!(output.result(sealed.name), if soft { "skipped" } else { "failed" });
        // The card is what it came to first.
        let output = output.exits(if soft { 0 } else { 11 });
        let output =
            output.says(&["it was not there", "; and asking", "passphrase-1:”: no answer"]);
        // Who is not there for one question is not there for the next.
        assert!(person.question()["Message"].ends_with("passphrase passphrase-1:"));
        assert!(!output.stderr.contains("asking for recovery code"), "{output}");
        assert!(sealed.machine.published().is_empty());
    }
}

/// Whoever types nothing is there, and knows it not.
#[test]
fn an_empty_answer_leads_to_the_next_question() {
    let sealed = Sealed::new("ways-empty", 1, 1, &["recovery-1", "passphrase-1"]);
    sealed.cards[0].remove();
    sealed.declare(json!({ "cardTimeoutSec": 0 }));
    let person = sealed.person(&["", &sealed.code]);
    sealed.boot().exits(0).says(&["passphrase-1: nothing was typed"]);
    sealed.is_open();
    person.questions(2);
    drop(person);
    for soft in [false, true] {
        sealed.declare(json!({ "cardTimeoutSec": 0, "softFail": soft }));
        let _person = sealed.person(&["", ""]);
        sealed.boot().exits(if soft { 0 } else { 11 }).says(&["recovery-1: nothing was typed"]);
    }
}

#[test]
fn nobody_is_asked_where_that_is_not_wanted() {
    // The code is not needed: the cards are waited for.
    let sealed = Sealed::new("ways-never", 1, 1, &["recovery-1"]);
    sealed.cards[0].remove();
    sealed.declare(json!({ "ask": false, "cardTimeoutSec": 0 }));
    let bystander = sealed.bystander();
    sealed.boot().exits(11);
    assert!(bystander.asked().is_none());
    drop(bystander);
    // It is needed.
    let sealed = Sealed::new("ways-never-needed", 2, 1, &["recovery-1"]);
    sealed.declare(json!({ "ask": false, "cardTimeoutSec": 0 }));
    let bystander = sealed.bystander();
    let output = sealed.boot().exits(10);
    output.says(&[
        "it takes 2 providers; there are: cards 1, passphrases and recovery codes 1",
        "Set security.cryptkey.keys.ways-never-needed.ask = true",
    ]);
    assert!(bystander.asked().is_none());
    assert_eq!(sealed.cards[0].log(), []);
}

#[test]
fn two_that_are_typed() {
    let sealed = Sealed::new("ways-typed", 2, 1, &["recovery-1", "passphrase-1"]);
    sealed.cards[0].remove();
    sealed.declare(json!({ "cardTimeoutSec": 0 }));
    let person = sealed.person(&[PASSPHRASE, &sealed.code]);
    sealed.boot().exits(0);
    sealed.is_open();
    let asked = person.questions(2);
    assert!(asked[0]["Message"].ends_with("passphrase passphrase-1:"), "{asked:?}");
    assert!(asked[1]["Message"].ends_with("recovery code recovery-1:"), "{asked:?}");
}

/// Of two passphrases a person knows one: the other one's three tries are wasted, and it opens.
#[test]
fn who_knows_only_the_second_one() {
    let sealed = Sealed::new("ways-second", 1, 1, &["recovery-1", "passphrase-1"]);
    sealed.cards[0].remove();
    sealed.declare(json!({ "cardTimeoutSec": 0 }));
    let person = sealed.person(&["1", "2", "3", &sealed.code]);
    sealed.boot().exits(0).says(&["3 answers did not open it"]);
    sealed.is_open();
    person.questions(4);
}

/// What the configuration ships may need somebody, and is good if somebody is asked.
#[test]
fn a_shipped_profile_of_a_card_and_a_code() {
    let sealed = Sealed::new("ways-shipped", 2, 1, &["recovery-1"]);
    let shipped = sealed.machine.ship(sealed.name);
    sealed.declare(json!({ "profile": shipped }));
    sealed.machine.run(&["check"]).exits(0);
    let _person = sealed.person(&[&sealed.code]);
    sealed.boot().exits(0);
    sealed.is_open();
    sealed.declare(json!({ "profile": shipped, "ask": false }));
    let check = sealed.machine.run(&["check"]).exits(10);
    assert!(check.stdout.contains("1 of its providers can be used here, and 2 open it"), "{check}");
    sealed.boot().exits(10);
}

/// A card and what somebody knows: both, always.
#[test]
fn a_card_and_a_passphrase() {
    let sealed = Sealed::new("ways-both", 2, 1, &["passphrase-1"]);
    let person = sealed.person(&["wrong", PASSPHRASE]);
    sealed.boot().exits(0);
    sealed.is_open();
    person.questions(2);
    assert_eq!(sealed.cards[0].presented(), 1);
    drop(person);

    for soft in [false, true] {
        sealed.declare(json!({ "softFail": soft }));
        let bystander = sealed.bystander();
        let output = sealed.boot().exits(if soft { 0 } else { 13 }).says(&["no answer"]);
        assert_eq!(output.result(sealed.name), if soft { "skipped" } else { "failed" });
        bystander.question();
    }

    // Without the card, nobody is asked for what would not do.
    sealed.cards[0].remove();
    sealed.declare(json!({ "cardTimeoutSec": 0 }));
    let bystander = sealed.bystander();
    sealed.boot().exits(11);
    assert!(bystander.asked().is_none());
    assert!(sealed.machine.published().is_empty());
}

/// A card that comes while the PIN of another one is typed is not asked for its own.
#[test]
fn who_typed_a_pin_is_not_asked_for_that_of_another_card() {
    let sealed = Sealed::new("ways-pins", 1, 2, &[]);
    sealed.cards[0].remove();
    let ask = |at| json!({ "serial": serial(at), "pin": { "ask": true } });
    sealed.declare(json!({ "cards": [ask(0), ask(1)] }));
    let agent = Agent::ignore("cryptkey:ways-pins");
    let running = sealed.machine.start();
    let question = agent.question();
    assert!(question["Message"].contains("card 90210002"), "{question:?}");
    sealed.cards[0].insert();
    let other = Agent::decline_where("cryptkey:ways-pins", "card 90210001");
    let answer = format!("+{}", Yubikey::PIN);
    UnixDatagram::unbound().unwrap().send_to(answer.as_bytes(), &question["Socket"]).unwrap();
    sealed.machine.finish(running).exits(0);
    sealed.is_open();
    assert!(other.asked().is_none());
    assert_eq!([0, 1].map(|at| sealed.cards[at].presented()), [0, 1]);
}
