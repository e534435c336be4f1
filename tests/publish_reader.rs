//! Whoever reads while sets are replaced reads one set or another, never a mix.

#![allow(clippy::unwrap_used)]

#[path = "support/published.rs"]
mod published;
#[path = "support/ram.rs"]
mod ram;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{ErrorKind, Read},
    os::fd::AsRawFd,
    path::Path,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    thread,
};

use nix::sys::stat::fstat;
use published::{publish, set};
use ram::Ram;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const ENOUGH: u64 = 300;

/// What one reader saw through one opening of the directory.
#[derive(Debug, PartialEq)]
enum Seen {
    /// Every name, all of the same set.
    Whole,
    /// Some names were gone, because the set as a whole had been replaced meanwhile.
    Replaced,
}

/// Opens the directory once and reads every file through it, by the list that it gives.
fn read_set(key: &Path) -> Option<Seen> {
    let directory = match File::open(key) {
        Ok(directory) => directory,
        // Replaced between the look at the symlink and the look behind it.
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => panic!("{error}"),
    };
    let open = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string());
    let mut names = 0;
    let mut sets = BTreeSet::new();
    for entry in fs::read_dir(&open).unwrap() {
        let Ok(mut file) = File::open(entry.unwrap().path()) else {
            continue;
        };
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        names += 1;
        sets.insert(text);
    }
    assert!(sets.len() <= 1, "a mix of sets: {sets:?}");
    if names == NAMES.len() {
        return Some(Seen::Whole);
    }
    // A directory has fewer names only once it is no longer the one to which the key leads.
    let stands = fs::metadata(key).is_ok_and(|found| {
        use std::os::unix::fs::MetadataExt;
        found.ino() == fstat(&directory).unwrap().st_ino
    });
    assert!(!stands, "half a set of {names} names stands");
    Some(Seen::Replaced)
}

#[test]
fn a_reader_never_sees_a_mix() {
    let ram = Ram::tmpfs("size=4m");
    let dir = ram.runtime_dir();
    let publish_number = |number: u64| {
        // Longer and longer, so that a file read half would show as well.
        let text = format!("set {number} ").repeat(1 + usize::try_from(number % 97).unwrap());
        publish(&dir, "vault", &set(&NAMES.map(|name| (name, &*text)))).unwrap();
    };
    publish_number(0);
    let (whole, torn) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while whole.load(SeqCst) < ENOUGH {
                match read_set(&dir.join("vault")) {
                    Some(Seen::Whole) => whole.fetch_add(1, SeqCst),
                    Some(Seen::Replaced) | None => torn.fetch_add(1, SeqCst),
                };
            }
        });
        let mut number = 0;
        while number < ENOUGH || !reader.is_finished() {
            number += 1;
            publish_number(number);
        }
    });
    println!("{whole:?} whole sets read, {torn:?} replaced while being read");
}
