//! What stands between a card and a new profile, and between a PIN and its card, one thing at a time.

use super::{
    super::{Known, Next, PinState, Presented, Refusal, Sealed, Sealing, Session, Step, next},
    trust::{session, slot_key},
    world::{DECLARED, KEYS, params},
};
use crate::{
    guard::History,
    profile::generating::Generating,
    spec::{Enroll, Key, ProfileId},
    token::{CardName, Serial, SlotState, fingerprint},
};

fn declared() -> ProfileId {
    serde_json::from_value(DECLARED.into()).unwrap()
}

fn card(serial: u32) -> CardName {
    CardName { serial: Serial::new(serial), guid: None }
}

fn on_card(session: Session) -> Known {
    Known { session: Some(session), ..Known::default() }
}

/// A card with a key that may be used.
fn usable() -> Session {
    session(SlotState::Key(slot_key(0)))
}

#[track_caller]
fn refused(key: &Key, known: &Known) -> Refusal {
    match next(key, known) {
        Next::Refuse(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_thing_against_a_new_profile_is_enough() {
    let key = Key::default();
    let known = || on_card(Session { verified: true, ..usable() });
    assert_eq!(next(&key, &known()), Next::Step(Step::Enroll(Sealing::New)));
    let in_ram = Known { state_is_in_ram: true, ..known() };
    assert_eq!(refused(&key, &in_ram), Refusal::StateInRam);
    let lost = Key { profile_id: Some(declared()), ..Key::default() };
    assert!(matches!(refused(&lost, &known()), Refusal::ProfileLost { .. }));
    let never = Key { enroll: Enroll::Never, ..Key::default() };
    assert_eq!(refused(&never, &known()), Refusal::NotEnrolled);
    let orphan = Session { orphan: Some("/state/old.toml".into()), verified: true, ..usable() };
    assert!(matches!(refused(&key, &on_card(orphan)), Refusal::Orphan { .. }));
    // A record of another run changes none of this.
    let destroys = Some(fingerprint(&KEYS[1]));
    let record = Generating { card: card(1), slot: key.slot, destroys };
    let recorded = Known { record: Some(record), ..in_ram };
    assert_eq!(refused(&key, &recorded), Refusal::StateInRam);
}

#[test]
fn an_id_pins_no_profile_that_anybody_can_make() {
    let profile = |is_version_1| Sealed {
        id: DECLARED.into(),
        threshold: 1,
        unlisted: Vec::new(),
        is_version_1,
        piv: [(0, params(card(1), 0, true, None))].into(),
        ids: Vec::new(),
        typed: Vec::new(),
        others: Vec::new(),
    };
    let known = |old| Known { profile: Some(profile(old)), ..Known::default() };
    let key = Key { profile_id: Some(declared()), ..Key::default() };
    assert_eq!(next(&key, &known(false)), Next::Step(Step::FindCard));
    assert_eq!(refused(&key, &known(true)), Refusal::PinnedVersion1);
    assert_eq!(next(&Key::default(), &known(true)), Next::Step(Step::FindCard));
}

#[test]
fn no_pin_follows_one_that_the_card_did_not_accept() {
    let key = Key::default();
    let known = |pin| {
        let proven = Session { history: Some(History::Proven), ..usable() };
        Known { pins: Vec::from_iter(pin), ..on_card(proven) }
    };
    assert_eq!(next(&key, &known(None)), Next::Step(Step::PresentPin));
    let nameless = CardName::default();
    // The card itself, what may be it, and what was in its reader.
    for (name, reader) in [(card(1), "another"), (nameless, "another"), (card(2), "reader")] {
        let pin = |state| Some(Presented { card: name, reader: reader.into(), state });
        let rejected = known(pin(PinState::Rejected(2)));
        assert_eq!(refused(&key, &rejected), Refusal::PinRejected { left: 2 });
        let unresolved = known(pin(PinState::Unresolved));
        assert_eq!(refused(&key, &unresolved), Refusal::PinUnresolved);
    }
    let elsewhere =
        Presented { card: card(2), reader: "another".into(), state: PinState::Rejected(2) };
    assert_eq!(next(&key, &known(Some(elsewhere))), Next::Step(Step::PresentPin));
}

#[test]
fn what_the_card_says_of_a_pin_is_what_is_known_of_it() {
    for (rejected, is_verified) in [(None, true), (Some(2), false)] {
        let mut known = on_card(usable());
        known.pin_goes_out();
        assert_eq!(known.pin_state(&usable()), Some(PinState::Unresolved));
        known.pin_came_back(rejected);
        assert_eq!(known.pin_state(&usable()), rejected.map(PinState::Rejected));
        assert_eq!(known.session.unwrap().verified, is_verified);
    }
}
