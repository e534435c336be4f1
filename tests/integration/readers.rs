//! Several readers, several cards: which one is meant, and what the others are left alone with.

use serde_json::json;

use super::enroll::MOST_APDUS;
use crate::support::{Machine, Nitrokey, TestCard, Yubikey};

/// Three readers. The right card is the one at `place`; the others are a virtual card and a
/// Nitrokey with keys of their own.
fn three_readers<C: TestCard>(places: [usize; 3]) {
    let machine = Machine::new(3);
    let card = C::new(&machine, places[0]);
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    let key = [card.private_key("9d")];
    let expected = machine.expected("vault", &key, "backups");
    let other =
        Yubikey::with(&machine, places[1], &["--serial", "90210002", "--slot-key", "9d=generate"]);
    let third = Nitrokey::new(&machine, places[2]);
    card.reset_counts();

    let output = machine.apply().exits(0);
    assert!(output.unchanged("vault"), "{output}");
    assert!(card.count() <= MOST_APDUS, "{:#?}", card.log());
    // The reader of the enrollment is looked at first: no other card hears of it.
    assert_eq!((other.count(), third.count()), (0, 0));
    assert_eq!(machine.secret("vault", "backup"), expected);
}

#[test]
fn the_reader_of_the_enrollment_is_enough_with_a_virtual_card() {
    three_readers::<Yubikey>([2, 0, 1]);
}

#[test]
fn the_reader_of_the_enrollment_is_enough_with_a_nitrokey() {
    three_readers::<Nitrokey>([1, 0, 2]);
}

/// pcscd has room for 16 readers, and a client can ask for as many at once.
#[test]
fn a_card_among_all_the_readers_that_pcscd_has_is_found() {
    let machine = Machine::new(8);
    let card = Yubikey::new(&machine, 7);
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    assert_eq!(machine.apply().exits(0).result("vault"), "verified");
    let output = machine.run(&["cards", "--json"]).exits(0);
    assert_eq!(output.json()["readers"].as_array().unwrap().len(), 16);
}

/// The card moves to the last reader; the others are found out not to be it, without a PIN.
fn moved<C: TestCard>() {
    let machine = Machine::new(3);
    let enrolled = C::new(&machine, 0);
    machine.vault(&enrolled, json!({}));
    machine.apply().exits(0);
    let before = machine.secret("vault", "backup");
    let dir = enrolled.retire();
    let other = Yubikey::with(&machine, 0, &["--serial", "90210002", "--slot-key", "9d=generate"]);
    let third = Nitrokey::new(&machine, 1);
    let card = C::again(&machine, 2, dir);

    let output = machine.apply().exits(0);
    assert_eq!(output.result("vault"), "verified");
    assert_eq!(machine.secret("vault", "backup"), before);
    // Two more in a reader that is new to it: whether it resets the card.
    assert!(card.count() <= MOST_APDUS + 2, "{:#?}", card.log());
    assert_eq!((other.presented(), third.presented()), (0, 0));
    assert_eq!((other.generated(), third.generated()), (0, 0));
}

#[test]
fn a_virtual_card_is_found_in_another_reader() {
    moved::<Yubikey>();
}

#[test]
fn a_nitrokey_is_found_in_another_reader_beside_one_of_the_same_serial() {
    moved::<Nitrokey>();
}

#[test]
fn two_cards_and_none_named_are_both_listed() {
    let machine = Machine::new(2);
    let card = Yubikey::with(&machine, 0, &["--slot-key", "9d=generate"]);
    let other = Yubikey::with(&machine, 1, &["--serial", "90210002"]);
    machine.vault(&card, json!({}));
    let output = machine.apply().exits(10);
    let output = output.says(&[
        "card 90210001",
        "card 90210002",
        "\"Yubico YubiKey CCID 0 00 00\"",
        "\"Yubico YubiKey CCID 1 00 00\"",
        "slot 9d: P-256 key SHA256:",
        "slot 9d: empty",
        "security.cryptkey.keys.vault.cards",
    ]);
    assert_eq!(output.json()["keys"]["vault"]["error"]["class"], "bad-spec");
    assert_eq!((card.presented(), other.presented()), (0, 0));
}

#[test]
fn a_card_named_by_serial_is_the_one() {
    let machine = Machine::new(2);
    let other = Yubikey::with(&machine, 0, &["--serial", "90210002"]);
    let card = Yubikey::new(&machine, 1);
    machine.vault(&card, json!({ "cards": [{ "serial": Yubikey::SERIAL }] }));
    machine.apply().exits(0);
    assert_eq!((other.presented(), card.presented()), (0, 1));
    let expected = machine.expected("vault", &[card.private_key("9d")], "backups");
    assert_eq!(machine.secret("vault", "backup"), expected);
}

#[test]
fn a_card_named_by_guid_is_the_one() {
    let machine = Machine::new(2);
    let other = Nitrokey::new(&machine, 0);
    let card = Nitrokey::new(&machine, 1);
    let guid = machine.guid(1);
    assert_ne!(guid, machine.guid(0));
    machine.vault(&card, json!({ "cards": [{ "guid": guid }] }));
    machine.apply().exits(0);
    assert_eq!((other.presented(), card.presented()), (0, 1));
}

#[test]
fn a_named_card_that_is_away_is_named_with_what_is_there() {
    let machine = Machine::new(2);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({ "cards": [{ "serial": "90210009" }], "cardTimeoutSec": 0 }));
    let output = machine.apply().exits(11);
    output.says(&["card 90210009", "holds card 90210001", "nixos-cryptkey cards"]);
    assert_eq!((card.presented(), card.generated()), (0, 0));
}

/// Each card of a key may have a PIN of its own.
#[test]
fn a_card_may_have_its_own_pin_and_management_key() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    let own = json!({
        "serial": Yubikey::SERIAL,
        "pin": machine.secret_file("own.pin", Yubikey::PIN),
        "managementKey": { "factoryDefault": true },
    });
    let wrong = machine.secret_file("wrong.pin", "583920");
    machine.vault(&card, json!({ "cards": [own], "pin": wrong, "managementKey": null }));
    machine.apply().exits(0);
}

/// A card without the PIV application in one of the readers is no obstacle.
#[test]
fn a_card_that_answers_nothing_of_piv_is_passed_by() {
    let machine = Machine::new(2);
    let other = Yubikey::with(&machine, 0, &["--serial", "90210002"]);
    let card = Yubikey::new(&machine, 1);
    machine.vault(&card, json!({}));
    other.tell("fault ins a4 sw 6a82");
    machine.apply().exits(0);
    assert_eq!((other.presented(), card.presented()), (0, 1));
}
