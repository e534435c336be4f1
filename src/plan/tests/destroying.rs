//! What stands between a key that the spec names and its end, one thing at a time: chance seldom gets
//! all else right.

use super::{
    super::{Goal, Hazard, Identity, Known, Next, Refusal, Sealed, Sealing, Session, Step, next},
    trust::{session, slot_key},
    world::{DECLARED, KEYS, TRUST, params},
};
use crate::{
    profile::{generating::Generating, piv::Params},
    spec::{AttestationPolicy, Enroll, Key, Mode, Overwrite, ProfileId},
    token::{
        Attestation, CardName, KeySource, PinPolicy, Serial, Slot, SlotKey, SlotState, Statement,
        TouchPolicy, fingerprint,
    },
};

/// The spec, and all that is known.
type Given = (Key, Known);
/// One thing that is otherwise.
type Change = fn(&mut Given);

fn name(serial: u32) -> CardName {
    CardName { serial: Serial::new(serial), guid: None }
}

fn another_slot() -> Slot {
    "82".parse().unwrap()
}

fn declared() -> ProfileId {
    serde_json::from_value(DECLARED.into()).unwrap()
}

/// The record of a generation that destroys one of the keys.
fn record(destroys: Option<usize>) -> Generating {
    let destroys = destroys.map(|key| fingerprint(&KEYS[key]));
    Generating { card: name(1), slot: Slot::KEY_MANAGEMENT, destroys }
}

/// The first key is to be destroyed, and nothing speaks against it: card 1 holds it, and the PIN was
/// accepted.
fn named() -> Given {
    let fingerprint = Some(fingerprint(&KEYS[0]));
    let overwrite = Some(Overwrite { fingerprint, abandon_profile: false });
    let key = Key { mode: Mode::Overwrite, overwrite, ..Key::default() };
    let session = Session { verified: true, ..session(SlotState::Key(slot_key(0))) };
    (key, Known { record: Some(record(Some(0))), session: Some(session), ..Known::default() })
}

/// The same where the key's profile is sealed to it, and was opened by card 2.
fn sealed() -> Given {
    let (key, mut known) = named();
    let provider = |place: usize, serial| (place, params(name(serial), place, true, None));
    known.profile = Some(Sealed {
        id: DECLARED.into(),
        threshold: 1,
        unlisted: Vec::new(),
        is_version_1: false,
        piv: [provider(0, 1), provider(1, 2)].into(),
        ids: Vec::new(),
        typed: Vec::new(),
        others: Vec::new(),
    });
    (known.open, known.opened) = (true, [1].into());
    on_card(&mut known).provider = Some(0);
    (key, known)
}

/// The same where no other card opens it, and it may be given up.
fn given_up() -> Given {
    let (mut key, mut known) = sealed();
    key.overwrite.as_mut().unwrap().abandon_profile = true;
    known.profile.as_mut().unwrap().piv.remove(&1);
    (known.open, known.opened) = (false, [].into());
    (key, known)
}

fn on_card(known: &mut Known) -> &mut Session {
    known.session.as_mut().unwrap()
}

fn provider(known: &mut Known, place: usize) -> &mut Params {
    known.profile.as_mut().unwrap().piv.get_mut(&place).unwrap()
}

/// What comes next once this is otherwise.
fn after(given: fn() -> Given, change: Change) -> Next {
    let mut given = given();
    change(&mut given);
    next(&given.0, &given.1)
}

