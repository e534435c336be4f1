//! The card is gone, and then the disk: at a real console, with a USB reader.

use std::fs;

use serde_json::{Value, json};

use crate::support::{
    Card, Consumer, Machine,
    code::with_code,
    container::tests_file,
    cryptkey::{self, PIN, PROFILE, RELOAD, SECRET, UNIT},
    nix,
};

/// The serial of a new card.
const NEW: &str = "90210002";
/// As many seconds as a slow machine needs until its reader is there.
const LONG: u32 = 600;
const PROMPT: &str = "Key vault, recovery code recovery-1:";

/// The machine's configuration: a key with this card, which is waited for so many seconds, and whose
/// secret restic needs.
fn configuration(restic: &Consumer, card: &str, wait: u32, more: &str) -> nix::Machine {
    let secret = json!({ "use": "backups", "format": "hex", "owner": "restic",
                         "requiredBy": ["restic.service"] });
    let key: Value = json!({
        "cards": [{ "serial": card }], "cardTimeoutSec": wait, "askTimeoutSec": 600,
        "secrets": { "restic": secret },
    });
    cryptkey::vault(key, &(restic.declaration(SECRET) + more))
}

#[test]
fn a_lost_card_and_a_lost_disk() {
    let mut machine = Machine::new();
    let restic = Consumer::declared(&machine, "restic", 2001);
    let old = machine.card().serial();
    assert_ne!(old, NEW);
    cryptkey::install_all(&machine, &configuration(&restic, &old, LONG, ""));
    machine.boot();
    let expected = cryptkey::expected(&machine, machine.card());
    assert_eq!(restic.read(&machine), expected);
    let private_key = machine.card().private_key("9d");
    let (profile, code) = with_code(&machine.read(PROFILE), &private_key);
    machine.write(PROFILE, 0o600, profile);
    machine.power_off();

    // The card is lost. The console asks, and the code is typed there.
    cryptkey::configure_all(&machine, &configuration(&restic, &old, 1, ""));
    machine.card().exchange(NEW);
    machine.turn_on();
    machine.type_at_console(PROMPT, &code.to_lowercase());
    machine.booted();
    for unit in [UNIT, "cryptkey.target", &restic.unit()] {
        machine.expect(unit, "active");
    }
    assert_eq!(restic.read(&machine), expected);
    is_not_shown(&machine, &code);

    // A new card is declared.
    machine.card().insert();
    cryptkey::configure_all(&machine, &configuration(&restic, NEW, LONG, ""));
    machine.systemctl(&["daemon-reload"]).exits(0);
    for reload in 1.. {
        machine.systemctl(&["reload", "--no-block", UNIT]).exits(0);
        machine.wait_for_times(RELOAD, "asking for recovery code recovery-1", reload);
        // Questions of a machine that is up go to whoever is logged in, who answers them so.
        let agent = ["systemd-tty-ask-password-agent", "--query", "--console=/dev/hvc0"];
        machine.run(&[&["systemd-run", "--quiet"], &agent[..]].concat()).exits(0);
        machine.type_at_console(PROMPT, &code);
        machine.wait_for_times(RELOAD, "vault: verified, unchanged", reload);
        // The next one tries again what a slow machine's pcscd was not ready for: nobody waits for it.
        let journal = machine.journal(RELOAD);
        if journal.contains("sealed to card 90210002 too, as card-2") {
            break;
        }
        assert!(reload < 5, "{journal}");
    }
    machine.power_off();

    // From now on nobody is asked.
    machine.boot();
    machine.says(UNIT, &["vault: verified, added restic"]);
    assert!(!machine.journal(UNIT).contains("asking for"));
    assert_eq!(restic.read(&machine), expected);
    let repository = machine.scratch("repository").join("vault.toml");
    fs::write(&repository, machine.read(PROFILE)).unwrap();
    machine.power_off();

    // The disk is lost. The profile was in the repository.
    let more = format!("security.cryptkey.keys.vault.profile = {};", repository.display());
    let mut other = Machine::new();
    let restic = Consumer::declared(&other, "restic", 2001);
    cryptkey::install_all(&other, &configuration(&restic, NEW, LONG, &more));
    other.card().become_that_of(machine.card());
    other.boot();
    other.expect(UNIT, "active");
    assert_eq!(restic.read(&other), expected);
    assert!(other.run(&["test", "-e", PROFILE]).code != Some(0));
    assert_eq!(other.read(PIN), format!("{}\n", Card::PIN).into_bytes());
}

/// Plymouth asks, too, and does not quit before it is answered.
#[test]
fn plymouth_asks_for_the_code() {
    let vector = |kind| tests_file("vectors/profiles/piv-piv-recovery-any").with_extension(kind);
    let known: Value = serde_json::from_slice(&fs::read(vector("json")).unwrap()).unwrap();
    let mut machine = Machine::new();
    let restic = Consumer::declared(&machine, "restic", 2001);
    let more = format!("security.cryptkey.keys.vault.profile = {};", vector("toml").display());
    cryptkey::install_all(&machine, &configuration(&restic, "10000001", 1, &more));
    machine.unplug_reader();
    machine.show_plymouth();
    machine.turn_on();
    let code = known["recovery"].as_str().unwrap();
    machine.type_at_console(PROMPT, code);
    machine.booted();
    machine.expect(UNIT, "active");
    assert_eq!(restic.read(&machine), known["outputs"]["backups"].as_str().unwrap().as_bytes());
    machine.expect("systemd-ask-password-console.path", "inactive");
    is_not_shown(&machine, code);
}

/// That the console has shown no part of the code.
#[track_caller]
fn is_not_shown(machine: &Machine, code: &str) {
    let console = machine.console();
    for part in code.split('-') {
        assert!(!console.contains(part) && !console.contains(&part.to_lowercase()), "{console}");
    }
}
