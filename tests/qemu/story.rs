//! One machine, from its first boot on.

use std::process::Command;

use serde_json::json;

use crate::support::{
    Card, Consumer, Machine,
    cryptkey::{self, PIN, PROFILE, SECRET, UNIT},
    recipes::{self, Recipe, Session},
};

/// The PIN, encrypted with a key of the machine's TPM, as documented.
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
    let mut with_tpm = Recipe::new("The PIN, on a machine with a TPM");
    type_in(&machine, &with_tpm.session());
    machine.run(&["rm", PIN]).exits(0);
    machine.power_off();

    // Without the reader, and the card is not to be waited for.
    machine.unplug_reader();
    machine.card().remove();
    documented(&machine, "softFail = true; cardTimeoutSec = lib.mkForce 0;");
    machine.boot();
    machine.expect(UNIT, "active");
    machine.says(UNIT, &["vault: skipped"]);
    for consumer in &consumers {
        machine.expect(&consumer.unit(), "inactive");
        assert_eq!(machine.show(&consumer.unit(), "ConditionResult"), "no");
    }
    // Nor is a pcscd that starts slowly waited for; each run finds it further on.
    let mut runs = 0;
    while !machine.journal(UNIT).contains("there is no reader") {
        runs += 1;
        assert!(runs < 30, "{}", machine.journal(UNIT));
        machine.systemctl(&["restart", UNIT]).exits(0);
        machine.says(UNIT, &["vault: skipped"]);
    }

    // The unit waits for the reader, and then for the card in it.
    documented(&machine, "softFail = true; cardTimeoutSec = lib.mkForce 3600;");
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

    // Either way, the name is part of what is sealed.
    machine.run(&["cp", ENCRYPTED_PIN, "/root/with-tpm"]).exits(0);
    type_in(&machine, &Recipe::new("The PIN, on a machine without a TPM").session());
    machine.run(&["cp", ENCRYPTED_PIN, "/root/without"]).exits(0);
    for file in ["/root/with-tpm", "/root/without"] {
        let decrypt = |name| machine.run(&["systemd-creds", "decrypt", name, file]);
        assert_eq!(decrypt("--name=pin").exits(0).stdout, Card::PIN);
        let wrong = decrypt("--name=other");
        assert!(wrong.code != Some(0) && !wrong.stdout.contains(Card::PIN), "{wrong}");
    }

    // Firmware that changed does not matter to the TPM, and what Secure Boot trusts does.
    machine.run(&["cp", "/root/with-tpm", ENCRYPTED_PIN]).exits(0);
    extend_pcr(&machine, 0);
    machine.run(&["systemd-creds", "decrypt", "--name=pin", ENCRYPTED_PIN]).exits(0);
    extend_pcr(&machine, 7);
    // Of resets QEMU does not tell the card, which would say that its PIN is verified.
    machine.card().remove();
    machine.card().insert();
    machine.systemctl(&["restart", UNIT]).exits(1);
    type_in(&machine, &with_tpm.session());

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

/// Has it boot with the documented key, and more of it.
fn documented(machine: &Machine, more: &str) {
    let modules = machine.scratch("modules");
    recipes::extract(&modules);
    let secret = json!({ "use": "backups", "format": "hex", "owner": "restic" });
    let more = format!(
        "imports = [ {}/key.nix {{ security.cryptkey.keys.vault = {{ {more} }}; }} ];",
        modules.display()
    );
    let keys = json!({ "vault": { "secrets": { "restic": secret } } });
    cryptkey::configure_all(machine, &cryptkey::evaluate(&keys, &more));
}

/// Types it as root, but for the answer at the prompt, and sees what the document has.
fn type_in(machine: &Machine, session: &Session) {
    let answer = "systemd-ask-password() { printf %s \"$0\"; }; exec 2>&1; ";
    session.type_in(|command| {
        machine.run(&["journalctl", "--sync"]).exits(0);
        machine.run(&["bash", "-c", &(answer.to_owned() + command), Card::PIN]).stdout
    });
}

/// Changes a PCR of the TPM, as what is measured at a boot does: `TPM2_PCR_Extend` with a SHA-256.
fn extend_pcr(machine: &Machine, pcr: u8) {
    let extend = format!(
        "exec 3<>/dev/tpmrm0
         printf '\\x80\\x02%b%b%b%b%b%032d' \
             '\\0\\0\\0\\x41' '\\0\\0\\x01\\x82' '\\0\\0\\0\\x{pcr:02x}' \
             '\\0\\0\\0\\x09\\x40\\0\\0\\x09\\0\\0\\0\\0\\0' \
             '\\0\\0\\0\\x01\\0\\x0b' 0 >&3
         head -c 10 <&3 | od -An -tx1 | grep -q '00 00 00 00$'"
    );
    machine.run(&["bash", "-ec", &extend]).exits(0);
}
