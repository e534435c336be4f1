//! Every call of a run that has to do with its files fails, one run for each: no room, no quota, a
//! disk that is read-only or broken, no memory. Each run ends with a named error or as if nothing had
//! been; nothing is half written, what was published stands, no try is spent; and the next run ends
//! as one that was never disturbed.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, thread};

use crate::{
    bench::Bench,
    extent::{is_whole, tell},
    flows::{
        ABANDON, ATTESTED, CHANGE, ENROLL, Flow, OVERWRITE, PUBLISH, RESEAL, SCRUB, STATUS, VERIFY,
        WRONG_PIN,
    },
    outcome::{Outcome, judge},
    support::Output,
    trace::{Call, calls, failing},
};

/// What fails a call that writes, and one that reads.
const TO_WRITE: [&str; 6] = ["ENOSPC", "EIO", "EROFS", "EDQUOT", "EACCES", "ENOMEM"];
const TO_READ: [&str; 3] = ["EIO", "EACCES", "ENOMEM"];

/// Runs of these are disturbed.
const FLOWS: [Flow; 11] = [
    ENROLL, ATTESTED, VERIFY, PUBLISH, CHANGE, WRONG_PIN, SCRUB, STATUS, OVERWRITE, RESEAL, ABANDON,
];

/// The error's name is among those that `docs/exit-codes.md` lists, and it says what to do.
fn is_named(output: &Output) {
    let code = output.code.expect("it was killed");
    assert!((10..=20).contains(&code), "no named error: {output}");
    // A phrase, and what to do next; `status` has them among what it shows.
    let told = [&*output.stdout, &output.stderr].concat();
    assert!(told.contains(": ") && told.contains(". "), "no advice: {output}");
}

/// What must hold after the disturbed run; then the next one.
fn check(
    bench: &mut Bench,
    flow: &Flow,
    before: &Outcome,
    shape: &[String],
    output: &Output,
    case: &str,
) {
    assert!(bench.cards().all(|card| card.tries() >= flow.tries), "tries were spent: {case}");
    if let Some(text) = bench.profile() {
        let read = cryptkey::profile::Profile::parse(&text);
        assert!(read.is_ok(), "half a profile: {case}\n{text}");
    }
    if output.code == Some(0) {
        if flow.args == ["apply"] {
            assert_eq!(bench.published(), bench.expected(), "{case}");
        }
    } else {
        is_named(output);
    }
    let next = judge(bench, flow, before, shape, case, other_name);
    if flow.codes != [0, 0] {
        bench.machine.run(flow.args).exits(flow.codes[1]);
        assert_eq!(bench.card.tries(), flow.tries, "one wrong PIN, one try: {case}: {next}");
    }
}

/// A profile that was put in place may have its other name until the next one is written, if the disk
/// refused to remove it: it is the same file.
fn other_name(bench: &Bench) {
    let path = bench.machine.profile("vault");
    let other = path.with_file_name(".vault.toml.new");
    let inode = |path: &Path| fs::symlink_metadata(path).ok().map(|found| found.ino());
    if inode(&other).is_some_and(|other| inode(&path) == Some(other)) {
        fs::remove_file(other).unwrap();
    }
}

/// The calls that have to do with the machine's files, without those that a disk can't refuse.
fn points(bench: &mut Bench, flow: &Flow) -> Vec<Call> {
    (flow.prepare)(bench);
    let (output, calls) = calls(&bench.machine, flow.args);
    output.exits(flow.codes[0]);
    let refused = |call: &Call| {
        !["close", "lseek", "fcntl", "execve", "poll"].contains(&&*call.name)
            && !call.text.contains("pcscd")
            // What it says, not what it keeps.
            && !call.text.starts_with("write(1<")
            && !call.text.starts_with("write(2<")
    };
    calls.into_iter().filter(|call| is_about(bench, call) && refused(call)).collect()
}

/// Whether the call has to do with the machine's files.
fn is_about(bench: &Bench, call: &Call) -> bool {
    call.is_about(&[bench.machine.dir(), bench.machine.runtime.parent().unwrap()])
}

/// What a flow came to.
#[derive(Default)]
struct Count {
    points: usize,
    runs: usize,
    named: usize,
    passed: usize,
    missed: usize,
}

fn disturb(flow: &Flow) -> Count {
    let mut bench = Bench::new();
    let points = points(&mut bench, flow);
    let shape = bench.shape();
    let mut count = Count { points: points.len(), ..Count::default() };
    for (number, call) in points.iter().enumerate() {
        let errors = if call.writes() { &TO_WRITE[..] } else { &TO_READ };
        for (place, error) in errors.iter().enumerate() {
            // Bounded: every call that writes with one of the errors, and a few others.
            let step = if call.writes() { errors.len() } else { 8 * errors.len() };
            if !is_whole() && (number * errors.len() + place) % step != number % step {
                continue;
            }
            (flow.prepare)(&mut bench);
            let (before, presented) = (Outcome::of(&bench), bench.presented());
            let (output, hit) = failing(&bench.machine, flow.args, call, error);
            let what =
                format!("{}: {error} at {} {}: {}", flow.name, call.name, call.nth, call.text);
            if !hit.is_some_and(|text| is_about(&bench, &Call { text, ..call.clone() })) {
                count.missed += 1;
                continue;
            }
            count.runs += 1;
            if output.code == Some(0) {
                count.passed += 1;
            } else {
                count.named += 1;
            }
            if output.code == Some(14) {
                let told = bench.presented() - presented < bench.cards().count();
                assert!(told, "refused, and yet presented: {what}");
            }
            println!(
                "{what}\n  exit {:?} {}",
                output.code,
                output.stderr.lines().last().unwrap_or_default()
            );
            check(&mut bench, flow, &before, &shape, &output, &what);
        }
    }
    count
}

#[test]
fn every_call_for_a_file_fails() {
    let counts: Vec<_> = thread::scope(|scope| {
        let flows =
            FLOWS.iter().map(|flow| (flow, scope.spawn(|| disturb(flow)))).collect::<Vec<_>>();
        flows.into_iter().map(|(flow, run)| (flow, run.join().unwrap())).collect()
    });
    for (flow, Count { points, runs, named, passed, missed }) in counts {
        assert!(
            missed * 20 <= runs,
            "{}: {missed} of {runs} runs failed at another call",
            flow.name
        );
        tell(&format!(
            "disk, {}: {points} calls for files; {runs} runs in which one of them fails (no room, no \
             quota, read-only, broken, no memory, denied): {named} ended with a named error, {passed} as \
             if nothing had been; {} tries spent, nothing half written, and each next run right",
            flow.name,
            if flow.tries < 3 { "no more than 1 of 3" } else { "0" }
        ));
    }
}
