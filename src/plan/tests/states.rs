//! What must hold in every state, also in those that no run leads to.

use p256::PublicKey;
use proptest::{option, prelude::*};

use super::{
    super::{Known, Next, Sealed, Sealing, Step, next},
    fixtures::{self, DECLARED, KEYS, SEALED_SLOT, either_sign},
    generate,
};
use crate::{
    chance::cases,
    profile::generating::Generating,
    spec::{Enroll, Key, ManagementKeySource, Mode, PinSource},
    token::{
        CardName, Facts, KeySource, PinFacts, PinPolicy, PinState, Pins, SlotKey, SlotState,
        fingerprint, guard::History,
    },
};

/// All that may be known: of the key, and of the card in hand.
#[derive(Clone, Debug)]
struct State {
    known: Known,
    hand: Option<Facts>,
}

fn session() -> impl Strategy<Value = Facts> {
    let provider = option::of(0_usize..3);
    let orphan = option::weighted(0.2, Just("/state/old.toml".into()));
    let dependent = option::weighted(0.2, Just("/state/other.toml".into()));
    let history = prop_oneof![generate::history(), Just(History::Recorded)];
    let pin = (option::of(0_u8..4), option::weighted(0.8, history), any::<bool>());
    let pin = pin.prop_map(|(tries, history, verified)| PinFacts {
        tries,
        history,
        verified,
        is_fresh: verified,
    });
    let slot = option::weighted(0.8, generate::slot());
    (generate::name(), provider, slot, any::<bool>(), orphan, dependent, pin).prop_map(
        |(card, provider, slot, probed, orphan, dependent, pin)| Facts {
            card,
            provider,
            slot,
            probed,
            orphan,
            dependent,
            pin,
            ..fixtures::session(SlotState::Empty)
        },
    )
}

fn state() -> impl Strategy<Value = State> {
    let sealed = (any::<[bool; 2]>(), 1_usize..3, 0_usize..3).prop_map(
        |([declared, is_version_1], threshold, piv)| Sealed {
            id: if declared { DECLARED } else { "another" }.into(),
            is_version_1,
            piv: (0..piv)
                .map(|at| (at, fixtures::params(CardName::default(), at, true, None)))
                .collect(),
            ..fixtures::sealed(threshold, &[])
        },
    );
    let presented = (generate::name(), option::of(0_u8..3)).prop_map(|(card, rejected)| {
        let (mut pins, elsewhere) = (Pins::default(), fixtures::session(SlotState::Empty));
        pins.go_out(&Facts { card, reader: "another reader".into(), ..elsewhere });
        if let Some(left) = rejected {
            pins.reject(left);
        }
        pins
    });
    (
        option::weighted(0.4, sealed),
        option::weighted(0.9, session()),
        option::weighted(0.3, presented),
        prop::bool::weighted(0.3),
        (
            any::<bool>(),
            prop::bool::weighted(0.1),
            prop::bool::weighted(0.1),
            prop::bool::weighted(0.1),
        ),
        option::of((generate::name(), option::of(0_usize..2))),
    )
        .prop_map(
            |(
                profile,
                hand,
                pins,
                open,
                (published, state_is_in_ram, enrolled, stands),
                record,
            )| {
                // What is recorded is mostly about the card in hand.
                let record = record.map(|(card, destroys)| Generating {
                    card: hand.as_ref().map_or(card, |facts| facts.card),
                    slot: SEALED_SLOT,
                    destroys: destroys.map(|key| fingerprint(&KEYS[key])),
                });
                let pins = pins.unwrap_or_default();
                let known = Known {
                    profile,
                    stands,
                    state_is_in_ram,
                    pins,
                    open,
                    enrolled,
                    record,
                    published,
                    ..Known::default()
                };
                State { known, hand }
            },
        )
}

/// What comes next, with what the key uses of the card.
fn comes(key: &Key, State { known, hand }: &State) -> Next {
    let hand = hand.clone().map(|facts| Facts { place: key.place(None), ..facts });
    next(key, known, hand.as_ref())
}

/// The step that comes next, if it is not the end.
fn step(key: &Key, state: &State) -> Option<Step> {
    match comes(key, state) {
        Next::Step(step) => Some(step),
        Next::Done | Next::Refuse(_) => None,
    }
}

/// Whether the spec lets a profile be made.
fn may_enroll(key: &Key, known: &Known) -> bool {
    !known.state_is_in_ram && key.profile_id.is_none() && key.enroll == Enroll::Auto
}

/// Whether the spec has this key destroyed.
fn names(key: &Key, public: &PublicKey) -> bool {
    let named = key.overwrite.as_ref().and_then(|overwrite| overwrite.fingerprint);
    let signs = either_sign(public).map(|public| Some(fingerprint(&public)));
    key.mode == Mode::Overwrite && named.is_some() && signs.contains(&named)
}

/// Whether the session's card may get a profile, or a place in the one that is there.
fn may_be_sealed_to(key: &Key, known: &Known, session: &Facts) -> bool {
    let Some(sealed) = &known.profile else {
        let is_new = !known.stands && session.provider.is_none() && session.orphan.is_none();
        return may_enroll(key, known) && is_new;
    };
    let Some(provider) = session.provider.and_then(|place| sealed.piv.get(&place)) else {
        return false;
    };
    let others = sealed.piv.len() - 1;
    let reach = others >= sealed.threshold && !sealed.is_version_1;
    let abandons = key.overwrite.as_ref().is_some_and(|overwrite| overwrite.abandon_profile)
        && may_enroll(key, known);
    names(key, &provider.public_key)
        && provider.slot == key.slot
        && !known.enrolled
        && !known.state_is_in_ram
        && if reach { known.open } else { abandons }
}

