//! Others who use the card while it knows the PIN; signals then; and readers that do not reset it.

use std::{fs, os::unix::process::ExitStatusExt as _};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::support::{Client, Machine, Running, TestCard, Yubikey};

/// Has the spec say what to do where the card is shared.
fn where_shared(machine: &Machine, what: &str) {
    let mut spec: Value = serde_json::from_slice(&fs::read(machine.spec_file()).unwrap()).unwrap();
    spec["sharedCard"] = json!(what);
    fs::write(machine.spec_file(), spec.to_string()).unwrap();
}

#[test]
fn whoever_uses_the_card_beside_a_run_is_named() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    let mut other = Client::connected(&machine, &card.reader(), "shared");
    let who = format!("python3 (pid {})", other.pid());
    let output = machine.apply().exits(0);
    output.says(&[
        "is used beside this run by another program, likely",
        &who,
        "sharedCard = \"refuse\"",
    ]);

    where_shared(&machine, "refuse");
    let presented = card.presented();
    machine.apply().exits(12).says(&["is used beside this run", &who, "Nothing was presented"]);
    assert_eq!(card.presented(), presented);
    other.ask("disconnect leave");
    let output = machine.apply().exits(0);
    assert!(!output.stderr.contains("beside this run"), "{output}");
}

/// Who has let go of it by then is not told of.
#[test]
fn who_uses_the_card_for_a_moment_is_waited_for() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({}));
    where_shared(&machine, "refuse");
    machine.apply().exits(0);
    let mut other = Client::connected(&machine, &card.reader(), "shared");
    let running = machine.start();
    other.ask("disconnect leave");
    machine.finish(running).exits(0);
}

/// While the PIN is verified, nobody else gets a handle on the card.
#[test]
fn nobody_else_gets_at_a_card_that_knows_the_pin() {
    let machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &["--touch-timeout-ms", "600000"]);
    machine.vault(&card, json!({ "touchPolicy": "always", "touchTimeoutSec": 600 }));
    let mut other = Client::new(&machine);
    let mut running = machine.start();
    running.wait_for("touch card");
    card.tell("wait touch");
    let refused = other.try_ask(&format!("connect shared {}", card.reader()));
    assert!(refused.contains("Sharing violation"), "{refused}");
    card.tell("touch give");
    machine.finish(running).exits(0);
}

/// `apply` in the background, which treats signals as `env` is told to: whoever runs the tests may ignore
/// some, as nohup does.
fn started(machine: &Machine, signals: &str) -> Running {
    let plain = machine.command(&["apply", "--json", "-vv"]);
    let mut command = machine.pcscd.command("env");
    command.arg(signals).arg(plain.get_program()).args(plain.get_args());
    Running::start(command)
}

/// A run that treats signals so, while its card waits for a touch.
fn waits_for_a_touch(signals: &str) -> (Machine, Yubikey, Running) {
    let machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &["--touch-timeout-ms", "600000"]);
    card.tell("touch give");
    machine.vault(&card, json!({ "touchPolicy": "always", "touchTimeoutSec": 600 }));
    machine.apply().exits(0);
    card.tell("touch wait");
    let running = started(&machine, signals);
    card.tell("wait touch");
    (machine, card, running)
}

#[test]
fn a_signal_that_is_ignored_ends_nothing() {
    let (machine, card, running) = waits_for_a_touch("--ignore-signal=HUP,INT");
    for signal in [Signal::SIGHUP, Signal::SIGINT] {
        kill(Pid::from_raw(running.pid().cast_signed()), signal).unwrap();
    }
    card.tell("touch give");
    assert_eq!(machine.finish(running).exits(0).result("vault"), "verified");
}

/// Sends a signal to a run while the card waits for a touch, which comes then. The run ends by the signal
/// once the card has answered and was reset, and asks for nothing more.
fn ended_by(signal: Signal) {
    let (machine, card, mut running) = waits_for_a_touch("--default-signal=HUP,INT,TERM");
    kill(Pid::from_raw(running.pid().cast_signed()), signal).unwrap();
    running.wait_for("The card still works");
    let log = card.log().len();
    card.tell("touch once");
    let status = running.status();
    assert_eq!(status.signal(), Some(signal as i32), "{status}");
    let asked: Vec<_> = card.log_since(log).into_iter().map(|apdu| apdu.header).collect();
    assert_eq!(asked, ["0087119d"]);
    let mut other = Client::connected(&machine, &card.reader(), "shared");
    other.select();
    assert_eq!(other.status("00200080"), "63c3");
}

#[test]
fn a_stop_ends_the_session_first() {
    ended_by(Signal::SIGTERM);
}

#[test]
fn an_interrupt_ends_the_session_first() {
    ended_by(Signal::SIGINT);
}

#[test]
fn a_hangup_ends_the_session_first() {
    ended_by(Signal::SIGHUP);
}

/// While nothing is at stake, a signal ends a run on the spot.
#[test]
fn a_run_that_waits_for_a_card_ends_at_once() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    card.remove();
    let cards = json!([{ "serial": Yubikey::SERIAL }]);
    machine.vault(&card, json!({ "cards": cards, "cardTimeoutSec": 600 }));
    let mut running = machine.start();
    running.wait_for("waiting for card");
    kill(Pid::from_raw(running.pid().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(running.status().signal(), Some(Signal::SIGTERM as i32));
}

#[test]
fn a_reader_that_does_not_reset_is_found_out_once_and_the_pin_taken_back() {
    let machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &["--ignores-resets"]);
    machine.vault(&card, json!({}));
    let told = "does not reset its card";
    machine.apply().exits(0).says(&[told]);
    let known = fs::read_to_string(machine.state.join("readers.json")).unwrap();
    assert_eq!(known, json!({ card.reader(): false }).to_string());
    let verified = || {
        let mut other = Client::connected(&machine, &card.reader(), "shared");
        other.select();
        let status = other.status("00200080");
        other.ask("disconnect leave");
        status
    };
    assert_eq!(verified(), "63c3");
    card.reset_counts();
    let output = machine.apply().exits(0);
    assert!(!output.stderr.contains(told), "{output}");
    // Two more: the PIN is taken back, and that is checked.
    assert_eq!(card.count(), 7);
    assert_eq!(verified(), "63c3");
}

#[test]
fn a_reader_that_resets_is_found_out_once() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    let known = machine.state.join("readers.json");
    assert_eq!(fs::read_to_string(&known).unwrap(), json!({ card.reader(): true }).to_string());
    card.reset_counts();
    machine.apply().exits(0);
    assert_eq!(card.count(), 5);
    // What can't be read is found out again.
    fs::write(&known, "{").unwrap();
    card.reset_counts();
    machine.apply().exits(0);
    assert_eq!(card.count(), 7);
    assert_eq!(fs::read_to_string(&known).unwrap(), json!({ card.reader(): true }).to_string());
}
