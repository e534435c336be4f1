//! The release binary is killed at every system call that writes and at every APDU of every flow.
//! The next run, which nobody disturbs, ends where an undisturbed run ends.

use std::collections::BTreeSet;

use crate::{
    extent::{is_whole, tell},
    flows::{
        ABANDON, Bench, CHANGE, ENROLL, Flow, NEW_PIN, OVERWRITE, PUBLISH, Published, REMOVE,
        SCRUB, VERIFY, WRONG_PIN,
    },
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

impl Point {
    /// The `stop`th of the stops before and after each call.
    fn call(stop: usize) -> Self {
        let nth = stop.div_ceil(2);
        if stop % 2 == 1 { Self::BeforeCall(nth) } else { Self::AfterCall(nth) }
    }

    fn apdu(stop: usize) -> Self {
        let nth = stop.div_ceil(2);
        if stop % 2 == 1 { Self::BeforeApdu(nth) } else { Self::AfterApdu(nth) }
    }
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
    Before { published: bench.published(), profile: bench.profile(), generated: generated(bench) }
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
    assert_eq!(ended.code(), Some(flow.codes[0]), "{}: {ended:?}", flow.name);
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
    assert_eq!(bench.card.tries(), flow.tries, "{case}");
    assert_eq!(generated(bench) - before.generated, flow.generates, "keys made: {case}");
    if flow.replaces {
        // What was replaced is kept, once.
        assert_ne!(bench.profile(), before.profile, "{case}");
        assert_eq!(bench.kept(), Vec::from_iter(before.profile.clone()), "{case}");
    } else if before.profile.is_some() {
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
    bench.machine.no_secret_in(&ended.said, ended.said.as_bytes());
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
    assert!(before.profile.is_none() || between.profile.is_some(), "lost: {case}");
    assert!(
        flow.replaces || before.profile.is_none() || between.profile == before.profile,
        "{case}"
    );
    assert!(between.published.is_empty() || between.profile.is_some(), "rule 2: {case}");
    let made = between.generated - before.generated;
    assert!(made <= flow.generates, "keys made: {case}");

    let next = bench.machine.run(flow.args);
    assert!(flow.codes.map(Some).contains(&next.code), "{case}: {next}");
    check_end(bench, flow, &before, &undisturbed.shape, &case);
    // Whoever read in between saw the old set or the new.
    let after = bench.published();
    let whole = between.published == before.published || between.published == after;
    assert!(whole, "a mixed set: {case}: {:?}", between.published.keys());
    let whole = [None, before.profile, bench.profile()].contains(&between.profile);
    assert!(whole, "another profile in between: {case}");
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
    let (all_calls, all_apdus) = (2 * run.calls, 2 * run.apdus);
    let mut kills = [0, 0];
    if is_whole() {
        // Which thread is the faster one changes a few calls, so the run itself says when to end.
        while case(&mut bench, flow, &run, Point::call(kills[0] + 1)) {
            kills[0] += 1;
        }
        assert!(kills[0] + 8 >= all_calls, "{}: {kills:?} of {all_calls}", flow.name);
        for stop in 1..=all_apdus {
            assert!(case(&mut bench, flow, &run, Point::apdu(stop)), "{}: {stop}", flow.name);
            kills[1] += 1;
        }
    } else {
        for stop in spread(all_calls, 10) {
            kills[0] += usize::from(case(&mut bench, flow, &run, Point::call(stop)));
        }
        assert!(kills[0] + 2 >= all_calls.min(10), "{}: {kills:?}", flow.name);
        for stop in spread(all_apdus, 4) {
            assert!(case(&mut bench, flow, &run, Point::apdu(stop)), "{}: {stop}", flow.name);
            kills[1] += 1;
        }
    }
    tell(&format!(
        "crash points of {}: killed {} times before and after its {} system calls that write, {} times \
         before and after its {} APDUs; each time the next run ended as an undisturbed one",
        flow.name, kills[0], run.calls, kills[1], run.apdus
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

#[test]
fn killed_with_a_new_pin() {
    kill_everywhere(&NEW_PIN);
}

#[test]
fn killed_with_a_wrong_pin() {
    kill_everywhere(&WRONG_PIN);
}

#[test]
fn killed_while_a_key_is_overwritten() {
    kill_everywhere(&OVERWRITE);
}

#[test]
fn killed_while_a_profile_is_given_up() {
    kill_everywhere(&ABANDON);
}

#[test]
fn killed_while_a_provider_is_removed() {
    kill_everywhere(&REMOVE);
}

/// The key is shared anew, without the recovery code.
const RESEAL: Flow = Flow {
    name: "reseal",
    args: &["reseal", "--key", "vault", "--threshold", "1", "--without", "recovery-1"],
    ..REMOVE
};

#[test]
fn killed_while_a_key_is_shared_anew() {
    kill_everywhere(&RESEAL);
}
