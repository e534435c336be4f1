//! The release binary is killed at every system call that writes and at every APDU of every flow.
//! The next run, which nobody disturbs, ends where an undisturbed run ends.

use std::collections::BTreeSet;

use crate::{
    extent::{is_whole, tell},
    flows::{Bench, CHANGE, ENROLL, Flow, PUBLISH, Published, SCRUB, VERIFY},
    support::{Running, TestCard},
    tracer::{Then, trace},
};

/// Where a run is killed; counted from 1.
#[derive(Clone, Copy, Debug)]
enum Point {
    /// Before the system call, which never happens.
    BeforeCall(usize),
    /// The kernel has done it.
    AfterCall(usize),
    /// The card has the APDU and acts on it, but nobody is there for the answer.
    BeforeApdu(usize),
    /// The card has acted, and nobody has heard the answer.
    AfterApdu(usize),
}

/// What an undisturbed run of a flow is like.
struct Undisturbed {
    calls: usize,
    apdus: usize,
    shape: Vec<String>,
}

/// How the machine was before a run.
struct Before {
    published: Published,
    profile: Option<String>,
    generated: usize,
}

fn look(bench: &Bench) -> Before {
    Before {
        published: bench.published(),
        profile: bench.profile(),
        generated: generated(bench),
    }
}

/// How often the card made a key.
fn generated(bench: &Bench) -> usize {
    bench.card.log().iter().filter(|apdu| apdu.generates() && apdu.status == "9000").count()
}

fn undisturbed(bench: &mut Bench, flow: &Flow) -> Undisturbed {
    (flow.prepare)(bench);
    let before = look(bench);
    bench.card.reset_counts();
    let mut calls = 0;
    let ended = trace(&bench.command(flow), |stop| {
        calls += usize::from(!stop.done && stop.writes());
        Then::GoOn
    });
    assert_eq!(ended.code(), Some(0), "{}: {ended:?}", flow.name);
    let state: serde_json::Value = serde_json::from_str(&bench.card.control("count")).unwrap();
    let apdus = usize::try_from(state["total"].as_u64().unwrap()).unwrap();
    let shape = bench.shape();
    check_end(bench, flow, &before, &shape, "an undisturbed run");
    Undisturbed { calls, apdus, shape }
}

/// What must hold at the end of every run that was not disturbed.
fn check_end(bench: &mut Bench, flow: &Flow, before: &Before, shape: &[String], case: &str) {
    let published = bench.published();
    let expected = if flow.args == ["scrub"] { Published::new() } else { bench.expected() };
    assert_eq!(published, expected, "{case}");
    assert_eq!(bench.shape(), shape, "{case}");
    assert_eq!(bench.card.tries(), 3, "{case}");
    assert_eq!(generated(bench) - before.generated, flow.generates, "keys made: {case}");
    if before.profile.is_some() {
        assert_eq!(bench.profile(), before.profile, "{case}");
    }
}

/// Kills a run of the flow there; false where it ended before.
fn kill_at(bench: &Bench, flow: &Flow, point: Point) -> bool {
    let (nth, done) = match point {
        Point::BeforeCall(nth) => (nth, false),
        Point::AfterCall(nth) => (nth, true),
        Point::BeforeApdu(nth) => return kill_at_apdu(bench, flow, nth, "hang"),
        Point::AfterApdu(nth) => return kill_at_apdu(bench, flow, nth, "hang-after"),
    };
    let mut seen = 0;
    let ended = trace(&bench.command(flow), |stop| {
        seen += usize::from(stop.done == done && stop.writes());
        if seen == nth { Then::Kill } else { Then::GoOn }
    });
    bench.machine.no_secret_in(&ended.stderr, ended.stderr.as_bytes());
    ended.code().is_none()
}

fn kill_at_apdu(bench: &Bench, flow: &Flow, nth: usize, action: &str) -> bool {
    bench.card.tell(&format!("fault nth {nth} {action}"));
    let mut running = Running::start(bench.command(flow));
    let hangs = bench.card.control("wait hang") == "ok";
    running.kill();
    let output = running.output();
    bench.card.tell("faults clear");
    bench.machine.no_secret_in(&output.to_string(), output.stderr.as_bytes());
    hangs && output.code.is_none()
}

/// One point: the run is killed, what it left is looked at, and the next run makes it good.
fn case(bench: &mut Bench, flow: &Flow, undisturbed: &Undisturbed, point: Point) -> bool {
    (flow.prepare)(bench);
    let before = look(bench);
    let killed = kill_at(bench, flow, point);
    let case = format!("{} killed at {point:?} in slot {}", flow.name, bench.slot());

    let between = look(bench);
    assert!(before.profile.is_none() || between.profile == before.profile, "lost: {case}");
    assert!(between.published.is_empty() || between.profile.is_some(), "rule 2: {case}");
    let made = between.generated - before.generated;
    assert!(made <= flow.generates, "keys made: {case}");

    let next = bench.machine.run(flow.args);
    assert_eq!(next.code, Some(0), "{case}: {next}");
    check_end(bench, flow, &before, &undisturbed.shape, &case);
    // Whoever read in between saw the old set or the new.
    let after = bench.published();
    let whole = between.published == before.published || between.published == after;
    assert!(whole, "a mixed set: {case}: {:?}", between.published.keys());
    assert!(between.profile.is_none() || between.profile == bench.profile(), "{case}");
    killed
}

/// `count` of the numbers up to `of`, the first and the last among them.
fn spread(of: usize, count: usize) -> BTreeSet<usize> {
    if of <= count {
        return (1..=of).collect();
    }
    (0..count).map(|i| 1 + i * (of - 1) / (count - 1).max(1)).collect()
}

/// Kills the flow at all of its points; in the bounded campaign at some, spread over the run.
fn kill_everywhere(flow: &Flow) {
    let mut bench = Bench::new();
    let run = undisturbed(&mut bench, flow);
    let amount = |bounded| if is_whole() { usize::MAX } else { bounded };
    let calls = spread(2 * run.calls, amount(10)).into_iter().map(|stop| match stop % 2 {
        1 => Point::BeforeCall(stop.div_ceil(2)),
        _ => Point::AfterCall(stop / 2),
    });
    let apdus = spread(2 * run.apdus, amount(4)).into_iter().map(|stop| match stop % 2 {
        1 => Point::BeforeApdu(stop.div_ceil(2)),
        _ => Point::AfterApdu(stop / 2),
    });
    let (mut kills, mut late) = (0, 0);
    for point in calls.chain(apdus) {
        if case(&mut bench, flow, &run, point) {
            kills += 1;
        } else {
            late += 1;
        }
    }
    // Which thread is the faster one changes a few calls, not more.
    assert!(late <= 2, "{}: {late} points were never reached", flow.name);
    tell(&format!(
        "crash points of {}: killed at {kills} of {} (before and after {} system calls that write \
         and {} APDUs); the next run ended as an undisturbed one each time",
        flow.name,
        2 * (run.calls + run.apdus),
        run.calls,
        run.apdus
    ));
}

#[test]
fn killed_in_an_enrollment() {
    kill_everywhere(&ENROLL);
}

#[test]
fn killed_in_a_verification() {
    kill_everywhere(&VERIFY);
}

#[test]
fn killed_while_a_boot_publishes() {
    kill_everywhere(&PUBLISH);
}

#[test]
fn killed_while_a_set_replaces_another() {
    kill_everywhere(&CHANGE);
}

#[test]
fn killed_while_secrets_are_scrubbed() {
    kill_everywhere(&SCRUB);
}
