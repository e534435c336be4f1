//! The recipes of `docs/recipes.md`: their modules, what is typed, and what is seen.

mod chosen;
mod fleet;
mod key;
mod postgresql;
mod recovery;
mod restic;
mod short;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    Card, Container,
    agent::Agent,
    container::PROGRAM,
    cryptkey, nix,
    recipes::{self, Recipe, Session},
};

/// What the recipes use, of Debian.
const PACKAGES: [&str; 2] = ["restic", "postgresql-17"];

/// A configuration with the modules of the document.
struct Configuration(TempDir);

impl Configuration {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        recipes::extract(directory.path());
        Self(directory)
    }

    /// Adds a file beside the modules.
    fn add(&self, name: &str, content: &[u8]) {
        std::fs::write(self.0.path().join(name), content).unwrap();
    }

    /// Switches a machine that is on to a module, as nixos-rebuild does, but that it reloads and
    /// restarts nothing.
    fn switch(&self, machine: &Container, module: &str) {
        self.put(machine, module);
        machine.systemctl(&["daemon-reload"]).exits(0);
        machine.run(&["systemd-tmpfiles", "--create"]);
        machine.systemctl(&["start", "multi-user.target", "timers.target"]).exits(0);
    }

    /// Has a machine boot with a module from now on.
    fn put(&self, machine: &Container, module: &str) {
        let made = nix::evaluate(&self.0.path().join(module)).unwrap();
        assert!(made.assertions.is_empty(), "{:?}", made.assertions);
        for package in made.packages() {
            let programs = match nix::name_of(&package) {
                "nixos-cryptkey" => continue,
                "postgresql" => "/usr/lib/postgresql/17/bin",
                _ => "/usr/bin",
            };
            machine.link(&format!("{package}/bin"), programs);
        }
        machine.link("/usr/local/bin/nixos-cryptkey", PROGRAM);
        cryptkey::put(machine, &made);
    }
}

/// A machine that is on, with these packages of Debian and the encrypted PIN of the card in its
/// reader.
fn with_a_card(packages: &[&str]) -> (Container, Card) {
    let mut machine = Container::with(packages);
    let card = protected_card(&machine);
    machine.boot();
    encrypt_pin(&machine);
    (machine, card)
}

/// A card with an empty slot that keeps its management key behind the PIN, as ykman arranges.
fn protected_card(machine: &Container) -> Card {
    Card::prepare(machine, protect);
    Card::inside(machine, &[])
}

/// Has a card keep its management key behind the PIN.
fn protect(memory: &mut Value) {
    let key = "a7c3914e5b20f86d17e94c02b85fd3613a0e6b9824d7f15c";
    memory["management_key"]["key"] = key.into();
    memory["management_key"]["default"] = false.into();
    memory["objects"]["5fc109"] = Value::from(format!("881a8918{key}"));
}

/// As the document has it for a machine without a TPM.
fn encrypt_pin(machine: &Container) {
    let asked = Agent::answer_at(&machine.path("/"), "", Card::PIN);
    type_in(machine, &Recipe::new("The PIN, on a machine without a TPM").session());
    assert_eq!(asked.question()["Message"], "PIN:");
}

/// Types it as root, and sees what the document has.
#[track_caller]
fn type_in(machine: &Container, session: &Session) {
    session.type_in(|command| {
        machine.run(&["journalctl", "--sync"]).exits(0);
        machine.run(&["bash", "-c", &format!("export HOME=/root; exec 2>&1; {command}")]).stdout
    });
}
