//! What a card attests, and what a profile remembers of it.

use super::{
    super::{Known, Mistrust, Next, Refusal, next},
    fixtures::{KEYS, POLICIES, TRUST, key, params, sealed, session, slot_key},
};
use crate::{
    profile::piv::Params,
    spec::{self, AttestationPolicy, Key},
    token::{
        Attestation, CardName, Facts, Fingerprint, Guid, Identity, PinPolicy, Serial, SlotKey,
        SlotState, Statement, TouchPolicy,
    },
};

fn wants(policy: AttestationPolicy) -> Key {
    let attestation = spec::Attestation { policy, roots: Vec::new() };
    Key { attestation, ..key() }
}

fn enrolling(policy: AttestationPolicy, slot: SlotState, attestation: Attestation) -> Next {
    let session = Facts { attestation: Some(attestation), ..session(slot) };
    next(&wants(policy), &Known::default(), Some(&session))
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
    let mut profile = sealed(1, &[]);
    profile.piv.insert(0, params);
    let session = Facts { provider: Some(0), identity, ..session(slot) };
    let known = Known { profile: Some(profile), ..Known::default() };
    next(&key(), &known, Some(&session))
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
    // Also where the key has what the spec declares by now, but wants less than it did.
    let changed = came(Some(other), Some(POLICIES));
    assert!(
        matches!(changed, Next::Refuse(Refusal::PoliciesChanged { sealed, found, .. })
            if sealed == other && found == POLICIES),
        "{changed:?}"
    );
    // What wants no less and is declared is taken; what is not declared never is.
    for weaker in [(PinPolicy::Never, TouchPolicy::Never), POLICIES] {
        assert!(matches!(came(Some(weaker), Some(POLICIES)), Next::Step(_)), "{weaker:?}");
    }
    let stricter = came(Some(POLICIES), Some(other));
    assert!(matches!(stricter, Next::Refuse(Refusal::PoliciesChanged { .. })), "{stricter:?}");
    // Of a profile that does not tell, the declaration counts.
    let differs = came(None, Some(other));
    assert!(matches!(differs, Next::Refuse(Refusal::OtherPolicies { .. })), "{differs:?}");
}
