//! Publishing on real RAM file systems: what stands afterwards, and that what stood before stands
//! on wherever the new set can't.

#![allow(clippy::unwrap_used)]

#[path = "support/published.rs"]
mod published;
#[path = "support/ram.rs"]
mod ram;

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{MetadataExt, symlink},
};

use cryptkey::{
    error::Class,
    publish::{
        Entry, Holder, Mark, OUTPUTS, Outcome, PublishedFile, Standing, deviation, digests,
        leave_mark, nothing_pending, published, remove_mark, scrub, standing,
    },
    system::runtime_dir::RuntimeDir,
};
use nix::{
    mount::MsFlags,
    sys::stat::{Mode, umask},
};
use published::{
    NEW, OLD, assert_old_stands, changed, contents, entry, expected, generations, publish, refused,
    set, traces, tree,
};
use ram::Ram;

#[test]
fn publishes_replaces_and_removes_on_tmpfs_and_ramfs() {
    for ram in [Ram::tmpfs("size=1m"), Ram::ramfs()] {
        let dir = ram.runtime_dir();
        let first = publish(&dir, "vault", &set(&OLD)).unwrap();
        assert_eq!(first, changed(&["a", "b"], &[], &[]));
        assert_old_stands(&dir);
        let second = publish(&dir, "vault", &set(&NEW)).unwrap();
        assert_eq!(second, changed(&["c"], &["b"], &["a"]));
        assert_eq!(contents(&dir.join("vault")), expected(&NEW));
        assert_eq!(generations(&dir), 1);
        let none = publish(&dir, "vault", &[]).unwrap();
        assert_eq!(none, changed(&[], &[], &["b", "c"]));
        assert_eq!(contents(&dir.join("vault")), expected(&[]));
        assert_eq!(publish(&dir, "vault", &[]).unwrap(), Outcome::Unchanged);
    }
}

#[test]
fn the_early_check_creates_nothing_and_has_nothing_to_warn_of_on_ramfs() {
    let ram = Ram::ramfs();
    let dir = ram.runtime_dir();
    assert_eq!(RuntimeDir::check(&dir), Ok(None));
    assert_eq!(tree(ram.path()), [ram.path()]);
    publish(&dir, "vault", &set(&OLD)).unwrap();
    assert_eq!(RuntimeDir::check(&dir), Ok(None));
}

#[test]
fn the_same_again_writes_nothing() {
    let ram = Ram::tmpfs("size=1m");
    let dir = ram.runtime_dir();
    publish(&dir, "vault", &set(&OLD)).unwrap();
    publish(&dir, "other", &set(&NEW)).unwrap();
    let before = traces(ram.path());
    assert_eq!(publish(&dir, "vault", &set(&OLD)).unwrap(), Outcome::Unchanged);
    let mut backwards = set(&OLD);
    backwards.reverse();
    assert_eq!(publish(&dir, "vault", &backwards).unwrap(), Outcome::Unchanged);
    assert_eq!(traces(ram.path()), before);
}

#[test]
fn any_difference_is_a_change() {
    let ram = Ram::tmpfs("size=1m");
    let dir = ram.runtime_dir();
    let original = || entry("a", b"0123");
    let others: [fn(&mut Entry); 5] = [
        |e| *e.bytes = b"0124".to_vec(),
        |e| *e.bytes = b"01234".to_vec(),
        |e| e.uid = 1000,
        |e| e.gid = 1000,
        |e| e.mode = 0o440,
    ];
    for change in others {
        publish(&dir, "vault", &[original()]).unwrap();
        let mut other = original();
        change(&mut other);
        let outcome = publish(&dir, "vault", &[other]).unwrap();
        assert_eq!(outcome, changed(&[], &["a"], &[]));
    }
}

