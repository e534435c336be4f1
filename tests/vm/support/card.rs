//! The project's virtual card in the reader of a machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use virtual_card::stack::Server;

use super::Container;

/// The ports at which Debian's configuration of vpcd waits for a card in each of its two readers.
const PORTS: [&str; 2] = ["35963", "35964"];

/// A card that models a `YubiKey` 5, and remembers what it was told over the machine's reboots.
/// Dropping it takes it away for good.
pub struct Card {
    server: Server,
    state: PathBuf,
}

impl Card {
    /// With letters, as six digits are in any log: in its times.
    pub const PIN: &str = "vm70kX93";
    pub const WRONG_PIN: &str = "Qp58z3qw";
    pub const SERIAL: &str = "90210001";

    /// Makes the machine's card, and changes what it remembers; yet to be started as one of the
    /// others.
    pub fn prepare(container: &Container, change: impl FnOnce(&mut Value)) {
        Self::prepare_as(container, "card", Self::SERIAL, change);
    }

    /// The same for the card of the second reader.
    pub fn prepare_second(container: &Container, serial: &str, change: impl FnOnce(&mut Value)) {
        Self::prepare_as(container, "second-card", serial, change);
    }

    fn prepare_as(
        container: &Container,
        state: &str,
        serial: &str,
        change: impl FnOnce(&mut Value),
    ) {
        let state = container.scratch(state);
        let made = Command::new(virtual_card())
            .args(["--init-only", "--pin", Self::PIN, "--serial", serial, "--state"])
            .arg(&state)
            .status();
        assert!(made.unwrap().success());
        let file = state.join("card.json");
        let mut memory = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        change(&mut memory);
        fs::write(file, memory.to_string()).unwrap();
    }

    /// A card with an empty slot 9d that lies beside the machine.
    pub fn outside(container: &Container, args: &[&str]) -> Self {
        Self::at(container, PORTS[0], "card", args)
    }

    /// Another card, in the machine's second reader.
    pub fn second(container: &Container, args: &[&str]) -> Self {
        let card = Self::at(container, PORTS[1], "second-card", args);
        card.insert();
        card
    }

    fn at(container: &Container, port: &str, state: &str, args: &[&str]) -> Self {
        let state = container.scratch(state);
        let mut command = container.beside(&virtual_card());
        command.args(["--port", port, "--absent", "--patience", "1000000"]);
        command.args(["--pin", Self::PIN]).args(args);
        if !args.contains(&"--serial") {
            command.args(["--serial", Self::SERIAL]);
        }
        Self { server: Server::launch(command, &state).unwrap(), state }
    }

    /// A card in the reader. The machine may be off: it is there as soon as pcscd runs.
    pub fn inside(container: &Container, args: &[&str]) -> Self {
        let card = Self::outside(container, args);
        card.server.put_in().unwrap();
        card
    }

    /// Puts it in; the reader may be yet to come, with pcscd.
    pub fn insert(&self) {
        self.server.put_in().unwrap();
    }

    /// Puts it into the reader of another machine.
    pub fn carry_to(self, container: &Container) -> Self {
        let other = container.scratch("card");
        fs::copy(self.state.join("card.json"), other.join("card.json")).unwrap();
        drop(self);
        Self::inside(container, &[])
    }

    /// Puts it into the second reader of another machine.
    pub fn carry_to_second(self, container: &Container) -> Self {
        let other = container.scratch("second-card");
        fs::copy(self.state.join("card.json"), other.join("card.json")).unwrap();
        drop(self);
        Self::second(container, &[])
    }

    /// Pulls it, and waits until pcscd has noticed, if it runs.
    pub fn remove(&self) {
        self.server.remove().unwrap();
    }

    /// Tells it something else (see `virtual-card --help`), and waits until it is done.
    #[track_caller]
    pub fn tell(&self, line: &str) {
        self.server.expect_ok(line).unwrap();
    }

    /// The APDUs since the last `count reset`, without GET RESPONSE.
    pub fn count(&self) -> usize {
        self.server.counts().unwrap().without_get_response
    }

    /// What it remembers.
    pub fn memory(&self) -> Value {
        let text = fs::read_to_string(self.state.join("card.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// The private key in a slot, as hex.
    pub fn private_key(&self, slot: &str) -> String {
        self.memory()["slots"][slot]["private_key"].as_str().unwrap().into()
    }

    /// How often the PIN may still be wrong.
    pub fn tries(&self) -> u64 {
        self.memory()["pin"]["tries"].as_u64().unwrap()
    }

    /// The APDUs so far, as text.
    pub fn log(&self) -> String {
        self.server.log().unwrap()
    }
}

/// The program `virtual-card`; cargo builds it beside ours.
fn virtual_card() -> PathBuf {
    let beside = || Path::new(env!("CARGO_BIN_EXE_nixos-cryptkey")).with_file_name("virtual-card");
    let path = std::env::var_os("CRYPTKEY_VIRTUAL_CARD").map_or_else(beside, PathBuf::from);
    assert!(path.exists(), "{} is missing: `make test` builds it", path.display());
    path
}
