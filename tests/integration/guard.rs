//! Rule 5 across runs: what a card made of a PIN is remembered.

use std::{fs, os::unix::fs::MetadataExt as _};

use nix::mount::{MntFlags, umount2};
use serde_json::json;

use super::{enroll::on_both_cards, publishing::read_only};
use crate::support::{Client, Machine, Nitrokey, TestCard, Yubikey, ram::Ram};

on_both_cards!(
    a_rejected_pin_is_not_presented_again_before_it_changes,
    what_was_rejected_is_forgotten_on_request,
    an_unchanged_machine_writes_nothing
);

fn a_rejected_pin_is_not_presented_again_before_it_changes<C: TestCard>() {
    let machine = Machine::new(1);
    let card = C::new(&machine, 0);
    let pin = machine.secret_file("vault.pin", "583920");
    machine.vault(&card, json!({ "pin": pin }));
    machine.apply().exits(15);
    for _ in 0..3 {
        machine.apply().exits(14).says(&["rejected this very PIN", "key vault", "pin forget"]);
    }
    assert_eq!(card.presented(), 1);
    let status = machine.run(&["status"]).exits(0);
    assert!(status.stdout.contains("a PIN was rejected at 20"), "{status}");
    // It counts for every key of the card, in specs of their own too.
    let desk = machine.key(&card, json!({ "pin": pin, "slot": "82" }));
    let desk = machine.own_spec("desk", desk, &["vault"]);
    machine.finish(machine.start_with(&desk)).exits(14).says(&["key vault presented it"]);
    assert_eq!(card.presented(), 1);
    // Another wrong one costs one more; then the last try is kept.
    machine.secret_file("vault.pin", "583921");
    machine.apply().exits(15).says(&["tries left: 1"]);
    machine.secret_file("vault.pin", "583922");
    machine.apply().exits(14).says(&["tries left for its PIN: 1"]);
    assert_eq!(card.presented(), 2);
}

fn what_was_rejected_is_forgotten_on_request<C: TestCard>() {
    let machine = Machine::new(1);
    let card = C::new(&machine, 0);
    let pin = machine.secret_file("vault.pin", "583920");
    machine.vault(&card, json!({ "pin": pin }));
    machine.apply().exits(15);
    let refused = machine.apply().exits(14).stderr;
    let (_, argument) = refused.split_once("pin forget --card ").unwrap();
    let argument = argument.split('`').next().unwrap();
    let other = machine.run(&["pin", "forget", "--card", "77"]).exits(0);
    assert!(
        other.stdout.starts_with("Nothing was remembered of the PINs of card 77.\n"),
        "{other}"
    );
    assert!(other.stdout.contains(argument), "{other}");
    let this = machine.run(&["pin", "forget", "--card", argument]).exits(0);
    assert!(this.stdout.contains("its PINs are forgotten"), "{this}");
    machine.apply().exits(15);
    assert_eq!(card.presented(), 2);
    machine.run(&["pin", "forget", "--card", "no card"]).exits(2).says(&["found serial"]);
}

fn an_unchanged_machine_writes_nothing<C: TestCard>() {
    let machine = Machine::new(1);
    let card = C::new(&machine, 0);
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    let files = || {
        let entries = fs::read_dir(&machine.state).unwrap().map(|entry| entry.unwrap());
        let mut all: Vec<_> = entries
            .map(|entry| (entry.file_name(), entry.metadata().unwrap()))
            .map(|(name, about)| (name, about.ino(), about.ctime(), about.ctime_nsec()))
            .collect();
        all.sort();
        let about = fs::metadata(&machine.state).unwrap();
        (all, about.ctime(), about.ctime_nsec())
    };
    let before = files();
    for _ in 0..2 {
        machine.apply().exits(0);
    }
    assert_eq!(files(), before);
}

/// Where nothing can be recorded, only the PIN that was right last time is presented.
#[test]
fn an_unproven_pin_needs_a_state_directory_that_takes_the_record() {
    let ram = Ram::tmpfs("size=4m");
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    let pin = machine.secret_file("vault.pin", Yubikey::PIN);
    machine.vault(&card, json!({ "pin": pin }));
    machine.apply().exits(0);
    read_only(&ram, &machine.state);
    machine.apply().exits(0);
    let presented = card.presented();
    machine.secret_file("vault.pin", "583920");
    machine.apply().exits(14).says(&["Read-only file system", "Nothing was presented"]);
    assert_eq!(card.presented(), presented);
    umount2(&machine.state, MntFlags::MNT_DETACH).unwrap();
}