#[test]
fn owner_mode_and_directories_are_as_declared_whatever_the_umask() {
    // Of the whole process: what the other tests here check must not hang on it either.
    umask(Mode::from_bits_truncate(0o077));
    let ram = Ram::tmpfs("size=1m");
    let dir = ram.runtime_dir();
    let owned = |name: &str, uid, gid, mode| {
        let entry = entry(name, b"x");
        Entry { uid, gid, mode, ..entry }
    };
    let set = [
        owned("a", 1000, 2000, 0o440),
        owned("b", 0, 0, 0o400),
        owned("c", 1, 0, 0o666),
        owned("d", 0, 7, 0o000),
    ];
    publish(&dir, "vault", &set).unwrap();
    let file =
        |name: &str, uid, gid, mode| PublishedFile { name: name.into(), uid, gid, mode, length: 1 };
    let files = published(&dir, "vault").unwrap().unwrap();
    assert_eq!(
        files,
        [
            file("a", 1000, 2000, 0o440),
            file("b", 0, 0, 0o400),
            file("c", 1, 0, 0o666),
            file("d", 0, 7, 0o000)
        ]
    );
    for path in [dir.clone(), dir.join(".generations"), dir.join("vault")] {
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.mode() & 0o7777, found.uid()), (0o751, 0), "{}", path.display());
    }
    assert_eq!(publish(&dir, "vault", &set).unwrap(), Outcome::Unchanged);
}

#[test]
fn a_full_tmpfs_keeps_the_old_set_whole() {
    let ram = Ram::tmpfs("size=64k");
    let dir = ram.runtime_dir();
    publish(&dir, "vault", &set(&OLD)).unwrap();
    let before = tree(ram.path());
    let large = [entry("a", b"new"), entry("big", &vec![7; 100_000])];
    let error = refused(publish(&dir, "vault", &large));
    assert!(error.found.contains("could not write secret big: No space left"), "{error}");
    assert!(error.found.contains("the new set needs 106496 bytes"), "{error}");
    assert!(error.found.contains("what was published before still stands"), "{error}");
    assert!(error.advice.contains("more room"), "{error}");
    assert_old_stands(&dir);
    assert_eq!(tree(ram.path()), before);

    ram.remount(MsFlags::empty(), "size=1m");
    publish(&dir, "vault", &large).unwrap();
    assert_eq!(contents(&dir.join("vault")).len(), 2);
}

/// The owner of a published file can make it grow, or hold it open once it is removed, until there is room
/// for nobody: the error says who.
#[test]
fn who_took_the_room_is_named() {
    let ram = Ram::tmpfs("size=4m");
    let dir = ram.runtime_dir();
    let theirs = Entry { uid: 1234, ..entry("theirs", b"1") };
    publish(&dir, "other", &[theirs]).unwrap();
    publish(&dir, "vault", &set(&OLD)).unwrap();
    let path = dir.join("other/theirs");
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all(&vec![7; 8 << 20]).unwrap_err();
    let new = [entry("a", &[1; 8192])];
    let error = publish(&dir, "vault", &new).unwrap_err();
    let grown = fs::canonicalize(&path).unwrap();
    let named = format!("user 1234 made {} grow to ", grown.display());
    assert!(error.found.contains(&named), "{error}");
    assert_eq!(contents(&dir.join("vault")).len(), OLD.len());

    scrub(&dir, "other").unwrap();
    let error = publish(&dir, "vault", &new).unwrap_err();
    assert!(error.found.contains("bytes are of files that were removed"), "{error}");
    assert!(!error.found.contains("1234"), "{error}");
    drop(file);
    publish(&dir, "vault", &new).unwrap();
}

#[test]
fn wherever_room_for_names_ends_the_old_set_stands_whole() {
    let ram = Ram::tmpfs("size=1m");
    let dir = ram.runtime_dir();
    let new = set(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]);
    publish(&dir, "vault", &set(&OLD)).unwrap();
    let used = tree(ram.path()).len();
    let mut failures = 0;
    // A directory, four files and a symlink: each in turn is what there is no room for.
    for spare in 0.. {
        ram.remount(MsFlags::empty(), &format!("nr_inodes={}", used + spare));
        let Err(error) = publish(&dir, "vault", &new) else {
            break;
        };
        assert_eq!(error.class, Class::Publish);
        assert_old_stands(&dir);
        failures += 1;
    }
    assert!(failures >= 6, "only {failures} failures");
    assert_eq!(contents(&dir.join("vault")).len(), 4);
}

