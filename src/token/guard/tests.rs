use std::{fs, os::unix::fs::PermissionsExt as _};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{
    chance::cases,
    token::{Guid, Serial},
};

fn pin(text: &str) -> Pin {
    Pin::new(text.as_bytes()).unwrap()
}

fn card(serial: u32) -> CardName {
    CardName { serial: Serial::new(serial), guid: None }
}

fn state() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    dir
}

fn store(dir: &TempDir) -> StateDir {
    StateDir::open(dir.path()).unwrap()
}

fn guard(dir: &TempDir, card: CardName, tries: u8) -> PinGuard {
    PinGuard::open(&store(dir), card, tries).unwrap()
}

/// What a new run knows of a PIN.
fn recall(dir: &TempDir, card: CardName, text: &str, tries: u8) -> History {
    guard(dir, card, tries).recall(&pin(text), tries)
}

fn is_rejected(history: &History) -> bool {
    matches!(history, History::Rejected(_))
}

#[test]
fn a_rejected_pin_is_remembered_and_no_other() {
    let dir = state();
    guard(&dir, card(1), 3).rejected(&pin("111111"), 2, "vault").unwrap();
    let History::Rejected(when) = recall(&dir, card(1), "111111", 2) else { panic!() };
    assert_eq!((when.card, &*when.key, when.left, when.told), (card(1), "vault", 2, true));
    assert_eq!(recall(&dir, card(1), "222222", 2), History::Unproven);
    // Another card has a PIN of its own.
    assert_eq!(recall(&dir, card(2), "111111", 2), History::Unproven);
    let guid = CardName { serial: None, guid: Guid::new([1; 16]) };
    assert_eq!(recall(&dir, guid, "111111", 2), History::Unproven);
}

#[test]
fn one_card_is_forgotten_and_no_other() {
    let dir = state();
    for of in [card(1), card(2), CardName::default()] {
        guard(&dir, of, 3).rejected(&pin("111111"), 2, "vault").unwrap();
    }
    let rest = vec![card(2), CardName::default()];
    assert_eq!(forget(&mut store(&dir), &card(1)).unwrap(), (true, rest.clone()));
    assert_eq!(forget(&mut store(&dir), &card(1)).unwrap(), (false, rest));
    assert_eq!(recall(&dir, card(1), "111111", 2), History::Unproven);
    assert!(is_rejected(&recall(&dir, card(2), "111111", 2)));
    assert_eq!(rejections(&store(&dir)).unwrap().len(), 2);
    assert_eq!(forget(&mut store(&dir), &CardName::default()).unwrap(), (true, vec![card(2)]));
}

#[test]
fn an_accepted_pin_is_proven_while_nobody_spends_tries() {
    let dir = state();
    let file = dir.path().join(FILE);
    guard(&dir, card(1), 3).accepted(&pin("111111"), 3, false).unwrap();
    assert_eq!(recall(&dir, card(1), "111111", 3), History::Proven);
    assert_eq!(recall(&dir, card(1), "111111", 2), History::Unproven);
    assert_eq!(recall(&dir, card(1), "222222", 3), History::Unproven);
    // An unchanged machine writes nothing; nor does one where a person types the same PIN.
    let before = fs::metadata(&file).unwrap().modified().unwrap();
    for typed in [false, true] {
        guard(&dir, card(1), 3).accepted(&pin("111111"), 3, typed).unwrap();
    }
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), before);
    // One that was changed on the card is not proven any more.
    guard(&dir, card(1), 3).rejected(&pin("111111"), 2, "vault").unwrap();
    assert!(is_rejected(&recall(&dir, card(1), "111111", 2)));
}

#[test]
fn nothing_is_kept_of_a_typed_pin_that_was_right() {
    let dir = state();
    let mut guard = guard(&dir, card(1), 3);
    guard.intend(&pin("111111"), 3, "vault").unwrap();
    guard.accepted(&pin("111111"), 3, true).unwrap();
    assert_eq!(recall(&dir, card(1), "111111", 3), History::Unproven);
    let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
    assert!(!text.contains("tag"), "{text}");
}

/// What the next run makes of an intent that nobody settled, by the tries that the card then has.
#[test]
fn the_counter_tells_what_became_of_a_pin() {
    for (tries, rejected) in [(3, false), (4, false), (2, true), (1, true)] {
        let dir = state();
        guard(&dir, card(1), 3).intend(&pin("111111"), 3, "vault").unwrap();
        let history = recall(&dir, card(1), "111111", tries);
        assert_eq!(is_rejected(&history), rejected, "{tries}");
        if let History::Rejected(rejection) = history {
            assert_eq!((rejection.left, rejection.told), (tries, false));
        }
        assert_eq!(is_rejected(&recall(&dir, card(1), "111111", tries)), rejected, "{tries}");
    }
}

