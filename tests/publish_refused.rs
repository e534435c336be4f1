//! What publishing refuses: disks, directories of others, whatever somebody planted, unsafe names.

#![allow(clippy::unwrap_used)]

#[path = "support/published.rs"]
mod published;
#[path = "support/ram.rs"]
mod ram;

use std::{
    fs,
    fs::Permissions,
    os::unix::fs::{PermissionsExt, chown, symlink},
};

use cryptkey::{
    publish::{published, scrub},
    system::runtime_dir::RuntimeDir,
};
use published::{
    NEW, OLD, assert_old_stands, changed, contents, expected, publish, refused, set, traces, tree,
};
use ram::Ram;

#[test]
fn a_disk_is_refused_and_nothing_is_written_to_it() {
    let disk = tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let absent = disk.path().join("cryptkey");
    for dir in [disk.path(), &absent] {
        let error = refused(publish(dir, "vault", &set(&OLD)));
        assert!(error.found.contains("not on tmpfs or ramfs"), "{error}");
        // The early check, before a PIN is spent, says the same.
        assert_eq!(RuntimeDir::check(dir).unwrap_err(), error);
    }
    assert_eq!(tree(disk.path()), [disk.path()]);
}

#[test]
fn the_directory_must_be_ours_alone() {
    let ram = Ram::tmpfs("size=64k");
    let dir = ram.runtime_dir();
    publish(&dir, "vault", &set(&OLD)).unwrap();

    for mode in [0o757, 0o775] {
        fs::set_permissions(&dir, Permissions::from_mode(mode)).unwrap();
        let error = refused(publish(&dir, "vault", &set(&NEW)));
        assert!(error.found.contains("lets others write"), "{error}");
    }
    fs::set_permissions(&dir, Permissions::from_mode(0o751)).unwrap();
    chown(&dir, Some(1000), None).unwrap();
    let error = refused(publish(&dir, "vault", &set(&NEW)));
    assert_eq!(error.found, "it belongs to user 1000, not to 0");
    chown(&dir, Some(0), None).unwrap();

    let link = ram.path().join("link");
    symlink(&dir, &link).unwrap();
    let error = refused(publish(&link, "vault", &set(&NEW)));
    assert!(error.found.contains("symlink"), "{error}");
    let file = ram.path().join("file");
    fs::write(&file, "").unwrap();
    refused(publish(&file, "vault", &set(&NEW)));
    refused(publish(&ram.path().join("no/parent"), "vault", &set(&NEW)));
    assert_old_stands(&dir);

    chown(dir.join(".generations"), Some(1000), None).unwrap();
    refused(publish(&dir, "vault", &set(&NEW)));
    chown(dir.join(".generations"), Some(0), None).unwrap();
    assert_old_stands(&dir);
}

#[test]
fn what_others_planted_is_neither_followed_nor_replaced() {
    let ram = Ram::tmpfs("size=64k");
    let dir = ram.runtime_dir();
    let elsewhere = ram.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("a"), "old a").unwrap();
    fs::set_permissions(elsewhere.join("a"), Permissions::from_mode(0o400)).unwrap();
    publish(&dir, "other", &set(&OLD)).unwrap();
    let key = dir.join("vault");

    let plants: [&dyn Fn(); 5] = [
        &|| symlink("/etc", &key).unwrap(),
        &|| symlink(&elsewhere, &key).unwrap(),
        // Another key's generation is no generation of this one.
        &|| symlink(fs::read_link(dir.join("other")).unwrap(), &key).unwrap(),
        &|| fs::write(&key, "x").unwrap(),
        &|| fs::create_dir(&key).unwrap(),
    ];
    for plant in plants {
        plant();
        let before = traces(ram.path());
        let error = refused(publish(&dir, "vault", &set(&NEW)));
        assert!(error.found.contains("which this program did not make"), "{error}");
        scrub(&dir, "vault").unwrap_err();
        published(&dir, "vault").unwrap_err();
        assert_eq!(traces(ram.path()), before);
        fs::remove_file(&key).or_else(|_| fs::remove_dir(&key)).unwrap();
    }

    // A symlink in place of a secret (to one just like it), or of the directory of generations.
    publish(&dir, "vault", &set(&OLD)).unwrap();
    let secret = key.join("a");
    fs::remove_file(&secret).unwrap();
    symlink(elsewhere.join("a"), &secret).unwrap();
    let outcome = publish(&dir, "vault", &set(&OLD)).unwrap();
    assert_eq!(outcome, changed(&[], &["a"], &[]));
    assert_eq!(contents(&key), expected(&OLD));
    fs::remove_dir_all(&dir).unwrap();
    fs::create_dir(&dir).unwrap();
    symlink(&elsewhere, dir.join(".generations")).unwrap();
    refused(publish(&dir, "vault", &set(&NEW)));
    assert_eq!(contents(&elsewhere), expected(&[("a", "old a")]));
}

#[test]
fn names_that_are_no_safe_file_names_go_nowhere() {
    let ram = Ram::tmpfs("size=1m");
    let dir = ram.runtime_dir();
    for name in ["", ".", "..", "../x", "a/b", ".locks", ".generations", "a\0b"] {
        refused(publish(&dir, name, &set(&OLD)));
        refused(publish(&dir, "vault", &set(&[(name, "x")])));
        scrub(&dir, name).unwrap_err();
        published(&dir, name).unwrap_err();
    }
    refused(publish(&dir, "vault", &set(&[("a", "1"), ("a", "2")])));
    assert_eq!(tree(ram.path()), [ram.path()]);
    let long = "k".repeat(230);
    publish(&dir, &long, &set(&OLD)).unwrap();
    refused(publish(&dir, &"k".repeat(250), &set(&OLD)));
}
