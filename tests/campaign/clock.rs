//! Clocks that are wrong or jump: nothing hangs on the wall clock, and on the others only how long a
//! wait may last. The machine's own clock is left alone: the program is given one by a library that is
//! loaded before libc's, and a time namespace for those that count from the boot.

use std::{cell::Cell, path::PathBuf, process::Command};

use serde_json::json;

use crate::{
    extent::tell,
    support::{Machine, Output, Running, TestCard, Yubikey},
};

/// Builds the library.
fn jumping(machine: &Machine) -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/campaign/clock.c");
    let library = machine.dir().join("clock.so");
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
    assert!(built.unwrap().success());
    library
}

/// The program, which has been up for so many seconds, and whose wall clock jumps.
fn command(machine: &Machine, args: &[&str], up: &str) -> Command {
    let inner = machine.command(args);
    let mut command = Command::new("unshare");
    command.args(["--time", "--fork", "--kill-child", "--monotonic", up, "--boottime", up, "--"]);
    command.arg("env").arg(format!("LD_PRELOAD={}", jumping(machine).display()));
    command.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

#[test]
fn no_clock_decides_anything() {
    let machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &["--slot-key", "9d=generate"]);
    let runs = Cell::new(0);
    let run = |args: &[&str], up: &str| -> Output {
        runs.set(runs.get() + 1);
        machine.finish(Running::start(command(&machine, args, up)))
    };
    for up in ["0", "3000000000"] {
        machine.vault(&card, json!({}));
        assert_eq!(run(&["apply", "--json"], up).exits(0).result("vault"), "enrolled");
        let right = machine.expected("vault", &[card.private_key("9d")], "backups");
        assert_eq!(machine.secret("vault", "backup"), right);
        assert!(run(&["apply", "--json"], up).exits(0).unchanged("vault"));
        // A PIN that was rejected in the future, or long ago, is rejected.
        machine.vault(&card, json!({ "pin": machine.secret_file("wrong.pin", "111111") }));
        run(&["apply"], up).exits(15);
        for _ in 0..6 {
            run(&["apply"], up).exits(14).says(&["rejected this very PIN"]);
        }
        assert_eq!(card.tries(), 2);
        let status = run(&["status"], up).exits(0);
        let tells = |year: &str| status.stdout.contains(&format!("rejected at {year}"));
        assert!(!tells("2026"), "the clock did not jump: {status}");
        run(&["pin", "forget", "--card", Yubikey::SERIAL], up).exits(0);
        machine.vault(&card, json!({}));
        assert!(run(&["apply", "--json"], up).exits(0).unchanged("vault"));
        // A wait is not cut short, nor without end.
        card.remove();
        let mut waiting = Running::start(command(&machine, &["apply", "--json", "-vv"], up));
        waiting.wait_for("waiting");
        card.insert();
        assert!(machine.finish(waiting).exits(0).unchanged("vault"));
        card.remove();
        machine.vault(&card, json!({ "cardTimeoutSec": 1 }));
        run(&["apply"], up).exits(11);
        card.insert();
        machine.run(&["scrub"]).exits(0);
        machine.lose("vault");
        runs.set(runs.get() + 1);
    }
    tell(&format!(
        "clocks: {} runs with a wall clock that jumps by up to 95 years each time it is asked, on \
         machines up for 0 and 95 years: each ended as ever",
        runs.get()
    ));
}
