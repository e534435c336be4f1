//! Who reads a secret restarts when its bytes have changed, and at no other time.

use serde_json::{Value, json};

use crate::support::{
    Card, Consumer, Container, Switched,
    container::PROGRAM,
    cryptkey::{self, PROFILE, RELOAD, SECRET, UNIT},
    nix,
    run::Output,
    switch,
};

/// What the restarter says of the unit that needs the secret.
const TOLD: &str = "To restart, if active: restic.service";

/// The secret `restic` of so many bytes; `more` goes on top.
fn secret(length: usize, more: Value) -> Value {
    let mut secret = json!({ "format": "hex", "length": length, "owner": "restic",
                             "requiredBy": ["restic.service"] });
    secret.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    secret
}

/// A machine with these secrets of the key; `units` is what else its configuration says.
fn vault(secrets: Value, units: &str) -> nix::Machine {
    cryptkey::vault(json!({ "cardTimeoutSec": 1, "secrets": secrets }), units)
}

/// It boots, with the card in its reader.
fn booted(machine: &mut Container, nixos: &nix::Machine) -> Card {
    cryptkey::install_all(machine, nixos);
    let card = Card::inside(machine, &[]);
    machine.boot();
    // Its pcscd may have taken longer to begin than a card is waited for.
    card.tell("wait seen");
    machine.systemctl(&["start", "restic.service"]).exits(0);
    card
}

fn put_back(card: &Card) {
    card.insert();
    card.tell("wait seen");
}

fn reload(machine: &Container) {
    machine.systemctl(&["reload", UNIT]).exits(0);
}

#[test]
fn who_has_read_a_secret_that_changed_reads_it_again() {
    let mut machine = Container::new();
    let restic = Consumer::declared(&machine, "restic", 2001);
    let of_length = |length: usize, more: Value, units: &str| {
        let units = restic.declaration(SECRET) + units;
        vault(json!({ "restic": secret(length, more) }), &units)
    };
    let mut nixos = of_length(32, json!({}), "");
    let card = booted(&mut machine, &nixos);
    let has_read = |starts: usize, digits: usize| {
        assert_eq!(restic.starts(&machine), starts, "{}", machine.journal("restic.service"));
        assert_eq!(restic.read(&machine).len(), digits);
    };
    has_read(1, 64);

    // A switch tells NixOS nothing of it, and does not wait for it.
    let done = switch(&machine, &mut nixos, of_length(48, json!({}), ""));
    assert_eq!(done, Switched { reloaded: [UNIT.to_owned()].into(), ..Switched::default() });
    has_read(2, 96);
    machine.says(RELOAD, &[TOLD]);
    reload(&machine);
    has_read(2, 96);

    // Without the card it goes on with what there is, also where NixOS stops and starts it for
    // another reason.
    card.remove();
    let another = "systemd.services.restic.environment.WHY = \"not\";";
    let done = switch(&machine, &mut nixos, of_length(64, json!({}), another));
    assert_eq!(Switched::of(&done.restarted), ["restic.service"]);
    assert_eq!(Switched::of(&done.failed), [RELOAD]);
    has_read(3, 96);
    put_back(&card);
    reload(&machine);
    has_read(4, 128);
    reload(&machine);
    has_read(4, 128);

    // With the card, NixOS' own restart is the only one.
    let other = "systemd.services.restic.environment.WHY = \"so\";";
    let done = switch(&machine, &mut nixos, of_length(96, json!({}), other));
    assert_eq!(Switched::of(&done.restarted), ["restic.service"]);
    has_read(5, 192);

    // These are the same bytes.
    let changes = [
        of_length(96, json!({ "mode": "0440" }), other),
        of_length(96, json!({ "mode": "0440", "before": ["other.service"] }), other),
    ];
    for new in changes {
        switch(&machine, &mut nixos, new);
        has_read(5, 192);
    }
    machine.says(RELOAD, &["changed restic"]);
    let told = machine.journal(RELOAD).matches(TOLD).count();

    // A stop takes it along, and a start has it read what is there then.
    machine.systemctl(&["restart", UNIT]).exits(0);
    has_read(6, 192);
    assert_eq!(machine.journal(RELOAD).matches(TOLD).count(), told);

    machine.reboot();
    assert_eq!(restic.starts(&machine), 1);
    for unit in [UNIT, RELOAD] {
        assert!(!machine.journal(unit).contains("To restart"), "{}", machine.journal(unit));
    }
}

/// A service that counts how often it was started and reloaded.
fn counter(name: &str, reload: bool) -> String {
    let reload = if reload {
        format!("ExecReload = \"/bin/sh -c 'echo reload >>/run/{name}.did'\";")
    } else {
        String::new()
    };
    let at = if name.ends_with('@') { format!("{name}%i") } else { name.to_owned() };
    format!(
        "systemd.services.\"{name}\".serviceConfig = {{
            Type = \"oneshot\";
            RemainAfterExit = true;
            ExecStart = \"/bin/sh -c 'echo start >>/run/{at}.did'\";
            {reload}
        }};"
    )
}

