//! Every call of a run that has to do with its files fails, one run for each: no room, no quota, a
//! disk that is read-only or broken, no memory. Each run ends with a named error or as if nothing had
//! been; nothing is half written, what was published stands, no try is spent; and the next run ends
//! as one that was never disturbed.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirEntryExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
};

use serde_json::{Value, json};

use crate::{
    extent::{is_whole, tell},
    support::{Machine, Output, TestCard, Yubikey, published::generations},
    trace::{Call, calls, failing},
};

/// What fails a call that writes, and one that reads.
const TO_WRITE: [&str; 6] = ["ENOSPC", "EIO", "EROFS", "EDQUOT", "EACCES", "ENOMEM"];
const TO_READ: [&str; 3] = ["EIO", "EACCES", "ENOMEM"];

/// A run to be disturbed.
#[allow(clippy::struct_excessive_bools)]
struct Flow {
    name: &'static str,
    args: &'static [&'static str],
    /// Whether there is a profile before, and whether something is published.
    enrolled: bool,
    published: bool,
    /// Whether the spec wants other secrets than the published ones.
    changes: bool,
    /// Whether the PIN is wrong, and nothing is known of it.
    wrong: bool,
}

const VERIFY: Flow = Flow {
    name: "verify",
    args: &["apply", "--json"],
    enrolled: true,
    published: true,
    changes: false,
    wrong: false,
};

const FLOWS: [Flow; 7] = [
    Flow { name: "enroll", enrolled: false, published: false, ..VERIFY },
    VERIFY,
    Flow { name: "publish", published: false, ..VERIFY },
    Flow { name: "change", changes: true, ..VERIFY },
    Flow { name: "wrong PIN", wrong: true, ..VERIFY },
    Flow { name: "scrub", args: &["scrub"], ..VERIFY },
    Flow { name: "status", args: &["status"], ..VERIFY },
];

fn secrets(changed: bool) -> Value {
    let hex = |usage: &str| json!({ "use": usage, "format": "hex" });
    if changed {
        json!({ "secrets": { "backup": hex("new"), "stays": hex("stays"), "comes": hex("comes") } })
    } else {
        json!({ "secrets": { "backup": hex("backups"), "stays": hex("stays") } })
    }
}

/// What is published, by name.
type Published = Vec<(String, Vec<u8>)>;

/// A machine with a card, and what a run starts from.
struct Bench {
    machine: Machine,
    card: Yubikey,
    /// The files of the state directory before the run, and what is published by the first spec and
    /// the other.
    state: Vec<(PathBuf, Vec<u8>)>,
    first: Published,
    other: Published,
}

impl Bench {
    fn new() -> Self {
        let machine = Machine::new(1);
        let card = Yubikey::with(&machine, 0, &["--slot-key", "9d=generate"]);
        let published = |changed| {
            machine.vault(&card, secrets(changed));
            machine.apply().exits(0);
            sorted(&machine)
        };
        let (other, first) = (published(true), published(false));
        let paths = fs::read_dir(&machine.state).unwrap().map(|entry| entry.unwrap().path());
        let state = paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
        Self { machine, card, state, first, other }
    }

    /// Makes the machine what it is before the flow.
    fn prepare(&self, flow: &Flow) {
        let machine = &self.machine;
        if self.card.tries() < 3 {
            // A right PIN gives them back.
            self.clear();
            self.machine.vault(&self.card, secrets(false));
            machine.apply().exits(0);
        }
        self.clear();
        self.machine.vault(&self.card, secrets(false));
        if flow.enrolled {
            for (path, bytes) in &self.state {
                let mut file =
                    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
                file.as_mut().unwrap().write_all(bytes).unwrap();
            }
        }
        if flow.published {
            machine.apply().exits(0);
            assert_eq!(sorted(machine), self.first);
        }
        let mut spec = secrets(flow.changes);
        if flow.wrong {
            spec["pin"] = machine.secret_file("wrong.pin", "111111");
        }
        machine.vault(&self.card, spec);
    }

    /// Neither state nor anything published.
    fn clear(&self) {
        for entry in fs::read_dir(&self.machine.state).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        drop(fs::remove_dir_all(&self.machine.runtime));
    }

    /// The profile that stood before the run.
    fn profile(&self) -> &[u8] {
        let path = self.machine.profile("vault");
        &self.state.iter().find(|(name, _)| *name == path).unwrap().1
    }

    /// What must hold after the disturbed run; then the next one.
    fn check(&self, flow: &Flow, output: &Output, presented: usize) {
        let machine = &self.machine;
        let left = if flow.wrong { 2 } else { 3 };
        assert!(self.card.tries() >= left, "tries were spent");
        if output.code == Some(14) {
            assert_eq!(self.card.presented(), presented, "refused, and yet presented");
        }
        let profile = fs::read(machine.profile("vault")).ok();
        let published = sorted(machine);
        if flow.enrolled {
            assert_eq!(profile.as_deref(), Some(self.profile()), "the profile changed");
            let wanted = if flow.changes { &self.other } else { &self.first };
            let stood = if flow.published { &self.first[..] } else { &[] };
            let gone = flow.args[0] == "scrub" && published.is_empty();
            let right = published == *wanted || published == stood || gone;
            assert!(right, "a mixed set: {:?}", names(&published));
            if output.code == Some(0) && flow.args[0] == "apply" {
                assert_eq!(published, *wanted);
            }
        } else {
            // Whole or not there, and there before anything is published.
            let text = profile.map(|bytes| String::from_utf8(bytes).unwrap());
            let whole = text.as_deref().is_some_and(|text| {
                assert!(cryptkey::profile::Profile::parse(text).is_ok(), "half a profile:\n{text}");
                true
            });
            assert!(whole || published.is_empty(), "published without a profile");
            assert!(published.is_empty() || published.len() == 2, "half a set");
        }
        if output.code != Some(0) {
            let code = output.code.expect("it was killed");
            assert!((10..=20).contains(&code), "no named error: {output}");
            // A phrase, and what to do next; `status` has them among what it shows.
            let told = [&*output.stdout, &output.stderr].concat();
            assert!(told.contains(": ") && told.contains(". "), "no advice: {output}");
        }
        self.next_run(flow);
    }

