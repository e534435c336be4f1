//! Whom the program has systemd restart, where a stand-in writes it down. What systemd makes of it is
//! in `tests/vm/restart.rs`.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Machine, Systemd, TestCard, Yubikey, published::generations};

const RESTART: &str = "try-restart --no-block --job-mode=fail -- ";
const RELOAD: &str = "try-reload-or-restart --no-block --job-mode=fail -- ";

/// A machine whose key is enrolled, and has published nothing in this boot.
fn machine() -> (Machine, Yubikey) {
    let mut machine = Machine::new(1);
    machine.systemd = Some(Systemd::new());
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    assert_eq!(told(&machine), [""; 0]);
    machine.run(&["scrub"]).exits(0);
    (machine, card)
}

fn told(machine: &Machine) -> Vec<String> {
    machine.systemd.as_ref().unwrap().told()
}

/// The secrets `a` and `b` of these uses, each with readers.
fn declare(machine: &Machine, card: &Yubikey, uses: [&str; 2]) {
    let secret = |usage: &str, readers: Value| {
        let mut secret = json!({ "use": usage });
        secret.as_object_mut().unwrap().extend(readers.as_object().unwrap().clone());
        secret
    };
    let a = json!({ "restartUnits": ["a.service", "both.service"], "reloadUnits": ["w@.service"] });
    let b = json!({ "restartUnits": ["both.service"], "reloadUnits": ["a.service", "b.timer"] });
    let secrets = json!({ "a": secret(uses[0], a), "b": secret(uses[1], b) });
    machine.vault(card, json!({ "secrets": secrets }));
}

#[test]
fn each_reader_is_told_once_of_what_is_new() {
    let (machine, card) = machine();
    declare(&machine, &card, ["one", "two"]);
    machine.run(&["apply", "--restart", "boot"]).exits(0);
    machine.run(&["restart"]).exits(0);
    assert_eq!(told(&machine), [""; 0]);

    declare(&machine, &card, ["three", "four"]);
    let output = machine.run(&["apply"]).exits(0);
    let said = "vault: verified, changed a, b\nTo restart, if active: a.service, both.service\n\
                To reload, if active: b.timer, w@*.service\n";
    assert_eq!(output.stdout, said);
    let restart = format!("{RESTART}a.service both.service");
    assert_eq!(told(&machine), [restart, format!("{RELOAD}b.timer w@*.service")]);
    let output = machine.run(&["apply"]).exits(0);
    assert_eq!(output.stdout, "vault: verified, unchanged\n");
    assert_eq!(told(&machine), [""; 0]);

    // Two runs that tell nobody, and one that tells all.
    declare(&machine, &card, ["five", "four"]);
    machine.run(&["apply", "--restart", "later"]).exits(0);
    declare(&machine, &card, ["five", "six"]);
    machine.run(&["apply", "--restart", "boot"]).exits(0);
    assert_eq!(told(&machine), [""; 0]);
    let output = machine.run(&["restart", "--json"]).exits(0);
    let expected = json!({
        "restarted": ["a.service", "both.service"], "reloaded": ["b.timer", "w@*.service"],
    });
    assert_eq!(output.json(), expected);
    assert_eq!(told(&machine).len(), 2);
    let output = machine.run(&["restart"]).exits(0);
    assert_eq!(output.stdout, "");
    assert_eq!(told(&machine), [""; 0]);

    // Nothing stood before, and this is no boot.
    machine.run(&["scrub"]).exits(0);
    machine.run(&["apply", "--restart", "later"]).exits(0);
    machine.run(&["restart", "--key", "vault"]).exits(0);
    assert_eq!(told(&machine).len(), 2);
}

#[test]
fn a_systemd_that_gives_no_answer_is_told_by_the_next_run() {
    let (machine, card) = machine();
    let systemd = machine.systemd.as_ref().unwrap();
    declare(&machine, &card, ["one", "two"]);
    machine.run(&["apply", "--restart", "boot"]).exits(0);
    declare(&machine, &card, ["three", "two"]);
    systemd.is_deaf(true);
    let parts = ["telling systemd: try-restart a.service both.service: no answer."];
    let output = machine.run(&["apply"]).exits(1).says(&parts);
    // The secrets are published all the same.
    assert!(output.stdout.starts_with("vault: verified, changed a\n"), "{output}");
    assert!(output.stdout.ends_with("vault: failed (internal)\n"), "{output}");
    let output = machine.run(&["restart", "--json"]).exits(1).says(&parts);
    assert_eq!(output.json()["failed"]["vault"]["class"], "internal");
    let mut command = machine.command(&["restart"]);
    command.env("PATH", "/nonexistent");
    let parts = ["systemctl can't be started", "PATH=/nonexistent"];
    machine.finish(crate::support::Running::start(command)).exits(1).says(&parts);

    systemd.is_deaf(false);
    machine.run(&["restart"]).exits(0);
    assert_eq!(told(&machine).len(), 2);

    // What it refuses stays refused, and is told once.
    declare(&machine, &card, ["four", "two"]);
    systemd.refuses(true);
    machine.run(&["apply"]).exits(0).says(&["not found. What else is in the list is done."]);
    assert_eq!(told(&machine).len(), 2);
    machine.run(&["restart"]).exits(0);
    assert_eq!(told(&machine), [""; 0]);
}

/// Who publishes may have been shut in, and who restarts may not be: what the one wrote is not
/// believed by the other.
#[test]
fn what_was_written_down_chooses_no_unit() {
    let (machine, card) = machine();
    declare(&machine, &card, ["one", "two"]);
    machine.run(&["apply", "--restart", "boot"]).exits(0);
    let generation = fs::read_link(machine.runtime.join("vault")).unwrap();
    let list = machine.runtime.join(format!("{}.pending", generation.display()));
    let names = "evil.service\n--force\na.service\n../a\nA\n\n a\nc\n";
    fs::write(&list, names).unwrap();
    machine.run(&["restart"]).exits(0);
    assert_eq!(told(&machine), [""; 0]);
    assert!(!list.exists());

    fs::write(&list, names.to_owned() + "b\n").unwrap();
    machine.run(&["restart"]).exits(0);
    assert_eq!(
        told(&machine),
        [RESTART.to_owned() + "both.service", RELOAD.to_owned() + "a.service b.timer"]
    );
    assert_eq!(generations(&machine.runtime), 1);
}
