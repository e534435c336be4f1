//! A hostile neighbour: another client of pcscd, on eight threads, that uses the card's keys whenever it
//! is let, while runs verify, and while they are killed.

use std::{
    collections::BTreeMap,
    env,
    ffi::CString,
    io::{BufRead, BufReader, Read, stdin},
    panic::{AssertUnwindSafe, catch_unwind},
    process::{Child, ChildStdin, ChildStdout, Stdio, exit},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pcsc::{Context, Disposition, MAX_BUFFER_SIZE, Protocols, Scope, ShareMode};
use serde_json::{Value, json};

use crate::{
    chance::Chance,
    extent::{amount, tell},
    support::{Client, Machine, Output, TestCard as _, Yubikey},
};

const THREADS: usize = 8;
/// So many runs are beside one neighbour.
const PART: usize = 50;
const SELECT: &str = "00A404000BA000000308000010000100";
/// A key agreement of a slot with the generator of P-256.
const AGREE: [&str; 2] = ["0087119A", "0087119D"];
const PEER: &str = "477C458200854104\
    6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296\
    4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F500";
/// Its environment: how it is with the card, and the reader.
const MANNER: &str = "NEIGHBOUR_MANNER";
const READER: &str = "NEIGHBOUR_READER";

/// How the neighbour is with the card.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    /// It is connected, ever.
    Stays,
    /// It connects, uses it a few times, and disconnects.
    Comes,
}

impl std::fmt::Display for Manner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Self::Stays { "stays connected" } else { "comes and goes" })
    }
}

