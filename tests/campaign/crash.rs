//! The release binary is killed at every system call that writes and at every APDU of every flow.
//! The next run, which nobody disturbs, ends where an undisturbed run ends.

use std::collections::BTreeSet;

use crate::{
    bench::Bench,
    extent::{is_whole, tell},
    flows::{
        ABANDON, ATTESTED, CHANGE, ENROLL, Flow, NEW_PIN, OVERWRITE, PUBLISH, REMOVE, RESEAL,
        RESHARE, SCRUB, VERIFY, WRONG_PIN,
    },
    outcome::{Outcome, check_end, judge},
    support::{Running, TestCard, Yubikey},
    tracer::{Then, trace},
};

/// Where a run is killed; counted from 1.
#[derive(Clone, Copy, Debug)]
enum Point {
    /// Before the system call, which never happens.
    BeforeCall(usize),
    /// The kernel has done it.
    AfterCall(usize),
    /// The card of that number has the APDU and acts on it, but nobody is there for the answer.
    BeforeApdu(usize, usize),
    /// The card has acted, and nobody has heard the answer.
    AfterApdu(usize, usize),
}

impl Point {
    /// The `stop`th of the stops before and after each call.
    fn call(stop: usize) -> Self {
        let nth = stop.div_ceil(2);
        if stop % 2 == 1 { Self::BeforeCall(nth) } else { Self::AfterCall(nth) }
    }

    /// Of cards with so many APDUs each.
    fn apdu(stop: usize, apdus: &[usize]) -> Self {
        let (mut card, mut nth) = (0, stop.div_ceil(2));
        while nth > apdus[card] {
            nth -= apdus[card];
            card += 1;
        }
        if stop % 2 == 1 { Self::BeforeApdu(card, nth) } else { Self::AfterApdu(card, nth) }
    }
}

/// What an undisturbed run of a flow is like.
struct Undisturbed {
    calls: usize,
    /// Of each card.
    apdus: Vec<usize>,
    shape: Vec<String>,
}

/// The APDUs since the counts were reset.
fn apdus(card: &Yubikey) -> usize {
    let counts: serde_json::Value = serde_json::from_str(&card.control("count")).unwrap();
    usize::try_from(counts["total"].as_u64().unwrap()).unwrap()
}

fn undisturbed(bench: &mut Bench, flow: &Flow) -> Undisturbed {
    (flow.prepare)(bench);
    let before = Outcome::of(bench);
    bench.cards().for_each(TestCard::reset_counts);
    let mut calls = 0;
    let ended = trace(&bench.command(flow), |stop| {
        calls += usize::from(!stop.done && stop.writes());
        Then::GoOn
    });
    assert_eq!(ended.code(), Some(flow.codes[0]), "{}: {ended:?}", flow.name);
    let apdus = bench.cards().map(apdus).collect();
    let shape = bench.shape();
    check_end(bench, flow, &before, &shape, "an undisturbed run");
    Undisturbed { calls, apdus, shape }
}

/// Kills a run of the flow there; false where it ended before.
fn kill_at(bench: &Bench, flow: &Flow, point: Point) -> bool {
    let (nth, done) = match point {
        Point::BeforeCall(nth) => (nth, false),
        Point::AfterCall(nth) => (nth, true),
        Point::BeforeApdu(card, nth) => return kill_at_apdu(bench, flow, card, nth, "hang"),
        Point::AfterApdu(card, nth) => return kill_at_apdu(bench, flow, card, nth, "hang-after"),
    };
    let mut seen = 0;
    let ended = trace(&bench.command(flow), |stop| {
        seen += usize::from(stop.done == done && stop.writes());
        if seen == nth { Then::Kill } else { Then::GoOn }
    });
    bench.machine.no_secret_in(&ended.said, ended.said.as_bytes());
    ended.code().is_none()
}

fn kill_at_apdu(bench: &Bench, flow: &Flow, card: usize, nth: usize, action: &str) -> bool {
    let card = bench.cards().nth(card).unwrap();
    card.tell(&format!("fault nth {nth} {action}"));
    let mut running = Running::start(bench.command(flow));
    let hangs = card.control("wait hang") == "ok";
    running.kill();
    let output = running.output();
    card.tell("faults clear");
    bench.machine.no_secret_in(&output.to_string(), output.stderr.as_bytes());
    hangs && output.code.is_none()
}

/// One point: the run is killed, what it left is looked at, and the next run makes it good.
fn case(bench: &mut Bench, flow: &Flow, undisturbed: &Undisturbed, point: Point) -> bool {
    (flow.prepare)(bench);
    let before = Outcome::of(bench);
    bench.told();
    let killed = kill_at(bench, flow, point);
    let case = format!("{} killed at {point:?} in slot {}", flow.name, bench.slot());

    judge(bench, flow, &before, &undisturbed.shape, &case, |_| {});
    // Every reader of other bytes was told of them, by this run or the next, and nobody else.
    let mut end = bench.published();
    end.retain(|name, bytes| before.published.get(name) != Some(bytes));
    assert_eq!(bench.told(), end.into_keys().collect(), "{case}");
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
    bench.with_readers();
    let run = undisturbed(&mut bench, flow);
    let (all_calls, apdus) = (2 * run.calls, run.apdus.iter().sum::<usize>());
    let all_apdus = 2 * apdus;
    let mut kills = [0, 0];
    if is_whole() {
        // Which thread is the faster one changes a few calls, so the run itself says when to end.
        while case(&mut bench, flow, &run, Point::call(kills[0] + 1)) {
            kills[0] += 1;
        }
        assert!(kills[0] + 8 >= all_calls, "{}: {kills:?} of {all_calls}", flow.name);
        for stop in 1..=all_apdus {
            let point = Point::apdu(stop, &run.apdus);
            assert!(case(&mut bench, flow, &run, point), "{}: {stop}", flow.name);
            kills[1] += 1;
        }
    } else {
        for stop in spread(all_calls, 10) {
            kills[0] += usize::from(case(&mut bench, flow, &run, Point::call(stop)));
        }
        assert!(kills[0] + 2 >= all_calls.min(10), "{}: {kills:?}", flow.name);
        for stop in spread(all_apdus, 4) {
            let point = Point::apdu(stop, &run.apdus);
            assert!(case(&mut bench, flow, &run, point), "{}: {stop}", flow.name);
            kills[1] += 1;
        }
    }
    tell(&format!(
        "crash points of {}: killed {} times before and after its {} system calls that write, {} times \
         before and after its {} APDUs; each time the next run ended as an undisturbed one",
        flow.name, kills[0], run.calls, kills[1], apdus
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
fn killed_while_another_card_opens_what_is_overwritten() {
    kill_everywhere(&RESEAL);
}

#[test]
fn killed_in_an_attested_enrollment() {
    kill_everywhere(&ATTESTED);
}

#[test]
fn killed_while_a_provider_is_removed() {
    kill_everywhere(&REMOVE);
}

#[test]
fn killed_while_a_key_is_shared_anew() {
    kill_everywhere(&RESHARE);
}
