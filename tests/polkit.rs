//! The polkit rule's file: installed, changed and removed, and only in a directory that is root's.
//! Needs root.

#![allow(clippy::unwrap_used)]

#[path = "support/rules.rs"]
mod rules;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::Path,
    process::Command,
};

use cryptkey::{
    error::{Class, Error},
    polkit::{FILE, Outcome, install, remove, render},
    spec::Pcsc,
};
use expect_test::expect;
use nix::{
    sys::stat::{Mode, umask},
    unistd::mkfifo,
};
use rules::{alice, bob, names, rules, stands};
use tempfile::TempDir;

fn identity(file: &Path) -> (u64, i64, i64) {
    let found = fs::metadata(file).unwrap();
    (found.ino(), found.ctime(), found.ctime_nsec())
}

#[test]
fn installed_unchanged_changed_removed() {
    let (dir, file) = rules();
    assert_eq!(install(dir.path(), &alice()), Ok(Outcome::Installed));
    stands(dir.path(), &alice());
    let before = (identity(&file), identity(dir.path()));
    assert_eq!(install(dir.path(), &alice()), Ok(Outcome::Unchanged));
    assert_eq!((identity(&file), identity(dir.path())), before, "nothing was written");
    assert_eq!(install(dir.path(), &bob()), Ok(Outcome::Installed));
    stands(dir.path(), &bob());
    assert_eq!(install(dir.path(), &Pcsc::default()), Ok(Outcome::Removed));
    assert_eq!(install(dir.path(), &Pcsc::default()), Ok(Outcome::Unchanged));
    assert_eq!(install(dir.path(), &bob()), Ok(Outcome::Installed));
    assert_eq!(remove(dir.path()), Ok(Outcome::Removed));
    assert_eq!(remove(dir.path()), Ok(Outcome::Unchanged));
    assert_eq!(names(dir.path()), [""; 0]);
}

/// Whatever is wrong with the file, it is replaced; what it leads to is left alone.
#[test]
fn what_is_in_its_place_is_replaced() {
    let (dir, file) = rules();
    let elsewhere = TempDir::new().unwrap();
    let target = elsewhere.path().join("target");
    let rule = render(&alice());
    let longer = format!("{rule}\n");
    let other_user = || chown(&file, Some(65534), None).unwrap();
    let other_group = || chown(&file, None, Some(65534)).unwrap();
    let mode = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    let content = |text: &str| fs::write(&file, text).unwrap();
    let link = || {
        fs::write(&target, &rule).unwrap();
        fs::remove_file(&file).unwrap();
        symlink(&target, &file).unwrap();
    };
    let dangling = || {
        link();
        fs::remove_file(&target).unwrap();
    };
    let fifo = || {
        fs::remove_file(&file).unwrap();
        mkfifo(&file, Mode::S_IRWXU).unwrap();
    };
    let spoil: [&dyn Fn(); 10] = [
        &other_user,
        &other_group,
        &|| mode(0o600),
        &|| mode(0o664),
        &|| mode(0o4644),
        &|| content(&rule[1..]),
        &|| content(&longer),
        &link,
        &dangling,
        &fifo,
    ];
    install(dir.path(), &alice()).unwrap();
    for (index, spoil) in spoil.iter().enumerate() {
        spoil();
        let was = fs::read_to_string(&target).ok();
        assert_eq!(install(dir.path(), &alice()), Ok(Outcome::Installed), "{index}");
        stands(dir.path(), &alice());
        assert_eq!(fs::read_to_string(&target).ok(), was, "{index}");
        assert_eq!(install(dir.path(), &alice()), Ok(Outcome::Unchanged), "{index}");
    }
    link();
    assert_eq!(install(dir.path(), &bob()), Ok(Outcome::Installed));
    stands(dir.path(), &bob());
    link();
    assert_eq!(remove(dir.path()), Ok(Outcome::Removed));
    assert_eq!(fs::read_to_string(&target).unwrap(), rule);
}

/// A directory with the group's bit gives its group to what is made in it.
#[test]
fn the_group_is_root_also_where_the_directory_gives_another() {
    let (dir, _) = rules();
    chown(dir.path(), None, Some(65534)).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o2755)).unwrap();
    assert_eq!(install(dir.path(), &alice()), Ok(Outcome::Installed));
    stands(dir.path(), &alice());
}