/// The neighbour's process, until it is dropped.
struct Neighbour {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Neighbour {
    fn beside(machine: &Machine, card: &Yubikey, manner: Manner) -> Self {
        let mut command = machine.pcscd.command(env::current_exe().unwrap());
        command
            .args(["--exact", "neighbour::the_neighbour_itself", "--nocapture"])
            .env(MANNER, manner.to_string())
            .env(READER, card.reader())
            // A call is refused at once where another client has a transaction, and made again.
            .env("PCSCLITE_NO_BLOCKING", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut neighbour = Self { child, stdin, stdout };
        neighbour.wait_for("it is there");
        neighbour
    }

    /// Waits for what it says.
    fn wait_for(&mut self, what: &str) {
        let mut line = String::new();
        while !line.contains(what) {
            line.clear();
            assert_ne!(self.stdout.read_line(&mut line).unwrap(), 0);
        }
    }

    /// Ends it: how many commands the card carried out for it, and how many of them a PIN had allowed.
    fn end(mut self) -> (usize, usize) {
        drop(self.stdin.take());
        let mut said = String::new();
        self.stdout.read_to_string(&mut said).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the neighbour: {status}\n{said}");
        let count = |what: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(what));
            line.unwrap_or_else(|| panic!("{said}")).parse().unwrap()
        };
        (count("commands: "), count("with a PIN: "))
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Run by [`Neighbour::beside`] in a process of its own, for its environment; nothing else.
#[test]
fn the_neighbour_itself() {
    let Ok(manner) = env::var(MANNER) else { return };
    let manner = if manner == Manner::Stays.to_string() { Manner::Stays } else { Manner::Comes };
    let reader = CString::new(env::var(READER).unwrap()).unwrap();
    let counts: &'static (AtomicUsize, AtomicUsize) = Box::leak(Box::default());
    for number in 0..THREADS {
        let reader = reader.clone();
        thread::spawn(move || {
            let mut chance = Chance::of(&format!("thread {number}"));
            loop {
                // What fails is tried again: the card is another's, or was reset. The crate panics where
                // that was just then.
                let _ = catch_unwind(AssertUnwindSafe(|| {
                    use_card(&reader, manner, &mut chance, counts)
                }));
            }
        });
    }
    while counts.0.load(Ordering::Relaxed) == 0 {
        thread::yield_now();
    }
    println!("it is there");
    stdin().read_to_end(&mut Vec::new()).unwrap();
    println!("\ncommands: {}", counts.0.load(Ordering::Relaxed));
    println!("with a PIN: {}", counts.1.load(Ordering::Relaxed));
    exit(0);
}

fn use_card(
    reader: &CString,
    manner: Manner,
    chance: &mut Chance,
    (all, leaked): &(AtomicUsize, AtomicUsize),
) -> Result<(), pcsc::Error> {
    thread::sleep(Duration::from_micros(chance.below(1000) as u64));
    if manner == Manner::Comes {
        thread::sleep(Duration::from_millis(chance.below(200) as u64));
    }
    let context = Context::establish(Scope::User)?;
    // Where somebody has it for himself, it waits at the door.
    let card = loop {
        match context.connect(reader, ShareMode::Shared, Protocols::ANY) {
            Err(pcsc::Error::SharingViolation) => thread::sleep(Duration::from_micros(100)),
            connected => break connected?,
        }
    };
    let transmit = |command: String| {
        let command = base16ct::mixed::decode_vec(command).unwrap();
        let mut buffer = [0; MAX_BUFFER_SIZE];
        loop {
            match card.transmit(&command, &mut buffer) {
                Ok(answer) => return Ok(answer[answer.len() - 2..].to_vec()),
                Err(pcsc::Error::SharingViolation) => thread::sleep(Duration::from_micros(100)),
                Err(error) => return Err(error),
            }
        }
    };
    let mut left = if manner == Manner::Stays { usize::MAX } else { 1 + chance.below(3) };
    while left > 0 {
        left -= 1;
        let status = transmit(format!("{}{PEER}", AGREE[chance.below(2)]))?;
        all.fetch_add(1, Ordering::Relaxed);
        match status[..] {
            [0x90, 0x00] => {
                if leaked.fetch_add(1, Ordering::Relaxed) == 0 {
                    println!("it found a PIN");
                }
            }
            // The PIN is missing.
            [0x69, 0x82] => {}
            // The application is.
            _ => drop(transmit(SELECT.into())?),
        }
    }
    card.disconnect(Disposition::LeaveCard).map_err(|(_, error)| error)
}

/// A machine whose key is enrolled in slot 9d, and a key in 9a beside it.
fn enrolled(latency: &str, shared: &str) -> (Machine, Yubikey) {
    let machine = Machine::new(1);
    let args = ["--slot-key", "9a=generate", "--apdu-latency-ms", latency];
    let card = Yubikey::with(&machine, 0, &args);
    machine.vault(&card, json!({}));
    let spec = std::fs::read_to_string(machine.spec_file()).unwrap();
    let mut spec: Value = serde_json::from_str(&spec).unwrap();
    spec["sharedCard"] = json!(shared);
    std::fs::write(machine.spec_file(), spec.to_string()).unwrap();
    machine.apply().exits(0);
    (machine, card)
}

/// What became of runs, by their ends.
#[derive(Default)]
struct Ends(BTreeMap<String, usize>);

impl Ends {
    fn count(&mut self, output: &Output) {
        let end = output.code.map_or("killed".into(), |code| format!("exit code {code}"));
        *self.0.entry(end).or_default() += 1;
    }
}

impl std::fmt::Display for Ends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ends: Vec<_> = self.0.iter().map(|(end, count)| format!("{count} {end}")).collect();
        f.write_str(&ends.join(", "))
    }
}

/// So many runs, in parts that have a neighbour of their own.
fn parts(runs: usize) -> impl Iterator<Item = usize> {
    (0..runs).step_by(PART).map(move |begun| PART.min(runs - begun))
}

/// Runs beside a neighbour; whether it got anything.
fn beside(manner: Manner, shared: &str, latency: &str, runs: usize) -> usize {
    let (machine, card) = enrolled(latency, shared);
    let mut ends = Ends::default();
    let (mut all, mut leaked) = (0, 0);
    for part in parts(runs) {
        let neighbour = Neighbour::beside(&machine, &card, manner);
        for _ in 0..part {
            let output = machine.apply();
            assert!(matches!(output.code, Some(0 | 12)), "{output}");
            ends.count(&output);
        }
        let counts = neighbour.end();
        (all, leaked) = (all + counts.0, leaked + counts.1);
    }
    assert!(ends.0.contains_key("exit code 0") || shared == "refuse" && manner == Manner::Stays);
    tell(&format!(
        "neighbour: {runs} runs with sharedCard = \"{shared}\" and {latency} ms per APDU, beside one that \
         {manner} ({ends}): {all} commands, {leaked} with the PIN of a run"
    ));
    leaked
}

