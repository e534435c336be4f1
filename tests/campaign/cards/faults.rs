//! What happens to the card, to its reader and to pcscd while a run is at an APDU.

use cryptkey::error::Class;

use super::{Bench, Case, all};
use crate::{
    chance::Chance,
    extent::{is_whole, tell},
    support::{Client, Output, Running, TestCard},
};

const WAITS: &str = "waiting for";
/// The spec's `cardTimeoutSec` where card and pcscd come back.
const LONG: u32 = 600;
/// And where they do not.
const SHORT: u32 = 1;

/// What a run may end with whose card is away, and came back too late for it or not at all.
const AWAY: [Class; 3] = [Class::NoCard, Class::PinRefused, Class::Card];
/// The same for one whose card gave no answer.
const MUTE: [Class; 3] = [Class::Card, Class::NoAnswer, Class::PinRefused];

/// These faults at every APDU of a flow; where not all of it runs, so many of them.
fn at_every_apdu<F: Clone>(bench: &Bench, bounded: usize, faults: &[F]) -> Vec<Case<F>> {
    let places = 1..=bench.apdus.len();
    let cases = places.flat_map(|nth| faults.iter().map(move |fault| (nth, fault.clone())));
    let cases = cases.map(|(nth, fault)| Case { nth, fault }).collect();
    if is_whole() { cases } else { Chance::of(bench.flow.name).some(cases, bounded) }
}

/// Lets the run come to the APDU and holds it there.
fn hold(bench: &Bench, nth: usize) -> Running {
    bench.fault(nth, "hang");
    let running = bench.machine.start();
    bench.card().tell("wait hang");
    running
}

fn finish(bench: &Bench, nth: usize, running: Running, classes: &[Class]) -> Output {
    let output = bench.machine.finish(running);
    bench.judge(nth, &output, classes);
    output
}

#[test]
fn pulled_and_put_back_before_and_after_every_apdu() {
    let count = all(
        LONG,
        |bench| at_every_apdu(bench, 1, &["remove", "remove-after"]),
        |bench, case| {
            bench.fault(case.nth, case.fault);
            let mut running = bench.machine.start();
            bench.card().tell("wait unlinked");
            // No hand is faster than pcscd looks at the reader.
            running.says(WAITS);
            bench.card().insert();
            finish(bench, case.nth, running, &AWAY);
        },
    );
    tell(&format!("card: {count} times pulled before or after an APDU, and put back"));
}

#[test]
fn pulled_for_good_before_and_after_every_apdu() {
    let count = all(
        SHORT,
        |bench| at_every_apdu(bench, 1, &["remove", "remove-after"]),
        |bench, case| {
            bench.fault(case.nth, case.fault);
            let output = bench.machine.apply();
            bench.card().tell("wait unlinked");
            bench.card().insert();
            bench.judge(case.nth, &output, &AWAY);
        },
    );
    tell(&format!("card: {count} times pulled before or after an APDU, and not put back in time"));
}

/// The process that is card and reader in one is killed.
#[test]
fn card_and_reader_die_at_every_apdu() {
    let count = all(
        LONG,
        |bench| at_every_apdu(bench, 1, &[()]),
        |bench, case| {
            let mut running = hold(bench, case.nth);
            let dir = bench.lose_card();
            running.says(WAITS);
            bench.again(dir);
            finish(bench, case.nth, running, &AWAY);
        },
    );
    tell(&format!("card: {count} times its process killed at an APDU, and started again"));
}

#[test]
fn pcscd_is_killed_at_every_apdu() {
    let count = all(
        LONG,
        |bench| at_every_apdu(bench, 1, &["at once", "later"]),
        |bench, case| {
            let mut running = hold(bench, case.nth);
            bench.machine.pcscd.stop();
            if case.fault == "later" {
                running.says(WAITS);
            }
            // The card does what it was told, too late for anybody to hear of it.
            bench.card().tell("release");
            bench.machine.pcscd.restart().unwrap();
            let output = bench.machine.finish(running);
            bench.card().tell("wait seen");
            bench.judge(case.nth, &output, &AWAY);
        },
    );
    tell(&format!("card: {count} times pcscd killed at an APDU, and started again"));
}

#[test]
fn no_answer_to_every_apdu() {
    let count = all(
        SHORT,
        // The slowest of all.
        |bench| at_every_apdu(bench, Chance::of(bench.flow.name).below(2), &[()]),
        |bench, case| {
            let running = hold(bench, case.nth);
            let output = bench.machine.finish(running);
            // At the end of a session, when all is done, it is a warning.
            let is_done = output.stderr.contains("may still hold its PIN as verified");
            assert!(is_done || output.code != Some(0), "{output}");
            bench.card().tell("release");
            bench.judge(case.nth, &output, &MUTE);
        },
    );
    tell(&format!("card: {count} APDUs that were never answered"));
}

/// Another program asks for the card while the run is at an APDU; it has it after the run at the
/// latest, and what it does then (it resets the card, keeps it in a transaction or for itself) is
/// nothing to the run.
#[test]
fn another_program_wants_the_card_at_every_apdu() {
    let count = all(
        LONG,
        |bench| at_every_apdu(bench, 2, &["disconnect reset", "begin", "connect exclusive"]),
        |bench, case| {
            let reader = bench.card().reader();
            let request = match case.fault {
                "connect exclusive" => format!("connect exclusive {reader}"),
                other => other.to_owned(),
            };
            let mut other = Client::new(&bench.machine);
            if case.fault != "connect exclusive" {
                other.ask(&format!("connect shared {reader}"));
            }
            let mut running = hold(bench, case.nth);
            other.begin(&request);
            bench.card().tell("release");
            // A run of several sessions waits for the other one between them.
            let waits = running.says(WAITS);
            // The run itself resets the card, at its end, and somebody else may be faster.
            let answer = other.line();
            let lost = ["error: Card was reset.", "error: Sharing violation."];
            assert!(answer.starts_with("ok") || lost.contains(&&*answer), "{answer}");
            drop(other);
            let output = bench.machine.finish(running);
            assert!(output.code == Some(0), "waited: {waits}; {output}");
            bench.judge(case.nth, &output, &[]);
        },
    );
    tell(&format!("card: {count} times another program reset or took the card at an APDU"));
}

/// Another program has the card before the run, and lets go of it or not.
#[test]
fn another_program_has_the_card_first() {
    let faults = ["connect shared", "connect exclusive"];
    let count = all(
        SHORT,
        |_| faults.iter().map(|&fault| Case { nth: 1, fault }).collect(),
        |bench, case| {
            let reader = bench.card().reader();
            let mut other = Client::new(&bench.machine);
            // pcscd may have to clear up after the one before.
            while !other.try_ask(&format!("{} {reader}", case.fault)).starts_with("ok") {}
            if case.fault == "connect shared" {
                other.ask("begin");
            }
            let output = bench.machine.apply();
            drop(other);
            bench.judge(case.nth, &output, &[Class::Busy]);
            assert_eq!(output.code, Some(12), "{output}");
        },
    );
    tell(&format!("card: {count} runs while another program had the card"));
}
