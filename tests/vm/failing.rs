//! Boots that give no secrets, and what becomes of the services that need them.

use serde_json::{Value, json};

use crate::support::{
    Card, Consumer, Container,
    cryptkey::{self, PIN, PROFILE, SECRET, UNIT},
};

/// A machine that has booted with a card outside of its reader, and its consumer.
fn without_a_card(key: Value) -> (Container, Consumer, Card) {
    let mut machine = Container::new();
    let restic = Consumer::of_file(&machine, "restic", 2001, SECRET);
    cryptkey::install(&machine, key);
    cryptkey::required_by(&machine, &restic.unit());
    let card = Card::outside(&machine, &[]);
    machine.boot();
    (machine, restic, card)
}

#[test]
fn without_a_card_nothing_that_needs_a_secret_starts() {
    let (machine, restic, card) = without_a_card(json!({ "cardTimeoutSec": 1 }));
    machine.expect(UNIT, "failed");
    assert_eq!(machine.show(UNIT, "ExecMainStatus"), "11");
    machine.says(UNIT, &["looking for a card", "Insert the card, and start the unit again"]);
    machine.expect(&restic.unit(), "inactive");
    assert_eq!(machine.show(&restic.unit(), "ConditionResult"), "no", "it was not even looked at");
    machine.says(&restic.unit(), &["Job restic.service/start failed with result 'dependency'"]);
    // The machine has booted all the same.
    machine.expect("multi-user.target", "active");

    card.insert();
    machine.systemctl(&["start", &restic.unit()]).exits(0);
    machine.expect(UNIT, "active");
    assert_eq!(restic.read(&machine), cryptkey::expected(&machine, &card));
}

#[test]
fn after_a_soft_failure_what_needs_a_secret_is_skipped() {
    let (machine, restic, card) = without_a_card(json!({ "cardTimeoutSec": 1, "softFail": true }));
    machine.expect(UNIT, "active");
    machine.says(UNIT, &["vault: skipped", "`systemctl reload cryptkey-vault`"]);
    machine.expect(&restic.unit(), "inactive");
    machine.says(
        &restic.unit(),
        &["skipped, unmet condition check ConditionPathExists=/run/cryptkey/vault/restic"],
    );
    assert_eq!(machine.systemctl(&["--failed", "--plain", "--no-legend"]).stdout, "");

    card.insert();
    card.tell("wait seen");
    machine.systemctl(&["reload", UNIT]).exits(0);
    machine.systemctl(&["start", &restic.unit()]).exits(0);
    assert_eq!(restic.read(&machine), cryptkey::expected(&machine, &card));
}

#[test]
fn a_wrong_pin_is_presented_once_and_is_no_soft_failure() {
    let mut machine = Container::new();
    let restic = Consumer::of_file(&machine, "restic", 2001, SECRET);
    cryptkey::install(&machine, json!({ "softFail": true }));
    cryptkey::required_by(&machine, &restic.unit());
    machine.write(PIN, 0o600, Card::WRONG_PIN);
    let card = Card::inside(&machine, &[]);
    machine.boot();
    machine.expect(UNIT, "failed");
    assert_eq!(machine.show(UNIT, "ExecMainStatus"), "15");
    machine.says(UNIT, &["the card rejected it; tries left: 2"]);
    machine.expect(&restic.unit(), "inactive");
    assert_eq!(card.tries(), 2);
    assert!(!machine.exists(PROFILE));
}

#[test]
fn a_missing_pin_file_is_told_and_costs_no_try() {
    let mut machine = Container::new();
    let restic = Consumer::of_file(&machine, "restic", 2001, SECRET);
    cryptkey::install(&machine, json!({ "softFail": true }));
    cryptkey::required_by(&machine, &restic.unit());
    std::fs::remove_file(machine.path(PIN)).unwrap();
    let card = Card::inside(&machine, &[]);
    machine.boot();
    machine.expect(UNIT, "failed");
    assert_eq!(machine.show(UNIT, "ExecMainStatus"), "14");
    machine.says(UNIT, &["cryptkey-vault.service/pin: it is empty", "Is the file there"]);
    machine.expect(&restic.unit(), "inactive");
    assert_eq!(card.tries(), 3);
}
