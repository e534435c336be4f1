//! Kills a run before or after any of its system calls, so that no instant is left out that the
//! file system could tell from another.
//!
//! The run to be killed is the test program again, traced: its test `the_run_to_be_killed` does
//! what [`act_if_asked`] is told.

#![allow(clippy::unwrap_used)]

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use nix::{
    sys::{
        ptrace,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, gettid},
};

/// In the environment of the run to be killed: what it does, and where.
const ACT: &str = "KILLED_ACT";
const PLACE: &str = "KILLED_PLACE";

/// In the run that [`kill_at`] kills, does what that was asked for; elsewhere nothing.
pub fn act_if_asked(act: impl FnOnce(&str, &Path)) {
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
pub fn kill_at(what: &str, dir: &Path, stop: usize) -> bool {
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