/// The accepted PIN was changed on the card by other means: that costs one try, and no second one.
#[test]
fn a_pin_that_was_changed_on_the_card_costs_one_try() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    let card = card.with_pin(&machine, "704194");
    let before = card.presented();
    machine.apply().exits(15).says(&["tries left: 2"]);
    machine.apply().exits(14).says(&["rejected this very PIN"]);
    assert_eq!((card.presented(), card.tries()), (before + 1, 2));
}

#[test]
fn more_tries_can_be_kept() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    let wrong = machine.secret_file("wrong.pin", "583920");
    machine.vault(&card, json!({ "pin": wrong, "minTries": 4 }));
    machine.apply().exits(14).says(&["tries left for its PIN: 3; wanted are at least 4"]);
    assert_eq!(card.presented(), 0);
}

/// A record that can't be read is not an empty one.
#[test]
fn a_damaged_record_keeps_the_pin_back() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    fs::write(machine.state.join("pin-guard"), "version = 1").unwrap();
    let presented = card.presented();
    machine.apply().exits(14).says(&["is damaged", "pin forget --card 90210001"]);
    assert_eq!(card.presented(), presented);
    machine.run(&["pin", "forget", "--card", "90210001"]).exits(0);
    machine.apply().exits(0);
}

/// The card was pulled while it checked a wrong PIN, and then its tries were too few, and then somebody
/// restored them by hand: what became of the PIN was seen while that could be told.
#[test]
fn what_became_of_a_pin_is_settled_also_where_nothing_may_be_presented() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    let declare = |key| {
        machine.vault(&card, key);
        machine.secret_file(&format!("{}.pin", Yubikey::NAME), "583920");
    };
    declare(json!({ "minTries": 3, "cardTimeoutSec": 0 }));
    card.tell("fault ins 20 p2 80 nth 2 remove-after");
    machine.apply().exits(11);
    card.insert();
    // pcscd may notice it a moment later.
    declare(json!({ "minTries": 3 }));
    machine.apply().exits(14).says(&["tries left for its PIN: 2"]);
    let mut client = Client::connected(&machine, &card.reader(), "shared");
    client.select();
    let pin = base16ct::lower::encode_string(Yubikey::PIN.as_bytes()) + "ffff";
    assert_eq!(client.status(&format!("0020008008{pin}")), "9000");
    drop(client);
    // Its tries are back, so it may have another PIN now: once, and never again for that.
    machine.apply().exits(15);
    declare(json!({ "minTries": 2 }));
    for _ in 0..2 {
        machine.apply().exits(14).says(&["rejected this very PIN"]);
    }
    assert_eq!((card.presented(), card.tries()), (3, 2));
}

/// Two units at once, on a machine that has no state directory yet.
#[test]
fn runs_that_start_before_there_is_a_state_directory_know_of_each_other() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    fs::remove_dir(&machine.state).unwrap();
    let pin = machine.secret_file("wrong.pin", "583920");
    let spec = |name: &str, slot: &str, other: &str| {
        let key = machine.key(&card, json!({ "pin": pin, "slot": slot }));
        machine.own_spec(name, key, &[other])
    };
    let specs = [spec("one", "9d", "two"), spec("two", "82", "one")];
    // The first one holds its turn until the second waits for it.
    card.tell("fault ins 20 p2 80 nth 1 hang");
    let one = machine.start_with(&specs[0]);
    card.tell("wait hang");
    let mut two = machine.start_with(&specs[1]);
    two.wait_for("waiting for another run to be done with the card");
    card.tell("release");
    machine.finish(one).exits(15);
    machine.finish(two).exits(14).says(&["rejected this very PIN", "key one"]);
    assert_eq!((card.presented(), card.tries()), (1, 2));
}

/// A copy of an imported key has a PIN of its own: what one card makes of a PIN is not the other's.
#[test]
fn a_card_with_a_copy_of_the_key_is_a_card_of_its_own() {
    let machine = Machine::new(1);
    let key = ["--slot-key", &format!("9d={}", "1".repeat(64))];
    let card = Yubikey::with(&machine, 0, &key);
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    let first = card.retire();
    let copy = Yubikey::with(&machine, 0, &[&key[..], &["--serial", "77"]].concat());
    let copy = copy.with_pin(&machine, "999999");
    machine.apply().exits(15).says(&["tries left: 2"]);
    machine.apply().exits(14).says(&["card 77 rejected this very PIN"]);
    drop(copy.retire());
    let card = Yubikey::at(&machine, 0, first, &[]);
    machine.apply().exits(0);
    assert_eq!(card.tries(), 3);
}