#[test]
fn a_read_only_file_system_is_named_and_what_stands_is_left() {
    let ram = Ram::tmpfs("size=64k");
    let dir = ram.runtime_dir();
    publish(&dir, "vault", &set(&OLD)).unwrap();
    ram.remount(MsFlags::MS_RDONLY, "");
    let error = refused(publish(&dir, "vault", &set(&NEW)));
    assert!(error.found.contains("Read-only file system"), "{error}");
    assert!(error.advice.contains("writable"), "{error}");
    assert_old_stands(&dir);
    // There is nothing to write, so nothing to complain about.
    assert_eq!(publish(&dir, "vault", &set(&OLD)).unwrap(), Outcome::Unchanged);
    assert_eq!(scrub(&dir, "vault").unwrap_err().class, Class::Publish);
    let absent = ram.path().join("absent");
    refused(publish(&absent, "vault", &set(&NEW)));
}

#[test]
fn leftovers_of_killed_runs_go_also_where_nothing_changes() {
    let ram = Ram::tmpfs("size=1m");
    let dir = ram.runtime_dir();
    publish(&dir, "vault", &set(&OLD)).unwrap();
    publish(&dir, "vault.x", &set(&NEW)).unwrap();
    let before = tree(ram.path());
    let half = dir.join(".generations/vault.0123456789abcdef");
    for new in [&OLD, &NEW] {
        fs::create_dir(&half).unwrap();
        fs::write(half.join("a"), "half").unwrap();
        symlink(".generations/vault.0123456789abcdef", half.with_added_extension("link")).unwrap();
        fs::write(half.with_added_extension("pending"), "a\n").unwrap();
        publish(&dir, "vault", &set(new)).unwrap();
        nothing_pending(&dir, "vault").unwrap();
        assert_eq!(tree(ram.path()).len(), before.len());
        assert!(!half.exists());
    }
    assert_eq!(contents(&dir.join("vault.x")), expected(&NEW));
    // A name that leads nowhere publishes nothing, and is no obstacle.
    fs::remove_dir_all(dir.join(fs::read_link(dir.join("vault")).unwrap())).unwrap();
    assert_eq!(published(&dir, "vault").unwrap(), None);
    let outcome = publish(&dir, "vault", &set(&OLD)).unwrap();
    assert_eq!(outcome, changed(&["a", "b"], &[], &[]));
}

#[test]
fn scrub_removes_one_key_and_is_idempotent() {
    let ram = Ram::tmpfs("size=1m");
    let dir = ram.runtime_dir();
    assert_eq!(scrub(&dir, "vault"), Ok(false));
    assert_eq!(published(&dir, "vault"), Ok(None));
    publish(&dir, "vault", &set(&OLD)).unwrap();
    publish(&dir, "other", &set(&NEW)).unwrap();
    assert_eq!(scrub(&dir, "vault"), Ok(true));
    assert_eq!(scrub(&dir, "vault"), Ok(false));
    assert_eq!(contents(&dir.join("other")), expected(&NEW));
    assert_eq!(scrub(&dir, "other"), Ok(true));
    assert_eq!(tree(&dir), std::slice::from_ref(&dir));
    assert_eq!(scrub(&dir, "other"), Ok(false));
}

fn mark(set: &[Entry]) -> Mark {
    Mark { outputs: OUTPUTS, spec: "spec".into(), profile: "profile".into(), secrets: digests(set) }
}

