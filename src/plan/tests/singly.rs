//! What stands between a card and a new profile, and between a PIN and its card, one thing at a time.

use super::{
    super::{Known, Next, Refusal, Sealed, Sealing, Step, next},
    fixtures::{self, DECLARED, KEYS, card, key, session, slot_key, verified},
};
use crate::{
    profile::generating::Generating,
    spec::{self, Enroll, Key, ProfileId},
    token::{
        CardName, Facts, Pin, PinFacts, PinState, Pins, SlotState, fingerprint, guard::History,
    },
};

fn declared() -> ProfileId {
    serde_json::from_value(DECLARED.into()).unwrap()
}

/// A card with a key that may be used.
fn usable() -> Facts {
    session(SlotState::Key(slot_key(0)))
}

#[track_caller]
fn refused(key: &Key, known: &Known, session: Option<&Facts>) -> Refusal {
    match next(key, known, session) {
        Next::Refuse(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_thing_against_a_new_profile_is_enough() {
    let (key, known, ready) = (key(), Known::default(), verified(usable()));
    let ready = Some(&ready);
    assert_eq!(next(&key, &known, ready), Next::Step(Step::Enroll(Sealing::New)));
    let in_ram = Known { state_is_in_ram: true, ..Known::default() };
    assert_eq!(refused(&key, &in_ram, ready), Refusal::StateInRam);
    let lost = Key { profile_id: Some(declared()), ..key.clone() };
    assert!(matches!(refused(&lost, &known, ready), Refusal::ProfileLost { .. }));
    let gone = Known { stands: true, ..Known::default() };
    assert_eq!(refused(&key, &gone, ready), Refusal::ProfileGone);
    let never = Key { enroll: Enroll::Never, ..key.clone() };
    assert_eq!(refused(&never, &known, ready), Refusal::NotEnrolled);
    let orphan = Facts { orphan: Some("/state/old.toml".into()), ..verified(usable()) };
    assert!(matches!(refused(&key, &known, Some(&orphan)), Refusal::Orphan { .. }));
    // A record of another run changes none of this.
    let destroys = Some(fingerprint(&KEYS[1]));
    let record = Generating { card: card(1), slot: key.slot, destroys };
    let recorded = Known { record: Some(record), ..in_ram };
    assert_eq!(refused(&key, &recorded, ready), Refusal::StateInRam);
}

#[test]
fn a_declared_id_pins_the_key_itself() {
    const OTHER: &str = "another";
    let sealed = |id: &str, salt_id: &str, names_recipient, is_version_1| Sealed {
        id: id.into(),
        salt_id: salt_id.into(),
        names_recipient,
        is_version_1,
        ..fixtures::sealed(1, &[1])
    };
    let pinned = Key { profile_id: Some(declared()), ..key() };
    let other = Refusal::OtherProfile { declared: DECLARED.into(), found: OTHER.into() };
    // What the profile says, whether it is refused before it is opened, and the opened key's id.
    for (profile, closed_is_refused, proven, open_is_refused) in [
        (sealed(DECLARED, OTHER, true, false), false, DECLARED, false),
        (sealed(OTHER, OTHER, true, false), true, OTHER, true),
        // It names the recipient of another key, and another one opens.
        (sealed(DECLARED, OTHER, true, false), false, OTHER, true),
        // An id from before there were recipients: read as it was then.
        (sealed(OTHER, DECLARED, true, false), false, OTHER, false),
        (sealed(DECLARED, DECLARED, false, false), false, OTHER, false),
        // A profile from before: the opened key tells.
        (sealed(OTHER, OTHER, false, false), false, DECLARED, false),
        (sealed(OTHER, OTHER, false, false), false, OTHER, true),
        (sealed(OTHER, OTHER, false, true), false, DECLARED, false),
        // Anybody who reads a version 1 profile can make another one with its salt.
        (sealed(DECLARED, DECLARED, false, true), false, OTHER, true),
    ] {
        let closed = Known { profile: Some(profile), ..Known::default() };
        let expected = |refused: bool, step| {
            if refused { Next::Refuse(other.clone()) } else { Next::Step(step) }
        };
        assert_eq!(
            next(&pinned, &closed, None),
            expected(closed_is_refused, Step::FindCard),
            "{closed:?}"
        );
        let proven_id = Some(proven.to_owned());
        let open = Known { open: true, proven_id, ..closed };
        assert_eq!(
            next(&pinned, &open, None),
            expected(open_is_refused, Step::Publish),
            "{open:?}"
        );
        assert_eq!(next(&key(), &open, None), Next::Step(Step::Publish));
    }
}

#[test]
fn no_pin_follows_one_that_the_card_did_not_accept() {
    let pin = PinFacts { history: Some(History::Proven), ..usable().pin };
    let session = Facts { pin, ..usable() };
    let next = |presented: &[(&Facts, PinState)]| {
        let mut pins = Pins::default();
        for (to, state) in presented {
            pins.go_out(to);
            if let PinState::Rejected(left) = state {
                pins.reject(*left);
            }
        }
        next(&key(), &Known { pins, ..Known::default() }, Some(&session))
    };
    assert_eq!(next(&[]), Next::Step(Step::PresentPin));
    let to = |card, reader: &str| Facts { card, reader: reader.into(), ..usable() };
    let nameless = CardName::default();
    // The card itself, what may be it, and what was in its reader.
    for (name, reader) in [(card(1), "another"), (nameless, "another"), (card(2), "reader")] {
        let to = to(name, reader);
        let refused = Next::Refuse(Refusal::PinRejected { left: 2 });
        assert_eq!(next(&[(&to, PinState::Rejected(2))]), refused);
        assert_eq!(next(&[(&to, PinState::Unresolved)]), Next::Refuse(Refusal::PinUnresolved));
    }
    let elsewhere = to(card(2), "another");
    assert_eq!(next(&[(&elsewhere, PinState::Rejected(2))]), Next::Step(Step::PresentPin));
}

#[test]
fn what_the_card_says_of_a_pin_is_what_is_known_of_it() {
    let mut pins = Pins::default();
    pins.go_out(&usable());
    assert_eq!(pins.state(&usable()), Some(PinState::Unresolved));
    pins.reject(2);
    assert_eq!(pins.state(&usable()), Some(PinState::Rejected(2)));
    let mut pins = Pins::default();
    pins.go_out(&usable());
    pins.accept(card(1), Pin::new(b"123456").unwrap());
    assert_eq!((pins.state(&usable()), pins.has(&card(1))), (None, true));
}

#[test]
fn no_card_is_looked_for_where_it_could_not_be_enough() {
    let few = fixtures::known(2, &[1]);
    assert!(matches!(refused(&key(), &few, None), Refusal::OutOfReach { .. }));
    let several = Key { threshold: Some(2), ..key() };
    let refusal = refused(&several, &Known::default(), None);
    assert_eq!(refusal, Refusal::TooFewCards { threshold: 2, listed: 0 });
}

#[test]
fn a_key_for_two_cards_is_made_when_both_have_proved_theirs() {
    let card = |serial| spec::Card { serial: card(serial).serial, ..spec::Card::default() };
    let key = Key { threshold: Some(2), cards: vec![card(1), card(2)], ..key() };
    let ready = Facts { listed: Some(0), ..verified(usable()) };
    let known = Known::default();
    assert_eq!(next(&key, &known, Some(&ready)), Next::Step(Step::Prepare));
    let prepared = Known { settled: [1].into(), ..known };
    let comes = next(&key, &prepared, Some(&ready));
    assert_eq!(comes, Next::Step(Step::Enroll(Sealing::New)));
}
