//! Killed before or after any system call of publishing or scrubbing, a run leaves the old set, the
//! new set or nothing at its name, never half; and the next run ends as if nothing had happened.
//!
//! The run to be killed is this test program again, traced: it is stopped at each system call in
//! turn and killed there, so no instant is left out that the file system could tell from another.

#![allow(clippy::unwrap_used)]

#[path = "support/published.rs"]
mod published;
#[path = "support/ram.rs"]
mod ram;

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    slice,
};

use cryptkey::publish::{Outcome, scrub};
use nix::{
    sys::{
        ptrace,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, gettid},
};
use published::{contents, expected, generations, publish, set, tree};
use ram::Ram;

const OLD: [(&str, &str); 3] = [("a", "old a"), ("b", "old b"), ("d", "same")];
const NEW: [(&str, &str); 3] = [("b", "new b"), ("c", "new c"), ("d", "same")];
/// In the environment of the run to be killed: what it does, and where.
const ACT: &str = "PUBLISH_KILLED_ACT";
const PLACE: &str = "PUBLISH_KILLED_PLACE";

fn act(what: &str, dir: &Path) {
    match what {
        "publish" => drop(publish(dir, "vault", &set(&NEW)).unwrap()),
        "scrub" => drop(scrub(dir, "vault").unwrap()),
        other => panic!("{other}"),
    }
}

/// No test by itself: the run that [`kill_at`] kills.
#[test]
fn the_run_to_be_killed() {
    let (Ok(what), Some(place)) = (env::var(ACT), env::var_os(PLACE)) else {
        return;
    };
    // Tests have threads of their own, so the tracer must be told which to trace.
    let mut error = std::io::stderr();
    writeln!(error, "{}", gettid()).unwrap();
    std::io::stdin().read_line(&mut String::new()).unwrap();
    act(&what, Path::new(&place));
}

fn has_ended(status: WaitStatus) -> bool {
    matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..))
}

/// Runs `what` in a process of its own and kills it at the `stop`th stop at a system call (two for
/// each: before and after). False where it ended before that.
fn kill_at(what: &str, dir: &Path, stop: usize) -> bool {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "the_run_to_be_killed", "--nocapture"])
        .env(ACT, what)
        .env(PLACE, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut tid = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut tid).unwrap();
    let thread = Pid::from_raw(tid.trim().parse().unwrap());
    ptrace::seize(thread, ptrace::Options::empty()).unwrap();
    ptrace::interrupt(thread).unwrap();
    let wait = || waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
    wait();
    // It waits for this line inside a system call, and goes on once it is let.
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    for _ in 0..stop {
        ptrace::syscall(thread, None).unwrap();
        if has_ended(wait()) {
            assert!(child.wait().unwrap().success());
            return false;
        }
    }
    child.kill().unwrap();
    // The process ends only when the tracer has seen its thread end.
    while !has_ended(wait()) {}
    assert!(!child.wait().unwrap().success());
    true
}

/// Kills `what` everywhere, each time from the state that `prepare` makes, and lets `check` look at
/// what is left. Gives how often it was killed.
fn kill_everywhere(what: &str, prepare: impl Fn(&Path), check: impl Fn(&Path)) -> usize {
    for stop in 1.. {
        let ram = Ram::tmpfs("size=1m");
        let dir = ram.runtime_dir();
        prepare(&dir);
        let killed = kill_at(what, &dir, stop);
        check(&dir);
        act(what, &dir);
        if what == "publish" {
            assert_eq!(contents(&dir.join("vault")), expected(&NEW), "after stop {stop}");
            assert_eq!(generations(&dir), 1, "after stop {stop}");
            let again = publish(&dir, "vault", &set(&NEW)).unwrap();
            assert_eq!(again, Outcome::Unchanged);
        } else {
            assert_eq!(tree(&dir), slice::from_ref(&dir), "after stop {stop}");
        }
        if !killed {
            return stop;
        }
    }
    unreachable!()
}

/// What stands at the name is `first` or `second`, whole; an empty slice is nothing at all.
fn stands(dir: &Path, first: &[(&str, &str)], second: &[(&str, &str)]) {
    let key = dir.join("vault");
    let found = if key.exists() { contents(&key) } else { expected(&[]) };
    assert!(found == expected(first) || found == expected(second), "half a set: {found:?}");
}

#[test]
fn publishing_over_an_old_set() {
    let old = |dir: &Path| drop(publish(dir, "vault", &set(&OLD)).unwrap());
    let kills = kill_everywhere("publish", old, |dir| stands(dir, &OLD, &NEW));
    assert!(kills > 60, "only {kills}");
}

#[test]
fn publishing_the_first_time() {
    let kills = kill_everywhere("publish", |_| {}, |dir| stands(dir, &[], &NEW));
    assert!(kills > 60, "only {kills}");
}

#[test]
fn scrubbing() {
    let old = |dir: &Path| drop(publish(dir, "vault", &set(&OLD)).unwrap());
    let check = |dir: &Path| {
        if dir.exists() {
            stands(dir, &OLD, &[]);
        }
    };
    let kills = kill_everywhere("scrub", old, check);
    assert!(kills > 30, "only {kills}");
}
