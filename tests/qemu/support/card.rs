//! The project's virtual card in the USB reader of a machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use virtual_card::stack::Server;

use super::process::that_dies_with_us;

/// A card that models a `YubiKey` 5 but speaks T=0, and remembers what it was told over the machine's
/// boots.
pub struct Card {
    server: Server,
    state: PathBuf,
}

impl Card {
    pub const PIN: &str = "704193";

    /// A card with an empty slot 9d, for the reader whose end is at `socket`.
    pub fn new(work: &Path, socket: &Path) -> Self {
        let state = work.join("card");
        let mut command = that_dies_with_us(virtual_card());
        command.arg("--vscard").arg(socket).args(["--pin", Self::PIN]);
        Self { server: Server::launch(command, &state).unwrap(), state }
    }

    /// Puts it into the reader.
    pub fn insert(&self) {
        self.tell("insert");
    }

    /// Pulls it.
    pub fn remove(&self) {
        self.tell("remove");
    }

    /// Puts another card in its place, with an empty slot 9d; it lies beside the reader.
    pub fn exchange(&self, serial: &str) {
        self.remove();
        fs::remove_file(self.state.join("card.json")).unwrap();
        let mut command = Command::new(virtual_card());
        command.args(["--init-only", "--pin", Self::PIN, "--serial", serial, "--state"]);
        assert!(command.arg(&self.state).status().unwrap().success());
        self.tell("reload");
    }

    /// Becomes the card of another machine; its own one is off.
    pub fn become_that_of(&self, other: &Self) {
        self.remove();
        fs::copy(other.state.join("card.json"), self.state.join("card.json")).unwrap();
        self.tell("reload");
        self.server.put_in().unwrap();
    }

    /// Its serial.
    pub fn serial(&self) -> String {
        self.memory()["serial"].to_string()
    }

    /// Tells it something (see `virtual-card --help`), and waits until it is done.
    #[track_caller]
    pub fn tell(&self, line: &str) {
        self.server.expect_ok(line).unwrap();
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
