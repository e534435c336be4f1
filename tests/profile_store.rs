//! The state directory: what is refused, what is "no profile", and that a new profile replaces nothing.
#![allow(clippy::unwrap_used)]

#[path = "support/cards.rs"]
#[allow(dead_code)]
mod cards;
#[path = "support/state.rs"]
#[allow(dead_code)]
mod state;

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, chown, symlink},
    sync::atomic::{AtomicUsize, Ordering},
};

use cards::Card;
use cryptkey::{
    error::Class,
    profile::{
        Profile, seal,
        store::{Store, load_file, load_shipped},
    },
};
use expect_test::expect;
use state::{State, mode, set_mode};

const V1: &str = include_str!("vectors/profiles/piv-piv-recovery.toml");
const V2: &str = include_str!("vectors/profiles/piv-only.toml");

fn profile(name: &str) -> Profile {
    seal::seal(name, 1, vec![Card::new().enroll("card-1")]).unwrap().0
}

#[test]
fn a_saved_profile_is_read_back() {
    let state = State::absent();
    let mut store = state.open();
    assert!(!store.exists());
    assert!(store.load("vault").unwrap().is_none());
    let saved = profile("vault");
    store.save(&saved).unwrap();
    for store in [store, state.open()] {
        assert!(store.exists());
        let loaded = store.load("vault").unwrap().unwrap();
        assert_eq!(loaded.profile, saved);
        assert_eq!(loaded.warning, None);
        assert!(store.load("other").unwrap().is_none());
    }
    assert_eq!(state.names(), ["vault.toml"]);
    assert_eq!((mode(&state.path), mode(&state.path.join("vault.toml"))), (0o700, 0o600));
}

#[test]
fn a_profile_is_never_replaced() {
    let state = State::new();
    let first = profile("vault");
    state.open().save(&first).unwrap();
    let error = state.open().save(&profile("vault")).unwrap_err();
    assert_eq!(error.class, Class::Profile);
    expect!["writing profile STATE/vault.toml: there is a profile already. A profile is never replaced. Look at it with `nixos-cryptkey status`."].assert_eq(&state.told(&error));
    assert_eq!(state.open().load("vault").unwrap().unwrap().profile, first);

    // Nor is what stands in its place.
    for name in ["empty", "directory", "link"] {
        match name {
            "empty" => drop(state.put("empty.toml", "", 0o600)),
            "directory" => fs::create_dir(state.path.join("directory.toml")).unwrap(),
            _ => symlink("/nowhere", state.path.join("link.toml")).unwrap(),
        }
        assert_eq!(state.open().save(&profile(name)).unwrap_err().class, Class::Profile);
        assert_eq!(state.load_error(name).class, Class::Profile);
    }
    assert_eq!(state.names(), ["directory.toml", "empty.toml", "link.toml", "vault.toml"]);
}

#[test]
fn of_many_that_write_at_once_one_wins() {
    let state = State::absent();
    let won = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| match state.open().save(&profile("vault")) {
                Ok(()) => drop(won.fetch_add(1, Ordering::Relaxed)),
                Err(error) => assert_eq!(error.class, Class::Profile, "{error}"),
            });
        }
    });
    assert_eq!(won.into_inner(), 1);
    assert!(state.open().load("vault").unwrap().is_some());
    assert_eq!(state.names(), ["vault.toml"]);
}

#[test]
fn what_a_killed_run_left_is_removed() {
    // Killed while it wrote, and between the link and the removal of the other name.
    let state = State::new();
    state.put(".vault.toml.new", &V2[..100], 0o600);
    state.put("disk.toml", V2, 0o600);
    fs::hard_link(state.path.join("disk.toml"), state.path.join(".disk.toml.new")).unwrap();
    assert!(state.open().load("vault").unwrap().is_none());
    assert_eq!(state.open().profiles().unwrap().len(), 1);
    state.open().save(&profile("vault")).unwrap();
    assert_eq!(state.names(), ["disk.toml", "vault.toml"]);
    assert!(state.open().load("disk").unwrap().is_some());
    assert!(state.open().load("vault").unwrap().is_some());
}

#[test]
fn a_run_waits_for_another_that_writes_and_then_gives_up() {
    let state = State::new();
    // Anybody may lock a directory that they can see into, and keeps nobody from it.
    let seen = fs::File::open(&state.path).unwrap();
    seen.lock().unwrap();
    let lock = state.path.join(".lock");
    let held = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(lock).unwrap();
    held.lock().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| state.open().save(&profile("vault")));
        // An arrow in /proc/locks is somebody who waits.
        let inode = format!(":{} ", held.metadata().unwrap().ino());
        let waits = |line: &str| line.contains("->") && line.contains(&inode);
        while !fs::read_to_string("/proc/locks").unwrap().lines().any(waits) {
            std::thread::yield_now();
        }
        held.unlock().unwrap();
        waiting.join().unwrap().unwrap();
    });
    held.lock().unwrap();
    let error = state.open().save(&profile("disk")).unwrap_err();
    assert_eq!(error.class, Class::Busy);
    assert_eq!(state.names(), ["vault.toml"]);
}

