//! One machine, from its first boot on.

use std::process::Command;

use serde_json::json;

use crate::support::{
    Card, Consumer, Machine,
    cryptkey::{self, PIN, PROFILE, SECRET, UNIT},
};

/// The PIN, encrypted with a key of the machine's TPM.
const ENCRYPTED_PIN: &str = "/etc/credstore.encrypted/vault.pin";

#[test]
fn a_machine_with_a_usb_reader_and_a_tpm() {
    let mut machine = Machine::new();
    let restic = Consumer::of_file(&machine, "restic", 2001, SECRET);
    let backup = Consumer::of_credential(&machine, "backup", 2002, SECRET);
    let consumers = [restic, backup];
    cryptkey::install(&machine, json!({}));
    for consumer in &consumers {
        cryptkey::required_by(&machine, &consumer.unit());
    }

    // The reader comes when udev has loaded the drivers of USB; the unit does not wait for that.
    machine.boot();
    machine.expect(UNIT, "active");
    machine.says(UNIT, &["vault: enrolled, added restic", "Gemalto", "memory: Locked"]);
    let expected = cryptkey::expected(&machine, machine.card());
    for consumer in &consumers {
        assert_eq!(consumer.read(&machine), expected);
    }
    let profile = machine.read(PROFILE);
    encrypt_pin(&machine, "tpm2", ENCRYPTED_PIN);
    machine.run(&["rm", PIN]).exits(0);
    machine.power_off();

    // Without the reader, and the card is not to be waited for.
    machine.unplug_reader();
    machine.card().remove();
    cryptkey::configure(
        &machine,
        json!({ "pin": { "credential": ENCRYPTED_PIN }, "softFail": true, "cardTimeoutSec": 0 }),
    );
    machine.boot();
    machine.expect(UNIT, "active");
    machine.says(UNIT, &["vault: skipped", "there is no reader"]);
    for consumer in &consumers {
        machine.expect(&consumer.unit(), "inactive");
        assert_eq!(machine.show(&consumer.unit(), "ConditionResult"), "no");
    }

    // The unit waits for the reader, and then for the card in it.
    cryptkey::configure(
        &machine,
        json!({ "pin": { "credential": ENCRYPTED_PIN }, "cardTimeoutSec": 3600 }),
    );
    machine.systemctl(&["daemon-reload"]).exits(0);
    machine.systemctl(&["restart", "--no-block", UNIT]).exits(0);
    machine.wait_for(UNIT, "key vault: waiting for card ");
    machine.expect(UNIT, "activating");
    machine.plug_reader();
    machine.card().insert();
    machine.systemctl(&["start", UNIT]).exits(0);
    machine.says(UNIT, &["present the PIN", "vault: verified, added restic"]);
    for consumer in &consumers {
        machine.systemctl(&["start", &consumer.unit()]).exits(0);
        assert_eq!(consumer.read(&machine), expected);
    }

    // Secrets outlast the reader.
    machine.unplug_reader();
    assert_eq!(machine.read(SECRET), expected);
    machine.plug_reader();
    machine.cut_power();

    machine.boot();
    machine.expect(UNIT, "active");
    machine.says(UNIT, &["present the PIN", "vault: verified, added restic"]);
    for consumer in &consumers {
        assert_eq!(consumer.read(&machine), expected);
    }
    assert_eq!(machine.read(PROFILE), profile);

    // Without a TPM, a key on the drive does it. Either way, the name is part of what is sealed.
    encrypt_pin(&machine, "host", "/etc/credstore.encrypted/host.pin");
    let load = "--property=LoadCredentialEncrypted=pin:/etc/credstore.encrypted/host.pin";
    let read = machine.run(&["systemd-run", "-qP", "--wait", load, "systemd-creds", "cat", "pin"]);
    assert_eq!(read.exits(0).stdout, Card::PIN);
    for file in [ENCRYPTED_PIN, "/etc/credstore.encrypted/host.pin"] {
        let wrong = machine.run(&["systemd-creds", "decrypt", "--name=other", file]);
        assert!(wrong.code != Some(0) && !wrong.stdout.contains(Card::PIN), "{wrong}");
    }

    // Nothing stays of a machine, also of one that is on.
    let files = machine.scratch("files");
    let name = files.parent().unwrap().to_str().unwrap().to_owned();
    let processes = || {
        let processes = Command::new("ps").args(["-e", "-o", "args"]).output().unwrap();
        String::from_utf8_lossy(&processes.stdout).matches(&name).count()
    };
    assert!(processes() > 0);
    drop(machine);
    assert_eq!((processes(), files.exists()), (0, false));
}

/// As the documentation has it, but for the question.
fn encrypt_pin(machine: &Machine, with_key: &str, file: &str) {
    let script = "mkdir -p -m 0700 /etc/credstore.encrypted
                  printf %s \"$0\" | systemd-creds encrypt --with-key=\"$1\" --name=pin - \"$2\"";
    machine.run(&["bash", "-ec", script, Card::PIN, with_key, file]).exits(0);
    assert!(!String::from_utf8(machine.read(file)).unwrap().contains(Card::PIN));
}
