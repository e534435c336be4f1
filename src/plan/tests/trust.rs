//! What a card attests, and what a profile remembers of it.

use proptest::prelude::*;

use super::{
    super::{Identity, Known, Mistrust, Next, Refusal, Sealed, Session, Step, next},
    generate::world,
    world::{Attests, Content, DECLARED, End, KEYS, Moment, TRUST, Tells, World, params},
};
use crate::{
    chance::cases,
    profile::piv::Params,
    spec::{self, AttestationPolicy, Key, Mode},
    token::{
        Attestation, CardName, Fingerprint, Guid, KeySource, PinPolicy, Serial, SlotKey, SlotState,
        Statement, TouchPolicy,
    },
};

const POLICIES: (PinPolicy, TouchPolicy) = (PinPolicy::Once, TouchPolicy::Never);

fn policy(world: &World, moment: &Moment) -> AttestationPolicy {
    world.jobs[moment.job].key.attestation.policy
}

/// Whether the card is one that gets a profile: a new one, or one whose key is overwritten.
fn enrolls(world: &World, moment: &Moment) -> bool {
    let doomed = moment.known.doomed(&world.jobs[moment.job].key);
    let provider = moment.known.session.as_ref().map(|session| session.provider);
    provider.is_some_and(|provider| provider.is_none() || provider == doomed)
}

/// Whether what the card attests, as it really is, is good for what is in its slot.
fn is_good(moment: &Moment) -> bool {
    let card = &moment.card.as_ref().expect("a step on a card").1;
    match card.attests {
        Attests::Truth => true,
        Attests::Imported => card.content == Content::Key(3),
        // A card without serial has none that could be wrong.
        Attests::OtherSerial => card.name.serial.is_none(),
        Attests::Nothing | Attests::Untrusted | Attests::OtherKey => false,
    }
}

/// Whether the card shows a certificate that has nothing to do with its slot's key. A stale one may fit
/// a bad attestation; nothing comes of that, as no proof of that key holds.
fn shows_a_stale_certificate(moment: &Moment) -> bool {
    let card = moment.card.as_ref().map(|(_, card)| card);
    card.is_some_and(|card| matches!(card.tells, Tells::Certificate(_)))
}

/// Whether it is not bad: what is not there is not.
fn is_not_bad(moment: &Moment) -> bool {
    let card = &moment.card.as_ref().expect("a step on a card").1;
    is_good(moment) || matches!(card.attests, Attests::Nothing | Attests::Imported)
}

proptest! {
    #![proptest_config(cases!(1500))]

    /// Nothing is enrolled without a good attestation where one is required, nor in spite of a bad one
    /// where one is wanted.
    #[test]
    fn what_is_enrolled_is_attested(world in world()) {
        for moment in world.run().moments.iter().filter(|m| matches!(m.step, Step::Enroll(_))) {
            if shows_a_stale_certificate(moment) {
                continue;
            }
            let holds = match policy(&world, moment) {
                AttestationPolicy::Off => true,
                AttestationPolicy::IfAvailable => is_not_bad(moment),
                AttestationPolicy::Required => is_good(moment),
            };
            prop_assert!(holds, "{:#?}", moment);
        }
    }

    /// Rule 6: a card that can attest nothing, or that nobody vouches for, gets no PIN and no new key,
    /// and neither does one that says of its key what is not so.
    #[test]
    fn rule_6_attestation_comes_before_pin_and_generation(world in world()) {
        for moment in &world.run().moments {
            let spends = matches!(moment.step, Step::AskPin | Step::PresentPin | Step::Generate(_));
            if !spends || !enrolls(&world, moment) || policy(&world, moment) == AttestationPolicy::Off {
                continue;
            }
            let session = moment.known.session.as_ref().expect("a session");
            let card = &moment.card.as_ref().expect("a card").1;
            prop_assert!(session.attestation.is_some());
            let required = policy(&world, moment) == AttestationPolicy::Required;
            prop_assert!(card.attests != Attests::Nothing || !required);
            let knows_empty = session.slot == Some(SlotState::Empty);
            prop_assert!(card.attests != Attests::Untrusted || !required && !knows_empty);
            // What is attested of a key that is to be destroyed is nothing to us.
            let stays = world.jobs[moment.job].key.mode == Mode::UseExisting;
            if matches!(session.slot, Some(SlotState::Key(_)))
                && stays
                && !shows_a_stale_certificate(moment)
            {
                prop_assert!(is_good(moment) || !required && is_not_bad(moment));
            }
        }
    }

    /// Who does not want to know is not asked; nor is a card that is enrolled already.
    #[test]
    fn cards_are_asked_only_to_be_enrolled(world in world()) {
        for moment in world.run().moments.iter().filter(|moment| moment.step == Step::Attest) {
            prop_assert!(enrolls(&world, moment) && policy(&world, moment) != AttestationPolicy::Off);
        }
    }

    /// A share is opened only with a key whose policies, where the card tells them, are remembered so.
    #[test]
    fn keys_with_other_policies_than_remembered_are_not_used(world in world()) {
        let trace = world.run();
        for moment in trace.moments.iter().filter(|m| matches!(m.step, Step::OpenShare(_))) {
            let session = moment.known.session.as_ref().expect("a session");
            let remembered = world.jobs[moment.job].profile.as_ref().and_then(|p| p.policies);
            if let (Some(SlotState::Key(SlotKey { policies: Some(told), .. })), Some(remembered)) =
                (&session.slot, remembered)
            {
                prop_assert_eq!(*told, remembered);
            }
        }
        let same = |end: &End| matches!(end, End::Refused(Refusal::PoliciesChanged { sealed, found, .. })
            if sealed == found);
        prop_assert!(!trace.ends.iter().any(same));
    }
}

