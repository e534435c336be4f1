//! Rule 5: what a PIN may cost, whatever is wrong with it.

use serde_json::json;

use super::enroll::on_both_cards;
use crate::support::{Client, Machine, Nitrokey, TestCard, Yubikey};

on_both_cards!(
    a_wrong_pin_costs_one_try,
    two_keys_with_a_wrong_pin_cost_one_try,
    the_last_try_is_never_spent,
    a_pin_of_no_pins_length_is_not_presented,
    a_pin_left_verified_is_forgotten_and_asked_again
);

/// How many tries the card says are left.
fn tries(machine: &Machine) -> String {
    let reader = virtual_card::stack::Pcscd::reader_name(0);
    let mut client = Client::connected(machine, &reader, "shared");
    client.select();
    client.status("00200080")
}

/// Presents a wrong PIN by hand.
fn waste_a_try(machine: &Machine) {
    let reader = virtual_card::stack::Pcscd::reader_name(0);
    let mut client = Client::connected(machine, &reader, "shared");
    client.select();
    let status = client.status("00200080083939393939393939");
    assert!(status.starts_with("63c") || status == "6983", "{status}");
}

fn a_wrong_pin_costs_one_try<C: TestCard>() {
    let machine = Machine::new(1);
    let card = C::new(&machine, 0);
    let pin = machine.secret_file("wrong.pin", "583920");
    machine.vault(&card, json!({ "pin": pin }));
    let output = machine.apply().exits(15);
    output.says(&["vault", "wrong.pin", "rejected", "tries left: 2"]);
    assert_eq!((card.presented(), card.generated()), (1, 0));
    assert_eq!(tries(&machine), "63c2");
    assert!(!machine.profile("vault").exists());
    assert!(machine.published().is_empty());
}

fn two_keys_with_a_wrong_pin_cost_one_try<C: TestCard>() {
    let machine = Machine::new(1);
    let card = C::new(&machine, 0);
    let pin = machine.secret_file("wrong.pin", "583920");
    machine.spec(json!({
        "one": machine.key(&card, json!({ "pin": pin })),
        "two": machine.key(&card, json!({ "pin": pin, "slot": "82" })),
    }));
    machine.apply().exits(15);
    assert_eq!(card.presented(), 1);
    assert_eq!(tries(&machine), "63c2");
}

fn the_last_try_is_never_spent<C: TestCard>() {
    let machine = Machine::new(1);
    let card = C::new(&machine, 0);
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    waste_a_try(&machine);
    // Two are enough, and the right PIN restores them.
    machine.apply().exits(0);
    assert_eq!(tries(&machine), "63c3");
    waste_a_try(&machine);
    waste_a_try(&machine);
    let presented = card.presented();
    machine.apply().exits(14).says(&["tries left for its PIN: 1", "unblock"]);
    assert_eq!((card.presented(), tries(&machine)), (presented, "63c1".into()));
    waste_a_try(&machine);
    machine.apply().exits(14).says(&["blocked", "unblock"]);
    assert_eq!(card.presented(), presented + 1);
}

fn a_pin_of_no_pins_length_is_not_presented<C: TestCard>() {
    let machine = Machine::new(1);
    let card = C::new(&machine, 0);
    // The last two are as long as a PIN only by a line end too many, and by a blank.
    for wrong in ["12345", "123456789", "", "123456\n\n", "123456 "] {
        let pin = machine.secret_file("odd.pin", wrong);
        machine.vault(&card, json!({ "pin": pin }));
        machine.apply().exits(14).says(&["odd.pin"]);
    }
    machine.vault(&card, json!({ "pin": { "file": "/nonexistent/pin" } }));
    machine.apply().exits(14).says(&["/nonexistent/pin", "No such file"]);
    machine.vault(&card, json!({ "pin": null }));
    machine.apply().exits(10).says(&["keys.vault.pin: missing", "pinPolicy is once"]);
    assert_eq!((card.presented(), card.generated()), (0, 0));
}

fn a_pin_left_verified_is_forgotten_and_asked_again<C: TestCard>() {
    let machine = Machine::new(1);
    let card = C::new(&machine, 0);
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    let reader = virtual_card::stack::Pcscd::reader_name(0);
    let mut client = Client::connected(&machine, &reader, "shared");
    client.select();
    let pin = base16ct::lower::encode_string(C::PIN.as_bytes()) + "ffff";
    assert_eq!(client.status(&format!("0020008008{pin}")), "9000");
    assert_eq!(client.status("00200080"), "9000");
    // Another program's PIN is no leave for a wrong one of ours.
    let wrong = machine.secret_file("wrong.pin", "583920");
    machine.vault(&card, json!({ "pin": wrong }));
    machine.apply().exits(15);
    client.try_ask("disconnect leave");
    assert_eq!(tries(&machine), "63c2");
}

#[test]
fn a_credential_is_read_where_systemd_puts_it() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({ "pin": { "credential": "vault.pin" } }));
    machine.apply().exits(14).says(&["CREDENTIALS_DIRECTORY"]);
    machine.secret_file("vault.pin", Yubikey::PIN);
    let mut command = machine.command(&["apply", "--json"]);
    command.env("CREDENTIALS_DIRECTORY", machine.dir());
    let output = machine.finish(crate::support::Running::start(command)).exits(0);
    assert_eq!(output.result("vault"), "enrolled");
}

/// A card whose serial every card of its maker has is told apart by its GUID.
#[test]
fn a_wrong_pin_of_one_card_does_not_bar_another() {
    let machine = Machine::new(2);
    let first = Nitrokey::new(&machine, 0);
    let second = Nitrokey::new(&machine, 1);
    let wrong = machine.secret_file("wrong.pin", "583920");
    machine.spec(json!({
        "one": machine.key(&first, json!({ "pin": wrong, "cards": [{ "guid": machine.guid(0) }] })),
        "two": machine.key(&second, json!({ "cards": [{ "guid": machine.guid(1) }] })),
    }));
    let output = machine.apply().exits(15);
    assert_eq!(output.result("one"), "failed");
    assert_eq!(output.result("two"), "enrolled");
    assert_eq!((first.presented(), second.presented()), (1, 1));
}
