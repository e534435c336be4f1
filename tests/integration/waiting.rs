//! What is not there yet, and what another program holds.

use std::{
    fs,
    io::Read,
    os::unix::net::{UnixDatagram, UnixListener},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use crate::support::{Client, Machine, Running, TestCard, Yubikey};

const READER: &str = "Yubico YubiKey CCID 0 00 00";
const WAITS: &str = "waiting for";

#[test]
fn no_card_is_told_with_what_is_there() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    card.remove();
    machine.vault(&card, json!({ "cardTimeoutSec": 1 }));
    let output = machine.apply().exits(11);
    output.says(&["a card", "not there within 1 s", "2 of 2 readers are empty", "Insert the card"]);
}

#[test]
fn a_card_that_comes_while_it_is_waited_for_is_in_time() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    card.remove();
    machine.vault(&card, json!({ "cardTimeoutSec": 600 }));
    let mut running = machine.start();
    running.wait_for("key vault: waiting for a card");
    card.insert();
    assert_eq!(machine.finish(running).exits(0).result("vault"), "enrolled");
}

#[test]
fn a_soft_failure_is_skipped_and_what_is_published_stands() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({ "softFail": true, "cardTimeoutSec": 20 }));
    machine.apply().exits(0);
    let published = machine.published();
    card.remove();
    machine.vault(&card, json!({ "softFail": true, "cardTimeoutSec": 0 }));
    let output = machine.apply().exits(0);
    assert_eq!(output.result("vault"), "skipped");
    let output = output.says(&["warning: ", "card 90210001"]);
    assert_eq!(output.json()["keys"]["vault"]["error"]["class"], "no-card");
    assert_eq!(machine.published(), published);
    let plain = machine.run(&["apply"]).exits(0);
    assert_eq!(plain.stdout, "vault: skipped\n");
}

/// The other keys of the spec do not suffer from one whose card is away.
#[test]
fn a_card_that_is_away_stops_its_own_key_only() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    let away = json!({ "cards": [{ "serial": "90210009" }], "cardTimeoutSec": 0 });
    machine.spec(json!({
        "away": machine.key(&card, away),
        "here": machine.key(&card, json!({ "cards": [{ "serial": Yubikey::SERIAL }] })),
    }));
    let output = machine.apply().exits(11);
    assert_eq!(output.result("away"), "failed");
    assert_eq!(output.result("here"), "enrolled");
}

#[test]
fn no_pcscd_is_told_and_a_soft_failure() {
    let mut machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    card.remove();
    machine.pcscd.stop();
    machine.vault(&card, json!({ "cardTimeoutSec": 0 }));
    machine.apply().exits(11).says(&["pcscd was not there", "services.pcscd.enable"]);
    machine.vault(&card, json!({ "cardTimeoutSec": 0, "softFail": true }));
    assert_eq!(machine.apply().exits(0).result("vault"), "skipped");
}

#[test]
fn a_pcscd_that_comes_later_is_in_time() {
    let mut machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.pcscd.stop();
    machine.vault(&card, json!({ "cardTimeoutSec": 600 }));
    let mut running = machine.start();
    running.wait_for(WAITS);
    machine.pcscd.restart().unwrap();
    assert_eq!(machine.finish(running).exits(0).result("vault"), "enrolled");
}

/// To libpcsclite one that ends without a word is one that denies access.
#[test]
fn a_pcscd_that_ends_while_it_is_asked_denied_nothing() {
    let mut machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.pcscd.stop();
    let socket = machine.pcscd.socket();
    let pcscd = UnixListener::bind(&socket).unwrap();
    machine.vault(&card, json!({ "cardTimeoutSec": 600 }));
    let mut running = machine.start();
    let (mut client, _) = pcscd.accept().unwrap();
    // It asks for the version of the protocol, and is not answered.
    client.read_exact(&mut [0; 8]).unwrap();
    fs::remove_file(socket).unwrap();
    drop((client, pcscd));
    running.wait_for(WAITS);
    machine.pcscd.restart().unwrap();
    assert_eq!(machine.finish(running).exits(0).result("vault"), "enrolled");
}

/// One that its socket started, and that still waits for polkit, say.
#[test]
fn a_pcscd_that_answers_late_is_in_time() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({ "cardTimeoutSec": 600 }));
    let pcscd = Pid::from_raw(machine.pcscd.pid().unwrap().cast_signed());
    kill(pcscd, Signal::SIGSTOP).unwrap();
    let mut running = machine.start();
    running.wait_for(WAITS);
    kill(pcscd, Signal::SIGCONT).unwrap();
    assert_eq!(machine.finish(running).exits(0).result("vault"), "enrolled");
}

#[test]
fn a_pcscd_that_gives_no_answer_is_a_soft_failure() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({ "cardTimeoutSec": 0 }));
    let pcscd = Pid::from_raw(machine.pcscd.pid().unwrap().cast_signed());
    kill(pcscd, Signal::SIGSTOP).unwrap();
    machine.apply().exits(11).says(&["pcscd gave no answer", "systemctl status pcscd"]);
    kill(pcscd, Signal::SIGCONT).unwrap();
}