#[track_caller]
fn refuses(given: fn() -> Given, change: Change, is_expected: fn(&Refusal) -> bool) {
    match after(given, change) {
        Next::Refuse(refusal) if is_expected(&refusal) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn with_nothing_against_it_the_key_is_destroyed() {
    let destroys = Next::Step(Step::Generate(record(Some(0)).destroys));
    for given in [named, sealed, given_up] {
        assert_eq!(after(given, |_| {}), destroys);
    }
}

#[test]
fn each_thing_against_it_is_enough() {
    use Refusal::{Nameless, NoManagementKey, OtherCard, OtherProfile, OtherSlot, StateInRam};
    for given in [named as fn() -> Given, sealed, given_up] {
        refuses(
            given,
            |(_, known)| on_card(known).dependent = Some("/state/other.toml".into()),
            |refusal| matches!(refusal, Refusal::Overwrite(Hazard::Dependent { .. })),
        );
        refuses(
            given,
            |(_, known)| on_card(known).card = CardName::default(),
            |refusal| *refusal == Nameless,
        );
        refuses(
            given,
            |(_, known)| on_card(known).management_key = None,
            |refusal| matches!(refusal, NoManagementKey { overwrites: true, .. }),
        );
        refuses(given, |(_, known)| known.state_is_in_ram = true, |refusal| *refusal == StateInRam);
    }
    for given in [sealed as fn() -> Given, given_up] {
        refuses(
            given,
            |(key, known)| {
                key.profile_id = Some(declared());
                known.profile.as_mut().unwrap().id = "another".into();
            },
            |refusal| matches!(refusal, OtherProfile { .. }),
        );
        refuses(
            given,
            |(key, _)| key.profile = Some("/shipped.toml".into()),
            |refusal| matches!(refusal, Refusal::Overwrite(Hazard::ShippedDoomed { .. })),
        );
        refuses(
            given,
            |(_, known)| provider(known, 0).serial = None,
            |refusal| *refusal == Nameless,
        );
        // Another card that goes by its name, and one that holds a copy of its key.
        refuses(
            given,
            |(_, known)| {
                on_card(known).identity = Some(Identity { name: name(3), attestation_key: None });
            },
            |refusal| matches!(refusal, OtherCard { .. }),
        );
        refuses(
            given,
            |(_, known)| on_card(known).card = name(3),
            |refusal| matches!(refusal, OtherCard { .. }),
        );
    }
    // Of another slot the spec says nothing: what is open stays as it is.
    let elsewhere: Change = |(_, known)| provider(known, 0).slot = another_slot();
    refuses(given_up, elsewhere, |refusal| matches!(refusal, OtherSlot { .. }));
    assert_eq!(after(sealed, elsewhere), Next::Step(Step::Publish));
    refuses(
        sealed,
        |(_, known)| provider(known, 1).slot = another_slot(),
        |refusal| matches!(refusal, OtherSlot { .. }),
    );
}

#[test]
fn a_profile_is_given_up_only_if_that_is_said() {
    let last: fn(&Refusal) -> bool =
        |refusal| matches!(refusal, Refusal::Overwrite(Hazard::LastOpener { .. }));
    refuses(given_up, |(key, _)| key.overwrite.as_mut().unwrap().abandon_profile = false, last);
    refuses(sealed, |(_, known)| known.profile.as_mut().unwrap().threshold = 2, last);
    // Whoever reads such a profile can take it apart, so it is not sealed again.
    refuses(sealed, |(_, known)| known.profile.as_mut().unwrap().is_version_1 = true, last);
    let forbids = |refusal: &Refusal| match refusal {
        Refusal::Overwrite(Hazard::AbandonForbidden { option }) => Some(*option),
        _ => None,
    };
    let changes: [(&str, Change); 2] = [
        ("profileId", |(key, _)| key.profile_id = Some(declared())),
        ("enroll", |(key, _)| key.enroll = Enroll::Never),
    ];
    for (option, change) in changes {
        match after(given_up, change) {
            Next::Refuse(refusal) => assert_eq!(forbids(&refusal), Some(option)),
            other => panic!("{other:?}"),
        }
        // Where the key stays the same, neither speaks against it.
        assert!(matches!(after(sealed, change), Next::Step(Step::Generate(Some(_)))), "{option}");
    }
}

#[test]
fn the_others_open_the_profile_first() {
    let closed: Change = |(_, known)| (known.open, known.opened) = (false, [].into());
    assert_eq!(after(sealed, closed), Next::Step(Step::FindCard));
}

/// The key's policies, say, which may be why it is destroyed.
#[test]
fn what_is_attested_of_the_key_is_nothing_to_its_end() {
    let attested: Change = |(key, known)| {
        key.attestation.policy = AttestationPolicy::Required;
        let policies = Some((PinPolicy::Always, TouchPolicy::Cached));
        let statement = Statement { public: Ok(KEYS[0]), serial: Serial::new(1), policies };
        on_card(known).attestation = Some(Attestation::Made(TRUST, statement));
    };
    for given in [named, sealed, given_up] {
        assert!(matches!(after(given, attested), Next::Step(Step::Generate(Some(_)))));
    }
}

#[test]
fn a_certificate_names_no_key_that_is_destroyed() {
    let shows: Change = |(_, known)| {
        let certificate = SlotKey { source: KeySource::Certificate, ..slot_key(0) };
        on_card(known).slot = Some(SlotState::Key(certificate));
    };
    // Nor is it what an attestation is held against.
    let attested: Change = |(key, known)| {
        key.attestation.policy = AttestationPolicy::Required;
        let other = SlotKey { source: KeySource::Certificate, ..slot_key(1) };
        let policies = Some((PinPolicy::Once, TouchPolicy::Never));
        let statement = Statement { public: Ok(KEYS[0]), serial: Serial::new(1), policies };
        let session = on_card(known);
        session.slot = Some(SlotState::Key(other));
        session.attestation = Some(Attestation::Made(TRUST, statement));
    };
    for given in [named, sealed, given_up] {
        assert_eq!(after(given, shows), Next::Step(Step::ProbeSlot));
        assert_eq!(after(given, attested), Next::Step(Step::ProbeSlot));
    }
}

#[test]
fn a_record_names_what_is_destroyed_before_it_is() {
    let begins = |destroys| Next::Step(Step::BeginRecord(record(destroys)));
    let changes: [Change; 5] = [
        |(_, known)| known.record = None,
        |(_, known)| known.record = Some(record(None)),
        |(_, known)| known.record = Some(record(Some(1))),
        |(_, known)| known.record = Some(Generating { card: name(2), ..record(Some(0)) }),
        |(_, known)| known.record = Some(Generating { slot: another_slot(), ..record(Some(0)) }),
    ];
    for change in changes {
        for given in [named, sealed, given_up] {
            assert_eq!(after(given, change), begins(Some(0)));
        }
    }
    // Of an empty slot, one of what was in it says as much: it was destroyed, and nothing came of it.
    let empty: Change = |(_, known)| on_card(known).slot = Some(SlotState::Empty);
    assert_eq!(after(named, empty), Next::Step(Step::Generate(None)));
    let neither: Change = |(_, known)| {
        on_card(known).slot = Some(SlotState::Empty);
        known.record = None;
    };
    assert_eq!(after(named, neither), begins(None));
}

#[test]
fn a_key_that_is_not_named_is_ours_only_by_a_record() {
    fn holds_another() -> Given {
        let (key, mut known) = named();
        on_card(&mut known).slot = Some(SlotState::Key(slot_key(1)));
        (key, known)
    }
    let not_named: fn(&Refusal) -> bool =
        |refusal| matches!(refusal, Refusal::Overwrite(Hazard::NotNamed { .. }));
    let ours = Next::Step(Step::Enroll(Sealing::New));
    assert_eq!(after(holds_another, |_| {}), ours);
    assert_eq!(after(holds_another, |(_, known)| known.record = Some(record(None))), ours);
    let changes: [Change; 4] = [
        |(_, known)| known.record = None,
        // It was in the slot before, and is there still.
        |(_, known)| known.record = Some(record(Some(1))),
        |(_, known)| known.record = Some(Generating { card: name(2), ..record(Some(0)) }),
        |(_, known)| known.record = Some(Generating { slot: another_slot(), ..record(Some(0)) }),
    ];
    for change in changes {
        refuses(holds_another, change, not_named);
    }
}

/// It stays while the profile is sealed to the old key, and the spec has it destroyed no more.
#[test]
fn a_record_ends_with_the_key_that_it_is_about() {
    let spared: Change = |(key, _)| key.mode = Mode::UseExisting;
    assert_eq!(after(sealed, spared), Next::Step(Step::Publish));
    let replaced: Change = |(_, known)| provider(known, 0).public_key = KEYS[2];
    assert_eq!(after(sealed, replaced), Next::Step(Step::EndRecord));
    // Not by a command that opens the key.
    let opened: Change = |(key, known)| {
        key.mode = Mode::UseExisting;
        known.goal = Goal::Open([].into());
        provider(known, 0).public_key = KEYS[2];
    };
    assert_eq!(after(sealed, opened), Next::Done);
}