/// Whoever can write a profile can write another card's name into it.
#[test]
fn an_edited_name_in_a_profile_sends_no_card_the_pin_of_another() {
    let machine = Machine::new(2);
    let cards = [Yubikey::new(&machine, 0), Yubikey::with(&machine, 1, &["--serial", "77"])];
    let [one, two] = cards;
    let two = two.with_pin(&machine, "704194");
    let (first, second) = (Yubikey::SERIAL, "77");
    let pins = [("one.pin", Yubikey::PIN), ("two.pin", "704194")];
    let [pin_of_one, pin_of_two] = pins.map(|(name, pin)| machine.secret_file(name, pin));
    let listed = json!([
        { "serial": first, "pin": pin_of_one },
        { "serial": second, "pin": pin_of_two },
    ]);
    machine.vault(&one, json!({ "cards": listed, "threshold": 2 }));
    machine.apply().exits(0);
    let spent = (one.presented(), two.presented());
    let file = machine.profile("vault");
    let sealed = fs::read_to_string(&file).unwrap();
    let (was, is) = (format!("serial = \"{first}\""), format!("serial = \"{second}\""));
    assert!(sealed.contains(&was) && sealed.contains(&is), "{sealed}");
    let swapped = sealed.replace(&was, "serial = \"x\"").replace(&is, &was);
    fs::write(&file, swapped.replace("serial = \"x\"", &is)).unwrap();
    // The profile does not open, as it was changed; and each card has seen its own PIN, if any.
    machine.apply();
    assert!(one.presented() + two.presented() > spent.0 + spent.1);
    assert_eq!((one.tries(), two.tries()), (3, 3));
}

/// It is booked under the name that the card tells.
#[test]
fn a_wrong_pin_is_booked_under_the_cards_own_name() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    let file = machine.profile("vault");
    let sealed = fs::read_to_string(&file).unwrap();
    let own = format!("serial = \"{}\"", Yubikey::SERIAL);
    fs::write(&file, sealed.replace(&own, "serial = \"77\"")).unwrap();
    machine.secret_file(&format!("{}.pin", Yubikey::NAME), "583920");
    machine.apply().exits(15);
    let record = fs::read_to_string(machine.state.join("pin-guard")).unwrap();
    let booked = record.split("[[cards.rejected]]").next().unwrap();
    assert!(booked.contains(&own) && !record.contains("serial = \"77\""), "{record}");
}

/// The status word has room for 15 tries only.
#[test]
fn more_than_15_tries_are_counted() {
    let machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &["--pin-tries", "20"]);
    let pin = machine.secret_file("wrong.pin", "583920");
    machine.vault(&card, json!({ "pin": pin, "cardTimeoutSec": 0 }));
    card.tell("fault ins 20 p2 80 nth 2 remove-after");
    machine.apply().exits(11);
    card.insert();
    machine.apply().exits(14).says(&["this very PIN was presented", "tries left then: 19"]);
    assert_eq!((card.presented(), card.tries()), (1, 19));
}

/// An accepted PIN that was changed on the card, and no answer to tell it: the run writes down that it
/// does not know.
#[test]
fn a_proven_pin_without_an_answer_is_presented_once() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({ "cardTimeoutSec": 0 }));
    machine.apply().exits(0);
    let card = card.with_pin(&machine, "704194");
    card.tell("fault ins 20 p2 80 nth 2 remove-after");
    machine.apply().exits(11);
    card.insert();
    let before = card.presented();
    machine.apply().exits(14).says(&["this very PIN was presented"]);
    assert_eq!((card.presented(), card.tries()), (before, 2));
}

/// A second PIN for a card that accepted one is a slip of the spec, and might cost a try.
#[test]
fn a_card_that_accepted_a_pin_sees_no_other_one_in_that_run() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    let wrong = machine.secret_file("wrong.pin", "583920");
    machine.spec(json!({
        "one": machine.key(&card, json!({})),
        "two": machine.key(&card, json!({ "pin": wrong, "slot": "82" })),
    }));
    machine.apply().exits(14).says(&["the card accepted another PIN in this run"]);
    assert_eq!(card.presented(), 1);
}
