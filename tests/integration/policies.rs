//! PIN and touch policies, slots, and kinds of key.

use serde_json::{Value, json};

use crate::support::{Machine, TestCard, Yubikey};

/// Slots of every sort. 9e has a PIN policy of its own in the standard, and 9a another.
#[test]
fn every_slot_serves() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    let slots = ["9a", "9d", "9e", "82", "95"];
    let keys: serde_json::Map<_, _> = slots
        .iter()
        .map(|slot| (format!("key-{slot}"), machine.key(&card, json!({ "slot": slot }))))
        .collect();
    machine.spec(Value::Object(keys));
    machine.apply().exits(0);
    for slot in slots {
        let key = format!("key-{slot}");
        let expected = machine.expected(&key, &[card.private_key(slot)], "backups");
        assert_eq!(machine.secret(&key, "backup"), expected);
        assert_eq!(card.memory()["slots"][slot]["pin_policy"], "once");
        assert_eq!(card.memory()["slots"][slot]["touch_policy"], "never");
    }
    let output = machine.apply().exits(0);
    for slot in slots {
        assert!(output.unchanged(&format!("key-{slot}")), "{output}");
    }
}

#[test]
fn a_slot_that_only_signs_is_refused() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({ "slot": "9c" }));
    machine.apply().exits(10).says(&["keys.vault.slot", "9c"]);
    assert_eq!(card.log(), []);
}

#[test]
fn a_key_with_other_policies_is_refused_with_both_named() {
    let machine = Machine::new(1);
    let card = Yubikey::with(
        &machine,
        0,
        &["--slot-key", "9d=generate", "--slot-policy", "9d=always,never"],
    );
    machine.vault(&card, json!({}));
    let output = machine.apply().exits(16);
    output.says(&[
        "PIN policy always and touch policy never",
        "declares once and never",
        "security.cryptkey.keys.vault.pinPolicy = \"always\"",
    ]);
    machine.vault(&card, json!({ "pinPolicy": "always", "touchPolicy": "cached" }));
    machine.apply().exits(16).says(&["declares always and cached"]);
    assert_eq!(card.presented(), 0);
}

#[test]
fn a_key_without_pin_needs_none() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({ "pinPolicy": "never", "pin": null }));
    machine.apply().exits(0);
    assert_eq!(card.memory()["slots"]["9d"]["pin_policy"], "never");
    assert_eq!(machine.apply().exits(0).result("vault"), "verified");
    assert_eq!(card.presented(), 0);
    let expected = machine.expected("vault", &[card.private_key("9d")], "backups");
    assert_eq!(machine.secret("vault", "backup"), expected);
}

/// Right before each key agreement, and no oftener.
#[test]
fn a_pin_that_is_wanted_always_is_presented_for_each_agreement() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({ "pinPolicy": "always" }));
    machine.apply().exits(0);
    let log = card.log();
    let agreements = log.iter().filter(|apdu| apdu.agrees()).count();
    for (place, _) in log.iter().enumerate().filter(|(_, apdu)| apdu.agrees()) {
        assert!(log[place - 1].verifies(), "{log:#?}");
    }
    assert_eq!(agreements, 2);
    card.reset_counts();
    assert_eq!(machine.apply().exits(0).result("vault"), "verified");
    assert!(card.count() <= super::enroll::MOST_APDUS);
}

#[test]
fn a_touch_that_comes_is_enough() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({ "touchPolicy": "always" }));
    let mut running = machine.start();
    // For the key agreement and for its proof; not before the card blinks.
    card.tell("wait touch");
    card.tell("touch give");
    running.wait_for("touch card 90210001 now");
    machine.finish(running).exits(0);
    assert_eq!(card.memory()["slots"]["9d"]["touch_policy"], "always");

    card.tell("touch wait");
    let running = machine.start();
    card.tell("wait touch");
    card.tell("touch once");
    assert_eq!(machine.finish(running).exits(0).result("vault"), "verified");
}

#[test]
fn a_touch_that_does_not_come_is_no_answer() {
    let machine = Machine::new(1);
    // This card waits longer than the spec says.
    let card = Yubikey::with(&machine, 0, &["--touch-timeout-ms", "3000"]);
    card.tell("touch give");
    let touch = |limit: u32| json!({ "touchPolicy": "always", "touchTimeoutSec": limit });
    machine.vault(&card, touch(600));
    machine.apply().exits(0);
    let published = machine.published();

    card.tell("touch wait");
    machine.vault(&card, touch(1));
    machine.apply().exits(13).says(&["no touch came within 1 s", "touch the card"]);
    assert_eq!(machine.published(), published);

    // pcscd has the reader until the card gives up, too.
    card.tell("touch withhold");
    let mut soft = touch(1);
    soft["softFail"] = json!(true);
    machine.vault(&card, soft);
    let output = machine.apply().exits(0);
    assert_eq!(output.result("vault"), "skipped");
    assert_eq!(machine.published(), published);

    // It is no one's fault that a touch did not come: the next run is as good as any.
    card.tell("touch give");
    machine.vault(&card, touch(600));
    assert_eq!(machine.apply().exits(0).result("vault"), "verified");
    assert_eq!(card.tries(), 3);
}

/// The card still waits for the touch of the first key when the second one wants it: nobody else
/// holds it, so that this is as soft as the first.
#[test]
fn a_touch_that_does_not_come_is_soft_for_the_next_key_too() {
    let machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &["--touch-timeout-ms", "3000"]);
    card.tell("touch give");
    let declare = |limit: u32| {
        let extra = json!({
            "touchPolicy": "always", "touchTimeoutSec": limit, "cardTimeoutSec": 1, "softFail": true
        });
        machine.spec(json!({
            "one": machine.key(&card, extra.clone()),
            "two": machine.key(&card, extra),
        }));
    };
    declare(600);
    let output = machine.apply().exits(0);
    assert_eq!(
        (output.result("one"), output.result("two")),
        ("enrolled".into(), "enrolled".into())
    );
    declare(1);
    card.tell("touch wait");
    let output = machine.apply().exits(0);
    assert_eq!((output.result("one"), output.result("two")), ("skipped".into(), "skipped".into()));
    card.tell("touch withhold");
}

#[test]
fn a_touch_that_the_card_gives_up_on_is_no_answer() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({ "touchPolicy": "cached" }));
    card.tell("touch withhold");
    machine.apply().exits(13).says(&["no touch came"]);
    assert!(!machine.profile("vault").exists());
    card.tell("touch give");
    assert_eq!(machine.apply().exits(0).result("vault"), "enrolled");
    assert_eq!(card.generated(), 1);
}

#[test]
fn a_key_of_another_kind_is_refused() {
    let machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &["--slot-key", "9d=p384"]);
    machine.vault(&card, json!({}));
    let output = machine.apply().exits(16);
    output.says(&["P-384", "security.cryptkey.keys.vault.slot"]);
    assert_eq!((card.presented(), card.generated()), (0, 0));
}