#[test]
fn a_directory_that_others_can_write_to_is_refused() {
    let said = |result: Result<Outcome, Error>, dir: &Path| {
        let error = result.unwrap_err();
        assert_eq!(error.class, Class::Permission);
        error.to_string().replace(dir.to_str().unwrap(), "DIR")
    };
    let refused = |dir: &Path| {
        let words = said(install(dir, &alice()), dir);
        assert_eq!(said(remove(dir), dir), words);
        words
    };
    let (dir, file) = rules();
    let mode = |mode| fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o775);
    expect!["using DIR for polkit's rules: its mode 0775 lets others write to it. See what is in it, then: chmod go-w DIR."]
        .assert_eq(&refused(dir.path()));
    mode(0o1757);
    expect!["using DIR for polkit's rules: its mode 1757 lets others write to it. See what is in it, then: chmod go-w DIR."]
        .assert_eq(&refused(dir.path()));
    mode(0o755);
    chown(dir.path(), Some(65534), None).unwrap();
    expect!["using DIR for polkit's rules: it belongs to user 65534, not to root. See what is in it, then: chown root DIR."]
        .assert_eq(&refused(dir.path()));
    chown(dir.path(), Some(0), None).unwrap();
    let link = dir.path().join("link");
    symlink(dir.path(), &link).unwrap();
    expect!["using DIR for polkit's rules: it is a symlink or no directory. See who made it, and move it away."]
        .assert_eq(&refused(&link));
    assert_eq!(names(dir.path()), ["link"]);

    fs::write(&file, "").unwrap();
    expect!["using DIR for polkit's rules: it is a symlink or no directory. See who made it, and move it away."]
        .assert_eq(&refused(&file));
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    expect!["installing DIR/05-nixos-cryptkey.rules: Is a directory. See who made it, move it away, then run again."]
        .assert_eq(&said(install(dir.path(), &alice()), dir.path()));
    expect!["removing DIR/05-nixos-cryptkey.rules: Is a directory. See who made it, move it away, then run again."]
        .assert_eq(&said(remove(dir.path()), dir.path()));
    assert_eq!(names(dir.path()), [FILE, "link"], "nothing is left of the attempt");
}

/// A unit's umask does not keep polkitd from the directory.
#[test]
fn a_directory_that_is_not_there_is_made() {
    let (top, _) = rules();
    let dir = top.path().join("polkit-1/rules.d");
    assert_eq!(remove(&dir), Ok(Outcome::Unchanged));
    assert_eq!(install(&dir, &Pcsc::default()), Ok(Outcome::Unchanged));
    assert!(!top.path().join("polkit-1").exists());
    let old = umask(Mode::from_bits_truncate(0o077));
    assert_eq!(install(&dir, &alice()), Ok(Outcome::Installed));
    assert_eq!(umask(old), Mode::from_bits_truncate(0o077));
    for made in [&dir, dir.parent().unwrap()] {
        assert_eq!(fs::metadata(made).unwrap().mode() & 0o7777, 0o755);
    }
    stands(&dir, &alice());
}

#[test]
fn what_killed_runs_left_is_removed_and_nothing_else() {
    let left = [".05-nixos-cryptkey.0123456789abcdef.new", ".05-nixos-cryptkey.x.new"];
    let others = [".05-nixos-cryptkey.new.rules", "05-nixos-cryptkey.0.new", "10-nixos.rules"];
    for act in [install, |dir: &Path, _: &Pcsc| remove(dir)] {
        let (dir, file) = rules();
        for name in left.iter().chain(&others) {
            fs::write(dir.path().join(name), "half a ru").unwrap();
        }
        act(dir.path(), &alice()).unwrap();
        fs::remove_file(&file).unwrap_or_default();
        assert_eq!(names(dir.path()), others);
        // Also where there is nothing else to do.
        install(dir.path(), &alice()).unwrap();
        fs::write(dir.path().join(left[0]), "").unwrap();
        assert_eq!(install(dir.path(), &alice()), Ok(Outcome::Unchanged));
        assert!(!dir.path().join(left[0]).exists());
    }
}