    /// The next run, with nothing in its way, ends as one that was never disturbed.
    fn next_run(&self, flow: &Flow) {
        let machine = &self.machine;
        let before = fs::read(machine.profile("vault")).ok();
        if flow.args[0] == "scrub" {
            machine.run(flow.args).exits(0);
            assert_eq!((sorted(machine), generations(&machine.runtime)), (vec![], 0));
            return;
        }
        if flow.wrong {
            for _ in 0..2 {
                let code = machine.apply().code.unwrap();
                assert!([14, 15].contains(&code), "exit {code} with a wrong PIN");
            }
            assert_eq!(self.card.tries(), 2, "one wrong PIN, one try");
            assert_eq!(sorted(machine), self.first);
            return;
        }
        machine.apply().exits(0);
        let after = fs::read(machine.profile("vault")).unwrap();
        assert!(before.is_none_or(|before| before == after), "the profile was replaced");
        let published = sorted(machine);
        if flow.enrolled {
            let wanted = if flow.changes { &self.other } else { &self.first };
            assert_eq!(published, *wanted);
        } else {
            let key = self.card.private_key("9d");
            let right = machine.expected("vault", &[key], "backups");
            assert_eq!(machine.secret("vault", "backup"), right);
        }
        assert!(machine.apply().exits(0).unchanged("vault"));
        assert_eq!(generations(&machine.runtime), 1, "a generation was left");
        self.nothing_is_left();
        assert_eq!(self.card.tries(), 3, "tries were spent");
    }

    /// No half files. A profile that was put in place may have its other name until the next one is
    /// written: it is the same file.
    fn nothing_is_left(&self) {
        let profile = fs::metadata(self.machine.profile("vault")).unwrap().ino();
        for entry in fs::read_dir(&self.machine.state).unwrap() {
            let entry = entry.unwrap();
            let is_new = entry.path().extension().is_some_and(|end| end == "new");
            assert!(!is_new || entry.ino() == profile, "{} was left", entry.path().display());
        }
    }
}

fn sorted(machine: &Machine) -> Published {
    let mut published = machine.published();
    published.sort();
    published
}

fn names(published: &Published) -> Vec<&String> {
    published.iter().map(|(name, _)| name).collect()
}

/// The calls that have to do with the machine's files, without those that a disk can't refuse.
fn points(bench: &Bench, flow: &Flow) -> Vec<Call> {
    bench.prepare(flow);
    let (output, calls) = calls(&bench.machine, flow.args);
    output.exits(if flow.wrong { 15 } else { 0 });
    let ram = bench.machine.runtime.parent().unwrap();
    let places: [&Path; 2] = [bench.machine.dir(), ram];
    let refused = |call: &Call| {
        !["close", "lseek", "fcntl", "execve", "poll"].contains(&&*call.name)
            && !call.text.contains("pcscd")
            // What it says, not what it keeps.
            && !call.text.starts_with("write(1<")
            && !call.text.starts_with("write(2<")
    };
    calls.into_iter().filter(|call| call.is_about(&places) && refused(call)).collect()
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
    let bench = Bench::new();
    let points = points(&bench, flow);
    let mut count = Count { points: points.len(), ..Count::default() };
    for (number, call) in points.iter().enumerate() {
        let errors = if call.writes() { &TO_WRITE[..] } else { &TO_READ };
        for (place, error) in errors.iter().enumerate() {
            // Bounded: every call that writes with one of the errors, and a few others.
            let step = if call.writes() { errors.len() } else { 8 * errors.len() };
            if !is_whole() && (number * errors.len() + place) % step != number % step {
                continue;
            }
            bench.prepare(flow);
            let presented = bench.card.presented();
            let (output, hit) = failing(&bench.machine, flow.args, call, error);
            let what =
                format!("{}: {error} at {} {}: {}", flow.name, call.name, call.nth, call.text);
            let ram = bench.machine.runtime.parent().unwrap();
            let about = |hit: String| {
                Call { text: hit, ..call.clone() }.is_about(&[bench.machine.dir(), ram])
            };
            if !hit.is_some_and(about) {
                count.missed += 1;
                continue;
            }
            count.runs += 1;
            if output.code == Some(0) {
                count.passed += 1;
            } else {
                count.named += 1;
            }
            println!(
                "{what}\n  exit {:?} {}",
                output.code,
                output.stderr.lines().last().unwrap_or_default()
            );
            bench.check(flow, &output, presented);
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
            if flow.wrong { "no more than 1 of 3" } else { "0" }
        ));
    }
}
