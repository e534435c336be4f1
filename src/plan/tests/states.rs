//! What must hold in every state, also in those that no run leads to.

use proptest::{option, prelude::*, sample::select};

use super::{
    super::{Known, Next, PinState, Presented, Sealed, Session, Step, next},
    generate,
    world::{self, DECLARED},
};
use crate::{
    card::{CardName, PinPolicy, SlotState},
    guard::History,
    spec::{Enroll, Key, ManagementKeySource, Mode, PinSource},
};

fn session() -> impl Strategy<Value = Session> {
    let pin = option::of(select(vec![PinSource::File("/run/pin".into()), PinSource::Ask]));
    let provider = option::of(0_usize..3);
    let orphan = option::weighted(0.2, Just("/state/old.toml".into()));
    let tries = option::of(0_u8..4);
    (
        (generate::name(), generate::management_key(), pin, provider),
        option::weighted(0.8, generate::slot()),
        (any::<bool>(), orphan, tries, any::<bool>()),
        option::weighted(0.8, prop_oneof![generate::history(), Just(History::Recorded)]),
    )
        .prop_map(
            |(
                (card, management_key, pin, provider),
                slot,
                (probed, orphan, tries, verified),
                history,
            )| {
                Session {
                    card,
                    reader: "reader".into(),
                    provider,
                    pin,
                    management_key,
                    slot,
                    attestation: None,
                    identity: None,
                    probed,
                    factory_management_key: None,
                    orphan,
                    tries,
                    history,
                    verified,
                }
            },
        )
}

fn known() -> impl Strategy<Value = Known> {
    let sealed = (any::<[bool; 2]>(), 1_usize..3, 0_usize..3).prop_map(
        |([declared, old], threshold, piv)| Sealed {
            id: if declared { DECLARED } else { "another" }.into(),
            threshold,
            unlisted: Vec::new(),
            is_version_1: old,
            piv: (0..piv).map(|i| (i, world::params(CardName::default(), i, true, None))).collect(),
            others: Vec::new(),
        },
    );
    let presented =
        (generate::name(), option::of(0_u8..3)).prop_map(|(card, rejected)| Presented {
            card,
            reader: "another reader".into(),
            state: rejected.map_or(PinState::Unresolved, PinState::Rejected),
        });
    (
        option::weighted(0.4, sealed),
        option::weighted(0.9, session()),
        option::weighted(0.3, presented),
        prop::bool::weighted(0.1),
        any::<[bool; 2]>(),
    )
        .prop_map(|(profile, session, presented, open, [published, in_ram])| Known {
            profile,
            state_is_in_ram: in_ram,
            opened: [].into(),
            session,
            pins: presented.into_iter().collect(),
            answered: Vec::new(),
            open,
            published,
        })
}

/// The step that comes next, if it is not the end.
fn step(key: &Key, known: &Known) -> Option<Step> {
    match next(key, known) {
        Next::Step(step) => Some(step),
        Next::Done | Next::Refuse(_) => None,
    }
}

/// Whether the spec lets a profile be made.
fn may_enroll(key: &Key, known: &Known) -> bool {
    !known.state_is_in_ram
        && key.profile_id.is_none()
        && key.enroll == Enroll::Auto
        && key.mode == Mode::UseExisting
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Rules 3, 4, 6 and 7: what has to be so for a key to be generated.
    #[test]
    fn a_key_is_generated_only_if_everything_speaks_for_it(key in generate::key(), known in known()) {
        if step(&key, &known) == Some(Step::Generate) {
            let session = known.session.as_ref().expect("a session");
            let pin = key.pin_policy != PinPolicy::Never
                || session.management_key == Some(ManagementKeySource::Protected);
            prop_assert!(may_enroll(&key, &known));
            prop_assert!(known.profile.is_none() && session.provider.is_none());
            prop_assert!(session.orphan.is_none());
            prop_assert!(session.management_key.is_some());
            prop_assert_eq!(&session.slot, &Some(SlotState::Empty));
            prop_assert!(session.verified || !pin);
        }
    }

    /// Rule 3: what has to be so for a profile to be made.
    #[test]
    fn a_profile_is_made_only_if_everything_speaks_for_it(key in generate::key(), known in known()) {
        if step(&key, &known) == Some(Step::Enroll) {
            let session = known.session.as_ref().expect("a session");
            let usable = matches!(&session.slot, Some(SlotState::Key(slot)) if slot.public.is_ok());
            prop_assert!(may_enroll(&key, &known));
            prop_assert!(known.profile.is_none() && session.provider.is_none());
            prop_assert!(session.orphan.is_none());
            prop_assert!(usable);
            prop_assert!(session.verified || key.pin_policy == PinPolicy::Never);
        }
    }

    /// Rules 5 and 6: what has to be so for a PIN to be presented.
    #[test]
    fn a_pin_is_presented_only_if_everything_speaks_for_it(key in generate::key(), known in known()) {
        if step(&key, &known) == Some(Step::PresentPin) {
            let session = known.session.as_ref().expect("a session");
            prop_assert!(session.tries.is_some_and(|left| left >= key.min_tries));
            prop_assert!(known.pins.iter().all(|pin| !pin.card.may_be(&session.card)));
            prop_assert!(session.slot.is_some());
            prop_assert!(session.pin == Some(PinSource::File("/run/pin".into())));
            prop_assert!(!session.verified);
            prop_assert!(matches!(session.history, Some(History::Proven | History::Recorded)));
            prop_assert!(
                key.pin_policy != PinPolicy::Never
                    || session.management_key == Some(ManagementKeySource::Protected)
                        && session.slot == Some(SlotState::Empty)
            );
        }
    }

    /// What is open needs no card, and is done once published; nothing else is ever published.
    #[test]
    fn a_profile_that_anybody_can_make_is_not_opened_for_a_declared_id(
        key in generate::key(), known in known()
    ) {
        let old = known.profile.as_ref().is_some_and(|sealed| sealed.is_version_1);
        if old && key.profile_id.is_some() && !known.open {
            prop_assert_eq!(step(&key, &known), None);
        }
    }

    #[test]
    fn what_is_open_is_published_and_then_done(key in generate::key(), known in known()) {
        let expected = match (known.open, known.published) {
            (true, true) => Some(Next::Done),
            (true, false) => Some(Next::Step(Step::Publish)),
            (false, _) => None,
        };
        let came = next(&key, &known);
        match expected {
            Some(expected) => prop_assert_eq!(came, expected),
            None => prop_assert!(came != Next::Done && came != Next::Step(Step::Publish)),
        }
    }
}
