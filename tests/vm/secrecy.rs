//! What must be on no disk and in no log is on none, also where systemd says all that it does.

use serde_json::json;

use crate::support::{
    Card, Consumer, Container,
    cryptkey::{self, PIN, SECRET, UNIT},
    leak::Secrets,
};

const MANAGEMENT_KEY: &str = "a7c3914e5b20f86d17e94c02b85fd3613a0e6b9824d7f15c";
const MANAGEMENT_KEY_FILE: &str = "/etc/cryptkey/management-key";

#[test]
fn no_secret_reaches_a_disk_or_a_log() {
    let mut machine = Container::new();
    machine.write("/etc/systemd/system.conf.d/debug.conf", 0o644, "[Manager]\nLogLevel=debug\n");
    let unlimited = "[Journal]\nRateLimitIntervalSec=0\n";
    machine.write("/etc/systemd/journald.conf.d/unlimited.conf", 0o644, unlimited);
    machine.write(MANAGEMENT_KEY_FILE, 0o600, MANAGEMENT_KEY);
    let restic = Consumer::of_file(&machine, "restic", 2001, SECRET);
    let backup = Consumer::of_credential(&machine, "backup", 2002, SECRET);
    cryptkey::install(&machine, json!({ "managementKey": { "file": MANAGEMENT_KEY_FILE } }));
    for consumer in [&restic, &backup] {
        cryptkey::required_by(&machine, &consumer.unit());
    }
    Card::prepare(&machine, |memory| memory["management_key"]["key"] = MANAGEMENT_KEY.into());
    let card = Card::inside(&machine, &[]);

    // Enroll, verify, reload, and fail with a wrong PIN.
    machine.boot();
    machine.expect(UNIT, "active");
    let secret = machine.read(SECRET);
    machine.reboot();
    machine.expect(UNIT, "active");
    cryptkey::forget_marks(&machine);
    machine.systemctl(&["reload", UNIT]).exits(0);
    machine.write(PIN, 0o600, Card::WRONG_PIN);
    machine.systemctl(&["reload", UNIT]).exits(1);

    let mut secrets = Secrets::default();
    secrets.add("the PIN", Card::PIN.as_bytes());
    secrets.add("the wrong PIN", Card::WRONG_PIN.as_bytes());
    secrets.add("the management key", MANAGEMENT_KEY.as_bytes());
    secrets.add("the secret", &secret);
    secrets.add("the card's key", card.private_key("9d").as_bytes());

    // Something that is there, so that looking in the wrong place is noticed.
    machine.run(&["systemd-cat", "echo", "something that is there"]).exits(0);
    let mut control = Secrets::default();
    control.add("it", b"something that is there");

    let journal = machine.whole_journal();
    assert_eq!(control.found_in(journal.as_bytes()), Some("it"));
    for expected in
        ["vault: enrolled", "vault: verified", "the card rejected it", "About to execute"]
    {
        assert!(journal.contains(expected), "no {expected:?} in the journal");
    }
    assert_eq!(secrets.found_in(journal.as_bytes()), None, "in the journal");
    assert_eq!(secrets.found_in(machine.console().as_bytes()), None, "on the console");

    machine.power_off();
    let files = machine.files_on_disk(&[PIN, MANAGEMENT_KEY_FILE]);
    assert!(files.values().any(|content| control.found_in(content).is_some()));
    for (name, content) in files {
        assert_eq!(secrets.found_in(&content), None, "in {name}");
    }
}
