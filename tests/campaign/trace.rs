//! The system calls of a run, and a run in which one of them fails: strace makes the kernel refuse
//! it, as a disk would. The calls of the main thread, which alone has to do with files.

use std::{fs, path::Path, process::Command};

use tempfile::NamedTempFile;

use crate::support::{Machine, Output, Running};

/// A system call of a run.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// Which one of that name it is, from 1.
    pub nth: usize,
    /// As strace shows it, with the paths of file descriptors.
    pub text: String,
}

impl Call {
    /// Whether it changes something on a file system.
    pub fn writes(&self) -> bool {
        const WRITES: [&str; 12] = [
            "mkdir",
            "mkdirat",
            "write",
            "fsync",
            "fchmod",
            "fchown",
            "linkat",
            "symlinkat",
            "renameat",
            "unlinkat",
            "ftruncate",
            "rmdir",
        ];
        WRITES.contains(&&*self.name) || self.text.contains("O_CREAT")
    }

    /// Whether it has to do with one of the places.
    pub fn is_about(&self, places: &[&Path]) -> bool {
        places.iter().any(|place| self.text.contains(place.to_str().unwrap()))
    }
}

/// The command under strace with these arguments, its trace in a file.
fn under_strace(command: &Command, to: &Path, args: &[&str]) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-y", "-s", "4096", "-o"]).arg(to).args(args);
    strace.arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    strace
}

/// Runs a command to its end; its calls that have to do with files, in their order.
pub fn calls(machine: &Machine, args: &[&str]) -> (Output, Vec<Call>) {
    calls_with(machine, args, &["-e", "trace=%file,%desc"])
}

/// The same of all its threads.
pub fn calls_of_all_threads(machine: &Machine, args: &[&str]) -> (Output, Vec<Call>) {
    calls_with(machine, args, &["-f", "-e", "trace=%file,%desc"])
}

fn calls_with(machine: &Machine, args: &[&str], options: &[&str]) -> (Output, Vec<Call>) {
    let trace = NamedTempFile::new().unwrap();
    let strace = under_strace(&machine.command(args), trace.path(), options);
    let output = machine.finish(Running::start(strace));
    let mut calls: Vec<Call> = Vec::new();
    for text in fs::read_to_string(trace.path()).unwrap().lines() {
        // With threads, each line begins with one's number.
        let text = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
        let Some((name, _)) = text.split_once('(') else { continue };
        let nth = 1 + calls.iter().filter(|call| call.name == name).count();
        calls.push(Call { name: name.into(), nth, text: text.into() });
    }
    (output, calls)
}

/// Runs a command whose call fails with this error ("ENOSPC"); the call that failed, as strace
/// shows it, if it came to that.
pub fn failing(
    machine: &Machine,
    args: &[&str],
    call: &Call,
    error: &str,
) -> (Output, Option<String>) {
    let Call { name, nth, .. } = call;
    let trace = NamedTempFile::new().unwrap();
    let only = format!("trace={name}");
    let inject = format!("inject={name}:error={error}:when={nth}");
    let strace = under_strace(&machine.command(args), trace.path(), &["-e", &only, "-e", &inject]);
    let output = machine.finish(Running::start(strace));
    let text = fs::read_to_string(trace.path()).unwrap();
    let hit = text.lines().find(|line| line.ends_with("(INJECTED)"));
    (output, hit.map(str::to_owned))
}
