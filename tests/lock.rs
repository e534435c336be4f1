//! Locks between runs, on a real RAM file system.

#![allow(clippy::unwrap_used)]

#[path = "support/ram.rs"]
mod ram;

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
    process,
    time::Duration,
};

use cryptkey::{error::Class, system::lock::lock};
use ram::Ram;
use virtual_card::PATIENCE;

const AT_ONCE: Duration = Duration::ZERO;

/// Returns once somebody waits for the lock on the file at `path`.
fn until_somebody_waits(path: &Path) {
    let inode = format!(":{} ", fs::metadata(path).unwrap().ino());
    let waits = |line: &str| line.contains(" -> ") && line.contains(&inode);
    while !fs::read_to_string("/proc/locks").unwrap().lines().any(waits) {
        std::thread::yield_now();
    }
}

#[test]
fn one_run_at_a_time_and_the_error_names_file_and_holder() {
    let ram = Ram::tmpfs("size=64k");
    let dir = ram.runtime_dir();
    let guard = lock(&dir, "key-vault", AT_ONCE).unwrap();
    // Other locks are other locks.
    let _other = lock(&dir, "card-12345678", AT_ONCE).unwrap();

    let error = lock(&dir, "key-vault", AT_ONCE).unwrap_err();
    assert_eq!(error.class, Class::Busy);
    let path = dir.join(".locks/key-vault");
    assert!(error.tried.contains(path.to_str().unwrap()), "{error}");
    assert!(error.found.contains(&format!("process {} (", process::id())), "{error}");

    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!((mode(&path), mode(&dir.join(".locks"))), (0o600, 0o700));
    drop(guard);
    lock(&dir, "key-vault", AT_ONCE).unwrap();
    assert!(path.exists());
}

#[test]
fn who_waits_gets_it_when_it_is_free() {
    let ram = Ram::tmpfs("size=64k");
    let dir = ram.runtime_dir();
    let guard = lock(&dir, "key", AT_ONCE).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| lock(&dir, "key", PATIENCE).unwrap());
        until_somebody_waits(&dir.join(".locks/key"));
        drop(guard);
        let _held = waiter.join().unwrap();
        assert_eq!(lock(&dir, "key", AT_ONCE).unwrap_err().class, Class::Busy);
    });
    // A run that gave up left nobody behind who would hold it for ever.
    lock(&dir, "key", PATIENCE).unwrap();
}

#[test]
fn a_lock_whose_file_was_moved_away_meanwhile_is_taken_anew() {
    for moved in ["cryptkey", "cryptkey/.locks", "cryptkey/.locks/key"] {
        let ram = Ram::tmpfs("size=64k");
        let dir = ram.runtime_dir();
        let guard = lock(&dir, "key", AT_ONCE).unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| lock(&dir, "key", PATIENCE).unwrap());
            until_somebody_waits(&dir.join(".locks/key"));
            // Moved, it is still there, just not where the next run looks. Removed is no different.
            fs::rename(ram.path().join(moved), ram.path().join("away")).unwrap();
            drop(guard);
            let _held = waiter.join().unwrap();
            assert_eq!(lock(&dir, "key", AT_ONCE).unwrap_err().class, Class::Busy);
        });
    }
}

#[test]
fn what_others_planted_is_not_followed() {
    let ram = Ram::tmpfs("size=64k");
    let dir = ram.runtime_dir();
    lock(&dir, "key", AT_ONCE).unwrap();
    let target = ram.path().join("target");
    symlink(&target, dir.join(".locks/planted")).unwrap();
    assert_eq!(lock(&dir, "planted", AT_ONCE).unwrap_err().class, Class::Publish);
    assert!(!target.exists());
    for name in ["", "..", "a/b", ".x"] {
        assert_eq!(lock(&dir, name, AT_ONCE).unwrap_err().class, Class::Publish);
    }
}
