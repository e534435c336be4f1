//! From the first boot on.

use serde_json::json;

use crate::support::{
    Card, Consumer, Container,
    cryptkey::{self, PROFILE, SECRET, UNIT},
};

/// What the machine itself writes at every boot.
const SYSTEMS_OWN: [&str; 5] =
    ["/var/log/journal/", "/var/tmp/", "/var/lib/systemd/", "/etc/.pwd.lock", "/run/"];

#[test]
fn the_first_boot_enrolls_and_the_second_verifies() {
    let mut machine = Container::new();
    let restic = Consumer::of_file(&machine, "restic", 2001, SECRET);
    let backup = Consumer::of_credential(&machine, "backup", 2002, SECRET);
    cryptkey::install(&machine, json!({}));
    for consumer in [&restic, &backup] {
        cryptkey::required_by(&machine, &consumer.unit());
    }
    let card = Card::inside(&machine, &[]);

    machine.boot();
    machine.expect(UNIT, "active");
    machine.says(UNIT, &["vault: enrolled, added restic"]);
    let expected = cryptkey::expected(&machine, &card);
    assert_eq!(restic.read(&machine), expected);
    assert_eq!(backup.read(&machine), expected);
    assert_eq!(machine.mode_and_owner(SECRET), (0o400, 2001));
    assert_eq!(machine.mode_and_owner("/run/cryptkey"), (0o751, 0));
    assert_eq!(machine.mode_and_owner(PROFILE), (0o600, 0));
    machine.power_off();

    let before = machine.files_on_disk(&SYSTEMS_OWN);
    assert!(before.contains_key(PROFILE), "{before:?}");
    machine.boot();
    machine.says(UNIT, &["vault: verified, added restic"]);
    assert_eq!(restic.read(&machine), expected);
    assert_eq!(backup.read(&machine), expected);
    machine.power_off();
    assert_eq!(machine.files_on_disk(&SYSTEMS_OWN), before);
}

#[test]
fn a_card_that_comes_after_the_boot_is_waited_for() {
    let mut machine = Container::new();
    let restic = Consumer::of_file(&machine, "restic", 2001, SECRET);
    cryptkey::install(&machine, json!({ "cardTimeoutSec": 600 }));
    cryptkey::required_by(&machine, &restic.unit());
    let card = Card::outside(&machine, &[]);

    machine.turn_on();
    machine.wait_for(UNIT, "key vault: waiting for ");
    machine.expect(UNIT, "activating");
    machine.expect(&restic.unit(), "inactive");
    assert_eq!(machine.show(UNIT, "StatusText"), "waiting for a card");
    card.insert();
    machine.booted();
    machine.expect(UNIT, "active");
    assert_eq!(restic.read(&machine), cryptkey::expected(&machine, &card));
}

#[test]
fn a_boot_after_a_power_cut_is_as_any_other() {
    let mut machine = Container::new();
    let restic = Consumer::of_file(&machine, "restic", 2001, SECRET);
    cryptkey::install(&machine, json!({ "touchPolicy": "always", "touchTimeoutSec": 600 }));
    cryptkey::required_by(&machine, &restic.unit());
    let card = Card::inside(&machine, &["--touch-timeout-ms", "600000"]);

    // The first touch is for the proof that the slot's key is there; its power goes in the middle.
    machine.turn_on();
    card.tell("wait touch");
    machine.cut_power();
    assert!(!machine.exists(PROFILE));
    let key = card.private_key("9d");

    card.tell("touch give");
    machine.boot();
    machine.says(UNIT, &["vault: enrolled"]);
    assert_eq!(card.private_key("9d"), key, "no other key is made");
    assert_eq!(restic.read(&machine), cryptkey::expected(&machine, &card));
    let profile = machine.read(PROFILE);
    machine.cut_power();

    machine.boot();
    machine.says(UNIT, &["vault: verified"]);
    assert_eq!(machine.read(PROFILE), profile);
}
