//! What ends up on the RAM file system, and what does when that cannot be.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

use crate::support::{
    Machine, TestCard, Yubikey,
    published::{generations, traces, tree},
    ram::Ram,
};

fn hex(usage: &str) -> Value {
    json!({ "use": usage, "format": "hex" })
}

fn enrolled() -> (Machine, Yubikey) {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    (machine, card)
}

#[test]
fn secrets_come_go_and_change_hands() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    let secrets = json!({ "stays": hex("one"), "goes": hex("two") });
    machine.vault(&card, json!({ "secrets": secrets }));
    machine.apply().exits(0);
    let stays = machine.secret("vault", "stays");
    let secrets = json!({
        "stays": { "use": "one", "format": "hex", "owner": "daemon", "group": 2, "mode": "0440" },
        "comes": hex("two"),
    });
    let goes = machine.secret("vault", "goes");
    machine.vault(&card, json!({ "secrets": secrets }));
    let output = machine.run(&["apply"]).exits(0);
    assert_eq!(output.stdout, "vault: verified, added comes; changed stays; removed goes\n");
    let names: Vec<_> = machine.published().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(machine.secret("vault", "stays"), stays);
    // The use makes the bytes, not the name.
    assert_eq!(machine.secret("vault", "comes"), goes);
    let about = fs::metadata(machine.runtime.join("vault/stays")).unwrap();
    let daemon = fs::read_to_string("/etc/passwd").unwrap();
    let daemon = daemon.lines().find(|line| line.starts_with("daemon:")).unwrap();
    let uid = daemon.split(':').nth(2).unwrap();
    assert_eq!(about.uid().to_string(), uid);
    assert_eq!((about.gid(), about.mode() & 0o7777), (2, 0o440));
    assert_eq!(generations(&machine.runtime), 1);
}

/// By default only root reads them.
#[test]
fn a_secret_is_roots_alone_unless_said() {
    let (machine, _card) = enrolled();
    let about = fs::metadata(machine.runtime.join("vault/backup")).unwrap();
    assert_eq!((about.uid(), about.gid(), about.mode() & 0o7777), (0, 0, 0o400));
}

#[test]
fn an_unknown_owner_stops_the_set_and_the_old_one_stands() {
    let (machine, card) = enrolled();
    let before = traces(&machine.runtime);
    let secrets = json!({ "backup": hex("other"), "new": { "owner": "nobody-of-that-name" } });
    machine.vault(&card, json!({ "secrets": secrets }));
    machine.apply().exits(20).says(&["nobody-of-that-name"]);
    assert_eq!(traces(&machine.runtime), before);
}

#[test]
fn a_runtime_directory_on_disk_is_refused_before_the_pin() {
    let mut machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    let disk = tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    machine.runtime = disk.path().join("cryptkey");
    machine.vault(&card, json!({}));
    machine.apply().exits(20).says(&["not on tmpfs or ramfs"]);
    assert_eq!(card.log(), []);
    assert_eq!(tree(disk.path()), [disk.path()]);
}

#[test]
fn a_full_ram_file_system_keeps_the_old_set() {
    let mut machine = Machine::new(1);
    let ram = Ram::tmpfs("size=64k");
    let card = Yubikey::new(&machine, 0);
    machine.runtime = ram.runtime_dir();
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    let old = machine.secret("vault", "backup");
    let secrets: serde_json::Map<_, _> = (0..40)
        .map(|i| (format!("s{i}"), json!({ "use": format!("{i}"), "length": 1024 })))
        .collect();
    machine.vault(&card, json!({ "secrets": secrets }));
    machine.apply().exits(20).says(&["No space left"]);
    assert_eq!(machine.secret("vault", "backup"), old);
    assert_eq!(machine.published().len(), 1);
    assert_eq!(generations(&machine.runtime), 1);
    // Once there is room, the same spec does.
    ram.remount(MsFlags::empty(), "size=4m");
    machine.apply().exits(0);
    assert_eq!(machine.published().len(), 40);
}

