//! The card is gone, or the disk is: what `docs/recovery.md` promises.

use serde_json::{Value, json};

use crate::support::{
    Card, Consumer, Container, Switched,
    agent::Agent,
    code::with_code,
    cryptkey::{self, PROFILE, SECRET, UNIT},
    leak::Secrets,
    switch,
};

const ID: &str = "cryptkey:vault";
const SPARE_SERIAL: &str = "90210002";

/// The key with these cards, which a boot waits for as long as a slow machine takes to see them, and
/// what else its configuration says.
fn with(cards: &[&str], more: Value) -> Value {
    let cards: Vec<_> = cards.iter().map(|serial| json!({ "serial": serial })).collect();
    let secret = json!({ "use": "backups", "format": "hex", "owner": "restic",
                         "requiredBy": ["restic.service"] });
    let mut key = json!({ "cards": cards, "cardTimeoutSec": 600, "secrets": { "restic": secret } });
    key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    key
}

/// A machine whose key the card opens, and its recovery code; it is off, the card is gone, and is not
/// waited for. A question waits so many seconds.
fn without_its_card(limit: u32) -> (Container, Consumer, Vec<u8>, String) {
    let mut machine = Container::new();
    let restic = Consumer::declared(&machine, "restic", 2001);
    let key = with(&[Card::SERIAL], json!({}));
    cryptkey::install_all(&machine, &cryptkey::vault(key, &restic.declaration(SECRET)));
    let card = Card::inside(&machine, &[]);
    machine.boot();
    let expected = cryptkey::expected(&machine, &card);
    assert_eq!(restic.read(&machine), expected);
    let (profile, code) = with_code(&machine.read(PROFILE), &card.private_key("9d"));
    machine.write(PROFILE, 0o600, profile);
    let key = with(&[Card::SERIAL], json!({ "cardTimeoutSec": 0, "askTimeoutSec": limit }));
    cryptkey::configure_all(&machine, &cryptkey::vault(key, &restic.declaration(SECRET)));
    machine.power_off();
    (machine, restic, expected, code)
}

#[test]
fn the_card_is_gone_and_a_code_and_a_new_card_take_its_place() {
    let (mut machine, restic, expected, code) = without_its_card(600);

    // The boot waits for somebody who types the code.
    machine.turn_on();
    let person = Agent::answer_at(&machine.path("/"), ID, &code);
    let question = person.question();
    assert_eq!(question["Message"], "Key vault, recovery code recovery-1:");
    machine.booted();
    // The question has the console to itself meanwhile.
    for later in ["systemd-ask-password-wall.service", "getty-pre.target"] {
        assert!(machine.show(later, "After").contains(UNIT), "{later}");
    }
    machine.says(UNIT, &["card 90210001", "Going on with what else opens the key"]);
    for unit in [UNIT, "cryptkey.target", &restic.unit()] {
        machine.expect(unit, "active");
    }
    assert_eq!(restic.read(&machine), expected);
    let mut secrets = Secrets::default();
    secrets.add("the code", code.as_bytes());
    assert_eq!(secrets.found_in(machine.whole_journal().as_bytes()), None);

    // A new card is declared. The switch wants the code once more, to seal the key to it.
    let key = |cards| cryptkey::vault(with(cards, json!({})), &restic.declaration(SECRET));
    let new = Card::second(&machine, &["--serial", SPARE_SERIAL]);
    new.tell("wait seen");
    let mut nixos = key(&[Card::SERIAL]);
    let person = Agent::answer_at(&machine.path("/"), ID, &code);
    let done = switch(&machine, &mut nixos, key(&[SPARE_SERIAL]));
    assert_eq!(done, Switched { reloaded: [UNIT.to_owned()].into(), ..Switched::default() });
    person.question();
    let reload = cryptkey::RELOAD;
    machine.says(reload, &["sealed to card 90210002 too, as card-2; no secret changes"]);
    assert_eq!(machine.read(SECRET), expected);

    // From now on nobody is asked.
    for _ in 0..2 {
        machine.power_off();
        machine.turn_on();
        let bystander = Agent::answer_at(&machine.path("/"), ID, "nobody");
        machine.booted();
        assert!(bystander.asked().is_none());
        machine.says(UNIT, &["vault: verified, added restic"]);
        assert_eq!(restic.read(&machine), expected);
    }
    assert_eq!((new.tries(), restic.read(&machine)), (3, expected));
}

/// Nobody is there: the boot goes on without the key, and the code can be typed later.
#[test]
fn nobody_is_there_for_the_code() {
    let (mut machine, restic, expected, code) = without_its_card(1);
    machine.boot();
    machine.expect("multi-user.target", "active");
    machine.expect(UNIT, "failed");
    machine.says(UNIT, &["asking for recovery code recovery-1, for 1 s", "no answer"]);
    assert!(!machine.exists(SECRET));
    let _person = Agent::answer_at(&machine.path("/"), ID, &code);
    machine.systemctl(&["start", &restic.unit()]).exits(0);
    assert_eq!(restic.read(&machine), expected);
}

/// The disk is gone, and the card with it: a new machine, with the profile from the repository and
/// the backup card.
#[test]
fn a_new_machine_with_the_profile_from_the_repository_and_the_backup_card() {
    let mut old = Container::new();
    let restic = Consumer::declared(&old, "restic", 2001);
    let both = with(&[Card::SERIAL, SPARE_SERIAL], json!({}));
    cryptkey::install_all(&old, &cryptkey::vault(both.clone(), &restic.declaration(SECRET)));
    let card = Card::inside(&old, &[]);
    let backup = Card::second(&old, &["--serial", SPARE_SERIAL]);
    old.boot();
    // Nobody waited for it: pcscd may have been too slow.
    backup.tell("wait seen");
    old.systemctl(&["reload", UNIT]).exits(0);
    let expected = cryptkey::expected(&old, &card);
    assert_eq!(cryptkey::expected(&old, &backup), expected);
    let repository = old.scratch("repository");
    let shipped = repository.join("vault.toml");
    std::fs::write(&shipped, old.read(PROFILE)).unwrap();

    let mut new = Container::new();
    let restic = Consumer::declared(&new, "restic", 2001);
    let more = format!("security.cryptkey.keys.vault.profile = {};", shipped.display());
    let declared = restic.declaration(SECRET) + &more;
    cryptkey::install_all(&new, &cryptkey::vault(both, &declared));
    let backup = backup.carry_to(&new);
    drop((card, old));
    new.boot();
    new.expect(UNIT, "active");
    assert_eq!(restic.read(&new), expected);
    // Nothing was enrolled: neither a profile beside the shipped one, nor a key in the card.
    assert!(!new.exists(PROFILE));
    assert!(!backup.log().contains("00 47"), "{}", backup.log());
}