/// Runs the program and gives what it said, with the directory's name replaced.
fn program(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nixos-cryptkey"));
    let output = command.arg("polkit").arg("--directory").arg(dir).args(args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap().replace(dir.to_str().unwrap(), "DIR");
    format!("exit code {}\n{text}", output.status.code().unwrap())
}

/// The same, with a spec that has this `pcsc`.
fn with(pcsc: &str, dir: &Path, args: &[&str]) -> String {
    let spec = TempDir::new().unwrap();
    let path = spec.path().join("spec.json");
    fs::write(&path, format!(r#"{{"version": 1, "keys": {{}}, "pcsc": {pcsc}}}"#)).unwrap();
    let path = path.to_str().unwrap();
    program(dir, &[&["--spec", path], args].concat()).replace(path, "SPEC")
}

#[test]
fn what_the_command_says() {
    let (dir, _) = rules();
    let dir = dir.path();
    let listed = r#"{"users": ["alice", "bob"], "groups": ["wheel"]}"#;
    expect![[r#"
        exit code 0
        polkit: installed, users alice, bob; groups wheel
    "#]]
    .assert_eq(&with(listed, dir, &[]));
    expect![[r#"
        exit code 0
        polkit: unchanged, users alice, bob; groups wheel
    "#]]
    .assert_eq(&with(listed, dir, &[]));
    let group = r#"{"groups": ["wheel"]}"#;
    expect![[r#"
        exit code 0
        polkit: installed, groups wheel
    "#]]
    .assert_eq(&with(group, dir, &[]));
    expect![[r#"
        exit code 0
        {
          "rule": "unchanged",
          "file": "DIR/05-nixos-cryptkey.rules",
          "users": [],
          "groups": [
            "wheel"
          ]
        }
    "#]]
    .assert_eq(&with(group, dir, &["--json"]));
    expect![[r#"
        exit code 0
        polkit: removed
    "#]]
    .assert_eq(&with("{}", dir, &[]));
    expect![[r#"
        exit code 0
        polkit: unchanged, nobody is listed
    "#]]
    .assert_eq(&with("{}", dir, &[]));
    expect![[r#"
        exit code 0
        polkit: installed, groups wheel
    "#]]
    .assert_eq(&with(group, dir, &[]));
    expect![[r#"
        exit code 0
        polkit: removed
    "#]]
    .assert_eq(&program(dir, &["--remove"]));
    expect![[r#"
        exit code 0
        {
          "rule": "unchanged",
          "file": "DIR/05-nixos-cryptkey.rules",
          "users": [],
          "groups": []
        }
    "#]]
    .assert_eq(&program(dir, &["--remove", "--json"]));
    expect![[r#"
        exit code 0
        polkit: installed, groups wheel
        warning: DIR was not there and was made: a polkitd that is running notices it only after `systemctl reload polkit`
    "#]].assert_eq(&with(group, &dir.join("deeper"), &[]));
}

#[test]
fn what_the_command_refuses() {
    let (dir, _) = rules();
    let dir = dir.path();
    install(dir, &alice()).unwrap();
    expect![[r#"
        exit code 10
        error: reading spec SPEC: 1 fault. Correct it in the configuration:
        error:   pcsc.users[0]: found "a\nb"; allowed is the name of a user or group: 1 to 256 characters, no control characters, none beyond U+FFFF
    "#]].assert_eq(&with(r#"{"users": ["a\nb"]}"#, dir, &[]));
    expect![[r#"
        exit code 2
        error: the argument '--spec <FILE>' cannot be used with '--remove'

        Usage: nixos-cryptkey polkit --directory <DIR> --spec <FILE>

        For more information, try '--help'.
    "#]]
    .assert_eq(&with("{}", dir, &["--remove"]));
    stands(dir, &alice());
    fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
    expect![[r#"
        exit code 18
        {
          "error": {
            "class": "permission",
            "tried": "using DIR for polkit's rules",
            "found": "its mode 0777 lets others write to it",
            "advice": "See what is in it, then: chmod go-w DIR."
          }
        }
        error: using DIR for polkit's rules: its mode 0777 lets others write to it. See what is in it, then: chmod go-w DIR.
    "#]].assert_eq(&program(dir, &["--remove", "--json"]));
    stands(dir, &alice());
}