pub fn slot_key(key: usize) -> SlotKey {
    SlotKey {
        public: Ok(KEYS[key]),
        policies: Some(POLICIES),
        source: KeySource::Metadata,
        is_generated: true,
    }
}

pub fn session(slot: SlotState) -> Session {
    Session {
        card: CardName { serial: Serial::new(1), guid: None },
        reader: "reader".into(),
        provider: None,
        listed: None,
        pin: Some(spec::PinSource::File("/run/pin".into())),
        management_key: Some(spec::ManagementKeySource::FactoryDefault),
        slot: Some(slot),
        attestation: None,
        identity: None,
        probed: false,
        factory_management_key: None,
        orphan: None,
        dependent: None,
        tries: Some(3),
        history: None,
        verified: false,
    }
}

fn wants(policy: AttestationPolicy) -> Key {
    let attestation = spec::Attestation { policy, roots: Vec::new() };
    Key { attestation, ..Key::default() }
}

fn enrolling(policy: AttestationPolicy, slot: SlotState, attestation: Attestation) -> Next {
    let session = Session { attestation: Some(attestation), ..session(slot) };
    next(&wants(policy), &Known { session: Some(session), ..Known::default() })
}

fn statement() -> Statement {
    Statement { public: Ok(KEYS[0]), serial: Serial::new(1), policies: Some(POLICIES) }
}

