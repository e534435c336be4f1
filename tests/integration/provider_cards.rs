//! `provider add piv` and `provider remove`: one card for another, with one reader or several.

use std::fs;

use serde_json::json;

use crate::{
    provider::{declare, enrolled, files, ids},
    support::{
        Machine, TestCard, Yubikey,
        terminal::{add_code, provider},
    },
};

#[test]
fn a_card_is_added_in_the_only_reader() {
    let name = "provider-swap";
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    declare(&machine, &card, name, json!({ "cards": [{ "serial": Yubikey::SERIAL }] }));
    machine.apply().exits(0);
    let published = machine.secret(name, "backup");

    let mut terminal = provider(&machine, name, &["add", "piv", "--card", "90210002", "--json"]);
    terminal.running().wait_for("Insert card 90210002");
    let first = card.retire();
    let other = Yubikey::with(&machine, 0, &["--serial", "90210002"]);
    let output = terminal.end(&machine).0.exits(0);
    assert_eq!(output.json()["added"], json!(["card-2"]));
    assert_eq!((other.generated(), other.presented()), (1, 1));
    let (profile, kept) = files(&machine, name);
    assert_eq!((ids(&profile), kept.len()), (vec!["card-1".into(), "card-2".into()], 1));

    // Unlisted, it opens nothing; listed, it opens the same.
    machine.run(&["scrub"]).exits(0);
    machine.apply().exits(11).says(&["card 90210002, which `cards` does not list"]);
    let both = json!([{ "serial": Yubikey::SERIAL }, { "serial": "90210002" }]);
    declare(&machine, &other, name, json!({ "cards": both }));
    assert_eq!(machine.apply().exits(0).result(name), "verified");
    assert_eq!(machine.secret(name, "backup"), published);
    drop(other.retire());
    let _card = Yubikey::again(&machine, 0, first);
    assert!(machine.apply().exits(0).unchanged(name));
}

/// The whole of it at a terminal: the code opens the key, the new card comes, the lost one goes.
#[test]
fn a_lost_card_is_replaced_with_the_code() {
    let name = "provider-lost";
    let (machine, card) = enrolled(name);
    let published = machine.secret(name, "backup");
    let (code, output, _) = add_code(&machine, name, &[]);
    output.exits(0);
    drop(card.retire());
    let new = Yubikey::with(&machine, 0, &["--serial", "90210002"]);
    new.remove();
    declare(&machine, &new, name, json!({ "cards": [{ "serial": "90210002" }] }));
    let mut terminal = provider(&machine, name, &["add", "piv", "--card", "90210002"]);
    terminal.answer("recovery code recovery-1", &code);
    terminal.running().wait_for("Insert card 90210002");
    new.insert();
    let (output, screen) = terminal.end(&machine);
    assert!(output.exits(0).stdout.contains("card-2 added"));
    machine.no_secret_in("the terminal", screen.as_bytes());

    let output = machine.run(&["provider", "remove", "card-1", "--key", name]).exits(0);
    assert!(!output.stdout.contains("still lists"), "{output}");
    assert_eq!(ids(&files(&machine, name).0), ["recovery-1", "card-2"]);
    machine.run(&["scrub"]).exits(0);
    let output = machine.apply().exits(0);
    assert_eq!(output.result(name), "verified");
    assert!(!output.stderr.contains("warning: "), "{output}");
    assert_eq!(machine.secret(name, "backup"), published);
}

#[test]
fn a_listed_card_is_added_as_it_is_declared_and_no_other_is_waited_for() {
    let name = "provider-listed";
    let (machine, card) = enrolled(name);
    let other = Yubikey::with(&machine, 1, &["--serial", "90210002"]);
    let cards = json!([
        { "serial": "90210009" },
        { "serial": Yubikey::SERIAL },
        { "serial": "90210002", "id": "spare" },
    ]);
    declare(&machine, &card, name, json!({ "cards": cards }));
    let args = ["provider", "add", "piv", "--key", name, "--card"];
    let output = machine.run(&[&args[..], &["90210002"]].concat()).exits(0);
    assert!(output.stdout.contains("spare added; it opens the key alone"), "{output}");
    assert!(!output.stdout.contains("No start of the unit uses"), "{output}");
    assert_eq!(ids(&files(&machine, name).0), ["card-1", "spare"]);

    let presented = other.presented();
    let again = machine.run(&[&args[..], &["90210002"]].concat()).exits(10);
    again.says(&["nothing tells it from spare"]);
    let taken = machine.run(&[&args[..], &["90210009", "--id", "spare"]].concat()).exits(10);
    taken.says(&["there is a provider spare already"]);
    machine.run(&[&args[..], &["unnamed"]].concat()).exits(10);
    assert_eq!(other.presented(), presented);
}

#[test]
fn providers_are_removed_as_far_as_the_rest_is_enough() {
    let name = "provider-remove";
    let (machine, card) = enrolled(name);
    let other = Yubikey::with(&machine, 1, &["--serial", "90210002"]);
    let cards = json!([{ "serial": Yubikey::SERIAL }, { "serial": "90210002" }]);
    declare(&machine, &card, name, json!({ "cards": cards, "threshold": 2 }));
    machine.lose(name);
    machine.apply().exits(0);
    let published = machine.secret(name, "backup");
    let (two, _) = files(&machine, name);
    let log = [card.log().len(), other.log().len()];
    let refused = machine.run(&["provider", "remove", "--key", name, "card-2"]).exits(10);
    refused.says(&["it would leave 1 of which 2 are needed", "reseal"]);
    assert_eq!((card.log_since(log[0]), other.log_since(log[1])), (vec![], vec![]));
    assert_eq!(files(&machine, name), (two, vec![]));

    let (_, output, _) = add_code(&machine, name, &[]);
    let output = output.exits(0);
    assert!(output.stdout.contains("together with 1 of the other 2"), "{output}");
    // The card that is removed helps to open the key.
    let output = machine.run(&["provider", "remove", "--key", name, "card-2"]).exits(0);
    for part in [
        "card-2 removed; the key opens with 2 of these: card-1, recovery-1",
        "Old copies of the profile still open with card-2",
        &format!("nixos-cryptkey rotate --key {name}"),
        "The spec still lists card 90210002",
    ] {
        assert!(output.stdout.contains(part), "no {part:?} in {output}");
    }
    assert_eq!(ids(&files(&machine, name).0), ["card-1", "recovery-1"]);
    assert_eq!(machine.secret(name, "backup"), published);
    // Of the two changes the last profile before is kept.
    let (_, kept) = files(&machine, name);
    assert_eq!(kept.len(), 1, "{kept:?}");
    let kept = fs::read_to_string(&kept[0]).unwrap();
    assert_eq!(ids(&kept), ["card-1", "card-2", "recovery-1"]);
}
