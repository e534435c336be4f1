//! What stands between a key that the spec names and its end, one thing at a time: chance seldom gets
//! all else right.

use super::{
    super::{Goal, Hazard, Known, Next, Refusal, Sealing, Step, next},
    fixtures::{self, DECLARED, KEYS, TRUST, card as name, session, slot_key, verified},
};
use crate::{
    profile::{generating::Generating, piv::Params},
    spec::{AttestationPolicy, Enroll, Key, Mode, Overwrite, ProfileId},
    token::{
        Attestation, CardName, Facts, Identity, KeySource, PinPolicy, Serial, Slot, SlotKey,
        SlotState, Statement, TouchPolicy, fingerprint,
    },
};

/// The spec, all that is known, and the card in hand.
type Given = (Key, Known, Facts);
/// One thing that is otherwise.
type Change = fn(&mut Given);

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

/// The first key is to be destroyed, and nothing speaks against it: card 1 holds it, the PIN was
/// accepted, and the key has shown that its card agrees on keys.
fn named() -> Given {
    let fingerprint = Some(fingerprint(&KEYS[0]));
    let overwrite = Some(Overwrite { fingerprint, abandon_profile: false });
    let key = Key { mode: Mode::Overwrite, overwrite, ..fixtures::key() };
    let known = Known { record: Some(record(Some(0))), ..Known::default() };
    let facts = verified(session(SlotState::Key(slot_key(0))));
    (key, known, Facts { agrees: true, ..facts })
}

/// The same where the key's profile is sealed to it, and was opened by card 2.
fn sealed() -> Given {
    let (key, known, facts) = named();
    let profile = Some(fixtures::sealed(1, &[1, 2]));
    let known = Known { profile, open: true, opened: [1].into(), ..known };
    (key, known, Facts { provider: Some(0), ..facts })
}

/// The same where no other card opens it, and it may be given up.
fn given_up() -> Given {
    let (mut key, mut known, facts) = sealed();
    key.overwrite.as_mut().unwrap().abandon_profile = true;
    known.profile.as_mut().unwrap().piv.remove(&1);
    (known.open, known.opened) = (false, [].into());
    (key, known, facts)
}

fn provider(known: &mut Known, place: usize) -> &mut Params {
    known.profile.as_mut().unwrap().piv.get_mut(&place).unwrap()
}

/// What comes next once this is otherwise.
fn after(given: fn() -> Given, change: Change) -> Next {
    let mut given = given();
    change(&mut given);
    next(&given.0, &given.1, Some(&given.2))
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
            |(.., facts)| facts.dependent = Some("/state/other.toml".into()),
            |refusal| matches!(refusal, Refusal::Overwrite(Hazard::Dependent { .. })),
        );
        refuses(
            given,
            |(.., facts)| facts.card = CardName::default(),
            |refusal| *refusal == Nameless,
        );
        refuses(
            given,
            |(key, ..)| key.management_key = None,
            |refusal| matches!(refusal, NoManagementKey { overwrites: true, .. }),
        );
        refuses(
            given,
            |(_, known, _)| known.state_is_in_ram = true,
            |refusal| *refusal == StateInRam,
        );
    }
    for given in [sealed as fn() -> Given, given_up] {
        refuses(
            given,
            |(key, known, _)| {
                key.profile_id = Some(declared());
                known.profile.as_mut().unwrap().id = "another".into();
            },
            |refusal| matches!(refusal, OtherProfile { .. }),
        );
        refuses(
            given,
            |(key, ..)| key.profile = Some("/shipped.toml".into()),
            |refusal| matches!(refusal, Refusal::Overwrite(Hazard::ShippedDoomed { .. })),
        );
        refuses(
            given,
            |(_, known, _)| provider(known, 0).serial = None,
            |refusal| *refusal == Nameless,
        );
        // Another card that goes by its name, and one that holds a copy of its key.
        refuses(
            given,
            |(.., facts)| {
                facts.identity = Some(Identity { name: name(3), attestation_key: None });
            },
            |refusal| matches!(refusal, OtherCard { .. }),
        );
        refuses(
            given,
            |(.., facts)| facts.card = name(3),
            |refusal| matches!(refusal, OtherCard { .. }),
        );
    }
    // Of another slot the spec says nothing: what is open stays as it is.
    let elsewhere: Change = |(_, known, _)| provider(known, 0).slot = another_slot();
    refuses(given_up, elsewhere, |refusal| matches!(refusal, OtherSlot { .. }));
    assert_eq!(after(sealed, elsewhere), Next::Step(Step::Publish));
    refuses(
        sealed,
        |(_, known, _)| provider(known, 1).slot = another_slot(),
        |refusal| matches!(refusal, OtherSlot { .. }),
    );
}

