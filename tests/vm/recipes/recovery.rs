//! `docs/recovery.md`, from the first page to the last, as somebody would type it who has lost one
//! thing after the other.

use std::cell::RefCell;

use super::{Configuration, encrypt_pin, protect, protected_card, type_in};
use crate::support::{
    Card, Container,
    agent::Agent,
    cryptkey::{PROFILE, RELOAD, UNIT},
    recipes::{Recovery, Session},
    terminal::at_terminal,
};

const SPARE: &str = "90210002";
const NEW: &str = "90210003";
const ENCRYPTED_PIN: &str = "/etc/credstore.encrypted/vault.pin";
/// Where the document keeps its copy of the profile.
const COPY: &str = "/root/vault.toml";

/// What systemd shows after a question.
const HIDDEN: &str = "(press TAB for no echo)";

/// Who sits at the terminal: knows the PIN, and writes codes down.
#[derive(Default)]
struct Person {
    codes: RefCell<Vec<String>>,
}

impl Person {
    /// What is typed, if that is what was asked for.
    fn answer(&self, shown: &str) -> Option<String> {
        let asked = shown.trim_end().lines().next_back().unwrap_or_default();
        if asked.contains("PIN of card") && asked.ends_with(HIDDEN) {
            return Some(Card::PIN.into());
        }
        if asked.contains("Key vault, recovery code") && asked.ends_with(HIDDEN) {
            return self.codes.borrow().last().cloned();
        }
        if asked.contains("Press Enter when it is written down") {
            let code = shown.split_whitespace().find(|word| word.len() == 48)?;
            self.codes.borrow_mut().push(code.into());
            return Some(String::new());
        }
        if let Some((_, group)) = asked.split_once("Type group ") {
            let number: usize = group.split(' ').next()?.parse().ok()?;
            return self.codes.borrow().last()?.split('-').nth(number - 1).map(str::to_owned);
        }
        asked.contains("Type the name of the key").then(|| "vault".into())
    }

    /// Types what is documented, and sees it.
    #[track_caller]
    fn type_in(&self, machine: &Container, session: &Session) {
        session.type_in(|command| {
            machine.run(&["journalctl", "--sync"]).exits(0);
            let shown = at_terminal(machine, command, |shown| self.answer(shown));
            readable(&shown)
        });
    }
}

/// Without the signs by which a terminal is told how to show it, and the dots for what was typed.
fn readable(shown: &str) -> String {
    let mut text = String::new();
    let mut signs = shown.chars();
    while let Some(sign) = signs.next() {
        match sign {
            '\x1b' => drop(signs.by_ref().find(char::is_ascii_alphabetic)),
            '\n' => text.push('\n'),
            '•' => {}
            other if other.is_control() => {}
            other => text.push(other),
        }
    }
    text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[test]
fn whoever_lost_something_finds_the_way() {
    let mut machine = Container::new();
    let first = protected_card(&machine);
    Card::prepare_second(&machine, SPARE, protect);
    machine.boot();
    encrypt_pin(&machine);
    let configuration = Configuration::new();
    configuration.switch(&machine, "key.nix");
    machine.expect(UNIT, "active");
    let person = Person::default();
    let mut page = Recovery::new();

    // Today.
    person.type_in(&machine, &page.recipe("The recovery code").session());
    let spare = Card::second(&machine, &["--serial", SPARE]);
    spare.tell("wait seen");
    configuration.switch(&machine, "two-cards.nix");
    machine.systemctl(&["reload", UNIT]).exits(0);
    type_in(&machine, &page.recipe("The second card").session());
    type_in(&machine, &page.recipe("The copy, and a look").session());
    let id = profile_id(&machine);

    // The cards are at home.
    machine.power_off();
    first.remove();
    spare.remove();
    machine.turn_on();
    let code = person.codes.borrow()[0].clone();
    let at_console = Agent::answer_at(&machine.path("/"), "cryptkey:vault", &code);
    at_console.question();
    machine.booted();
    let mut away = page.recipe("The card is not here");
    type_in(&machine, &away.session());
    machine.systemctl(&["stop", UNIT]).exits(0);
    person.type_in(&machine, &away.session());
    machine.expect("cryptkey.target", "active");

    // The first one is lost.
    drop(first);
    machine.power_off();
    spare.insert();
    Card::prepare(&machine, |memory| {
        memory["serial"] = NEW.parse::<u32>().unwrap().into();
        protect(memory);
    });
    let new = Card::outside(&machine, &["--serial", NEW]);
    new.insert();
    machine.boot();
    new.tell("wait seen");
    let mut lost = page.recipe("A new card");
    person.type_in(&machine, &lost.session());
    configuration.switch(&machine, "new-card.nix");
    person.type_in(&machine, &lost.session());
    machine.systemctl(&["reload", UNIT]).exits(0);
    machine.says(RELOAD, &["vault: verified, unchanged"]);
    type_in(&machine, &page.recipe("The card is locked").session());

    // The PIN is encrypted for something that is gone.
    machine.systemctl(&["stop", UNIT]).exits(0);
    let mut sealed = machine.read(ENCRYPTED_PIN);
    let middle = sealed.len() / 2;
    sealed[middle] = if sealed[middle] == b'A' { b'B' } else { b'A' };
    machine.write(ENCRYPTED_PIN, 0o600, sealed);
    person.type_in(&machine, &page.recipe("The PIN can't be decrypted").session());
    machine.expect(UNIT, "active");
    encrypt_pin(&machine);
    machine.systemctl(&["reload", UNIT]).exits(0);

    assert_eq!(profile_id(&machine), id);
    machine.power_off();
    spare.remove();
    machine.boot();
    machine.says(UNIT, &["vault: verified"]);
    type_in(&machine, &page.recipe("The profile is gone").session());

    // The disk is lost.
    let copy = machine.read(COPY);
    let mut other = Container::new();
    let new = new.carry_to(&other);
    let _spare = spare.carry_to_second(&other);
    drop(machine);
    other.boot();
    encrypt_pin(&other);
    let pin = |id: &str| {
        let profile_id = format!("security.cryptkey.keys.vault.profileId = \"{id}\";");
        let pinned = format!("{{ imports = [ ./new-card.nix ]; {profile_id} }}");
        configuration.add("pinned.nix", pinned.as_bytes());
        configuration.switch(&other, "pinned.nix");
    };
    pin(&id);
    let mut gone = page.recipe("The disk is gone");
    person.type_in(&other, &gone.session());
    assert!(!other.exists(PROFILE));
    other.write(COPY, 0o600, copy);
    person.type_in(&other, &gone.session());
    assert_eq!(profile_id(&other), id);

    // The code was seen, and somebody has a copy of the profile.
    person.type_in(&other, &page.recipe("The code was seen").session());
    person.type_in(&other, &page.recipe("Rotate").session());
    let new_id = profile_id(&other);
    assert_ne!(new_id, id);
    other.systemctl(&["reload", UNIT]).exits(1);
    pin(&new_id);
    other.systemctl(&["reload", UNIT]).exits(0);
    other.says(RELOAD, &["vault: verified"]);
    assert_eq!(new.tries(), 3);
}

/// The id of the key's profile, as the status has it.
fn profile_id(machine: &Container) -> String {
    let status = ["nixos-cryptkey", "status", "--json"];
    let status = machine.run(&status).exits(0).json();
    status["keys"]["vault"]["profile"]["id"].as_str().unwrap().into()
}
