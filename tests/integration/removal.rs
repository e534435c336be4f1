//! The card is pulled in the middle, at every single APDU.

use serde_json::json;

use crate::support::{Machine, TestCard, Yubikey, cards::Apdu};

/// Exit codes that tell an operator about the card.
const NAMED: [i32; 3] = [11, 12, 14];

/// Pulls the card at the `nth` APDU of a run and puts it back; then runs once more, which must do.
fn pulled(machine: &Machine, card: &Yubikey, nth: usize, action: &str) {
    card.tell(&format!("fault nth {nth} {action}"));
    let mut running = machine.start();
    card.tell("wait unlinked");
    // No hand is faster than pcscd looks at the reader: only once the program waits, or has ended.
    running.says("waiting for");
    card.insert();
    let output = machine.finish(running);
    let code = output.code.unwrap();
    assert!(code == 0 || NAMED.contains(&code), "at APDU {nth}: {output}");
    assert!(card.tries() >= 2, "at APDU {nth}: {output}");
    assert!(code == 0 || output.stderr.contains("error: key vault: "), "{output}");

    let again = machine.apply();
    assert_eq!(again.code, Some(0), "after APDU {nth}: {output}{again}");
    assert_eq!(card.tries(), 3);
    let expected = machine.expected("vault", &[card.private_key("9d")], "backups");
    assert_eq!(machine.secret("vault", "backup"), expected);
}

/// A new card in a new machine, to be enrolled.
fn fresh(timeout: u32) -> (Machine, Yubikey) {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({ "cardTimeoutSec": timeout }));
    (machine, card)
}

/// The APDUs of an enrollment that nobody disturbs.
fn undisturbed() -> Vec<Apdu> {
    let (machine, card) = fresh(0);
    machine.apply().exits(0);
    card.log()
}

fn pulled_while_enrolling(action: &str, at: fn(&Apdu) -> bool) {
    for (index, _) in undisturbed().iter().enumerate().filter(|(_, apdu)| at(apdu)) {
        let nth = index + 1;
        let (machine, card) = fresh(600);
        pulled(&machine, &card, nth, action);
        // Whatever was made before the card went is used, not made again.
        let made = card.log().into_iter();
        let made = made.filter(|apdu| apdu.generates() && apdu.status == "9000");
        assert!(made.count() <= 1, "at APDU {nth}");
        assert_eq!(machine.profiles(), ["vault.toml"], "at APDU {nth}");
    }
}

#[test]
fn pulled_before_each_apdu_of_an_enrollment() {
    pulled_while_enrolling("remove", |_| true);
}

/// The card did it, and nobody heard: only what changes anything on a card is worth a try.
#[test]
fn pulled_after_each_apdu_of_an_enrollment_that_counts() {
    pulled_while_enrolling("remove-after", |apdu| ["20", "87", "47"].contains(&apdu.ins()));
}

#[test]
fn pulled_at_each_apdu_of_a_verification() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({ "cardTimeoutSec": 600 }));
    machine.apply().exits(0);
    let published = machine.published();
    let before = card.log().len();
    machine.apply().exits(0);
    for nth in 1..=card.log_since(before).len() {
        for action in ["remove", "remove-after"] {
            pulled(&machine, &card, nth, action);
            assert_eq!(machine.published(), published);
        }
    }
}

/// The card took the PIN and was pulled before it said what it thinks of it: the PIN may be wrong,
/// and a second presentation in the same run would cost a second try.
#[test]
fn a_wrong_pin_whose_answer_was_lost_is_not_presented_again() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    let pin = machine.secret_file("wrong.pin", "583920");
    machine.spec(json!({
        "one": machine.key(&card, json!({ "pin": pin })),
        "two": machine.key(&card, json!({ "pin": pin, "slot": "82" })),
    }));
    // The first of that instruction only counts.
    card.tell("fault ins 20 nth 2 remove-after");
    let mut running = machine.start();
    card.tell("wait unlinked");
    running.says("waiting for");
    card.insert();
    let output = machine.finish(running).exits(14);
    output.says(&["while it checked the PIN"]);
    assert_eq!((card.presented(), card.tries()), (1, 2));
}

/// Nothing that a card answers makes the program panic, write over a key, or spend a try.
fn garbage(answer: &str) {
    for nth in 1..=undisturbed().len() {
        let (machine, card) = fresh(0);
        card.tell(&format!("fault nth {nth} {answer}"));
        let output = machine.apply();
        let code = output.code.unwrap();
        assert!(code == 0 || (10..=20).contains(&code), "at APDU {nth}: {output}");
        assert!(card.tries() >= 2, "at APDU {nth}: {output}");
        card.tell("faults clear");
        let again = machine.apply();
        assert_eq!(again.code, Some(0), "after APDU {nth}: {output}{again}");
        let expected = machine.expected("vault", &[card.private_key("9d")], "backups");
        assert_eq!(machine.secret("vault", "backup"), expected);
    }
}

#[test]
fn nothing_at_each_apdu_is_survived() {
    garbage("raw 9000");
}

#[test]
fn a_length_that_lies_at_each_apdu_is_survived() {
    garbage("raw 7c8200ff9000");
}

#[test]
fn more_to_come_that_never_comes_at_each_apdu_is_survived() {
    garbage("raw 61ff");
}

#[test]
fn an_unknown_status_at_each_apdu_is_survived() {
    garbage("sw 6f00");
}
