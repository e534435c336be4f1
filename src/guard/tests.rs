use std::{fs, os::unix::fs::PermissionsExt as _};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::card::{Guid, Serial};

fn pin(text: &str) -> Pin {
    Pin::new(text.as_bytes()).unwrap()
}

fn card(serial: u32, guid: u8) -> CardName {
    CardName { serial: Serial::new(serial), guid: Guid::new([guid; 16]) }
}

fn state() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    dir
}

fn store(dir: &TempDir) -> Store {
    Store::open(dir.path()).unwrap()
}

fn guard(dir: &TempDir, card: CardName) -> PinGuard {
    PinGuard::load(&store(dir), card).unwrap()
}

/// What a new run knows of a PIN.
fn recall(dir: &TempDir, card: CardName, text: &str, tries: u8) -> History {
    let mut guard = guard(dir, card);
    guard.settle(tries);
    guard.recall(&pin(text), tries)
}

fn is_rejected(history: &History) -> bool {
    matches!(history, History::Rejected(_))
}

#[test]
fn a_rejected_pin_is_remembered_and_no_other() {
    let dir = state();
    let mut guard = guard(&dir, card(1, 1));
    guard.rejected(&pin("111111"), 2, "vault");
    guard.save(&mut store(&dir)).unwrap();
    let History::Rejected(when) = recall(&dir, card(1, 1), "111111", 2) else { panic!() };
    assert_eq!((&*when.key, when.left), ("vault", 2));
    assert_eq!(recall(&dir, card(1, 1), "222222", 2), History::Unproven);
    // The tries were restored by hand, which says nothing of this PIN.
    assert!(is_rejected(&recall(&dir, card(1, 1), "111111", 3)));
    // Another card has a PIN of its own; what may be the same card has not.
    assert_eq!(recall(&dir, card(2, 2), "111111", 2), History::Unproven);
    assert!(is_rejected(&recall(&dir, card(1, 2), "111111", 2)));
    assert!(is_rejected(&recall(&dir, card(2, 1), "111111", 2)));
    assert_eq!(forget(&store(&dir), &card(1, 0)).unwrap(), [card(1, 1)]);
    assert_eq!(recall(&dir, card(1, 1), "111111", 2), History::Unproven);
}

#[test]
fn an_accepted_pin_is_proven_while_nobody_spends_tries() {
    let dir = state();
    let mut first = guard(&dir, card(1, 1));
    assert!(first.accepted(&pin("111111"), 3, false));
    first.save(&mut store(&dir)).unwrap();
    assert_eq!(recall(&dir, card(1, 1), "111111", 3), History::Proven);
    assert_eq!(recall(&dir, card(1, 1), "111111", 2), History::Unproven);
    assert_eq!(recall(&dir, card(1, 1), "222222", 3), History::Unproven);
    // An unchanged machine writes nothing.
    assert!(!guard(&dir, card(1, 1)).accepted(&pin("111111"), 3, false));
    // One that was changed on the card is not proven any more.
    let mut last = guard(&dir, card(1, 1));
    last.rejected(&pin("111111"), 2, "vault");
    last.save(&mut store(&dir)).unwrap();
    assert!(is_rejected(&recall(&dir, card(1, 1), "111111", 3)));
}

#[test]
fn nothing_is_kept_of_a_typed_pin_that_was_right() {
    let dir = state();
    let mut guard = guard(&dir, card(1, 1));
    guard.intend(&pin("111111"), 3, "vault");
    assert!(guard.accepted(&pin("111111"), 3, true));
    guard.save(&mut store(&dir)).unwrap();
    assert_eq!(recall(&dir, card(1, 1), "111111", 3), History::Unproven);
    let text = fs::read_to_string(dir.path().join(file_name(&card(1, 1)))).unwrap();
    assert!(!text.contains("tag"), "{text}");
}

/// What the next run makes of a record that nobody settled, by the tries that the card then has.
#[test]
fn the_counter_tells_what_became_of_a_pin() {
    for (tries, rejected) in [(3, false), (4, false), (2, true), (1, true)] {
        let dir = state();
        let mut first = guard(&dir, card(1, 1));
        first.intend(&pin("111111"), 3, "vault");
        first.save(&mut store(&dir)).unwrap();
        assert_eq!(is_rejected(&recall(&dir, card(1, 1), "111111", tries)), rejected, "{tries}");
        // Under another name it is not settled, but seen.
        assert_eq!(is_rejected(&recall(&dir, card(1, 2), "111111", tries)), rejected, "{tries}");
        let mut second = guard(&dir, card(1, 1));
        assert!(second.settle(tries) && !second.settle(tries));
        second.save(&mut store(&dir)).unwrap();
        // From here on it is known, whatever the counter says.
        assert_eq!(is_rejected(&recall(&dir, card(1, 1), "111111", 3)), rejected, "{tries}");
    }
}

#[test]
fn a_damaged_record_is_no_empty_one() {
    let dir = state();
    let file = dir.path().join(file_name(&card(1, 1)));
    let mut guard = guard(&dir, card(1, 1));
    guard.rejected(&pin("111111"), 2, "vault");
    guard.save(&mut store(&dir)).unwrap();
    let good = fs::read_to_string(&file).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    for bad in ["", "version = 2", &good.replace("left", "rest"), &good.replace("version = 1", "")]
    {
        fs::write(&file, bad).unwrap();
        let error = PinGuard::load(&store(&dir), card(1, 1)).err().unwrap();
        assert_eq!(error.class, Class::PinRefused);
        assert!(error.advice.contains("pin forget --card 1`"), "{error}");
    }
    // Another card's is not looked at.
    assert!(PinGuard::load(&store(&dir), card(2, 2)).is_ok());
}

proptest! {
    /// Whatever is noted in whatever order: a PIN that was rejected stays so, one that was never
    /// presented is none (the tags of these differ), and it is the same after it was saved and read.
    #[test]
    fn the_record_knows_what_was_rejected(
        steps in proptest::collection::vec((0_u8..4, 0_usize..3, 1_u8..9), 0..20)
    ) {
        let dir = state();
        let mut guard = guard(&dir, card(1, 1));
        guard.record.key.0 = [7; 16];
        let pins = ["111111", "222222", "333333"].map(pin);
        let mut wrong = [false; 3];
        for (what, which, tries) in steps {
            match what {
                0 => drop(guard.accepted(&pins[which], tries, false)),
                1 => {
                    guard.intend(&pins[which], tries + 1, "vault");
                    guard.settle(tries);
                    wrong[which] = true;
                }
                2 => {
                    guard.intend(&pins[which], tries, "vault");
                    guard.settle(tries);
                }
                _ => {
                    guard.rejected(&pins[which], tries, "vault");
                    wrong[which] = true;
                }
            }
        }
        guard.save(&mut store(&dir)).unwrap();
        let again = PinGuard::load(&store(&dir), card(1, 1)).unwrap();
        prop_assert_eq!(&again.record, &guard.record);
        for (pin, wrong) in pins.iter().zip(wrong) {
            prop_assert_eq!(is_rejected(&again.recall(pin, 3)), wrong);
        }
    }
}
