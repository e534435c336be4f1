//! Keys of a spec, and what may be known of cards, from chance.

use proptest::{option, prelude::*, sample::select};

use super::fixtures::{DECLARED, KEYS, Policies, SEALED_SLOT, either_sign};
use crate::{
    spec::{
        self, Attestation, AttestationPolicy, Enroll, Key, ManagementKeySource, Mode, Overwrite,
        PinSource,
    },
    token::{
        CardName, Guid, KeySource, PinPolicy, Serial, SlotKey, SlotState, TouchPolicy, fingerprint,
        guard::{History, Rejection},
    },
};

/// A PIN that was rejected.
pub fn rejected() -> History {
    let (card, at, key) = (CardName::default(), "then".into(), "vault".into());
    History::Rejected(Rejection { card, at, key, left: 2, told: true })
}

fn policies() -> impl Strategy<Value = Policies> {
    let pin = vec![PinPolicy::Never, PinPolicy::Once, PinPolicy::Always];
    let touch = vec![TouchPolicy::Never, TouchPolicy::Cached];
    // Mostly what most specs say, so that cards and specs agree often enough.
    prop_oneof![
        3 => Just((PinPolicy::Once, TouchPolicy::Never)),
        1 => Just((PinPolicy::Never, TouchPolicy::Never)),
        1 => (select(pin), select(touch)),
    ]
}

pub fn name() -> impl Strategy<Value = CardName> {
    let serial = option::of(1_u32..4).prop_map(|n| n.and_then(Serial::new));
    let guid = option::of(1_u8..4).prop_map(|n| n.and_then(|n| Guid::new([n; 16])));
    (serial, guid).prop_map(|(serial, guid)| CardName { serial, guid })
}

/// What the PIN guard may know.
pub fn history() -> impl Strategy<Value = History> {
    prop_oneof![2 => Just(History::Proven), 3 => Just(History::Unproven), 1 => Just(rejected())]
}

pub fn management_key() -> impl Strategy<Value = Option<ManagementKeySource>> {
    option::of(select(vec![ManagementKeySource::Protected, ManagementKeySource::FactoryDefault]))
}

/// Anything that may be known of a slot.
pub fn slot() -> impl Strategy<Value = SlotState> {
    let public = prop_oneof![
        3 => (0_usize..2).prop_map(|key| Ok(KEYS[key])),
        1 => Just(Err("P-384".into())),
    ];
    let source = select(vec![KeySource::Metadata, KeySource::Metadata, KeySource::Certificate]);
    let key = (public, option::of(policies()), source).prop_map(|(public, policies, source)| {
        SlotState::Key(SlotKey { public, policies, source, is_generated: true })
    });
    prop_oneof![key, Just(SlotState::Empty), Just(SlotState::Unknown)]
}

/// A spec's key.
pub fn key() -> impl Strategy<Value = Key> {
    let pin = prop_oneof![
        1 => Just(None),
        4 => Just(Some(PinSource::File("/run/pin".into()))),
        2 => Just(Some(PinSource::Ask)),
    ];
    let rare = || prop::bool::weighted(0.1);
    let mode = (prop::bool::weighted(0.4), option::weighted(0.8, overwrite()));
    let attestation = prop_oneof![
        3 => Just(AttestationPolicy::Off),
        1 => Just(AttestationPolicy::IfAvailable),
        1 => Just(AttestationPolicy::Required),
    ];
    let threshold = option::weighted(0.2, 1_u8..3);
    let seldom = (rare(), rare(), rare(), rare(), threshold);
    (policies(), pin, management_key(), attestation, seldom, mode).prop_map(
        |(
            (pin_policy, touch_policy),
            pin,
            management_key,
            policy,
            (declared, never, other_slot, asks_nobody, threshold),
            (overwrites, overwrite),
        )| Key {
            slot: if other_slot { "82".parse().expect("a slot") } else { SEALED_SLOT },
            threshold,
            ask: !asks_nobody,
            pin_policy,
            touch_policy,
            pin,
            management_key,
            attestation: Attestation { policy, roots: Vec::new() },
            profile_id: declared.then(|| id(DECLARED)),
            enroll: if never { Enroll::Never } else { Enroll::Auto },
            mode: if overwrites { Mode::Overwrite } else { Mode::UseExisting },
            overwrite,
            ..Key::default()
        },
    )
}

/// Which key may be destroyed: by its fingerprint, or by that of its negative.
fn overwrite() -> impl Strategy<Value = Overwrite> {
    let named = (0_usize..2, 0_usize..2);
    (option::weighted(0.9, named), any::<bool>()).prop_map(|(named, abandon_profile)| Overwrite {
        fingerprint: named.map(|(key, sign)| fingerprint(&either_sign(&KEYS[key])[sign])),
        abandon_profile,
    })
}

/// A profile's id, read as the spec reads it.
fn id(text: &str) -> spec::ProfileId {
    serde_json::from_value(text.into()).expect("an id")
}