/// Mounts the state directory read-only, for this test alone; the RAM file system's mounts are
/// private already.
pub fn read_only(_private: &Ram, path: &Path) {
    let bind = |flags| mount(Some(path), path, None::<&str>, flags, None::<&str>).unwrap();
    bind(MsFlags::MS_BIND);
    bind(MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY);
}

#[test]
fn a_read_only_state_directory_stops_an_enrollment_and_no_verification() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({}));
    let ram = Ram::tmpfs("size=64k");
    {
        read_only(&ram, &machine.state);
        let output = machine.apply();
        assert!([Some(17), Some(18)].contains(&output.code), "{output}");
        let output = output.says(&["Read-only file system", machine.state.to_str().unwrap()]);
        assert!(machine.published().is_empty(), "{output}");
        assert_eq!(card.generated(), 0, "what can't be kept is not made: {output}");
        nix::mount::umount2(&machine.state, nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
    machine.apply().exits(0);
    read_only(&ram, &machine.state);
    assert_eq!(machine.apply().exits(0).result("vault"), "verified");
    nix::mount::umount2(&machine.state, nix::mount::MntFlags::MNT_DETACH).unwrap();
}

/// A profile in RAM would be lost at the next power-off, and every secret with it.
#[test]
fn a_state_directory_in_ram_is_refused_before_the_pin() {
    let mut machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    let ram = Ram::tmpfs("size=64k,mode=700");
    machine.state = ram.path().to_owned();
    machine.vault(&card, json!({}));
    machine.apply().exits(17).says(&["RAM file system", "stateDir"]);
    assert_eq!(card.log(), []);
    assert_eq!(tree(&machine.state).len(), 1);
}

#[test]
fn scrub_removes_what_was_published_and_nothing_else() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    let keys = json!({
        "one": machine.key(&card, json!({})),
        "two": machine.key(&card, json!({ "slot": "82" })),
    });
    machine.spec(keys.clone());
    machine.apply().exits(0);
    let two = machine.secret("two", "backup");
    let output = machine.run(&["scrub", "--key", "one"]).exits(0);
    assert_eq!(output.stdout, "one: scrubbed\n");
    assert!(!machine.runtime.join("one").exists());
    assert_eq!(machine.secret("two", "backup"), two);
    // A key that the spec does not name may be another unit's. And the profiles stay.
    machine.spec(json!({ "one": keys["one"] }));
    let output = machine.run(&["scrub"]).exits(0);
    assert_eq!(output.stdout, "Nothing was published.\n");
    assert_eq!(machine.secret("two", "backup"), two);
    machine.spec(keys.clone());
    let output = machine.run(&["scrub"]).exits(0);
    assert_eq!(output.stdout, "two: scrubbed\n");
    assert!(machine.published().is_empty());
    assert_eq!(generations(&machine.runtime), 0);
    assert!(machine.profile("one").exists() && machine.profile("two").exists());
    let output = machine.run(&["scrub"]).exits(0);
    assert_eq!(output.stdout, "Nothing was published.\n");
    machine.spec(keys);
    machine.apply().exits(0);
    assert_eq!(machine.secret("two", "backup"), two);
}

/// A run that is killed anywhere leaves the old set or the new; the next one ends as any other.
#[test]
fn a_killed_run_is_made_good_by_the_next() {
    for at in [
        "find the card",
        "present the PIN",
        "generate a P-256 key",
        "seal a new key",
        "publish the secrets",
    ] {
        let machine = Machine::new(1);
        let card = Yubikey::new(&machine, 0);
        machine.vault(&card, json!({}));
        let mut running = machine.start();
        running.wait_for(at);
        running.kill();
        machine.finish(running);
        let output = machine.apply().exits(0);
        let expected = machine.expected("vault", &[card.private_key("9d")], "backups");
        assert_eq!(machine.secret("vault", "backup"), expected, "{output}");
        assert_eq!(card.tries(), 3);
        assert_eq!(machine.published().len(), 1);
        assert_eq!(generations(&machine.runtime), 1);
    }
}
