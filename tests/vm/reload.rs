//! A changed configuration is applied in place: nothing is scrubbed, and who uses secrets stays up.

use serde_json::json;

use crate::support::{
    Card, Consumer, Container, Switched,
    container::PROGRAM,
    cryptkey::{self, PIN, PROFILE, RELOAD, SECRET, UNIT},
    nix, switch,
};

/// A machine that has booted well, what it is configured with, and its consumer.
fn booted() -> (Container, nix::Machine, Consumer, Card) {
    let mut machine = Container::new();
    let restic = Consumer::of_file(&machine, "restic", 2001, SECRET);
    let nixos = cryptkey::install(&machine, json!({}));
    cryptkey::required_by(&machine, &restic.unit());
    let card = Card::inside(&machine, &[]);
    machine.boot();
    machine.expect(&restic.unit(), "active");
    (machine, nixos, restic, card)
}

/// The key with one secret more.
fn with_another() -> nix::Machine {
    let secrets = json!({
        "restic": { "use": "backups", "format": "hex", "owner": "restic" },
        "web": { "format": "base64" },
    });
    cryptkey::vault(json!({ "cardTimeoutSec": 1, "secrets": secrets }), "")
}

const WEB: &str = "/run/cryptkey/vault/web";

#[test]
fn a_switch_publishes_what_changed() {
    let (machine, mut nixos, restic, _card) = booted();
    let since = machine.show(&restic.unit(), "ActiveEnterTimestampMonotonic");
    let done = switch(&machine, &mut nixos, with_another());
    assert_eq!(done, Switched { reloaded: [UNIT.to_owned()].into(), ..Switched::default() });
    assert_eq!(machine.read(WEB).len(), 44);
    machine.says(RELOAD, &["vault: verified, added web"]);
    machine.expect(RELOAD, "inactive");
    assert_eq!(machine.show(&restic.unit(), "ActiveEnterTimestampMonotonic"), since);
}

#[test]
fn a_switch_without_the_card_fails_and_changes_nothing() {
    let (machine, mut nixos, restic, card) = booted();
    let expected = cryptkey::expected(&machine, &card);
    card.remove();
    let done = switch(&machine, &mut nixos, with_another());
    assert_eq!(Switched::of(&done.failed), [RELOAD]);
    machine.says(RELOAD, &["Insert the card, and start the unit again"]);
    machine.expect(UNIT, "active");
    machine.expect(&restic.unit(), "active");
    assert_eq!(machine.show(UNIT, "ReloadResult"), "exit-code");
    assert_eq!(machine.read(SECRET), expected);
    assert!(!machine.exists(WEB));

    card.insert();
    card.tell("wait seen");
    machine.systemctl(&["reload", UNIT]).exits(0);
    assert!(machine.exists(WEB));
}

/// The same machine with another version of the program, as far as its units can tell.
fn updated(container: &Container, nixos: &nix::Machine) -> nix::Machine {
    let other = PROGRAM.replace("/nix/store/", "/nix/store/0123456789abcdef");
    container.link(&other, PROGRAM);
    let mut nixos = nixos.clone();
    for unit in nixos.units.values_mut() {
        unit.text = unit.text.replace(PROGRAM, &other);
    }
    nixos
}

const NOT_ASKED: &str = "vault: unchanged, not verified (the card was not asked)";

#[test]
fn a_new_version_of_the_program_needs_no_card() {
    let (machine, mut nixos, restic, card) = booted();
    let since = machine.show(&restic.unit(), "ActiveEnterTimestampMonotonic");
    let expected = cryptkey::expected(&machine, &card);
    card.remove();
    let asked = card.count();
    let updated = updated(&machine, &nixos);
    let done = switch(&machine, &mut nixos, updated);
    assert_eq!(Switched::of(&done.failed), [""; 0]);
    assert_eq!(Switched::of(&done.reloaded), [UNIT, "polkit-cryptkey.service"]);
    machine.says(RELOAD, &[NOT_ASKED]);
    assert!(machine.show(RELOAD, "ExecStart").contains("/nix/store/0123456789abcdef"));
    assert_eq!((machine.read(SECRET), card.count()), (expected.clone(), asked));
    assert_eq!(machine.show(&restic.unit(), "ActiveEnterTimestampMonotonic"), since);

    // Another PIN is presented, be it right or wrong; and a start asks, whatever stands.
    card.insert();
    card.tell("wait seen");
    machine.write(PIN, 0o600, Card::WRONG_PIN);
    machine.systemctl(&["reload", UNIT]).exits(1);
    machine.says(RELOAD, &["did not accept this PIN last", "the card rejected it"]);
    machine.write(PIN, 0o600, Card::PIN);
    machine.systemctl(&["reload", UNIT]).exits(0);
    machine.systemctl(&["restart", UNIT]).exits(0);
    machine.says(UNIT, &["vault: verified, added restic"]);
    assert_eq!(machine.read(SECRET), expected);
}

