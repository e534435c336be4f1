//! Wherever a run is killed, and whatever runs meet, the polkit rule is the old one or the new one, as
//! a whole. Needs root.

#![allow(clippy::unwrap_used)]

#[path = "support/killed.rs"]
mod killed;
#[path = "support/rules.rs"]
mod rules;

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use cryptkey::{
    polkit::{FILE, install, remove, render},
    spec::Pcsc,
};
use killed::{act_if_asked, kill_at};
use rules::{alice, bob, names, rules, stands};

/// Runs that meet take each other's unfinished files for leftovers, and end well all the same.
#[test]
fn runs_that_meet() {
    let (dir, file) = rules();
    let dir = dir.path();
    let whole = [render(&alice()), render(&bob())];
    install(dir, &alice()).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let run = |pcsc: fn() -> Pcsc| {
            scope.spawn(move || (0..300).all(|_| install(dir, &pcsc()).is_ok()))
        };
        let runs = [run(alice), run(bob), run(alice), run(bob)];
        let reader = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert!(whole.contains(&fs::read_to_string(&file).unwrap()));
            }
        });
        let ended: Vec<_> = runs.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
        assert!(ended.into_iter().all(Result::unwrap));
    });
    install(dir, &alice()).unwrap();
    stands(dir, &alice());
}

fn act(what: &str, dir: &Path) {
    match what {
        "install" => install(dir, &bob()).unwrap(),
        "remove" => remove(dir).unwrap(),
        other => panic!("{other}"),
    };
}

/// No test by itself: the run that [`kill_at`] kills.
#[test]
fn the_run_to_be_killed() {
    act_if_asked(act);
}

/// Killed anywhere, one of `allowed` is there and whole; the next run ends as if nothing had
/// happened. Gives how often it was killed, and how often something was left.
fn kill_everywhere(what: &str, before: Option<&Pcsc>, after: Option<&Pcsc>) -> (usize, usize) {
    let allowed = [before, after].map(|pcsc| pcsc.map(render));
    let mut left = 0;
    for stop in 1.. {
        let (dir, file) = rules();
        if let Some(pcsc) = before {
            install(dir.path(), pcsc).unwrap();
        }
        let killed = kill_at(what, dir.path(), stop);
        assert!(allowed.contains(&fs::read_to_string(&file).ok()), "after stop {stop}");
        let others: Vec<_> = names(dir.path()).into_iter().filter(|name| name != FILE).collect();
        assert!(
            others.iter().all(|name| name.split('.').next_back() != Some("rules")),
            "{others:?}"
        );
        left += others.len();
        act(what, dir.path());
        match after {
            Some(pcsc) => stands(dir.path(), pcsc),
            None => assert_eq!(names(dir.path()), [""; 0]),
        }
        if !killed {
            return (stop, left);
        }
    }
    unreachable!()
}

#[test]
fn killed_while_it_installs() {
    let (kills, left) = kill_everywhere("install", None, Some(&bob()));
    assert!(kills > 20 && left > 5, "{kills} kills, {left} unfinished files");
}

#[test]
fn killed_while_it_changes() {
    let (kills, left) = kill_everywhere("install", Some(&alice()), Some(&bob()));
    assert!(kills > 20 && left > 5, "{kills} kills, {left} unfinished files");
}

#[test]
fn killed_while_it_removes() {
    let (kills, _) = kill_everywhere("remove", Some(&alice()), None);
    assert!(kills > 10, "only {kills}");
}