/// What it did; what is still to come is waited for.
fn did(machine: &Container, name: &str) -> String {
    machine.systemctl(&["start", &format!("{name}.service")]).exits(0);
    String::from_utf8(machine.read(&format!("/run/{name}.did"))).unwrap().replace('\n', " ")
}

#[test]
fn units_do_what_the_configuration_says_of_them() {
    let mut machine = Container::new();
    let restic = Consumer::declared(&machine, "restic", 2001);
    let units = restic.declaration(SECRET)
        + &["web", "graceful"].map(|name| counter(name, true)).concat()
        + &["plain", "worker@", "idle"].map(|name| counter(name, false)).concat()
        + "systemd.services.\"worker@1\".wantedBy = [ \"multi-user.target\" ];
           systemd.services.\"worker@1\".overrideStrategy = \"asDropin\";";
    let of = |length: usize, wifi: Value| {
        let readers = json!({
            "restartUnits": ["restic.service", "web.service", "gone.service", "worker@.service"],
            "reloadUnits": ["graceful.service", "web.service", "plain.service", "idle.service"],
        });
        let mut secrets = json!({ "restic": secret(length, readers) });
        secrets.as_object_mut().unwrap().extend(wifi.as_object().unwrap().clone());
        vault(secrets, &units)
    };
    let wifi = |more: Value| {
        let mut wifi = json!({ "restartUnits": ["web.service", "idle.service"] });
        wifi.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "wifi": wifi })
    };
    let mut nixos = of(32, wifi(json!({})));
    let _card = booted(&mut machine, &nixos);
    let active = ["web", "graceful", "plain", "worker@1", "worker@2"];
    for name in active {
        assert_eq!(did(&machine, name), "start ");
    }
    let all = |expected: [&str; 5]| {
        assert_eq!(active.map(|name| did(&machine, name)), expected, "{}", machine.journal(RELOAD));
        machine.expect("idle.service", "inactive");
    };

    // Both secrets change, of which one unit reads both; one unit is nowhere.
    let again = wifi(json!({ "format": "base64" }));
    let done = switch(&machine, &mut nixos, of(48, again.clone()));
    assert_eq!(done.failed, Switched::default().failed);
    all(["start start ", "start reload ", "start start ", "start start ", "start start "]);
    assert_eq!(restic.starts(&machine), 2);
    machine.says(RELOAD, &["gone.service", "What else is in the list is done."]);

    // One of them.
    let done = switch(&machine, &mut nixos, of(48, wifi(json!({ "format": "hex" }))));
    assert_eq!(done.failed, Switched::default().failed);
    all(["start start start ", "start reload ", "start start ", "start start ", "start start "]);
    assert_eq!(restic.starts(&machine), 2);

    // What is not there any more has no readers; what is new has.
    switch(&machine, &mut nixos, of(48, json!({})));
    all(["start start start ", "start reload ", "start start ", "start start ", "start start "]);
    switch(&machine, &mut nixos, of(48, again));
    all([
        "start start start start ",
        "start reload ",
        "start start ",
        "start start ",
        "start start ",
    ]);

    // Who reads a secret is no part of what is published: the key's unit is left alone.
    let renamed = wifi(json!({ "format": "base64", "restartUnits": ["plain.service"] }));
    let done = switch(&machine, &mut nixos, of(48, renamed));
    assert_eq!(done, Switched::default());
}

/// Runs `apply` as people do, but for the PIN; what it said.
fn apply_by_hand(machine: &Container, args: &[&str]) -> Output {
    machine.write("/run/pin/pin", 0o600, Card::PIN);
    let run = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect"];
    let apply = ["--setenv=CREDENTIALS_DIRECTORY=/run/pin", PROGRAM, "apply"];
    machine.run(&[&run[..], &apply, args].concat()).exits(0)
}

/// As a reload that publishes and is killed before anybody is told.
fn publish_and_tell_nobody(machine: &Container, nixos: &nix::Machine) {
    let mut lines = nixos.units[RELOAD].text.lines();
    let start = lines.find(|line| line.starts_with("ExecStart=")).unwrap();
    let args: Vec<_> = start.split_once(" apply ").unwrap().1.split(' ').collect();
    apply_by_hand(machine, &args);
}

