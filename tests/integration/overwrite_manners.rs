//! `mode = "overwrite"` on cards with manners of their own: nothing is destroyed in vain, and what was
//! destroyed is said.

use std::fs;

use serde_json::{Value, json};

use super::overwrite::{files, named, overwriting, settled};
use crate::support::{Machine, TestCard, Yubikey};

/// A card that has metadata is told both policies: where they are left out, some keep the old key's.
#[test]
fn the_new_key_has_the_declared_policies_and_not_the_old_ones() {
    for manner in [&["--manner", "keeps-policies"][..], &[]] {
        let machine = Machine::new(1);
        let old = ["--slot-key", "9d=generate", "--slot-policy", "9d=always,cached"];
        let card = Yubikey::with(&machine, 0, &[&old, manner].concat());
        card.tell("touch withhold");
        named(&machine, &card, &card.fingerprint("9d"));
        machine.apply().exits(0);
        let slot = &card.memory()["slots"]["9d"];
        assert_eq!((&slot["pin_policy"], &slot["touch_policy"]), (&json!("once"), &json!("never")));
        assert_eq!(card.generated(), 1);
        settled(&machine, &card);
    }
}

/// What goes wrong after a key was destroyed says that it is gone, and which one is there now.
#[test]
fn an_error_after_the_destruction_says_that_the_key_is_gone() {
    for (fault, code) in [
        // The card tells another policy; it does not agree on keys; it does not answer sensibly.
        ("ins f7 p2 9d nth 4 flip 5 01", 16),
        ("ins 87 p1 11 nth 2 sw 6a80", 19),
        ("ins 87 p1 11 nth 3 sw 6f00", 19),
        ("ins 87 p1 11 nth 2 cut 8", 19),
    ] {
        let machine = Machine::new(1);
        let card = Yubikey::with(&machine, 0, &["--slot-key", "9d=generate"]);
        let old = card.fingerprint("9d");
        named(&machine, &card, &old);
        card.tell(&format!("fault {fault}"));
        let output = machine.apply().exits(code);
        let new = card.fingerprint("9d");
        assert_ne!(new, old);
        let gone = format!("this run destroyed {old} in slot 9d, for good, and {new} is there now");
        output.says(&[&gone]);
        // Once it goes, it goes on with that key.
        assert_eq!(machine.apply().exits(0).result("vault"), "enrolled");
        assert_eq!(card.generated(), 1);
        settled(&machine, &card);
    }
}

/// With the old key it shows that it can't agree on keys. With an empty slot that can't be known.
#[test]
fn a_card_that_can_not_agree_on_keys_loses_none_in_vain() {
    let machine = Machine::new(1);
    let lacks = ["--manner", "lacks-ecdh"];
    let card = Yubikey::with(&machine, 0, &[&["--slot-key", "9d=generate"][..], &lacks].concat());
    let old = card.fingerprint("9d");
    named(&machine, &card, &old);
    let with = format!("with {old} in slot 9d it can't agree on keys");
    machine.apply().exits(19).says(&["6A80", &with, "Nothing was destroyed", "of no use here"]);
    assert_eq!((card.generated(), card.fingerprint("9d")), (0, old));
    assert_eq!(files(&machine), [""; 0]);
    drop(card);

    let machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &lacks);
    overwriting(&machine, &card, Value::Null, json!({}));
    let output = machine.apply().exits(19);
    let new = card.fingerprint("9d");
    let [with, made] = [
        format!("with {new} in slot 9d it can't agree on keys"),
        format!("this run generated {new} in slot 9d, which was empty"),
    ];
    output.says(&["6A80", &with, &made, "This card is of no use here"]);
    // Nor does it lose that one.
    machine.apply().exits(19).says(&[&with]);
    assert_eq!((card.generated(), card.fingerprint("9d")), (1, new));
}

/// The key survives a GENERATE that the card refuses.
#[test]
fn a_card_without_touch_keeps_its_key_and_says_so() {
    let machine = Machine::new(1);
    let lacks = ["--manner", "lacks-touch"];
    let old = ["--slot-key", "9d=generate", "--slot-policy", "9d=always,never"];
    let card = Yubikey::with(&machine, 0, &[&old[..], &lacks].concat());
    let fingerprint = card.fingerprint("9d");
    let touch = json!({ "touchPolicy": "always" });
    overwriting(&machine, &card, json!({ "fingerprint": fingerprint }), touch.clone());
    machine.apply().exits(19).says(&[
        "6A81",
        "the key that was in slot 9d is still there",
        "PIN always and touch never before, PIN once and touch never now",
        "security.cryptkey.keys.vault.touchPolicy = \"never\"",
    ]);
    assert_eq!(card.fingerprint("9d"), fingerprint);
    drop(card);

    let machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &lacks);
    overwriting(&machine, &card, Value::Null, touch);
    machine.apply().exits(19).says(&["6A81", "slot 9d is still empty", "touchPolicy = \"never\""]);
    named(&machine, &card, &fingerprint);
    assert_eq!(machine.apply().exits(0).result("vault"), "enrolled");
}

/// It has changed the policies of the key that survived. That it says so is not enough to want less.
#[test]
fn policies_that_a_card_weakened_are_taken_only_from_a_person() {
    let machine = Machine::new(1);
    let old = ["--slot-key", "9d=generate", "--slot-policy", "9d=always,never"];
    let card = Yubikey::with(&machine, 0, &[&old[..], &["--manner", "lacks-touch"]].concat());
    machine.vault(&card, json!({ "pinPolicy": "always" }));
    machine.apply().exits(0);
    let (fingerprint, secret) = (card.fingerprint("9d"), machine.secret("vault", "backup"));
    let abandon = json!({ "fingerprint": fingerprint, "abandonProfile": true });
    overwriting(&machine, &card, abandon, json!({ "touchPolicy": "always" }));
    machine.apply().exits(19).says(&["the key that was in slot 9d is still there"]);
    assert_eq!(card.fingerprint("9d"), fingerprint);

    machine.vault(&card, json!({ "pinPolicy": "always" }));
    let refused = |machine: &Machine| {
        machine.apply().exits(16).says(&[
            "PIN policy once",
            "remembers always",
            "--accept-policies",
        ])
    };
    refused(&machine);
    let accept = ["reseal", "--key", "vault", "--threshold", "1", "--accept-policies"];
    // Nor does a yes without the declaration.
    machine.run(&accept).exits(16);
    machine.vault(&card, json!({ "pinPolicy": "once" }));
    refused(&machine);
    machine.run(&accept).exits(0);
    assert_eq!(machine.apply().exits(0).result("vault"), "verified");
    assert_eq!(machine.secret("vault", "backup"), secret);
    let profile = fs::read_to_string(machine.profile("vault")).unwrap();
    assert!(profile.contains("pin_policy = \"once\""), "{profile}");
}
