//! Bad specs, and the exact words that are said about them.

use expect_test::{Expect, expect};

use super::{super::read, good::key};

#[track_caller]
fn faults(text: &str, expected: Expect) {
    let faults = read(text).expect_err("this spec has faults");
    let lines: Vec<_> = faults.iter().map(|fault| format!("{fault}\n")).collect();
    expected.assert_eq(&lines.concat());
}

/// The same, for a spec with one key `vault` that has these fields and a PIN.
#[track_caller]
fn key_faults(fields: &str, expected: Expect) {
    faults(&key(fields), expected);
}

#[test]
fn all_faults_are_found_in_one_run() {
    faults(
        r#"{
          "version": 2, "stateDir": "state", "statedir": "/x", "runtimeDir": "/run/../tmp",
          "keys": {
            "../up": {},
            "vault": {
              "cards": [ "12345678", { "serial": 12345678 }, {}, { "guid": "1", "slot": "9a" } ],
              "slot": "9c", "touchPolicy": "sometimes", "pinPolicy": 5, "mode": "overwrite!",
              "overwrite": { "fingerprint": "SHA1:abc" }, "enroll": null, "profileId": "ABC",
              "profile": "vault.toml", "softfail": true, "softFail": "no",
              "pin": { "file": "/nix/store/abc-pin" }, "managementKey": { "protected": false },
              "cardTimeoutSec": -1, "touchTimeoutSec": 1.5,
              "secrets": {
                "a": { "use": "", "format": "pem", "length": 0, "newline": 1,
                       "owner": -1, "group": "a b", "mode": 400 },
                "b": { "mode": "04000" },
                ".c": {}
              },
              "frobnicate": 1
            },
            "other": []
          }
        }"#,
        expect![[r#""#]],
    );
}

#[test]
fn text_that_is_not_json() {
    faults("", expect![[r#""#]]);
    faults("{\"version\": 1,\n \"keys\": {},}", expect![[r#""#]]);
    faults("{\"version\": 1, \"mode\": 0400}", expect![[r#""#]]);
    faults("{} {}", expect![[r#""#]]);
    faults(&"[".repeat(1000), expect![[r#""#]]);
}

#[test]
fn the_wrong_kind_of_value() {
    faults("null", expect![[r#""#]]);
    faults("[1, {}]", expect![[r#""#]]);
    faults("{}", expect![[r#""#]]);
    faults(r#"{"version": "1", "keys": []}"#, expect![[r#""#]]);
    faults(r#"{"version": null, "keys": null}"#, expect![[r#""#]]);
    // An object is never read from a list, though serde would.
    faults(
        r#"{"version": 1, "keys": {"a": [[{"serial": "1"}], "9d"]}}"#,
        expect![[r#""#]],
    );
    key_faults(r#""cards": {"serial": "1"}"#, expect![[r#""#]]);
    key_faults(r#""slot": null, "secrets": ["a"]"#, expect![[r#""#]]);
    key_faults(
        r#""secrets": {"a": {"owner": 4294967295, "group": "4294967295", "mode": null}}"#,
        expect![[r#""#]],
    );
    key_faults(
        r#""secrets": {"a": {"length": 18446744073709551616, "owner": 1e3}}"#,
        expect![[r#""#]],
    );
}

#[test]
fn fields_given_twice() {
    faults(
        r#"{
          "version": 1, "version": 1,
          "keys": {
            "vault": {
              "slot": "9d", "slot": "9a", "slot": "9d",
              "pin": {"file": "/a", "file": "/b"},
              "cards": [{"serial": "1"}, {"serial": "2", "serial": "3"}],
              "secrets": {"a": {"use": "x", "use": "y"}, "a": {}}
            },
            "vault": {}
          },
          "unknown": {"a": [{"b": 1, "b": 2}]}
        }"#,
        expect![[r#""#]],
    );
}

#[test]
fn misspelt_fields() {
    key_faults(r#""softfail": true"#, expect![[r#""#]]);
    key_faults(
        r#""touch_policy": "never", "secret": {}, "Slot": "9a""#,
        expect![[r#""#]],
    );
    key_faults(
        r#""serial": "1", "": 1, "a\u0000b.c\n": 1"#,
        expect![[r#""#]],
    );
    // A misspelt field is not also missed.
    faults(
        r#"{"versoin": 1, "Keys": {}, "keys": {"a": {"Pin": {"ask": true}}, "b": {"pinpolicy": "never"}}}"#,
        expect![[r#""#]],
    );
}

#[test]
fn sources_of_pins_and_management_keys() {
    let pin = |pin: &str| format!(r#"{{"version": 1, "keys": {{"vault": {{"pin": {pin}}}}}}}"#);
    for (bad, expected) in [
        (r"{}", expect![[r#""#]]),
        (r#"{"file": "/a", "ask": true}"#, expect![[r#""#]]),
        (r#"{"ask": false}"#, expect![[r#""#]]),
        (r#"{"ask": "yes"}"#, expect![[r#""#]]),
        (r#"{"file": null}"#, expect![[r#""#]]),
        (r#"{"File": "/a"}"#, expect![[r#""#]]),
        (r#"{"credential": "/etc/credstore/pin"}"#, expect![[r#""#]]),
        (r#"{"file": "/nix/store/abc/pin"}"#, expect![[r#""#]]),
        ("null", expect![[r#""#]]),
    ] {
        faults(&pin(bad), expected);
    }
    key_faults(
        r#""managementKey": {"factoryDefault": true, "protected": true}"#,
        expect![[r#""#]],
    );
    key_faults(
        r#""managementKey": {"factorydefault": true}"#,
        expect![[r#""#]],
    );
}

/// A PIN or a management key that somebody wrote into the spec is not repeated in a log.
#[test]
fn a_pin_in_the_wrong_place_is_not_repeated() {
    for bad in [
        r#""pin": "SECRET""#,
        r#""pin": 73628190"#,
        r#""pin": ["SECRET"]"#,
        r#""pin": {"file": "SECRET"}"#,
        r#""pin": {"file": 73628190}"#,
        r#""pin": {"credential": "SECRET!"}"#,
        r#""pin": {"ask": "SECRET"}"#,
        r#""managementKey": "SECRET""#,
        r#""managementKey": {"file": "SECRET"}"#,
        r#""managementKey": {"protected": "SECRET"}"#,
        r#""cards": [{"serial": "1", "pin": "SECRET", "managementKey": 73628190}]"#,
    ] {
        let text = format!(r#"{{"version": 1, "keys": {{"vault": {{{bad}}}}}}}"#);
        let said = format!("{:?}", read(&text).unwrap_err());
        assert!(
            !said.contains("SECRET") && !said.contains("73628190"),
            "{bad}: {said}"
        );
    }
    faults(
        r#"{"version": 1, "keys": {"vault": {"pin": "123456"}}}"#,
        expect![[r#""#]],
    );
    // A key and a secret may have these names; then nothing is hidden.
    faults(
        r#"{"version": 1, "keys": {"pin": {"pinPolicy": "of course", "secrets": {"pin": {"format": "pem"}}}}}"#,
        expect![[r#""#]],
    );
}

#[test]
fn rules_for_pins() {
    let keys = |keys: &str| format!(r#"{{"version": 1, "keys": {{{keys}}}}}"#);
    faults(&keys(r#""vault": {}"#), expect![[r#""#]]);
    faults(
        &keys(r#""vault": {"cards": [{"serial": "1"}, {"serial": "2"}]}"#),
        expect![[r#""#]],
    );
    faults(
        &keys(r#""vault": {"cards": [{"serial": "1", "pin": {"ask": true}}, {"serial": "2"}]}"#),
        expect![[r#""#]],
    );
    faults(
        &keys(r#""vault": {"pinPolicy": "never", "managementKey": {"protected": true}}"#),
        expect![[r#""#]],
    );
    key_faults(
        r#""pin": {"file": "/a"}, "managementKey": {"file": "/a"}"#,
        expect![[r#""#]],
    );
    faults(
        &keys(r#""vault": {"pin": {"file": "/a"}, "managementKey": {"file": "/a"}}"#),
        expect![[r#""#]],
    );
    // What depends on a faulty field is not judged.
    faults(&keys(r#""vault": {"pinPolicy": "nevr"}"#), expect![[r#""#]]);
    faults(&keys(r#""vault": {"pin": 1}"#), expect![[r#""#]]);
    faults(&keys(r#""vault": {"cards": [1]}"#), expect![[r#""#]]);
    faults(&keys(r#""vault": {"cards": 1}"#), expect![[r#""#]]);
}

#[test]
fn rules_for_cards() {
    key_faults(r#""cards": [{}]"#, expect![[r#""#]]);
    key_faults(
        r#""cards": [{"serial": null, "guid": null}]"#,
        expect![[r#""#]],
    );
    key_faults(
        r#""cards": [{"serial": "7"}, {"serial": "8"}, {"serial": "7"}, {"serial": "8", "guid": "00000000000000000000000000000002"}]"#,
        expect![[r#""#]],
    );
    key_faults(
        r#""cards": [{"serial": "0"}, {"serial": "007"}]"#,
        expect![[r#""#]],
    );
    key_faults(
        r#""cards": [{"guid": "00000000000000000000000000000000"}, {"guid": "12"}]"#,
        expect![[r#""#]],
    );
}

#[test]
fn rules_for_directories() {
    let dirs = |state: &str, runtime: &str| {
        format!(
            r#"{{"version": 1, "keys": {{}}, "stateDir": "{state}", "runtimeDir": "{runtime}"}}"#
        )
    };
    faults(&dirs("/srv/x", "/srv/x"), expect![[r#""#]]);
    faults(&dirs("/srv/x/", "/srv/x/y"), expect![[r#""#]]);
    faults(&dirs("/var/lib", "/run"), expect![[r#""#]]);
    faults(&dirs("/run/state", "/run/cryptkey"), expect![[r#""#]]);
    faults(&dirs("/nix/store/a", "/nix/store/b"), expect![[r#""#]]);
    faults(&dirs("~/x", "/run/./x"), expect![[r#""#]]);
    faults(&dirs("", "/run/a\\u0000b"), expect![[r#""#]]);
}

#[test]
fn one_key_of_a_card_has_one_policy() {
    faults(
        r#"{"version": 1, "keys": {
             "a": {"pin": {"ask": true}},
             "b": {"pinPolicy": "never", "touchPolicy": "always"},
             "c": {"pinPolicy": "never", "slot": "9e"},
             "d": {"pinPolicy": "never", "cards": [{"serial": "1"}, {"serial": "2"}]},
             "e": {"pinPolicy": "never", "touchPolicy": "cached", "cards": [{"serial": "2"}]}
           }}"#,
        expect![[r#""#]],
    );
}

#[test]
fn names_are_safe_file_names() {
    for bad in [
        "",
        ".",
        "..",
        ".hidden",
        "-x",
        "a/b",
        "a b",
        "ä",
        "a\\u0000",
        &"x".repeat(65),
    ] {
        for text in [
            format!(r#"{{"version": 1, "keys": {{"{bad}": {{}}}}}}"#),
            key(&format!(r#""secrets": {{"{bad}": {{}}}}"#)),
        ] {
            let faults = read(&text).unwrap_err();
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(
                faults[0].message.starts_with("not a name; allowed"),
                "{faults:?}"
            );
        }
    }
    for good in ["a", "_", "0", "A.b-c_d", &"x".repeat(64)] {
        assert!(good.parse::<crate::spec::Name>().is_ok(), "{good}");
    }
    faults(
        r#"{"version": 1, "keys": {"a b": 5, "c.d": 5}}"#,
        expect![[r#""#]],
    );
}

#[test]
fn uses_are_labels() {
    for bad in ["", " a", "a ", "a\\tb", &"x".repeat(257)] {
        let text = key(&format!(r#""secrets": {{"a": {{"use": "{bad}"}}}}"#));
        let faults = read(&text).unwrap_err();
        assert_eq!(faults[0].path, "keys.vault.secrets.a.use");
        assert!(
            faults[0].message.ends_with("no blank at either end"),
            "{faults:?}"
        );
    }
    assert!(
        read(&key(&format!(
            r#""secrets": {{"a": {{"use": "{}"}}}}"#,
            "ä".repeat(256)
        )))
        .is_ok()
    );
}

#[test]
fn a_file_of_another_kind_does_not_drown_us() {
    let cards = vec!["0"; 5000].join(",");
    let faults = read(&key(&format!(r#""cards": [{cards}]"#))).unwrap_err();
    assert_eq!(faults.len(), 1001);
    assert_eq!(
        faults[0].to_string(),
        "(top level): there are more faults than these; correct these first"
    );
}