#[test]
fn what_a_killed_run_left_is_told_by_the_next_one_in_whatever_way_it_ends() {
    let mut machine = Container::new();
    let restic = Consumer::declared(&machine, "restic", 2001);
    let of_length = |length: usize| {
        vault(json!({ "restic": secret(length, json!({})) }), &restic.declaration(SECRET))
    };
    let mut nixos = of_length(32);
    let card = booted(&mut machine, &nixos);
    card.remove();
    switch(&machine, &mut nixos, of_length(48));
    put_back(&card);
    publish_and_tell_nobody(&machine, &nixos);
    assert_eq!(machine.read(SECRET).len(), 96);
    assert_eq!(restic.starts(&machine), 1);

    card.remove();
    cryptkey::forget_marks(&machine);
    machine.systemctl(&["reload", UNIT]).exits(1);
    machine.says(RELOAD, &["Insert the card", TOLD]);
    assert_eq!(restic.starts(&machine), 2);
    assert_eq!(restic.read(&machine).len(), 96);
    put_back(&card);
    reload(&machine);
    assert_eq!(restic.starts(&machine), 2);

    // By hand, the run itself tells them.
    card.remove();
    switch(&machine, &mut nixos, of_length(64));
    put_back(&card);
    let output = apply_by_hand(&machine, &["--spec", "/etc/cryptkey/spec.json"]);
    assert_eq!(output.stdout, format!("vault: verified, changed restic\n{TOLD}\n"));
    assert_eq!(restic.starts(&machine), 3);
    assert_eq!(restic.read(&machine).len(), 128);
}

#[test]
fn who_began_without_a_secret_gets_it_and_who_was_skipped_is_not_started() {
    let mut machine = Container::new();
    let restic = Consumer::declared(&machine, "restic", 2001);
    let secret = secret(32, json!({ "restartUnits": ["restic.service", "web.service"] }));
    let key = json!({ "softFail": true, "cardTimeoutSec": 0, "secrets": { "restic": secret } });
    let units = restic.declaration(SECRET)
        + &counter("web", false)
        + "systemd.services.web.wantedBy = [ \"multi-user.target\" ];";
    cryptkey::install_all(&machine, &cryptkey::vault(key, &units));
    let card = Card::outside(&machine, &[]);
    machine.boot();
    machine.says(UNIT, &["vault: skipped"]);
    machine.expect("restic.service", "inactive");
    assert_eq!(did(&machine, "web"), "start ");

    put_back(&card);
    reload(&machine);
    assert!(machine.exists(PROFILE) && machine.exists(SECRET));
    assert_eq!(did(&machine, "web"), "start start ");
    machine.expect("restic.service", "inactive");
    reload(&machine);
    assert_eq!(did(&machine, "web"), "start start ");
}

#[test]
fn a_stop_in_the_middle_of_a_reload_starts_nobody() {
    let mut machine = Container::new();
    let restic = Consumer::declared(&machine, "restic", 2001);
    let of_length = |length: usize| {
        let key = json!({ "touchPolicy": "always", "touchTimeoutSec": 600,
                          "secrets": { "restic": secret(length, json!({})) } });
        cryptkey::vault(key, &restic.declaration(SECRET))
    };
    let nixos = of_length(32);
    cryptkey::install_all(&machine, &nixos);
    let card = Card::inside(&machine, &["--touch-timeout-ms", "10000"]);
    card.tell("touch give");
    machine.boot();
    machine.expect("restic.service", "active");

    let nixos = of_length(48);
    cryptkey::configure_all(&machine, &nixos);
    machine.systemctl(&["daemon-reload"]).exits(0);
    publish_and_tell_nobody(&machine, &nixos);
    assert_eq!((restic.starts(&machine), restic.read(&machine).len()), (1, 64));
    card.tell("touch wait");
    cryptkey::forget_marks(&machine);
    machine.systemctl(&["reload", "--no-block", UNIT]).exits(0);
    card.tell("wait touch");
    machine.systemctl(&["stop", UNIT]).exits(0);
    card.tell("touch give");
    // The run that was stopped ends once the card has answered.
    machine.systemctl(&["stop", "cryptkey-reload@vault.service"]).exits(0);
    // Nothing is under way any more.
    assert_eq!(machine.systemctl(&["list-jobs", "--no-legend"]).exits(0).stdout, "");
    machine.expect("restic.service", "inactive");
    // systemd says failed of a unit that it stopped with a signal.
    assert!(["inactive", "failed"].contains(&&*machine.state(UNIT)));
    assert!(!machine.exists("/run/cryptkey/vault"));
    assert_eq!(restic.starts(&machine), 1);
}

#[test]
fn who_reads_secrets_of_two_keys_restarts_once_for_both() {
    let mut machine = Container::new();
    let restic = Consumer::declared(&machine, "restic", 2001);
    let of_length = |length: usize| {
        let key = |slot: &str| {
            cryptkey::options(json!({
                "slot": slot, "secrets": { "restic": secret(length, json!({})) },
            }))
        };
        let keys = json!({ "vault": key("9d"), "attic": key("82") });
        cryptkey::evaluate(&keys, &restic.declaration(SECRET))
    };
    let mut nixos = of_length(32);
    let _card = booted(&mut machine, &nixos);
    assert_eq!(restic.starts(&machine), 1);
    let done = switch(&machine, &mut nixos, of_length(48));
    assert_eq!(Switched::of(&done.reloaded), ["cryptkey-attic.service", UNIT]);
    assert_eq!(restic.starts(&machine), 2);
    machine.says(RELOAD, &[TOLD]);
    machine.says("cryptkey-reload@attic.service", &[TOLD]);
}
