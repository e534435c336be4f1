//! Secrets that people choose: age files, encrypted to the key's recipient.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::support::{Machine, TestCard, Yubikey};

/// A machine whose key is enrolled and pinned, and the key's recipient.
fn machine() -> (Machine, Yubikey, String) {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    let public = machine.run(&["public", "--key", "vault", "--json"]).exits(0).json();
    let recipient = public["recipient"].as_str().unwrap().to_owned();
    (machine, card, recipient)
}

fn declare(machine: &Machine, card: &Yubikey, file: &Path, extra: Value) {
    let secrets =
        json!({ "backup": { "use": "backups", "format": "hex" }, "db": { "file": file } });
    let mut key = json!({ "secrets": secrets });
    key.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    machine.vault(card, key);
}

/// Encrypts with Debian's age.
fn age(machine: &Machine, name: &str, plain: &[u8], args: &[&str]) -> PathBuf {
    let (from, to) = (machine.dir().join("plain"), machine.dir().join(name));
    fs::write(&from, plain).unwrap();
    let done = Command::new("age").args(args).arg("-o").args([&to, &from]).status().unwrap();
    assert!(done.success());
    fs::remove_file(from).unwrap();
    to
}

/// An identity file of age, and its recipient.
fn stranger(machine: &Machine) -> (PathBuf, String) {
    let identity = machine.dir().join("stranger");
    let made = Command::new("age-keygen").arg("-o").arg(&identity).output().unwrap();
    assert!(made.status.success());
    let text = fs::read_to_string(&identity).unwrap();
    let recipient = text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
    (identity.clone(), recipient.to_owned())
}

#[test]
fn what_age_encrypted_is_published_as_it_was() {
    let (machine, card, own) = machine();
    let (_, other) = stranger(&machine);
    let long: Vec<u8> = (0..1_u32 << 18).flat_map(u32::to_le_bytes).collect();
    let cases: [(&[u8], &[&str]); 5] = [
        (b"a password that somebody else gave us\n", &["-r", &own]),
        (b"armored and chosen", &["-a", "-r", &own]),
        (b"for several readers", &["-r", &other, "-r", &own, "-r", &other]),
        (b"", &["-r", &own]),
        (&long, &["-a", "-r", &own, "-r", &other]),
    ];
    for (number, (plain, args)) in cases.into_iter().enumerate() {
        let file = age(&machine, &format!("{number}.age"), plain, args);
        declare(&machine, &card, &file, json!({}));
        machine.run(&["check"]).exits(0);
        assert_eq!(machine.apply().exits(0).result("vault"), "verified");
        assert_eq!(machine.secret("vault", "db"), plain);
        assert!(machine.apply().exits(0).unchanged("vault"));
        assert!(machine.reload().exits(0).unchanged("vault"));
    }
    // The derived one is there all the while.
    assert_eq!(machine.published().len(), 2);
}

#[test]
fn another_content_under_the_same_name_is_seen_by_a_reload() {
    let (machine, card, own) = machine();
    let file = age(&machine, "db.age", b"the first password", &["-r", &own]);
    declare(&machine, &card, &file, json!({}));
    machine.apply().exits(0);
    assert_eq!(machine.reload().exits(0).result("vault"), "notVerified");
    fs::remove_file(&file).unwrap();
    age(&machine, "db.age", b"the second password", &["-r", &own]);
    assert_eq!(machine.reload().exits(0).result("vault"), "verified");
    assert_eq!(machine.secret("vault", "db"), b"the second password");
}

#[test]
fn a_file_that_does_not_open_stops_the_set_and_what_stands_stays() {
    let (machine, card, own) = machine();
    let (_, other) = stranger(&machine);
    let before = machine.published();
    let foreign = age(&machine, "foreign.age", b"not for this key", &["-r", &other]);
    let good = age(&machine, "good.age", b"to be damaged", &["-r", &own]);
    let bytes = fs::read(&good).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = machine.dir().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    let cut = write("cut.age", &bytes[..bytes.len() - 1]);
    let changed = write("changed.age", &changed);
    let plain = write("plain", b"a password in the clear");
    let recipient = format!("age -r {own}");
    let cases = [
        (&foreign, true, vec!["it is encrypted to others", &recipient]),
        (&cut, true, vec!["was changed or cut off"]),
        (&changed, true, vec!["was changed or cut off"]),
        (&plain, false, vec!["it is no age file"]),
        (&machine.dir().join("missing.age"), false, vec!["No such file"]),
        (&machine.dir().to_owned(), false, vec!["it is no regular file"]),
    ];
    for (file, is_good_spec, says) in cases {
        declare(&machine, &card, file, json!({}));
        let checked = machine.run(&["check"]).exits(if is_good_spec { 0 } else { 10 });
        if !is_good_spec {
            assert!(checked.stdout.contains("keys.vault.secrets.db.file: "), "{checked}");
            assert!(checked.stdout.contains(says[0]), "{checked}");
        }
        let failed = machine.apply().exits(10).says(&says);
        failed.says(&["key vault: publishing db: ", &file.display().to_string()]);
        assert_eq!(machine.published(), before);
    }
}

#[test]
fn people_without_age_encrypt_and_decrypt() {
    let (machine, card, own) = machine();
    let (identity, other) = stranger(&machine);
    let plain = machine.secret_file("chosen", "a password that somebody chose");
    let plain = plain["file"].as_str().unwrap();
    let file = machine.dir().join("new.age");
    let to = file.to_str().unwrap();
    let encrypt = ["encrypt", "--key", "vault", "--output", to, plain];
    // Nothing pins the recipient: anybody could have put another one there.
    declare(&machine, &card, &file, json!({}));
    let refused = machine.run(&encrypt).exits(10).says(&["declares no profileId"]);
    let id = refused.stderr.split("profileId = \"").nth(1).unwrap()[..32].to_owned();
    declare(&machine, &card, &file, json!({ "profileId": "0".repeat(32) }));
    machine.run(&encrypt).exits(17).says(&[&own, &id]);
    assert!(!file.exists());

    declare(&machine, &card, &file, json!({ "profileId": id }));
    card.remove();
    machine.run(&[&encrypt[..], &["--also", &other]].concat()).exits(0);
    let read = Command::new("age").arg("-d").arg("-i").args([&identity, &file]).output().unwrap();
    assert_eq!(read.stdout, fs::read(plain).unwrap());
    // It overwrites nothing.
    machine.run(&encrypt).exits(18).says(&["exists"]);
    card.insert();
    let decrypt = machine.command(&["decrypt", "--key", "vault", to]);
    let decrypted = { decrypt }.stdin(Stdio::null()).output().unwrap();
    assert_eq!(decrypted.stdout, fs::read(plain).unwrap());
    machine.apply().exits(0);
    assert_eq!(machine.secret("vault", "db"), fs::read(plain).unwrap());

    // Where there is no profile, the recipient is given, and the id says whether it is right.
    machine.lose("vault");
    let elsewhere = machine.dir().join("elsewhere.age");
    let to = elsewhere.to_str().unwrap();
    let encrypt = ["encrypt", "--key", "vault", "--output", to, plain];
    machine.run(&encrypt).exits(17).says(&["--recipient"]);
    machine.run(&[&encrypt[..], &["--recipient", &other]].concat()).exits(17);
    machine.run(&[&encrypt[..], &["--recipient", &own]].concat()).exits(0);
    assert!(elsewhere.exists());
    machine.run(&[&encrypt[..], &["--recipient", "age1nonsense"]].concat()).exits(2);
}