#[track_caller]
fn refused(came: Next) -> Mistrust {
    match came {
        Next::Refuse(Refusal::Attestation { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_statement_that_differs_in_anything_is_bad() {
    let good = statement();
    let policies = |pin, touch| Statement { policies: Some((pin, touch)), ..statement() };
    let others = [
        ("another key", Statement { public: Ok(KEYS[1]), ..good.clone() }),
        ("another key", Statement { public: Err("P-384".into()), ..good.clone() }),
        ("this is card 1", Statement { serial: Serial::new(2), ..good.clone() }),
        ("this is card 1", Statement { serial: None, ..good.clone() }),
        ("PIN policy never", policies(PinPolicy::Never, TouchPolicy::Never)),
        ("touch policy cached", policies(PinPolicy::Once, TouchPolicy::Cached)),
        ("does not say which policies", Statement { policies: None, ..good.clone() }),
    ];
    for policy in [AttestationPolicy::IfAvailable, AttestationPolicy::Required] {
        let about = |slot: SlotKey, statement: &Statement| {
            let made = Attestation::Made(TRUST, statement.clone());
            enrolling(policy, SlotState::Key(slot), made)
        };
        assert!(matches!(about(slot_key(0), &good), Next::Step(_)));
        for (what, other) in &others {
            let Mistrust::Bad(why) = refused(about(slot_key(0), other)) else { panic!("{what}") };
            assert!(why.contains(what), "{why}");
        }
        let imported = SlotKey { is_generated: false, ..slot_key(0) };
        let Mistrust::Bad(why) = refused(about(imported, &good)) else { panic!("imported") };
        assert!(why.contains("imported"), "{why}");
    }
}

#[test]
fn what_a_card_can_not_attest_is_refused_only_where_that_is_required() {
    use AttestationPolicy::{IfAvailable, Off, Required};
    let key = || SlotState::Key(slot_key(0));
    let untrusted = || Attestation::Untrusted("why".into());
    let cases = [
        (key(), Attestation::None, Mistrust::Unable),
        (SlotState::Empty, Attestation::None, Mistrust::Unable),
        (SlotState::Unknown, Attestation::None, Mistrust::Unable),
        (key(), Attestation::Able(TRUST), Mistrust::Unattested),
        (key(), untrusted(), Mistrust::Untrusted("why".into())),
        (SlotState::Unknown, untrusted(), Mistrust::Untrusted("why".into())),
    ];
    for (slot, attestation, why) in cases {
        assert_eq!(refused(enrolling(Required, slot.clone(), attestation.clone())), why);
        for policy in [Off, IfAvailable] {
            let came = enrolling(policy, slot.clone(), attestation.clone());
            assert!(matches!(came, Next::Step(_)), "{came:?}");
        }
    }
    for policy in [IfAvailable, Required] {
        for slot in [key(), SlotState::Empty, SlotState::Unknown] {
            let came = enrolling(policy, slot, Attestation::Bad("why".into()));
            assert_eq!(refused(came), Mistrust::Bad("why".into()));
        }
        // A slot of which a key is attested is not empty, whatever the card says.
        let made = Attestation::Made(TRUST, statement());
        let Mistrust::Bad(why) = refused(enrolling(policy, SlotState::Empty, made)) else {
            panic!("generated")
        };
        assert!(why.contains("says elsewhere that there is none"), "{why}");
    }
    // What is generated there would be attested, and that would be bad.
    let came = enrolling(IfAvailable, SlotState::Empty, untrusted());
    assert_eq!(refused(came), Mistrust::Untrusted("why".into()));
    for slot in [SlotState::Empty, SlotState::Unknown] {
        let came = enrolling(Required, slot, Attestation::Able(TRUST));
        assert!(matches!(came, Next::Step(_)), "{came:?}");
    }
}

/// What comes where the profile has these params, and the card is in this state.
fn verifying(params: Params, slot: SlotState, identity: Option<Identity>) -> Next {
    let profile = Some(Sealed {
        id: DECLARED.into(),
        threshold: 1,
        unlisted: Vec::new(),
        is_version_1: false,
        piv: [(0, params)].into(),
        ids: Vec::new(),
        typed: Vec::new(),
        others: Vec::new(),
    });
    let session = Session { provider: Some(0), identity, ..session(slot) };
    next(&Key::default(), &Known { profile, session: Some(session), ..Known::default() })
}

fn card(serial: u32, guid: u8) -> CardName {
    CardName { serial: Serial::new(serial), guid: Guid::new([guid; 16]) }
}

#[test]
fn another_card_of_the_same_name_is_told_from_a_changed_key() {
    let plain = params(card(1, 1), 0, true, Some(POLICIES));
    let attested = Params { attestation: Some(TRUST), ..plain.clone() };
    let is = |name, key: Option<u8>| {
        Some(Identity { name, attestation_key: key.map(|n| Fingerprint([n; 32])) })
    };
    let cases = [
        (&plain, is(card(1, 2), None), true),
        (&plain, is(card(2, 1), None), true),
        (&plain, is(card(1, 1), None), false),
        (&plain, is(CardName { guid: None, ..card(1, 1) }, None), false),
        (&plain, None, false),
        // What is attested counts alone: a reset takes the GUID away.
        (&attested, is(card(1, 2), Some(2)), false),
        (&attested, is(card(1, 1), Some(3)), true),
        (&attested, is(card(1, 1), None), true),
        (&attested, None, false),
    ];
    for (params, identity, is_other) in cases {
        for slot in [SlotState::Key(slot_key(1)), SlotState::Empty] {
            let came = verifying(params.clone(), slot.clone(), identity);
            let Next::Refuse(refusal) = came else { panic!("{came:?}") };
            match (&refusal, slot) {
                (Refusal::OtherCard { .. }, _) => assert!(is_other, "{identity:?}"),
                (Refusal::KeyChanged { .. }, SlotState::Key(_))
                | (Refusal::SlotEmptied { .. }, SlotState::Empty) => {
                    assert!(!is_other, "{identity:?}");
                }
                _ => panic!("{refusal:?}"),
            }
        }
    }
}

#[test]
fn other_policies_than_remembered_have_a_name_of_their_own() {
    let other = (PinPolicy::Always, TouchPolicy::Never);
    let told = |policies| SlotState::Key(SlotKey { policies, ..slot_key(0) });
    let came =
        |remembered, found| verifying(params(card(1, 1), 0, true, remembered), told(found), None);
    assert!(matches!(came(Some(POLICIES), Some(POLICIES)), Next::Step(_)));
    assert!(matches!(came(Some(POLICIES), None), Next::Step(_)));
    // Also where the key has what the spec declares by now.
    let changed = came(Some(other), Some(POLICIES));
    assert!(
        matches!(changed, Next::Refuse(Refusal::PoliciesChanged { sealed, found, .. })
            if sealed == other && found == POLICIES),
        "{changed:?}"
    );
    // Of a profile that does not tell, the declaration counts.
    let differs = came(None, Some(other));
    assert!(matches!(differs, Next::Refuse(Refusal::OtherPolicies { .. })), "{differs:?}");
}
