//! Several keys, which systemd starts all at once.

use serde_json::{Value, json};

use crate::support::{Card, Container, cryptkey};

const SPARE_SERIAL: &str = "90210002";

fn unit(key: &str) -> String {
    format!("cryptkey-{key}.service")
}

/// The options of a key in a slot; `more` goes on top.
fn key(slot: &str, more: Value) -> Value {
    let mut key = cryptkey::options(json!({ "slot": slot }));
    key["secrets"] = json!({ "one": {} });
    key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    key
}

/// A machine with these keys, off.
fn machine(keys: Value) -> Container {
    let machine = Container::new();
    cryptkey::install_all(&machine, &cryptkey::evaluate(&keys, ""));
    machine
}

#[test]
fn keys_take_turns_and_wait_longer_than_for_a_card() {
    const NAMES: [&str; 3] = ["a", "b", "c"];
    let slow = || json!({ "touchPolicy": "always", "touchTimeoutSec": 600, "cardTimeoutSec": 1 });
    // Two of them in one slot.
    let mut machine = machine(json!({
        "a": key("9d", slow()), "b": key("9d", slow()), "c": key("82", slow()),
    }));
    let card = Card::outside(&machine, &["--touch-timeout-ms", "600000"]);
    machine.boot();
    for name in NAMES {
        machine.expect(&unit(name), "failed");
    }
    // Its pcscd has begun by now, which may take more than a second.
    card.insert();
    card.tell("wait seen");
    machine.systemctl(&["start", "--no-block", "cryptkey.target"]).exits(0);
    card.tell("wait touch");
    // One has the card.
    let waits = |name: &&str| !machine.show(&unit(name), "StatusText").contains("touch");
    let others: Vec<_> = NAMES.into_iter().filter(waits).collect();
    assert_eq!(others.len(), 2, "{others:?}");
    // Each other one says so after a second, which is all that it waits for a card.
    for name in others {
        machine.wait_for(&unit(name), &format!("key {name}: waiting for another run to be done"));
        machine.expect(&unit(name), "activating");
    }
    machine.expect("cryptkey.target", "inactive");
    card.tell("touch give");
    machine.systemctl(&["start", "cryptkey.target"]).exits(0);
    for name in NAMES {
        machine.says(&unit(name), &[&format!("{name}: enrolled")]);
        machine.expect(&unit(name), "active");
    }
    machine.expect("cryptkey.target", "active");
    assert_ne!(machine.read("/run/cryptkey/a/one"), machine.read("/run/cryptkey/b/one"));
    // And now that they have profiles.
    let [a, b, c] = NAMES.map(unit);
    machine.systemctl(&["restart", &a, &b, &c]).exits(0);
    machine.expect("cryptkey.target", "active");
    assert_eq!(card.tries(), 3);
}

#[test]
fn a_key_that_fails_does_not_take_others_along() {
    let on = |serial: &str| json!({ "cards": [{ "serial": serial }] });
    let gone = json!({ "cards": [{ "serial": "90210003" }], "cardTimeoutSec": 1 });
    let lost =
        json!({ "cards": [{ "serial": Card::SERIAL }], "softFail": true, "enroll": "never" });
    let mut machine = machine(json!({
        "vault": key("9d", on(Card::SERIAL)),
        "spare": key("9d", on(SPARE_SERIAL)),
        "gone": key("82", gone),
        "lost": key("83", lost),
    }));
    let _card = Card::inside(&machine, &[]);
    let spare = Card::second(&machine, &["--serial", SPARE_SERIAL]);
    machine.boot();
    for (name, state, code) in [
        ("vault", "active", "0"),
        ("spare", "active", "0"),
        ("gone", "failed", "11"),
        ("lost", "failed", "17"),
    ] {
        machine.expect(&unit(name), state);
        assert_eq!(machine.show(&unit(name), "ExecMainStatus"), code, "{name}");
        let secret = format!("/run/cryptkey/{name}/one");
        assert_eq!(machine.exists(&secret), state == "active", "{name}");
    }
    assert!(spare.memory()["slots"]["9d"]["private_key"].is_string());
    machine.expect("cryptkey.target", "inactive");
    machine.says("cryptkey.target", &["Dependency failed for cryptkey.target"]);
    machine.expect("multi-user.target", "active");
}
