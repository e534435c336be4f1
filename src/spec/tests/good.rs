//! What good specs say.

use std::{fs, time::Duration};

use expect_test::expect;

use super::super::*;
use crate::token::{PinPolicy, TouchPolicy};

/// The example of the format, with every field.
pub(super) const FULL: &str = r#"{
  "version": 1,
  "stateDir": "/var/lib/cryptkey",
  "runtimeDir": "/run/cryptkey",
  "otherKeys": [ "web", "door" ],
  "otherProfiles": [ "/nix/store/abc-web.toml" ],
  "pcsc": { "users": [ "alice", "\"b\"" ], "groups": [ "wheel" ] },
  "keys": {
    "vault": {
      "cards": [
        { "serial": "12345678", "guid": null, "id": "desk", "pin": null, "managementKey": null }
      ],
      "threshold": 1,
      "slot": "9d", "touchPolicy": "never", "pinPolicy": "once",
      "mode": "use-existing",
      "overwrite": { "fingerprint": "SHA256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8" },
      "attestation": { "policy": "off", "roots": [ "/path3" ] },
      "enroll": "auto", "profileId": null, "profile": null,
      "softFail": false,
      "pin": { "file": "/path" },
      "managementKey": { "file": "/path2" },
      "cardTimeoutSec": 30, "touchTimeoutSec": 20, "ask": true, "askTimeoutSec": 90,
      "secrets": {
        "restic": { "use": "backups", "format": "hex", "length": 32, "newline": false,
                    "owner": "restic", "group": "restic", "mode": "0400",
                    "restartUnits": [ "rest-server.service" ], "reloadUnits": [ "proxy@.service" ] }
      }
    }
  }
}"#;

#[test]
fn the_example_is_read() {
    let spec = read(FULL).unwrap();
    assert!(["vault", "web", "door"].iter().all(|name| spec.declares(name)));
    assert!(!spec.declares("restic"));
    let names =
        |names: &[SubjectName]| names.iter().map(|n| n.as_str().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&spec.pcsc.users), ["alice", "\"b\""]);
    assert_eq!(names(&spec.pcsc.groups), ["wheel"]);
    let vault = &spec.keys["vault"];
    assert_eq!(vault.pin, Some(PinSource::File("/path".into())));
    assert_eq!(vault.management_key, Some(ManagementKeySource::File("/path2".into())));
    assert_eq!(vault.cards[0].serial.unwrap().to_string(), "12345678");
    assert_eq!(vault.cards[0].id, Some("desk".parse().unwrap()));
    assert_eq!(vault.threshold, Some(1));
    assert!(vault.overwrite.as_ref().unwrap().fingerprint.is_some());
    let restic = &vault.secrets["restic"];
    assert_eq!(restic.usage, "backups");
    assert_eq!(restic.owner, Account::Name("restic".into()));
    assert_eq!(restic.mode, FileMode(0o400));
    assert_eq!(restic.restart_units[0].to_string(), "rest-server.service");
    assert_eq!(restic.reload_units[0].pattern(), "proxy@*.service");
}