/// Somebody holds the card until after the program gave up.
fn held(how: &str) {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({ "cardTimeoutSec": 1 }));
    machine.apply().exits(0);
    let mut other = hold(&machine, how);
    let who = format!("python3 (pid {})", other.pid());
    // Longer than the first look and the next one take.
    machine.vault(&card, json!({ "cardTimeoutSec": 8 }));
    let output = machine.apply().exits(12);
    let output = output.says(&[READER, &who, "within 8 s", "scdaemon"]);
    assert_eq!(output.json()["keys"]["vault"]["error"]["class"], "card-busy");
    // A holder is no absent card: that is not forgiven.
    machine.vault(&card, json!({ "cardTimeoutSec": 1, "softFail": true }));
    machine.apply().exits(12);
    other.ask("disconnect leave");
    assert_eq!(machine.apply().exits(0).result("vault"), "verified");
}

/// Another program that holds the card: `exclusive`, or in a transaction.
fn hold(machine: &Machine, how: &str) -> Client {
    let exclusive = how == "exclusive";
    let share = if exclusive { "exclusive" } else { "shared" };
    let mut other = Client::connected(machine, READER, share);
    if !exclusive {
        other.ask("begin");
    }
    other
}

#[test]
fn who_holds_the_card_for_itself_is_named() {
    held("exclusive");
}

#[test]
fn who_holds_the_card_in_a_transaction_is_named() {
    held("transaction");
}

/// The session that still waits for the answer holds the card: that is nobody else.
#[test]
fn a_card_that_gives_no_answer_is_not_held_by_another_program() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    // Longer than an answer may take.
    machine.vault(&card, json!({ "cardTimeoutSec": 16 }));
    card.tell("fault hang");
    let output = machine.apply().exits(19);
    output.says(&[READER, "no answer came in time", "Take the card out"]);
    card.tell("release");
    assert_eq!(machine.apply().exits(0).result("vault"), "enrolled");
}

/// It lets go while the program waits.
fn released(how: &str) {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({ "cardTimeoutSec": 600 }));
    let mut other = hold(&machine, how);
    let mut running = machine.start();
    running.wait_for(WAITS);
    other.ask("disconnect leave");
    assert_eq!(machine.finish(running).exits(0).result("vault"), "enrolled");
}

#[test]
fn a_card_that_another_program_had_for_itself_is_waited_for() {
    released("exclusive");
}

#[test]
fn a_card_that_was_in_another_program_s_transaction_is_waited_for() {
    released("transaction");
}

/// A reader that is held may have a second card in it, so none is chosen before that is known.
#[test]
fn a_held_reader_beside_the_card_is_not_taken_for_empty() {
    let machine = Machine::new(2);
    let card = Yubikey::new(&machine, 1);
    let other = Yubikey::with(&machine, 0, &["--serial", "90210002"]);
    let mut holder = hold(&machine, "exclusive");
    machine.vault(&card, json!({ "cardTimeoutSec": 1 }));
    machine.apply().exits(12).says(&[READER]);
    holder.ask("disconnect leave");
    machine.apply().exits(10).says(&["card 90210001", "card 90210002"]);
    assert_eq!((card.presented(), other.presented()), (0, 0));
}

#[test]
fn systemd_hears_of_the_wait_and_of_the_end() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    card.remove();
    machine
        .vault(&card, json!({ "cards": [{ "serial": Yubikey::SERIAL }], "cardTimeoutSec": 600 }));
    let path = machine.dir().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    let mut command = machine.command(&["apply", "-vv"]);
    command.env("NOTIFY_SOCKET", &path);
    let running = Running::start(command);
    let mut heard = String::new();
    let mut buffer = [0; 4096];
    while !(heard.contains("STATUS=waiting for card 90210001")
        && heard.contains("EXTEND_TIMEOUT_USEC="))
    {
        let length = systemd.recv(&mut buffer).unwrap();
        heard += &String::from_utf8_lossy(&buffer[..length]);
        heard.push('\n');
    }
    card.insert();
    machine.finish(running).exits(0);
    systemd.set_nonblocking(true).unwrap();
    while let Ok(length) = systemd.recv(&mut buffer) {
        heard += &String::from_utf8_lossy(&buffer[..length]);
        heard.push('\n');
    }
    assert!(heard.contains("READY=1"), "{heard}");
    machine.no_secret_in("what systemd hears", heard.as_bytes());
    // Long enough for the next word of it to come.
    let extension = heard.lines().find_map(|line| line.strip_prefix("EXTEND_TIMEOUT_USEC="));
    assert!(extension.unwrap().parse::<u64>().unwrap() >= 10_000_000, "{heard}");
}

/// While it waits: no core dump, no debugger, no page on the swap.
#[test]
fn a_waiting_process_gives_nothing_away() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    card.remove();
    machine.vault(&card, json!({ "cardTimeoutSec": 600 }));
    // Of an ordinary user, whose processes are his own as long as they can be dumped.
    let mut running = machine.start();
    running.wait_for(WAITS);
    let proc = std::path::PathBuf::from(format!("/proc/{}", running.pid()));
    let limits = fs::read_to_string(proc.join("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    let words: Vec<_> = core.unwrap().split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{limits}");
    let status = fs::read_to_string(proc.join("status")).unwrap();
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
    let locked: u64 = locked.unwrap().trim().trim_end_matches(" kB").parse().unwrap();
    assert!(locked > 0, "{status}");
    running.kill();
}
