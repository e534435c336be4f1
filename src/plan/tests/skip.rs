//! What keeps a run from being left out, one thing at a time.

use super::{
    super::{Findings, Known, Marked, Obstacle, PinInHand, Sealed, obstacle},
    fixtures::{self, DECLARED, card},
};
use crate::{
    profile::generating::Generating,
    spec::{Card, Key, Mode, Overwrite},
    token::{PinPolicy, Serial, Slot, TouchPolicy, fingerprint, guard::Memory},
};

fn sealed() -> Sealed {
    let ids = vec!["card-1".into(), "card-2".into()];
    Sealed { ids, typed: vec![2], ..fixtures::sealed(1, &[1, 2]) }
}

/// A key with two cards, of which one was there last.
fn steady() -> (Key, Known, Findings) {
    let listed = |serial| Card { serial: Serial::new(serial), ..Card::default() };
    let key = Key { cards: vec![listed(1), listed(2)], ..Key::default() };
    let known = Known { profile: Some(sealed()), ..Known::default() };
    let pins = [(1, Memory::LastAccepted), (2, Memory::None)];
    let pins = pins.map(|(serial, memory)| (card(serial), PinInHand::Read(memory)));
    let facts = Findings {
        mark: Some(Marked::Same),
        unknown_account: None,
        deviates: None,
        pins: pins.into(),
    };
    (key, known, facts)
}

/// What keeps the run from being left out once this was done to a steady key.
fn with(change: impl FnOnce(&mut Key, &mut Sealed, &mut Known, &mut Findings)) -> Option<Obstacle> {
    let (mut key, mut known, mut facts) = steady();
    let mut sealed = sealed();
    change(&mut key, &mut sealed, &mut known, &mut facts);
    known.profile = known.profile.and(Some(sealed));
    obstacle(&key, &known, &facts)
}

#[test]
fn a_steady_key_is_left_alone() {
    assert_eq!(with(|_, _, _, _| {}), None);
    // The declared id is that of the profile.
    assert_eq!(
        with(|key, _, _, _| key.profile_id = serde_json::from_value(fixtures::DECLARED.into()).ok()),
        None
    );
    // A key that was overwritten is steady again.
    let fingerprint = Some(fingerprint(&super::fixtures::KEYS[2]));
    let overwrite = Some(Overwrite { fingerprint, abandon_profile: true });
    assert_eq!(with(|key, _, _, _| (key.mode, key.overwrite) = (Mode::Overwrite, overwrite)), None);
    // Both cards are needed, and both accepted their PINs.
    let both = |_: &mut Key, sealed: &mut Sealed, _: &mut Known, facts: &mut Findings| {
        sealed.threshold = 2;
        facts.pins[1].1 = PinInHand::Read(Memory::LastAccepted);
    };
    assert_eq!(with(both), None);
    // A card that wants no PIN, and a recovery code that would be typed, beyond what cards do.
    let none = |key: &mut Key, sealed: &mut Sealed, _: &mut Known, facts: &mut Findings| {
        (key.pin_policy, sealed.threshold) = (PinPolicy::Never, 3);
        facts.pins.iter_mut().for_each(|(_, pin)| *pin = PinInHand::NotNeeded);
    };
    assert_eq!(with(none), None);
}

#[test]
fn each_thing_against_it_is_enough() {
    let marks = [
        (None, Obstacle::NothingPublished),
        (Some(Marked::Missing), Obstacle::Unmarked),
        (Some(Marked::OtherOutputs), Obstacle::Outputs),
        (Some(Marked::OtherSpec), Obstacle::Spec),
        (Some(Marked::OtherProfile), Obstacle::Profile),
    ];
    for (mark, expected) in marks {
        assert_eq!(with(|_, _, _, facts| facts.mark = mark), Some(expected));
    }
    assert_eq!(with(|_, _, known, _| known.profile = None), Some(Obstacle::NoSealedProfile));
    assert_eq!(with(|_, s, _, _| s.is_version_1 = true), Some(Obstacle::NoSealedProfile));
    assert_eq!(
        with(|key, sealed, _, _| {
            sealed.names_recipient = false;
            key.profile_id = serde_json::from_value(DECLARED.into()).ok();
        }),
        Some(Obstacle::Unproven)
    );
    let record = Generating { card: card(1), slot: Slot::KEY_MANAGEMENT, destroys: None };
    assert_eq!(with(|_, _, known, _| known.record = Some(record)), Some(Obstacle::Generating));
    let fingerprint = Some(fingerprint(&super::fixtures::KEYS[1]));
    let overwrite = Some(Overwrite { fingerprint, abandon_profile: false });
    assert_eq!(
        with(|key, _, _, _| (key.mode, key.overwrite) = (Mode::Overwrite, overwrite)),
        Some(Obstacle::Generating)
    );
    let refused = [
        with(|key, _, _, _| key.profile_id = serde_json::from_value("0".repeat(32).into()).ok()),
        with(|key, _, _, _| key.slot = "82".parse().unwrap()),
        with(|_, sealed, _, _| sealed.threshold = 4),
    ];
    for refused in refused {
        assert_eq!(refused, Some(Obstacle::Refused));
    }
    let new = Card { serial: Serial::new(3), ..Card::default() };
    assert_eq!(with(|key, _, _, _| key.cards.push(new)), Some(Obstacle::NewCard(card(3))));
    let who = || "the owner of a".to_owned();
    assert_eq!(
        with(|_, _, _, facts| facts.unknown_account = Some(who())),
        Some(Obstacle::UnknownAccount(who()))
    );
    assert_eq!(
        with(|_, _, _, facts| facts.deviates = Some("a".into())),
        Some(Obstacle::Deviates("a".into()))
    );
}

#[test]
fn no_pin_that_may_be_a_wrong_one_is_taken_for_the_right_one() {
    let doubtful = [PinInHand::Typed, PinInHand::Missing, PinInHand::Read(Memory::Doubtful)];
    for (place, serial) in [(0, 1), (1, 2)] {
        for pin in doubtful {
            assert_eq!(
                with(|_, _, _, facts| facts.pins[place].1 = pin),
                Some(Obstacle::Pin(card(serial), pin))
            );
        }
    }
    let unknown = PinInHand::Read(Memory::None);
    assert_eq!(with(|_, _, _, facts| facts.pins[0].1 = unknown), Some(Obstacle::TooFewPins));
    assert_eq!(with(|_, sealed, _, _| sealed.threshold = 2), Some(Obstacle::TooFewPins));
    assert_eq!(with(|_, _, _, facts| facts.pins.clear()), Some(Obstacle::TooFewPins));
}

/// Touch is of no account: the spec says it, and with it the mark.
#[test]
fn a_key_that_wants_a_touch_is_left_alone_too() {
    assert_eq!(with(|key, _, _, _| key.touch_policy = TouchPolicy::Always), None);
}
