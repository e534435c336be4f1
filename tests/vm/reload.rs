//! A changed configuration is applied in place: nothing is scrubbed, and who uses secrets stays up.

use serde_json::json;

use crate::support::{
    Card, Consumer, Container, Switched,
    cryptkey::{self, PIN, RELOAD, SECRET, UNIT},
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