#[test]
fn a_key_that_wants_a_touch_asks_for_none_at_a_switch() {
    let mut machine = Container::new();
    machine.user("restic", 2001);
    let touch = json!({ "touchPolicy": "always", "touchTimeoutSec": 600 });
    let mut nixos = cryptkey::install(&machine, touch);
    let card = Card::inside(&machine, &["--touch-timeout-ms", "600000"]);
    card.tell("touch give");
    machine.boot();
    machine.expect(UNIT, "active");
    // Nobody is there any more.
    card.tell("touch wait");
    card.tell("count reset");
    let updated = updated(&machine, &nixos);
    let done = switch(&machine, &mut nixos, updated);
    assert_eq!(Switched::of(&done.failed), [""; 0]);
    machine.says(RELOAD, &[NOT_ASKED]);
    assert_eq!(card.count(), 0);
}

#[test]
fn a_state_directory_that_was_moved_without_its_profile_is_no_new_key() {
    let (machine, mut nixos, restic, card) = booted();
    let expected = cryptkey::expected(&machine, &card);
    let before = nixos.clone();
    let moved = cryptkey::vault(json!({}), "security.cryptkey.stateDir = \"/persist/cryptkey\";");
    let warned = |warning: &String| warning.contains("acceptUnpinned");
    assert!(moved.warnings.iter().any(warned), "{:?}", moved.warnings);
    let done = switch(&machine, &mut nixos, moved);
    assert_eq!(Switched::of(&done.failed), [RELOAD]);
    assert_eq!(machine.show(RELOAD, "ExecMainStatus"), "17");
    machine.says(RELOAD, &["there is none, and its secrets are published"]);
    assert!(!machine.exists("/persist/cryptkey/vault.toml") && machine.exists(PROFILE));
    assert_eq!((machine.read(SECRET), restic.read(&machine)), (expected.clone(), expected));
    machine.expect(UNIT, "active");
    machine.expect(&restic.unit(), "active");
    // As the message says.
    assert_eq!(Switched::of(&switch(&machine, &mut nixos, before).failed), [""; 0]);
    machine.says(RELOAD, &[NOT_ASKED]);
}

#[test]
fn a_reload_sees_the_credentials_of_the_moment() {
    let (machine, mut nixos, _restic, card) = booted();
    // Of a file that has changed.
    machine.write(PIN, 0o600, Card::WRONG_PIN);
    machine.systemctl(&["reload", UNIT]).exits(1);
    machine.says(RELOAD, &["(credential pin) to card 90210001: the card rejected it"]);
    machine.write(PIN, 0o600, Card::PIN);
    machine.systemctl(&["reload", UNIT]).exits(0);
    assert_eq!(card.tries(), 3);

    // Of one that the unit had not before.
    let own = json!({ "serial": Card::SERIAL, "pin": { "file": PIN } });
    let before = machine.journal(RELOAD).matches("present the PIN").count();
    let done = switch(&machine, &mut nixos, cryptkey::vault(json!({ "cards": [own] }), ""));
    assert_eq!(Switched::of(&done.reloaded), [UNIT]);
    assert_eq!(machine.journal(RELOAD).matches("present the PIN").count(), before + 1);
}

#[test]
fn only_a_stop_scrubs() {
    let (machine, _nixos, restic, _card) = booted();
    assert!(machine.exists(SECRET));
    assert!(machine.exists("/run/credentials/cryptkey-vault.service/pin"));
    machine.systemctl(&["stop", UNIT]).exits(0);
    machine.says(UNIT, &["vault: scrubbed"]);
    assert!(!machine.exists("/run/cryptkey/vault"));
    assert!(!machine.exists("/run/credentials/cryptkey-vault.service/pin"));
    // It needs what is gone.
    machine.expect(&restic.unit(), "inactive");
}
