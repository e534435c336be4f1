//! The protection of memory, in a process of its own: it can't be taken back.

#![allow(clippy::unwrap_used)]

use std::{fs, thread};

use cryptkey::system::memory::{Protection, protect};
use nix::sys::{
    prctl::get_dumpable,
    resource::{Resource, getrlimit},
};

#[test]
fn the_process_cannot_be_dumped_and_its_pages_are_locked_where_permitted() {
    let protection = protect().unwrap();
    assert!(!get_dumpable().unwrap());
    assert_eq!(getrlimit(Resource::RLIMIT_CORE), Ok((0, 0)));
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
    let locked: u64 = locked.trim().trim_end_matches(" kB").parse().unwrap();
    match &protection {
        Protection::Locked => assert!(locked > 0),
        Protection::NotLocked(why) => assert_eq!(locked, 0, "{why}"),
    }
    // What comes later must still find memory and threads: more of both than the usual 8 MiB.
    let threads: Vec<_> = (0..8).map(|n| thread::spawn(move || vec![n; 4 << 20].len())).collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), 4 << 20);
    }
    assert_eq!(protect().unwrap(), protection);
}
