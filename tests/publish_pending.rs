//! What is pending: whose bytes are new since their readers were last told.

#![allow(clippy::unwrap_used)]

#[path = "support/published.rs"]
mod published;
#[path = "support/ram.rs"]
mod ram;

use std::{fs, os::unix::fs::symlink, path::Path};

use cryptkey::{
    error::Class,
    publish::{self, Entry, Outcome, nothing_pending, pending, scrub},
};
use nix::{sys::stat::Mode, unistd::mkfifo};
use published::{NEW, OLD, assert_old_stands, entry, generations, publish, set, tree};
use ram::Ram;

#[track_caller]
fn assert_pending(dir: &Path, names: &[&str]) {
    assert_eq!(pending(dir, "vault").unwrap(), names);
}

fn one(bytes: &[u8], change: impl FnOnce(&mut Entry)) -> Vec<Entry> {
    let mut entry = entry("a", bytes);
    change(&mut entry);
    vec![entry]
}

#[test]
fn what_was_not_there_before_is_pending_only_where_it_may_be_missed() {
    for may_be_missed in [false, true] {
        let ram = Ram::tmpfs("size=1m");
        let dir = ram.runtime_dir();
        assert_pending(&dir, &[]);
        publish::publish(&dir, "vault", &set(&OLD), may_be_missed, || Ok(())).unwrap();
        assert_pending(&dir, if may_be_missed { &["a", "b"] } else { &[] });
        assert_old_stands(&dir);
        // Of what takes another one's place, it is in any case.
        publish(&dir, "vault", &set(&NEW)).unwrap();
        assert_pending(&dir, &["b", "c"]);
        assert_eq!(pending(&dir, "other").unwrap(), [""; 0]);
    }
}

#[test]
fn only_new_bytes_are_pending() {
    let ram = Ram::tmpfs("size=1m");
    let dir = ram.runtime_dir();
    publish(&dir, "vault", &one(b"0123", |_| ())).unwrap();
    let others: [fn(&mut Entry); 3] = [|e| e.uid = 1000, |e| e.gid = 1000, |e| e.mode = 0o440];
    for change in others {
        let outcome = publish(&dir, "vault", &one(b"0123", change)).unwrap();
        assert_ne!(outcome, Outcome::Unchanged);
        assert_pending(&dir, &[]);
    }
    for bytes in [&b"0124"[..], b"01234", b""] {
        publish(&dir, "vault", &one(bytes, |_| ())).unwrap();
        assert_pending(&dir, &["a"]);
        nothing_pending(&dir, "vault").unwrap();
    }
    // Its owner has written to it: what was read then is nobody's to say.
    fs::write(dir.join("vault/a"), "other").unwrap();
    publish(&dir, "vault", &one(b"", |_| ())).unwrap();
    assert_pending(&dir, &["a"]);
}

#[test]
fn it_lasts_until_it_is_forgotten_or_there_is_nothing_to_read() {
    let ram = Ram::tmpfs("size=1m");
    let dir = ram.runtime_dir();
    let publish = |pairs: &[(&str, &str)]| publish(&dir, "vault", &set(pairs)).unwrap();
    publish(&[("a", "1"), ("b", "1"), ("c", "1")]);
    publish(&[("a", "2"), ("b", "1"), ("c", "1")]);
    publish(&[("a", "2"), ("b", "2"), ("c", "1")]);
    assert_pending(&dir, &["a", "b"]);
    assert_eq!(publish(&[("a", "2"), ("b", "2"), ("c", "1")]), Outcome::Unchanged);
    assert_pending(&dir, &["a", "b"]);
    // What is gone has no readers.
    publish(&[("b", "2"), ("c", "1")]);
    assert_pending(&dir, &["b"]);
    nothing_pending(&dir, "vault").unwrap();
    nothing_pending(&dir, "vault").unwrap();
    assert_pending(&dir, &[]);
    publish(&[("b", "2"), ("c", "2")]);
    assert_pending(&dir, &["c"]);
    assert_eq!(generations(&dir), 1);
    scrub(&dir, "vault").unwrap();
    assert_pending(&dir, &[]);
    nothing_pending(&dir, "vault").unwrap();
    assert_eq!(tree(&dir), [&*dir]);
}

#[test]
fn a_set_that_can_t_be_published_makes_nothing_pending() {
    let ram = Ram::tmpfs("size=64k");
    let dir = ram.runtime_dir();
    publish(&dir, "vault", &set(&OLD)).unwrap();
    let large = one(&vec![0; 128 * 1024], |_| ());
    assert_eq!(publish(&dir, "vault", &large).unwrap_err().class, Class::Publish);
    assert_pending(&dir, &[]);
    assert_old_stands(&dir);
}

/// Whoever reads the list may have more rights than who wrote it.
#[test]
fn the_list_is_neither_followed_nor_waited_for_nor_believed() {
    let ram = Ram::tmpfs("size=4m");
    let dir = ram.runtime_dir();
    publish(&dir, "vault", &set(&OLD)).unwrap();
    let generation = fs::read_link(dir.join("vault")).unwrap();
    let list = dir.join(format!("{}.pending", generation.display()));
    let refused = || assert_eq!(pending(&dir, "vault").unwrap_err().class, Class::Publish);

    let elsewhere = ram.path().join("elsewhere");
    fs::write(&elsewhere, "a\n").unwrap();
    symlink(&elsewhere, &list).unwrap();
    refused();
    fs::remove_file(&list).unwrap();
    mkfifo(&list, Mode::S_IRWXU).unwrap();
    refused();
    fs::remove_file(&list).unwrap();
    fs::create_dir(&list).unwrap();
    refused();
    fs::remove_dir(&list).unwrap();
    fs::write(&list, vec![b'\n'; 3 << 20]).unwrap();
    assert!(pending(&dir, "vault").unwrap().len() <= 1 << 20);
    fs::write(&list, b"\xff\n../b\nb").unwrap();
    assert_pending(&dir, &["\u{fffd}", "../b", "b"]);
    // What names no secret of the set is not taken over.
    publish(&dir, "vault", &set(&[("a", "new"), ("b", "old b")])).unwrap();
    assert_pending(&dir, &["a", "b"]);
}