#[test]
fn damaged_files_are_named() {
    let state = State::new();
    state.put("vault.toml", &V2[..V2.len() / 2], 0o600);
    let error = state.load_error("vault");
    assert_eq!(error.class, Class::Profile);
    expect![[r#"reading profile STATE/vault.toml: the file is damaged: line 12: invalid basic string, expected `"`. Restore it from a backup; it is never replaced."#]].assert_eq(&state.told(&error));
    fs::write(state.path.join("vault.toml"), [0xff, 0xfe]).unwrap();
    expect!["reading profile STATE/vault.toml: the file is damaged: it is not UTF-8 text. Restore it from a backup; it is never replaced."].assert_eq(&state.told(&state.load_error("vault")));
    fs::write(state.path.join("vault.toml"), "\n".repeat(2 << 20)).unwrap();
    expect!["reading profile STATE/vault.toml: the file is damaged: it is longer than 262144 bytes. Restore it from a backup; it is never replaced."].assert_eq(&state.told(&state.load_error("vault")));
}

#[test]
fn only_a_regular_file_of_ours_is_read() {
    let state = State::new();
    state.put("real.toml", V2, 0o600);
    symlink("real.toml", state.path.join("link.toml")).unwrap();
    expect!["reading profile STATE/link.toml: the file is damaged: it is a symbolic link. Restore it from a backup; it is never replaced."].assert_eq(&state.told(&state.load_error("link")));
    fs::create_dir(state.path.join("directory.toml")).unwrap();
    expect!["reading profile STATE/directory.toml: the file is damaged: it is not a regular file. Restore it from a backup; it is never replaced."].assert_eq(&state.told(&state.load_error("directory")));
    let pipe = state.path.join("pipe.toml");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    expect!["reading profile STATE/pipe.toml: the file is damaged: it is not a regular file. Restore it from a backup; it is never replaced."].assert_eq(&state.told(&state.load_error("pipe")));
    state.put("open.toml", V2, 0o620);
    let error = state.load_error("open");
    assert_eq!(error.class, Class::Permission);
    expect!["reading profile STATE/open.toml: its mode is 0620: others may write it. Find out who changed it; then give it back with `UID` and `chmod 0600`."].assert_eq(&state.told(&error).replace(&us(), "UID"));
    // Public data: others may read it.
    state.put("public.toml", V2, 0o644);
    assert!(state.open().load("public").unwrap().is_some());
}

fn us() -> String {
    format!("chown {}", nix::unistd::geteuid())
}

#[test]
fn what_others_own_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let state = State::new();
    let file = state.put("vault.toml", V2, 0o600);
    chown(&file, Some(1234), None).unwrap();
    let error = state.load_error("vault");
    assert_eq!(error.class, Class::Permission);
    expect!["reading profile STATE/vault.toml: it belongs to uid 1234, and this runs as uid 0. Find out who changed it; then give it back with `chown 0` and `chmod 0600`."].assert_eq(&state.told(&error));
    chown(&state.path, Some(1234), None).unwrap();
    assert_eq!(Store::open(&state.path).map(|_| ()).unwrap_err().class, Class::Permission);
}

#[test]
fn a_directory_that_others_may_write_is_refused() {
    for open in [0o770, 0o707, 0o1777] {
        let state = State::new();
        set_mode(&state.path, open);
        let error = Store::open(&state.path).map(|_| ()).unwrap_err();
        assert_eq!(error.class, Class::Permission);
    }
    // systemd's default for a StateDirectory.
    let state = State::new();
    set_mode(&state.path, 0o755);
    assert!(state.open().exists());
}

#[test]
fn a_directory_that_cannot_be_is_an_error() {
    let state = State::absent();
    fs::write(&state.path, "").unwrap();
    let error = Store::open(&state.path).map(|_| ()).unwrap_err();
    assert_eq!(error.class, Class::Permission);
    expect!["opening state directory STATE: Not a directory (os error 20). Make it a directory of root with mode 0700."].assert_eq(&state.told(&error));

    let state = State::absent();
    symlink("elsewhere", &state.path).unwrap();
    let error = Store::open(&state.path).map(|_| ()).unwrap_err();
    assert_eq!(error.class, Class::Profile);
    expect!["opening state directory STATE: it is a symbolic link to nothing. Mount the file system it points to before this runs."].assert_eq(&state.told(&error));
    fs::create_dir(state.path.with_file_name("elsewhere")).unwrap();
    state.open().save(&profile("vault")).unwrap();

    let state = State::absent();
    let mut store = Store::open(&state.path.join("deeper")).unwrap();
    assert!(!store.exists());
    let error = store.save(&profile("vault")).unwrap_err();
    expect!["creating state directory STATE/deeper: No such file or directory (os error 2). Nothing was written. Mount the directory above it, writable."].assert_eq(&state.told(&error));
}

#[test]
fn version_1_is_a_secret() {
    let state = State::new();
    state.put("old.toml", V1, 0o600);
    let loaded = state.open().load("old").unwrap().unwrap();
    let warning = loaded.warning.unwrap().replace(state.path.to_str().unwrap(), "STATE");
    expect!["Profile STATE/old.toml is of version 1, written by cryptkey: whoever reads the file can compute its PIV shares without a card. Treat every copy as a secret until the key is resealed."].assert_eq(&warning);
    for open in [0o640, 0o604, 0o400, 0o700] {
        set_mode(&state.path.join("old.toml"), open);
        assert_eq!(state.load_error("old").class, Class::Permission);
    }
    expect!["reading profile STATE/old.toml: a profile of version 1 with mode 0700. Whoever reads it can compute its PIV shares without a card: `chmod 0600` it, and rotate the key if anybody else could read it."].assert_eq(&state.told(&state.load_error("old")));
    assert_eq!(state.open().save(&loaded.profile).unwrap_err().class, Class::Internal);
}

#[test]
fn every_profile_is_listed_or_its_error_is() {
    let state = State::absent();
    assert!(state.open().profiles().unwrap().is_empty());
    let state = State::new();
    state.put("good.toml", V2, 0o600);
    state.put("old.toml", V1, 0o600);
    state.put("cut.toml", &V2[..50], 0o600);
    state.put("open.toml", V2, 0o666);
    state.put("notes.txt", "", 0o600);
    state.put(".hidden.toml.new", "", 0o600);
    symlink("nowhere", state.path.join("link.toml")).unwrap();
    let profiles = state.open().profiles().unwrap();
    let listed: Vec<_> =
        profiles.iter().map(|(name, read)| (name.as_str(), read.is_ok())).collect();
    let expected =
        [("cut", false), ("good", true), ("link", false), ("old", true), ("open", false)];
    assert_eq!(listed, expected);
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let state = State::new();
    for name in ["", ".", "..", "../vault", "a/b", ".hidden", "a\nb", &"x".repeat(300)] {
        assert_eq!(state.load_error(name).class, Class::Spec, "{name}");
    }
    assert_eq!(state.open().save(&profile("../vault")).unwrap_err().class, Class::Spec);
}

#[test]
fn a_shipped_profile_is_version_2() {
    let state = State::new();
    let path = state.put("shipped.toml", V2, 0o444);
    assert_eq!(load_shipped(&path).unwrap().name(), "piv-only");
    let link = state.path.join("link");
    symlink(&path, &link).unwrap();
    assert_eq!(load_shipped(&link).unwrap().name(), "piv-only");
    let path = state.put("old.toml", V1, 0o600);
    let error = load_shipped(&path).unwrap_err();
    assert_eq!(error.class, Class::Profile);
    expect!["reading shipped profile STATE/old.toml: a profile of version 1, which opens without a card to whoever reads it. Take it out of the configuration, treat every copy as exposed, and reseal or rotate the key."].assert_eq(&state.told(&error));
    let error = load_shipped(&state.path.join("absent.toml")).unwrap_err();
    expect!["reading shipped profile STATE/absent.toml: No such file or directory (os error 2). Put the sealed profile there, or correct `profile` in the configuration."].assert_eq(&state.told(&error));
    assert_eq!(load_shipped(&state.path).unwrap_err().class, Class::Profile);
}

#[test]
fn a_profile_is_read_from_a_file_of_any_name() {
    let state = State::new();
    let path = state.put("some file", V2, 0o644);
    let loaded = load_file(&path).unwrap();
    assert_eq!((loaded.profile.name(), loaded.warning), ("piv-only", None));
    let old = state.put("old", V1, 0o600);
    assert_eq!(load_file(&old).unwrap().warning, None);
    set_mode(&old, 0o640);
    let warning = load_file(&old).unwrap().warning.unwrap();
    expect!["Profile STATE/old is of version 1, and others may read it: whoever did can compute its PIV shares without a card. Rotate the key once it is imported."].assert_eq(&warning.replace(state.path.to_str().unwrap(), "STATE"));
    // Whoever owns it.
    if nix::unistd::geteuid().is_root() {
        chown(&path, Some(1234), None).unwrap();
        assert!(load_file(&path).is_ok());
    }

    let told = |name: &str| state.told(&load_file(&state.path.join(name)).unwrap_err());
    symlink("some file", state.path.join("link")).unwrap();
    expect!["reading profile STATE/link: the file is damaged: it is a symbolic link. Give the name of a profile's file."].assert_eq(&told("link"));
    let pipe = state.path.join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    expect!["reading profile STATE/pipe: the file is damaged: it is not a regular file. Give the name of a profile's file."].assert_eq(&told("pipe"));
    expect!["reading profile STATE/absent: No such file or directory (os error 2). Give the name of a profile's file."].assert_eq(&told("absent"));
    state.put("long", &"\n".repeat(2 << 20), 0o600);
    expect!["reading profile STATE/long: the file is damaged: it is longer than 262144 bytes. Give the name of a profile's file."].assert_eq(&told("long"));
}