/// So that what it does not find is not there.
#[test]
fn a_neighbour_finds_a_pin_that_was_left_verified() {
    let (machine, card) = enrolled("0", "warn");
    let mut neighbour = Neighbour::beside(&machine, &card, Manner::Stays);
    let mut other = Client::connected(&machine, &card.reader(), "shared");
    let pin = base16ct::lower::encode_string(Yubikey::PIN.as_bytes());
    other.ask("begin");
    other.select();
    assert_eq!(other.status(&format!("0020008008{pin}ffff")), "9000");
    other.ask("end leave");
    neighbour.wait_for("it found a PIN");
    assert!(neighbour.end().1 > 0);
}

#[test]
fn a_neighbour_finds_no_pin_where_runs_are_alone_with_the_card() {
    for latency in ["0", "3"] {
        assert_eq!(beside(Manner::Comes, "refuse", latency, amount(40, 1000)), 0);
    }
    assert_eq!(beside(Manner::Stays, "refuse", "0", amount(1, 20)), 0);
}

/// What is left where the card is shared is counted, and not promised.
#[test]
fn a_neighbour_may_find_the_pin_where_runs_share_the_card() {
    for latency in ["0", "3"] {
        beside(Manner::Stays, "warn", latency, amount(3, 200));
    }
}

/// What ends a run, as far as it is up to it.
const ENDS: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// Ends runs by signals after they presented the PIN, or about to; how often the neighbour got anything.
fn killed(manner: Manner, shared: &str, latency: &str, signals: &[Signal], kills: usize) -> usize {
    let mut chance = Chance::of(&format!("kills {shared} {latency} {signals:?}"));
    let (machine, card) = enrolled(latency, shared);
    let neighbour = Neighbour::beside(&machine, &card, manner);
    let mut done = 0;
    while done < kills {
        let signal = signals[chance.below(signals.len())];
        let mut run = machine.start();
        // Where the card is shared, others may finish between that and VERIFY.
        let verified = ["present the PIN", "APDU [00, 20, 00, 80], 8 bytes"];
        if run.says(verified[usize::from(manner == Manner::Stays)]) {
            let wait = chance.below(if latency == "0" { 3_000 } else { 15_000 });
            thread::sleep(Duration::from_micros(wait as u64));
            // It may have ended.
            let _ = kill(Pid::from_raw(run.pid().cast_signed()), signal);
        }
        let output = machine.finish(run);
        assert!(matches!(output.code, None | Some(0 | 12)), "{output}");
        done += usize::from(output.code.is_none());
    }
    let (all, leaked) = neighbour.end();
    let signals = if signals == ENDS { "SIGTERM, SIGINT or SIGHUP" } else { "SIGKILL" };
    tell(&format!(
        "neighbour: {kills} runs ended by {signals} from VERIFY on, with sharedCard = \"{shared}\" and \
         {latency} ms per APDU, beside one that {manner}: {all} commands, {leaked} with the PIN of a run"
    ));
    leaked
}

#[test]
fn a_neighbour_finds_no_pin_of_a_run_that_was_killed() {
    for latency in ["0", "3"] {
        assert_eq!(killed(Manner::Comes, "refuse", latency, &ENDS, amount(10, 250)), 0);
        assert_eq!(
            killed(Manner::Comes, "refuse", latency, &[Signal::SIGKILL], amount(10, 250)),
            0
        );
    }
}

/// With signals that can be put off nothing was found; with the other one this shows that the neighbour
/// finds what there is.
#[test]
fn a_neighbour_may_find_the_pin_of_a_run_that_was_killed_where_the_card_is_shared() {
    for latency in ["0", "3"] {
        killed(Manner::Stays, "warn", latency, &[Signal::SIGKILL], amount(1, 40));
        killed(Manner::Stays, "warn", latency, &ENDS, amount(1, 40));
    }
}
