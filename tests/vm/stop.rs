//! The end of a boot, and of runs that are under way.

use serde_json::json;

use crate::support::{
    Card, Consumer, Container,
    cryptkey::{self, PROFILE, RELOAD, SECRET, UNIT},
    run::Running,
};

/// A machine whose key wants a touch at each run, and its card, which is touched until told
/// otherwise.
fn with_touch() -> (Container, Card) {
    let mut machine = Container::new();
    machine.user("restic", 2001);
    cryptkey::install(&machine, json!({ "touchPolicy": "always", "touchTimeoutSec": 600 }));
    let card = Card::inside(&machine, &["--touch-timeout-ms", "10000"]);
    card.tell("touch give");
    machine.boot();
    machine.expect(UNIT, "active");
    (machine, card)
}

/// Starts a reload that waits for a touch.
fn reload_until_touch(machine: &Container, card: &Card) {
    card.tell("touch wait");
    cryptkey::forget_marks(machine);
    machine.systemctl(&["reload", "--no-block", UNIT]).exits(0);
    card.tell("wait touch");
    machine.expect(UNIT, "reloading");
}

#[test]
fn a_machine_that_is_switched_off_stops_in_good_order() {
    let mut machine = Container::new();
    let restic = Consumer::of_file(&machine, "restic", 2001, SECRET);
    cryptkey::install(&machine, json!({}));
    cryptkey::required_by(&machine, &restic.unit());
    let _card = Card::inside(&machine, &[]);
    machine.boot();
    machine.expect(&restic.unit(), "active");
    machine.reboot();
    let last = machine.run(&["journalctl", "--boot=-1", "--output=cat"]).exits(0).stdout;
    let place = |line: &str| last.find(line).unwrap_or_else(|| panic!("no {line:?} in:\n{last}"));
    assert!(place("Stopped restic.service") < place("vault: scrubbed"));
    assert!(place("vault: scrubbed") < place("Unmounting run-cryptkey.mount"));
    for bad in ["timed out", "Failed with result", "Failed unmounting", "Killing"] {
        assert!(!last.contains(bad), "{bad:?} in:\n{last}");
    }
}

#[test]
fn a_power_cut_while_the_card_makes_a_key_is_no_harm() {
    // Before and after it has made one.
    for fault in ["fault ins 47 hang", "fault ins F7 p2 9d nth 2 hang"] {
        let mut machine = Container::new();
        machine.user("restic", 2001);
        cryptkey::install(&machine, json!({}));
        let card = Card::inside(&machine, &[]);
        card.tell(fault);
        machine.turn_on();
        card.tell("wait hang");
        machine.cut_power();
        assert!(!machine.exists(PROFILE));
        card.tell("release");
        machine.boot();
        machine.says(UNIT, &["vault: enrolled"]);
        assert_eq!(machine.read(SECRET), cryptkey::expected(&machine, &card), "{fault}");
        assert_eq!(card.tries(), 3);
    }
}

#[test]
fn a_reload_during_a_reload_is_the_last_word() {
    let (machine, card) = with_touch();
    reload_until_touch(&machine, &card);
    let secrets = json!({ "web": {}, "mail": {} });
    let options = json!({ "touchPolicy": "always", "secrets": secrets });
    cryptkey::configure(&machine, options);
    machine.systemctl(&["daemon-reload"]).exits(0);
    let again = Running::start(machine.command(&["systemctl", "reload", UNIT]));
    card.tell("touch give");
    again.output().exits(0);
    machine.expect(UNIT, "active");
    assert!(machine.exists("/run/cryptkey/vault/mail") && !machine.exists(SECRET));
    assert_eq!(machine.journal(RELOAD).matches("vault: verified").count(), 2);
}

#[test]
fn a_stop_ends_a_reload() {
    let (machine, card) = with_touch();
    reload_until_touch(&machine, &card);
    machine.systemctl(&["stop", UNIT]).exits(0);
    machine.says(UNIT, &["vault: scrubbed"]);
    card.tell("touch give");
    for unit in [UNIT, RELOAD] {
        // systemd says failed of a unit that it stopped with a signal.
        assert!(["inactive", "failed"].contains(&&*machine.state(unit)), "{unit}");
    }
    assert!(!machine.exists("/run/cryptkey/vault"));
    machine.systemctl(&["start", UNIT]).exits(0);
    assert_eq!(machine.read(SECRET), cryptkey::expected(&machine, &card));
}