/// What the counter tells is on the disk before anything else happens, or nothing happens.
#[test]
fn what_can_t_be_settled_is_an_error() {
    let dir = state();
    guard(&dir, card(1), 3).intend(&pin("111111"), 3, "vault").unwrap();
    // In the way of the new file; for root, a directory's mode is none.
    fs::create_dir_all(dir.path().join(format!(".{FILE}.new/x"))).unwrap();
    let error = PinGuard::open(&store(&dir), card(1), 2).err().unwrap();
    assert_eq!(error.class, Class::PinRefused);
    assert!(PinGuard::open(&store(&dir), card(2), 2).is_ok());
}

#[test]
fn a_damaged_file_is_no_empty_one() {
    let dir = state();
    let file = dir.path().join(FILE);
    guard(&dir, card(1), 3).rejected(&pin("111111"), 2, "vault").unwrap();
    let good = fs::read_to_string(&file).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    for bad in ["", "version = 2", &good.replace("left", "rest"), &good.replace("version = 1", "")]
    {
        fs::write(&file, bad).unwrap();
        let error = PinGuard::open(&store(&dir), card(1), 2).err().unwrap();
        assert_eq!(error.class, Class::PinRefused);
        assert!(error.advice.contains("pin forget --card 1`"), "{error}");
    }
    assert_eq!(forget(&mut store(&dir), &card(1)).unwrap(), (true, vec![]));
    assert_eq!(recall(&dir, card(1), "111111", 2), History::Unproven);
}

proptest! {
    #![proptest_config(cases!(256))]

    /// Whatever is noted in whatever order: a PIN that was rejected stays so, and one that was not is
    /// none (the tags of these differ).
    #[test]
    fn what_was_rejected_is_known(
        steps in proptest::collection::vec((0_u8..4, 0_usize..3, 1_u8..9), 0..12)
    ) {
        let dir = state();
        let mut record = Record::of(None);
        record.card_mut(&card(2));
        fs::write(dir.path().join(FILE), toml::to_string(&record).unwrap()).unwrap();
        fs::set_permissions(dir.path().join(FILE), fs::Permissions::from_mode(0o600)).unwrap();
        let pins = ["111111", "222222", "333333"].map(pin);
        let mut wrong = [false; 3];
        for (what, which, tries) in steps {
            let mut guard = guard(&dir, card(1), tries);
            match what {
                0 => {
                    guard.accepted(&pins[which], tries, false).unwrap();
                    wrong[which] = false;
                }
                1 => {
                    guard.intend(&pins[which], tries + 1, "vault").unwrap();
                    // Killed; and the counter is looked at before the next one.
                    drop(self::guard(&dir, card(1), tries));
                    wrong[which] = true;
                }
                2 => {
                    guard.intend(&pins[which], tries, "vault").unwrap();
                    drop(self::guard(&dir, card(1), tries));
                }
                _ => {
                    guard.rejected(&pins[which], tries, "vault").unwrap();
                    wrong[which] = true;
                }
            }
        }
        for (pin, wrong) in pins.iter().zip(wrong) {
            prop_assert_eq!(is_rejected(&guard(&dir, card(1), 0).recall(pin, 0)), wrong);
        }
    }
}

/// What is remembered of a PIN without asking the card, after each thing that may happen.
#[test]
fn only_the_last_accepted_pin_that_nobody_typed_is_known_without_the_card() {
    let told = |dir: &TempDir, serial, text: &str| {
        remembered(&store(dir), &card(serial), &pin(text)).unwrap()
    };
    let dir = state();
    assert_eq!(told(&dir, 1, "111111"), Memory::None);
    guard(&dir, card(1), 3).accepted(&pin("111111"), 3, false).unwrap();
    assert_eq!(told(&dir, 1, "111111"), Memory::LastAccepted);
    assert_eq!(told(&dir, 1, "222222"), Memory::Doubtful);
    // Of another card nothing is known.
    assert_eq!(told(&dir, 2, "111111"), Memory::None);
    let before = fs::metadata(dir.path().join(FILE)).unwrap().modified().unwrap();
    assert_eq!(told(&dir, 1, "111111"), Memory::LastAccepted);
    assert_eq!(fs::metadata(dir.path().join(FILE)).unwrap().modified().unwrap(), before);
    // It is about to be presented, or another one: what becomes of that is not known.
    for about in ["111111", "222222"] {
        guard(&dir, card(1), 3).intend(&pin(about), 3, "vault").unwrap();
        assert_eq!(told(&dir, 1, "111111"), Memory::Doubtful);
        guard(&dir, card(1), 3).accepted(&pin("111111"), 3, false).unwrap();
    }
    // Another one was rejected since: right or not, the tries are to be restored.
    guard(&dir, card(1), 3).rejected(&pin("222222"), 2, "vault").unwrap();
    assert_eq!(told(&dir, 1, "111111"), Memory::Doubtful);
    assert_eq!(told(&dir, 1, "222222"), Memory::Doubtful);
    guard(&dir, card(1), 2).accepted(&pin("111111"), 2, false).unwrap();
    assert_eq!(told(&dir, 1, "111111"), Memory::LastAccepted);
    // So it is where only the counter tells of it.
    guard(&dir, card(1), 3).intend(&pin("444444"), 3, "vault").unwrap();
    guard(&dir, card(1), 2);
    assert_eq!(told(&dir, 1, "111111"), Memory::Doubtful);
    // Another one was accepted, and typed at that.
    guard(&dir, card(1), 3).accepted(&pin("333333"), 3, true).unwrap();
    assert_eq!(told(&dir, 1, "111111"), Memory::Doubtful);
    assert_eq!(told(&dir, 1, "333333"), Memory::Doubtful);
    // It was rejected after it was accepted.
    guard(&dir, card(2), 3).accepted(&pin("111111"), 3, false).unwrap();
    guard(&dir, card(2), 3).rejected(&pin("111111"), 2, "vault").unwrap();
    assert_eq!(told(&dir, 2, "111111"), Memory::Doubtful);
    // What can't be read says nothing.
    fs::write(dir.path().join(FILE), "version = 9").unwrap();
    assert!(remembered(&store(&dir), &card(1), &pin("111111")).is_err());
}