proptest! {
    #![proptest_config(cases!(4000))]

    /// Rules 3, 4, 6 and 7: what has to be so for a key to be generated.
    #[test]
    fn a_key_is_generated_only_if_everything_speaks_for_it(key in generate::key(), state in state()) {
        if let Some(Step::Generate(destroys)) = step(&key, &state) {
            let (known, session) = (&state.known, state.hand.as_ref().expect("a session"));
            let pin = key.pin_policy != PinPolicy::Never
                || key.management_key == Some(ManagementKeySource::Protected);
            prop_assert!(may_be_sealed_to(&key, known, session));
            prop_assert!(key.management_key.is_some());
            prop_assert!(session.pin.verified || !pin);
            let about = |record: Generating| record.is_about(&session.card, key.slot);
            prop_assert!(key.mode == Mode::UseExisting || known.record.is_some_and(about));
            match &session.slot {
                Some(SlotState::Empty) => prop_assert_eq!(destroys, None),
                Some(SlotState::Key(SlotKey { public: Ok(found), source, .. })) => {
                    prop_assert!(names(&key, found));
                    prop_assert_eq!(destroys, Some(fingerprint(found)));
                    prop_assert_eq!(known.record.and_then(|record| record.destroys), destroys);
                    prop_assert_eq!(&session.dependent, &None);
                    prop_assert!(*source != KeySource::Certificate || session.probed);
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }

    /// Rule 3: what has to be so for a profile to be made.
    #[test]
    fn a_profile_is_made_only_if_everything_speaks_for_it(key in generate::key(), state in state()) {
        if let Some(Step::Enroll(sealing)) = step(&key, &state) {
            let (known, session) = (&state.known, state.hand.as_ref().expect("a session"));
            let Some(SlotState::Key(SlotKey { public: Ok(found), .. })) = &session.slot else {
                return Err(TestCaseError::fail("no usable key"));
            };
            prop_assert!(may_be_sealed_to(&key, known, session));
            // With mode "overwrite", a key that is there is used only if a record says that it is ours.
            prop_assert!(!names(&key, found));
            let ours = |record: Generating| {
                let old = record.destroys;
                record.is_about(&session.card, key.slot)
                    && either_sign(found).iter().all(|public| old != Some(fingerprint(public)))
            };
            prop_assert!(key.mode == Mode::UseExisting || known.record.is_some_and(ours));
            let expected = match (&known.profile, known.open) {
                (None, _) => Sealing::New,
                (Some(_), true) => Sealing::Same,
                (Some(_), false) => Sealing::Renewed,
            };
            prop_assert_eq!(sealing, expected);
            prop_assert!(session.pin.verified || key.pin_policy == PinPolicy::Never);
        }
    }

    /// Rules 5 and 6: what has to be so for a PIN to be presented.
    #[test]
    fn a_pin_is_presented_only_if_everything_speaks_for_it(key in generate::key(), state in state()) {
        if step(&key, &state) == Some(Step::PresentPin) {
            let (known, session) = (&state.known, state.hand.as_ref().expect("a session"));
            prop_assert!(session.pin.tries.is_some_and(|left| left >= key.min_tries));
            prop_assert_eq!(known.pins.state(session), None::<PinState>);
            prop_assert!(session.slot.is_some());
            prop_assert!(key.pin == Some(PinSource::File("/run/pin".into())));
            prop_assert!(!session.pin.verified);
            prop_assert!(matches!(session.pin.history, Some(History::Proven | History::Recorded)));
            let generates = match &session.slot {
                Some(SlotState::Key(SlotKey { public: Ok(found), .. })) => names(&key, found),
                slot => *slot == Some(SlotState::Empty),
            };
            let protected = key.management_key == Some(ManagementKeySource::Protected);
            prop_assert!(key.pin_policy != PinPolicy::Never || protected && generates);
        }
    }

    /// Whatever else is so, a key that turns out to be another one than the declared one comes to nothing.
    #[test]
    fn a_key_that_is_not_the_declared_one_comes_to_nothing(
        key in generate::key(), mut state in state()
    ) {
        state.known.proven_id = Some("another".into());
        let known = &state.known;
        if known.open && known.profile.is_some() && key.profile_id.is_some() {
            prop_assert_eq!(step(&key, &state), None);
        }
    }

    /// What is open needs no card, and is done once published; nothing else is ever published.
    #[test]
    fn what_is_open_is_published_and_then_done(key in generate::key(), state in state()) {
        let known = &state.known;
        // While a key is still to be destroyed, the end has not come.
        let open = known.open && known.doomed(&key).is_none();
        let expected = match (open, known.published) {
            (true, _) if known.record_is_done() => Some(Next::Step(Step::EndRecord)),
            (true, true) => Some(Next::Done),
            (true, false) => Some(Next::Step(Step::Publish)),
            (false, _) => None,
        };
        let came = comes(&key, &state);
        match expected {
            Some(expected) => prop_assert_eq!(came, expected),
            None => prop_assert!(came != Next::Done && came != Next::Step(Step::Publish)),
        }
    }
}
