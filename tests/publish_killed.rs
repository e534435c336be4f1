//! Killed before or after any system call of publishing or scrubbing, a run leaves the old set, the
//! new set or nothing at its name, never half; and the next run ends as if nothing had happened.

#![allow(clippy::unwrap_used)]

#[path = "support/killed.rs"]
mod killed;
#[path = "support/published.rs"]
mod published;
#[path = "support/ram.rs"]
mod ram;

use std::{
    fs,
    path::{Path, PathBuf},
    slice,
};

use cryptkey::publish::{Outcome, nothing_pending, pending, scrub};
use killed::{act_if_asked, kill_at};
use published::{contents, expected, generations, publish, set, tree};
use ram::Ram;

const OLD: [(&str, &str); 3] = [("a", "old a"), ("b", "old b"), ("d", "same")];
const NEW: [(&str, &str); 3] = [("b", "new b"), ("c", "new c"), ("d", "same")];

fn act(what: &str, dir: &Path) {
    match what {
        "publish" => drop(publish(dir, "vault", &set(&NEW)).unwrap()),
        "scrub" => drop(scrub(dir, "vault").unwrap()),
        "tell" => tell(dir),
        other => panic!("{other}"),
    }
}

/// Tells readers, who are a file that lasts: what is pending, and then that it is not.
fn tell(dir: &Path) {
    let names = pending(dir, "vault").unwrap();
    if !names.is_empty() {
        fs::write(told(dir), names.join(" ")).unwrap();
    }
    nothing_pending(dir, "vault").unwrap();
}

fn told(dir: &Path) -> PathBuf {
    dir.with_file_name("told")
}

/// No test by itself: the run that [`kill_at`] kills.
#[test]
fn the_run_to_be_killed() {
    act_if_asked(act);
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
        } else if what == "tell" {
            assert_eq!(fs::read_to_string(told(&dir)).unwrap(), "b c", "after stop {stop}");
            assert_eq!(pending(&dir, "vault").unwrap(), [""; 0], "after stop {stop}");
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
    let kills = kill_everywhere("publish", old, |dir| {
        stands(dir, &OLD, &NEW);
        // What is pending became so with the set, and not before.
        let is_new = contents(&dir.join("vault")) == expected(&NEW);
        let new: &[&str] = if is_new { &["b", "c"] } else { &[] };
        assert_eq!(pending(dir, "vault").unwrap(), new);
    });
    assert!(kills > 60, "only {kills}");
}

/// So is what an earlier run has not told.
#[test]
fn publishing_over_a_set_that_was_not_told() {
    let old = |dir: &Path| {
        publish(dir, "vault", &set(&OLD)).unwrap();
        publish(dir, "vault", &set(&[("a", "old a"), ("b", "old b"), ("d", "other")])).unwrap();
        publish(dir, "vault", &set(&OLD)).unwrap();
    };
    let kills = kill_everywhere("publish", old, |dir| {
        let is_new = contents(&dir.join("vault")) == expected(&NEW);
        let new: &[&str] = if is_new { &["b", "c", "d"] } else { &["d"] };
        assert_eq!(pending(dir, "vault").unwrap(), new);
    });
    assert!(kills > 60, "only {kills}");
}

#[test]
fn telling_readers() {
    let new = |dir: &Path| {
        publish(dir, "vault", &set(&OLD)).unwrap();
        publish(dir, "vault", &set(&NEW)).unwrap();
    };
    let check = |dir: &Path| {
        let is_pending = !pending(dir, "vault").unwrap().is_empty();
        assert!(is_pending || told(dir).exists(), "forgotten before it was told");
    };
    let kills = kill_everywhere("tell", new, check);
    assert!(kills > 30, "only {kills}");
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
