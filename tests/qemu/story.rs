//! One machine, from its first boot on.

use serde_json::json;

use crate::support::{
    Consumer, Machine,
    cryptkey::{self, PROFILE, SECRET, UNIT},
};

#[test]
fn a_cold_machine_waits_for_its_usb_reader() {
    let mut machine = Machine::new();
    let restic = Consumer::of_file(&machine, "restic", 2001, SECRET);
    let backup = Consumer::of_credential(&machine, "backup", 2002, SECRET);
    cryptkey::install(&machine, json!({}));
    for consumer in [&restic, &backup] {
        cryptkey::required_by(&machine, &consumer.unit());
    }

    machine.boot();
    eprintln!("{}", machine.run(&["systemd-analyze"]).stdout);
    eprintln!("{}", machine.run(&["systemd-analyze", "blame"]).stdout);
    eprintln!("{}", machine.run(&["lsmod"]).stdout);
    eprintln!("{}", machine.run(&["cat", "/proc/meminfo"]).stdout);
    eprintln!("{}", machine.journal(UNIT));
    assert_eq!(machine.state(UNIT), "active");
    assert!(machine.journal(UNIT).contains("vault: enrolled"), "{}", machine.journal(UNIT));
    let expected = cryptkey::expected(&machine, machine.card());
    assert_eq!(restic.read(&machine), expected);
    assert_eq!(backup.read(&machine), expected);
    let _profile = machine.read(PROFILE);
    machine.power_off();
}