#[test]
fn the_defaults_are_those_of_the_seed() {
    let text = r#"{"version": 1, "keys": {"vault": {"pin": {"ask": true}, "secrets": {"a": {}}}}}"#;
    expect![[r#"
        {
          "version": 1,
          "stateDir": "/var/lib/cryptkey",
          "runtimeDir": "/run/cryptkey",
          "keys": {
            "vault": {
              "cards": [],
              "threshold": null,
              "slot": "9d",
              "touchPolicy": "never",
              "pinPolicy": "once",
              "mode": "use-existing",
              "overwrite": null,
              "attestation": {
                "policy": "off",
                "roots": []
              },
              "enroll": "auto",
              "profileId": null,
              "profile": null,
              "softFail": false,
              "pin": {
                "ask": true
              },
              "minTries": 2,
              "managementKey": null,
              "cardTimeoutSec": 30,
              "touchTimeoutSec": 20,
              "ask": true,
              "askTimeoutSec": 90,
              "secrets": {
                "a": {
                  "use": "a",
                  "format": "raw",
                  "length": 32,
                  "newline": false,
                  "owner": "root",
                  "group": "root",
                  "mode": "0400"
                }
              }
            }
          },
          "otherKeys": [],
          "otherProfiles": [],
          "sharedCard": "warn",
          "pcsc": {
            "users": [],
            "groups": []
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&read(text).unwrap()).unwrap());
}

/// A spec whose one key has these fields and a PIN.
pub(super) fn key(fields: &str) -> String {
    format!(r#"{{"version": 1, "keys": {{"vault": {{"pin": {{"ask": true}}, {fields}}}}}}}"#)
}

fn read_key(fields: &str) -> Key {
    read(&key(fields)).unwrap().keys["vault"].clone()
}

#[test]
fn every_choice_is_understood() {
    let all = read_key(
        r#""slot": "9E", "touchPolicy": "cached", "pinPolicy": "always", "mode": "overwrite",
           "enroll": "never", "softFail": true, "cardTimeoutSec": 0, "touchTimeoutSec": 600,
           "threshold": 255, "ask": false, "askTimeoutSec": 600,
           "profileId": "00112233445566778899aabbccddeeff",
           "profile": "/nix/store/abc-vault.toml", "managementKey": {"factoryDefault": true}"#,
    );
    assert_eq!(all.slot.to_string(), "9e");
    assert_eq!((all.touch_policy, all.pin_policy), (TouchPolicy::Cached, PinPolicy::Always));
    assert_eq!((all.mode, all.enroll, all.soft_fail), (Mode::Overwrite, Enroll::Never, true));
    assert_eq!(all.card_timeout, Duration::ZERO);
    assert_eq!(all.touch_timeout, Duration::from_secs(600));
    assert_eq!((all.threshold, all.ask), (Some(255), false));
    assert_eq!(all.ask_timeout, Duration::from_secs(600));
    assert_eq!(all.profile_id.unwrap().as_str(), "00112233445566778899aabbccddeeff");
    assert_eq!(all.profile.unwrap().to_str(), Some("/nix/store/abc-vault.toml"));
    assert_eq!(all.management_key, Some(ManagementKeySource::FactoryDefault));
}

#[test]
fn accounts_and_modes_have_two_spellings() {
    let secret = |fields: &str| {
        read_key(&format!(r#""secrets": {{"a": {{{fields}}}}}"#)).secrets["a"].clone()
    };
    assert_eq!(secret(r#""owner": 1000"#).owner, Account::Id(1000));
    assert_eq!(secret(r#""owner": "1000""#).owner, Account::Id(1000));
    assert_eq!(
        secret(r#""group": "EXAMPLE\\web-1""#).group,
        Account::Name("EXAMPLE\\web-1".into())
    );
    assert_eq!(secret(r#""mode": "0440""#).mode, FileMode(0o440));
    assert_eq!(secret(r#""mode": "440""#).mode, FileMode(0o440));
}

#[test]
fn a_card_may_have_its_own_pin_and_management_key() {
    let key = read_key(
        r#""cards": [
             {"serial": "1", "pin": {"credential": "one.pin"}, "managementKey": {"protected": true}},
             {"guid": "00112233-4455-6677-8899-AABBCCDDEEFF"}
           ]"#,
    );
    let [one, two] = &key.cards[..] else { panic!("two cards") };
    assert_eq!(key.pin_for(Some(one)), Some(&PinSource::Credential("one.pin".parse().unwrap())));
    assert_eq!(key.pin_for(Some(two)), Some(&PinSource::Ask));
    assert_eq!(key.pin_for(None), Some(&PinSource::Ask));
    assert_eq!(key.management_key_for(Some(one)), Some(&ManagementKeySource::Protected));
    assert_eq!(key.management_key_for(Some(two)), None);
}

#[test]
fn combinations_that_are_allowed() {
    for fields in [
        // A leftover of an overwrite that was done.
        r#""overwrite": {"fingerprint": null}"#,
        // The refusal at run time prints the line to add.
        r#""mode": "overwrite""#,
        // A PIN that only the management key needs.
        r#""pinPolicy": "never", "managementKey": {"protected": true}"#,
        // One maker's serial, told apart by GUID.
        r#""cards": [{"serial": "5437251", "guid": "00000000000000000000000000000001"},
                     {"serial": "5437251", "guid": "00000000000000000000000000000002"}]"#,
        // The machine may have a profile with more providers than the spec has cards.
        r#""threshold": 2"#,
        r#""threshold": 3, "cards": [{"serial": "1"}, {"serial": "2"}]"#,
        // An id for some of the cards.
        r#""cards": [{"serial": "1", "id": "card-2"}, {"serial": "2"}, {"serial": "3"}]"#,
        // Two files with one value.
        r#""secrets": {"a": {"use": "x"}, "b": {"use": "x", "owner": "web"}, "A": {}}"#,
    ] {
        assert_eq!(read(&key(fields)), read(&key(fields)), "{fields}");
        assert!(read(&key(fields)).is_ok(), "{fields}: {:?}", read(&key(fields)));
    }
    assert_eq!(read(r#"{"version": 1, "keys": {}}"#), Ok(Spec::default()));
}

#[test]
fn a_file_is_loaded_or_its_faults_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spec.json");
    let load_text = |text: &[u8]| {
        fs::write(&path, text).unwrap();
        load(&path).map_err(|error| {
            assert_eq!(error.class, Class::Spec);
            error.to_string().replace(path.to_str().unwrap(), "SPEC")
        })
    };
    assert_eq!(load_text(FULL.as_bytes()), Ok(read(FULL).unwrap()));
    expect![[r#"
        reading spec SPEC: 2 faults. Correct them in the configuration:
          keys: missing; allowed is an object of keys by name, which may be empty
          stateDir: found "state"; allowed is an absolute path (from /, without `.` and `..` and without control characters)"#]]
    .assert_eq(&load_text(br#"{"version": 1, "stateDir": "state"}"#).unwrap_err());
    expect![[r"
        reading spec SPEC: 1 fault. Correct it in the configuration:
          keys: missing; allowed is an object of keys by name, which may be empty"]]
    .assert_eq(&load_text(br#"{"version": 1}"#).unwrap_err());
    expect!["reading spec SPEC: it is not UTF-8 text. Name a readable spec file with --spec."]
        .assert_eq(&load_text(b"{\xff}").unwrap_err());
    expect![
        "reading spec SPEC: it is longer than 1048576 bytes. Name a readable spec file with --spec."
    ]
    .assert_eq(&load_text(&vec![b' '; (1 << 20) + 1]).unwrap_err());
    fs::remove_file(&path).unwrap();
    expect!["No such file or directory (os error 2)"].assert_eq(&load(&path).unwrap_err().found);
    assert_eq!(load(dir.path()).unwrap_err().class, Class::Spec);
}
