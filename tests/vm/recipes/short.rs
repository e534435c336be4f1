//! The shorter recipes.

use super::{Configuration, type_in, with_a_card};
use crate::support::{Card, agent::Agent, cryptkey::UNIT, recipes::Recipe};

#[test]
fn a_journal_a_path_and_a_reload_that_failed() {
    let (machine, card) = with_a_card(&[]);
    let configuration = Configuration::new();
    configuration.switch(&machine, "key.nix");
    configuration.switch(&machine, "verbose.nix");
    let mut journal = Recipe::new("More in the journal");
    type_in(&machine, &journal.session());
    type_in(&machine, &journal.session());

    configuration.switch(&machine, "path.nix");
    machine.systemctl(&["reload", UNIT]).exits(0);
    type_in(&machine, &Recipe::new("A secret at another path").session());
    let linked = machine.run(&["cat", "/etc/shop/session.key"]).exits(0).stdout;
    assert_eq!(linked.as_bytes(), machine.read("/run/cryptkey/vault/session"));

    // What is there already stays.
    machine.run(&["rm", "/etc/shop/session.key"]).exits(0);
    machine.write("/etc/shop/session.key", 0o600, "mine");
    machine.run(&["systemd-tmpfiles", "--create"]);
    assert_eq!(machine.read("/etc/shop/session.key"), b"mine");

    let mut failed = Recipe::new("A reload that failed");
    card.remove();
    configuration.switch(&machine, "key.nix");
    type_in(&machine, &failed.session());
    assert!(machine.exists("/run/cryptkey/vault/session"));
    card.insert();
    card.tell("wait seen");
    type_in(&machine, &failed.session());
    assert!(!machine.exists("/run/cryptkey/vault/session"));
}

#[test]
fn a_pin_that_is_asked_for_at_each_boot() {
    let (mut machine, _card) = with_a_card(&[]);
    let configuration = Configuration::new();
    configuration.switch(&machine, "key.nix");
    machine.systemctl(&["stop", UNIT]).exits(0);
    configuration.put(&machine, "ask.nix");
    machine.power_off();
    machine.turn_on();
    machine.wait_for(UNIT, "PIN");
    type_in(&machine, &Recipe::new("A PIN that is asked for at each boot").session());
    let _answer = Agent::answer_at(&machine.path("/"), "cryptkey:vault", Card::PIN);
    machine.booted();
    machine.says(UNIT, &["vault: verified"]);
}