/// Somebody set the counter back, or it was a false card that rejected it. The owner's card, which has
/// all of its tries, is not locked out.
#[test]
fn a_counter_that_rose_allows_one_presentation_and_no_more() {
    let dir = state();
    for wrong in ["111111", "222222"] {
        guard(&dir, card(1), 3).rejected(&pin(wrong), 2, "vault").unwrap();
    }
    assert!(is_rejected(&recall(&dir, card(1), "111111", 2)));
    assert_eq!(recall(&dir, card(1), "111111", 3), History::Unproven);
    assert_eq!(recall(&dir, card(1), "222222", 3), History::Unproven);
    // It is one rise for both of them, however the run ends that presents one.
    for killed in [false, true] {
        let mut guard = guard(&dir, card(1), 3);
        guard.intend(&pin("111111"), 3, "vault").unwrap();
        if !killed {
            guard.rejected(&pin("111111"), 2, "vault").unwrap();
        }
        for wrong in ["111111", "222222"] {
            assert!(is_rejected(&recall(&dir, card(1), wrong, 2)), "{wrong}");
            assert!(is_rejected(&recall(&dir, card(1), wrong, 1)), "{wrong}");
        }
    }
    // Right after all.
    guard(&dir, card(1), 3).accepted(&pin("111111"), 3, false).unwrap();
    assert_eq!(recall(&dir, card(1), "111111", 3), History::Proven);
    // That it rose with it says nothing of the other one.
    assert!(is_rejected(&recall(&dir, card(1), "222222", 3)));
}

/// The tags of two hosts would tell a reader more of a PIN than one does.
#[test]
fn a_key_that_was_drawn_goes_with_the_first_accepted_pin() {
    let dir = state();
    let file = dir.path().join(FILE);
    // Of "111111", with a key of an earlier version.
    let old = include_str!("old-record.toml");
    fs::write(&file, old).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(is_rejected(&recall(&dir, card(1), "111111", 2)));
    assert_eq!(recall(&dir, card(2), "111111", 3), History::Proven);
    // It stays for other cards, and for what this one rejects until it accepts one.
    guard(&dir, card(1), 2).rejected(&pin("222222"), 1, "vault").unwrap();
    guard(&dir, card(2), 3).accepted(&pin("111111"), 3, false).unwrap();
    for wrong in ["111111", "222222"] {
        assert!(is_rejected(&recall(&dir, card(1), wrong, 1)), "{wrong}");
    }
    assert_eq!(recall(&dir, card(2), "111111", 3), History::Proven);
    assert!(fs::read_to_string(&file).unwrap().contains("000102030405060708090a0b0c0d0e0f"));
    guard(&dir, card(1), 1).accepted(&pin("333333"), 1, false).unwrap();
    assert!(!fs::read_to_string(&file).unwrap().contains("000102030405060708090a0b0c0d0e0f"));
    // One key for all, wherever they are.
    let other = state();
    guard(&other, card(7), 3).rejected(&pin("333333"), 2, "vault").unwrap();
    let tag = |text: &str| text.lines().find(|l| l.starts_with("tag")).unwrap().to_owned();
    let [here, there] =
        [&dir, &other].map(|dir| fs::read_to_string(dir.path().join(FILE)).unwrap());
    assert_eq!(tag(&there), tag(here.split("serial = \"1\"").nth(1).unwrap()));
}
