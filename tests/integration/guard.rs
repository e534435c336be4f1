//! Rule 5 across runs: what a card made of a PIN is remembered.

use std::{fs, os::unix::fs::MetadataExt as _};

use nix::mount::{MntFlags, umount2};
use serde_json::json;

use super::{enroll::on_both_cards, publishing::read_only};
use crate::support::{Machine, Nitrokey, TestCard, Yubikey, ram::Ram};

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
    let guid = machine.guid(0);
    let other = machine.run(&["pin", "forget", "--card", "77"]).exits(0);
    assert_eq!(other.stdout, "Nothing was remembered of its PINs.\n");
    let this = machine.run(&["pin", "forget", "--card", &guid]).exits(0);
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
    let mut files = fs::read_dir(&machine.state).unwrap().map(|entry| entry.unwrap().path());
    let record = files.find(|path| path.extension().is_some_and(|e| e == "pins"));
    fs::write(record.unwrap(), "version = 1").unwrap();
    let presented = card.presented();
    machine.apply().exits(14).says(&["is damaged", "pin forget --card 90210001"]);
    assert_eq!(card.presented(), presented);
    machine.run(&["pin", "forget", "--card", "90210001"]).exits(0);
    machine.apply().exits(0);
}
