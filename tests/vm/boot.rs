//! From the first boot on.

use serde_json::json;

use crate::support::{
    Card, Consumer, Container,
    cryptkey::{self, PROFILE, SECRET, UNIT},
};

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
    assert_eq!(machine.state(UNIT), "active");
    assert!(machine.journal(UNIT).contains("vault: enrolled"), "{}", machine.journal(UNIT));
    let expected = cryptkey::expected(&machine, &card);
    assert_eq!(restic.read(&machine), expected);
    assert_eq!(backup.read(&machine), expected);
    assert_eq!(machine.mode_and_owner(SECRET), (0o400, 2001));
    let profile = machine.read(PROFILE);

    machine.reboot();
    assert!(machine.journal(UNIT).contains("vault: verified"), "{}", machine.journal(UNIT));
    assert_eq!(restic.read(&machine), expected);
    assert_eq!(backup.read(&machine), expected);
    assert_eq!(machine.read(PROFILE), profile);
    machine.power_off();
}
