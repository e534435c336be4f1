//! A secret that somebody chose, in the sandbox of the key's unit.

use std::process::Command;

use super::{Configuration, type_in, with_a_card};
use crate::support::{cryptkey::UNIT, recipes::Recipe};

const HEADING: &str = "A password that somebody gave you";

#[test]
fn a_password_that_somebody_gave_us() {
    let (mut machine, card) = with_a_card(&[]);
    let configuration = Configuration::new();
    configuration.switch(&machine, "key.nix");
    let mut recipe = Recipe::new(HEADING);
    type_in(&machine, &recipe.session());

    // Anybody encrypts, elsewhere.
    let public = machine.run(&["nixos-cryptkey", "public", "--key", "vault"]).exits(0).stdout;
    let recipient = public.trim_end().rsplit(' ').next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (plain, to) = (folder.path().join("mail.password"), folder.path().join("mail.age"));
    std::fs::write(&plain, "given by somebody els").unwrap();
    let age = Command::new("age").args(["-a", "-r", recipient, "-o"]).args([&to, &plain]).status();
    assert!(age.unwrap().success());
    configuration.add("mail.age", &std::fs::read(to).unwrap());

    configuration.switch(&machine, "mail.nix");
    machine.systemctl(&["reload", UNIT]).exits(0);
    machine.systemctl(&["start", "mail.service"]).exits(0);
    type_in(&machine, &recipe.session());
    assert_eq!(machine.read("/run/cryptkey/vault/mail"), b"given by somebody els");
    let host = machine.read("/run/cryptkey/vault/host");

    // The same at each boot, and nothing without the card.
    machine.reboot();
    machine.expect("mail.service", "active");
    assert_eq!(machine.read("/run/cryptkey/vault/host"), host);
    machine.power_off();
    card.remove();
    machine.boot();
    machine.expect("mail.service", "inactive");
    assert!(!machine.exists("/run/cryptkey/vault"));
    let known = ["nixos-cryptkey", "public", "--key", "vault", "--secret", "host"];
    assert!(machine.run(&known).exits(0).stdout.starts_with("ssh-ed25519 "));
}