/// A mark is of one generation, comes after it and goes with it.
#[test]
fn a_mark_is_about_one_generation() {
    let ram = Ram::ramfs();
    let dir = ram.runtime_dir();
    let stands = || standing(&dir, "vault").unwrap();
    assert_eq!(stands(), Standing::Nothing);
    // There is nothing that it could be about.
    leave_mark(&dir, "vault", &mark(&set(&OLD))).unwrap();
    remove_mark(&dir, "vault").unwrap();
    assert_eq!(tree(ram.path()), [ram.path()]);

    publish(&dir, "vault", &set(&OLD)).unwrap();
    assert_eq!(stands(), Standing::Unmarked);
    leave_mark(&dir, "vault", &mark(&set(&OLD))).unwrap();
    assert_eq!(stands(), Standing::Marked(mark(&set(&OLD))));
    // The same again writes nothing, and what is published again unchanged keeps it.
    let before = traces(&dir);
    leave_mark(&dir, "vault", &mark(&set(&OLD))).unwrap();
    assert_eq!(publish(&dir, "vault", &set(&OLD)).unwrap(), Outcome::Unchanged);
    assert_eq!(traces(&dir), before);
    // Another one takes its place.
    let other = Mark { spec: "other".into(), ..mark(&set(&OLD)) };
    leave_mark(&dir, "vault", &other).unwrap();
    assert_eq!(stands(), Standing::Marked(other));
    // What a killed run left of one is none, and is no harm.
    let generation = fs::canonicalize(dir.join("vault")).unwrap();
    let half = format!("{}.mark.new", generation.display());
    fs::write(&half, "{").unwrap();
    leave_mark(&dir, "vault", &mark(&set(&OLD))).unwrap();
    assert_eq!(stands(), Standing::Marked(mark(&set(&OLD))));
    fs::write(&half, "{").unwrap();

    // A new set has none before one is left, and nothing stays of the old one's.
    publish(&dir, "vault", &set(&NEW)).unwrap();
    assert_eq!((stands(), generations(&dir)), (Standing::Unmarked, 1));
    leave_mark(&dir, "vault", &mark(&set(&NEW))).unwrap();
    assert_eq!(generations(&dir), 1);
    remove_mark(&dir, "vault").unwrap();
    assert_eq!(stands(), Standing::Unmarked);
    leave_mark(&dir, "vault", &mark(&set(&NEW))).unwrap();
    // Another key's is another one.
    publish(&dir, "vault.mark", &set(&OLD)).unwrap();
    leave_mark(&dir, "vault.mark", &mark(&set(&OLD))).unwrap();
    assert!(scrub(&dir, "vault").unwrap());
    assert_eq!(stands(), Standing::Nothing);
    assert_eq!(standing(&dir, "vault.mark").unwrap(), Standing::Marked(mark(&set(&OLD))));
    assert!(scrub(&dir, "vault.mark").unwrap());
    assert_eq!(tree(&dir), [dir]);
}

#[test]
fn a_mark_that_finds_no_room_is_an_error_and_the_set_stands() {
    let ram = Ram::tmpfs("size=64k,nr_inodes=8");
    let dir = ram.runtime_dir();
    publish(&dir, "vault", &set(&OLD)).unwrap();
    let taken = |n: usize| fs::write(ram.path().join(n.to_string()), "");
    let _full = (0..8).map(taken).find(std::result::Result::is_err).unwrap();
    let error = leave_mark(&dir, "vault", &mark(&set(&OLD))).unwrap_err();
    assert_eq!(error.class, Class::Publish, "{error}");
    assert_eq!(standing(&dir, "vault").unwrap(), Standing::Unmarked);
    assert_old_stands(&dir);
}

#[test]
fn what_deviates_from_its_mark_is_named() {
    let ram = Ram::ramfs();
    let dir = ram.runtime_dir();
    let holders = |names: &[&str]| {
        let holder = |name: &&str| ((*name).to_owned(), Holder { uid: 0, gid: 0, mode: 0o400 });
        names.iter().map(holder).collect()
    };
    let found = |names: &[&str], of: &[(&str, &str)]| {
        deviation(&dir, "vault", &mark(&set(of)), &holders(names)).unwrap()
    };
    assert_eq!(found(&[], &[]).as_deref(), Some("the published set"));
    publish(&dir, "vault", &set(&OLD)).unwrap();
    assert_eq!(found(&["a", "b"], &OLD), None);
    assert_eq!(found(&["a"], &OLD).as_deref(), Some("the published set"));
    assert_eq!(found(&["a", "b", "c"], &OLD).as_deref(), Some("c"));
    assert_eq!(found(&["a", "b"], &OLD[..1]).as_deref(), Some("b"));
    assert_eq!(found(&["a", "b"], &[OLD[0], NEW[0]]).as_deref(), Some("b"));
    // What its owner makes as long as can be is not read, which would take as much memory on a ramfs.
    let grown = dir.join("vault/a");
    File::options().write(true).open(&grown).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(found(&["a", "b"], &OLD).as_deref(), Some("a"));
    publish(&dir, "vault", &[]).unwrap();
    assert_eq!(found(&[], &[]), None);
}
