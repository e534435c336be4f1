//! Several cards: what `apply` does without, and what it does not take for two.

use serde_json::json;

use crate::support::{Machine, TestCard, Yubikey};

const SERIALS: [&str; 3] = ["90210001", "90210002", "90210003"];

fn card(machine: &Machine, reader: usize) -> Yubikey {
    Yubikey::with(machine, reader, &["--serial", SERIALS[reader]])
}

/// A new key that takes two cards, and a third one that is there: it joins in the same run.
#[test]
fn a_third_card_joins_a_new_key_that_takes_two() {
    let machine = Machine::new(3);
    let cards = [0, 1, 2].map(|reader| card(&machine, reader));
    let listed = SERIALS.map(|serial| json!({ "serial": serial }));
    machine.vault(&cards[0], json!({ "cards": listed, "threshold": 2 }));
    let output = machine.apply().exits(0);
    assert!(!output.stderr.contains("fault of the program"), "{output}");
    cards[0].remove();
    assert_eq!(machine.apply().exits(0).result("vault"), "verified");
}

#[test]
fn one_card_that_is_named_twice_is_not_two() {
    let machine = Machine::new(1);
    let only = card(&machine, 0);
    let twice = json!([{ "serial": SERIALS[0] }, { "guid": machine.guid(0) }]);
    machine.vault(&only, json!({ "cards": twice, "threshold": 2 }));
    machine.apply().exits(10).says(&["the same key", "cards"]);
    assert_eq!(machine.profiles(), [""; 0]);
}

/// `plan` goes on without what `apply` goes on without.
#[test]
fn the_plan_does_without_a_card_whose_key_was_replaced() {
    let machine = Machine::new(2);
    let [first, second] = [0, 1].map(|reader| card(&machine, reader));
    let listed = [0, 1].map(|at| json!({ "serial": SERIALS[at] }));
    machine.vault(&first, json!({ "cards": listed }));
    machine.apply().exits(0);
    drop(first);
    let args = ["--serial", SERIALS[0], "--slot-key", "9d=generate"];
    let _other = Yubikey::with(&machine, 0, &args);
    let plan = machine.run(&["plan"]).exits(0);
    assert!(plan.stdout.contains("open share 2"), "{plan}");
    assert_eq!(machine.apply().exits(0).result("vault"), "verified");
    drop(second);
}