#[test]
fn a_profile_is_given_up_only_if_that_is_said() {
    let last: fn(&Refusal) -> bool =
        |refusal| matches!(refusal, Refusal::Overwrite(Hazard::LastOpener { .. }));
    refuses(given_up, |(key, ..)| key.overwrite.as_mut().unwrap().abandon_profile = false, last);
    refuses(sealed, |(_, known, _)| known.profile.as_mut().unwrap().threshold = 2, last);
    // Whoever reads such a profile can take it apart, so it is not sealed again.
    refuses(sealed, |(_, known, _)| known.profile.as_mut().unwrap().is_version_1 = true, last);
    let forbids = |refusal: &Refusal| match refusal {
        Refusal::Overwrite(Hazard::AbandonForbidden { option }) => Some(*option),
        _ => None,
    };
    let changes: [(&str, Change); 2] = [
        ("profileId", |(key, ..)| key.profile_id = Some(declared())),
        ("enroll", |(key, ..)| key.enroll = Enroll::Never),
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
    let closed: Change = |(_, known, _)| (known.open, known.opened) = (false, [].into());
    assert_eq!(after(sealed, closed), Next::Step(Step::FindCard));
}

/// A card that can't agree on keys would lose its key in vain. What only the old key wants of people is
/// not asked for.
#[test]
fn the_key_shows_first_that_its_card_agrees_on_keys() {
    use PinPolicy::{Always, Never, Once};
    let untried: Change = |(.., facts)| facts.agrees = false;
    for given in [named, sealed, given_up] {
        assert_eq!(after(given, untried), Next::Step(Step::TryKey));
    }
    let touch = TouchPolicy::Cached;
    for (old, new, is_verified, is_tried) in [
        ((Never, TouchPolicy::Never), Never, false, true),
        ((Once, TouchPolicy::Never), Never, false, false),
        ((Always, TouchPolicy::Never), Once, true, true),
        ((Once, touch), Once, true, false),
    ] {
        let (key, known, mut facts) = named();
        facts.agrees = false;
        facts.slot = Some(SlotState::Key(SlotKey { policies: Some(old), ..slot_key(0) }));
        (facts.place.pin_policy, facts.pin.verified) = (new, is_verified);
        let next_step = next(&key, &known, Some(&facts));
        assert_eq!(next_step == Next::Step(Step::TryKey), is_tried, "{old:?} {next_step:?}");
    }
    let (key, known, mut facts) = named();
    facts.agrees = false;
    facts.slot = Some(SlotState::Key(SlotKey { policies: Some((Once, touch)), ..slot_key(0) }));
    facts.place.touch_policy = TouchPolicy::Always;
    assert_eq!(next(&key, &known, Some(&facts)), Next::Step(Step::TryKey));
}

/// The key's policies, say, which may be why it is destroyed.
#[test]
fn what_is_attested_of_the_key_is_nothing_to_its_end() {
    let attested: Change = |(key, _, facts)| {
        key.attestation.policy = AttestationPolicy::Required;
        let policies = Some((PinPolicy::Always, TouchPolicy::Cached));
        let statement = Statement { public: Ok(KEYS[0]), serial: Serial::new(1), policies };
        facts.attestation = Some(Attestation::Made(TRUST, statement));
    };
    for given in [named, sealed, given_up] {
        assert!(matches!(after(given, attested), Next::Step(Step::Generate(Some(_)))));
    }
}

#[test]
fn a_certificate_names_no_key_that_is_destroyed() {
    let shows: Change = |(.., facts)| {
        let certificate = SlotKey { source: KeySource::Certificate, ..slot_key(0) };
        facts.slot = Some(SlotState::Key(certificate));
    };
    // Nor is it what an attestation is held against.
    let attested: Change = |(key, _, facts)| {
        key.attestation.policy = AttestationPolicy::Required;
        let other = SlotKey { source: KeySource::Certificate, ..slot_key(1) };
        let policies = Some((PinPolicy::Once, TouchPolicy::Never));
        let statement = Statement { public: Ok(KEYS[0]), serial: Serial::new(1), policies };
        let session = facts;
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
        |(_, known, _)| known.record = None,
        |(_, known, _)| known.record = Some(record(None)),
        |(_, known, _)| known.record = Some(record(Some(1))),
        |(_, known, _)| known.record = Some(Generating { card: name(2), ..record(Some(0)) }),
        |(_, known, _)| known.record = Some(Generating { slot: another_slot(), ..record(Some(0)) }),
    ];
    for change in changes {
        for given in [named, sealed, given_up] {
            assert_eq!(after(given, change), begins(Some(0)));
        }
    }
    // Of an empty slot, one of what was in it says as much: it was destroyed, and nothing came of it.
    let empty: Change = |(.., facts)| facts.slot = Some(SlotState::Empty);
    assert_eq!(after(named, empty), Next::Step(Step::Generate(None)));
    let neither: Change = |(_, known, facts)| {
        facts.slot = Some(SlotState::Empty);
        known.record = None;
    };
    assert_eq!(after(named, neither), begins(None));
}

#[test]
fn a_key_that_is_not_named_is_ours_only_by_a_record() {
    fn holds_another() -> Given {
        let (key, known, mut facts) = named();
        facts.slot = Some(SlotState::Key(slot_key(1)));
        (key, known, facts)
    }
    let not_named: fn(&Refusal) -> bool =
        |refusal| matches!(refusal, Refusal::Overwrite(Hazard::NotNamed { .. }));
    let ours = Next::Step(Step::Enroll(Sealing::New));
    assert_eq!(after(holds_another, |_| {}), ours);
    assert_eq!(after(holds_another, |(_, known, _)| known.record = Some(record(None))), ours);
    let changes: [Change; 4] = [
        |(_, known, _)| known.record = None,
        // It was in the slot before, and is there still.
        |(_, known, _)| known.record = Some(record(Some(1))),
        |(_, known, _)| known.record = Some(Generating { card: name(2), ..record(Some(0)) }),
        |(_, known, _)| known.record = Some(Generating { slot: another_slot(), ..record(Some(0)) }),
    ];
    for change in changes {
        refuses(holds_another, change, not_named);
    }
}

/// It stays while the profile is sealed to the old key, and the spec has it destroyed no more.
#[test]
fn a_record_ends_with_the_key_that_it_is_about() {
    let spared: Change = |(key, ..)| key.mode = Mode::UseExisting;
    assert_eq!(after(sealed, spared), Next::Step(Step::Publish));
    let replaced: Change = |(_, known, _)| provider(known, 0).public_key = KEYS[2];
    assert_eq!(after(sealed, replaced), Next::Step(Step::EndRecord));
    // Not by a command that opens the key.
    let opened: Change = |(key, known, _)| {
        key.mode = Mode::UseExisting;
        known.goal = Goal::Open([].into());
        provider(known, 0).public_key = KEYS[2];
    };
    assert_eq!(after(sealed, opened), Next::Done);
}

#[test]
fn the_same_key_is_sealed_again_where_the_others_opened_it() {
    let made: Change = |(.., facts)| facts.slot = Some(SlotState::Key(slot_key(2)));
    assert_eq!(after(sealed, made), Next::Step(Step::Enroll(Sealing::Same)));
    assert_eq!(after(given_up, made), Next::Step(Step::Enroll(Sealing::Renewed)));
}
