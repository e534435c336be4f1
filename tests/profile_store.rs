//! The state directory: what is refused, what is "no profile", and that nothing is ever replaced.
#![allow(clippy::unwrap_used)]

#[path = "support/cards.rs"]
#[allow(dead_code)]
mod cards;
#[path = "support/killed.rs"]
mod killed;

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use cards::Card;
use cryptkey::{
    card::{CardName, Fingerprint, Guid, Serial},
    error::{Class, Error},
    profile::{
        Profile,
        generating::Generating,
        seal,
        store::{Store, load_shipped},
    },
};
use expect_test::expect;
use tempfile::TempDir;

const V1: &str = include_str!("vectors/profiles/piv-piv-recovery.toml");
const V2: &str = include_str!("vectors/profiles/piv-only.toml");

fn profile(name: &str) -> Profile {
    seal::seal(name, 1, vec![Card::new().enroll("card-1")]).unwrap().0
}

/// No test by itself: the run that [`killed::kill_at`] kills.
#[test]
fn the_run_to_be_killed() {
    killed::act_if_asked(|_, path| {
        let mut store = Store::open(path).unwrap();
        let text = fs::read_to_string(path.join("vault.after")).unwrap();
        drop(store.replace(&Profile::parse(&text).unwrap()).unwrap());
    });
}

/// A state directory in a directory of its own.
struct State {
    _parent: TempDir,
    path: PathBuf,
}

impl State {
    fn absent() -> Self {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("state");
        Self { _parent: parent, path }
    }

    fn new() -> Self {
        let state = Self::absent();
        fs::create_dir(&state.path).unwrap();
        set_mode(&state.path, 0o700);
        state
    }

    fn put(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.path.join(name);
        fs::write(&path, text).unwrap();
        set_mode(&path, mode);
        path
    }

    fn open(&self) -> Store {
        Store::open(&self.path).unwrap()
    }

    fn load_error(&self, name: &str) -> Error {
        self.open().load(name).unwrap_err()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.path).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The error's text with the directory's random name taken out.
    fn told(&self, error: &Error) -> String {
        error.to_string().replace(self.path.to_str().unwrap(), "STATE")
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
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
fn a_profile_that_is_replaced_is_kept_under_a_dated_name() {
    let state = State::new();
    let profiles: Vec<_> = (0..3).map(|_| profile("vault")).collect();
    // There has to be one.
    let error = state.open().replace(&profiles[0]).unwrap_err();
    assert_eq!((error.class, state.names()), (Class::Profile, Vec::new()));

    state.open().save(&profiles[0]).unwrap();
    let mut kept = Vec::new();
    for (old, new) in [(0, 1), (1, 2), (2, 0)] {
        let path = state.open().replace(&profiles[new]).unwrap();
        assert_eq!(state.open().load("vault").unwrap().unwrap().profile, profiles[new]);
        assert_eq!(fs::read_to_string(&path).unwrap(), profiles[old].to_toml());
        assert_eq!(mode(&state.path.join("vault.toml")), 0o600);
        kept.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    // Three names, also within one second; none of them is a profile's.
    let dated = |name: &String| {
        let date = name.strip_prefix("vault.toml.").unwrap();
        date.len() >= 20 && date.as_bytes()[10] == b'T' && !date.contains("toml")
    };
    assert!(kept.iter().all(dated), "{kept:?}");
    kept.push("vault.toml".into());
    kept.sort();
    kept.dedup();
    assert_eq!((state.names(), kept.len()), (kept, 4));
    assert_eq!(state.open().profiles().unwrap().len(), 1);
}

/// Killed before or after any system call of it: one whole profile or the other is at its name, and the
/// old one is kept once, also when the next run has done it all over.
#[test]
fn killed_while_it_replaces_a_profile_it_loses_neither() {
    let (old, new) = (profile("vault"), profile("vault"));
    let mut replaced = 0;
    for stop in 1.. {
        let state = State::new();
        state.open().save(&old).unwrap();
        state.put("vault.after", &new.to_toml(), 0o600);
        let killed = killed::kill_at("replace", &state.path, stop);
        let found = state.open().load("vault").unwrap().unwrap().profile;
        let is_dated = |name: &&String| name.starts_with("vault.toml.");
        if found == new {
            replaced += 1;
            assert_eq!(state.names().iter().filter(is_dated).count(), 1, "after stop {stop}");
        } else {
            assert_eq!(found, old, "after stop {stop}");
            state.open().replace(&new).unwrap();
        }
        let names = state.names();
        let kept: Vec<_> = names.iter().filter(is_dated).collect();
        assert_eq!(kept.len(), 1, "after stop {stop}: {names:?}");
        assert_eq!(fs::read_to_string(state.path.join(kept[0])).unwrap(), old.to_toml());
        assert_eq!(names.len(), 3, "after stop {stop}: {names:?}");
        assert_eq!(state.open().load("vault").unwrap().unwrap().profile, new);
        if !killed {
            assert!(stop > 60 && replaced > 5, "{stop} stops, {replaced} after the rename");
            return;
        }
    }
}

/// The record of a generation, whole or not there at all.
#[test]
fn a_record_of_a_generation_is_read_back_and_removed() {
    let state = State::absent();
    let mut store = state.open();
    assert_eq!(store.generating("vault").unwrap(), None);
    let card = CardName { serial: Serial::new(7), guid: Guid::new([3; 16]) };
    let slot = "82".parse().unwrap();
    let one = Generating { card, slot, destroys: Some(Fingerprint([1; 32])) };
    let two = Generating { card: CardName { serial: None, ..card }, slot, destroys: None };
    for record in [one, two] {
        store.begin_generating("vault", &record).unwrap();
        assert_eq!(state.open().generating("vault").unwrap(), Some(record));
        assert_eq!(state.names(), ["vault.generating"]);
        assert!(state.open().profiles().unwrap().is_empty());
    }
    assert_eq!(store.generating("other").unwrap(), None);
    for _ in 0..2 {
        store.end_generating("vault").unwrap();
        assert_eq!(state.names(), [""; 0]);
    }
    for damaged in [
        "version = 1\nslot = \"82\"",
        "version = 2\nserial = \"7\"\nslot = \"82\"",
        "\u{1}",
        "version = 1\nserial = \"7\"\nslot = \"82\"\nmore = 1",
    ] {
        state.put("vault.generating", damaged, 0o600);
        assert_eq!(state.open().generating("vault").unwrap_err().class, Class::Profile);
    }
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
    let held = fs::File::open(&state.path).unwrap();
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
