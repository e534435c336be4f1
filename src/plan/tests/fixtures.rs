//! What the tests of the planner are made of: keys, a session, and what a profile says of a card.

use std::sync::LazyLock;

use p256::{
    NonZeroScalar, PublicKey, U256,
    elliptic_curve::{ops::Reduce, sec1::ToSec1Point},
};

use super::super::{Known, Sealed};
use crate::{
    profile::piv::{Params, Peer, Scheme},
    spec::{Key, ManagementKeySource, PinSource},
    token::{
        CardName, Facts, Fingerprint, KeySource, PinFacts, PinPolicy, Serial, Slot, SlotKey,
        SlotState, TouchPolicy, Trust,
    },
};

pub type Policies = (PinPolicy, TouchPolicy);

pub const POLICIES: Policies = (PinPolicy::Once, TouchPolicy::Never);

/// The private keys 2 to 5's public ones.
pub static KEYS: LazyLock<[PublicKey; 4]> = LazyLock::new(|| {
    [1_u32, 2, 3, 4].map(|n| PublicKey::from_secret_scalar(&NonZeroScalar::reduce(&U256::from(n))))
});
/// A key and its negative; the first has an even y.
pub fn either_sign(key: &PublicKey) -> [PublicKey; 2] {
    [2, 3].map(|sign| {
        let mut point = key.to_sec1_point(true).as_bytes().to_vec();
        point[0] = sign;
        PublicKey::from_sec1_bytes(&point).expect("a point")
    })
}

static PEER: LazyLock<Peer> =
    LazyLock::new(|| Peer::new(Scheme::HashToCurve, [7; 32]).expect("a point"));

/// Who vouches for every card that anybody vouches for.
pub const TRUST: Trust = Trust { root: Fingerprint([1; 32]), card_key: Fingerprint([2; 32]) };

/// The slot that every profile is sealed to.
pub const SEALED_SLOT: Slot = Slot::KEY_MANAGEMENT;

/// What a profile says of a card that was enrolled with one of the keys.
pub fn params(
    card: CardName,
    key: usize,
    knows_source: bool,
    policies: Option<Policies>,
) -> Params {
    Params {
        peer: PEER.clone(),
        public_key: KEYS[key],
        slot: SEALED_SLOT,
        serial: card.serial,
        guid: card.guid,
        card_name: "reader".into(),
        touch_policy: policies.map_or(TouchPolicy::Never, |(_, touch)| touch),
        pin_policy: policies.map(|(pin, _)| pin),
        attestation: None,
        key_source: knows_source.then_some(KeySource::Metadata),
    }
}

/// The id that specs of these tests declare, if they do.
pub const DECLARED: &str = "11111111111111111111111111111111";

/// What the spec says of a key that has all it needs.
pub fn key() -> Key {
    Key {
        pin: Some(PinSource::File("/run/pin".into())),
        management_key: Some(ManagementKeySource::FactoryDefault),
        ..Key::default()
    }
}

pub fn card(serial: u32) -> CardName {
    CardName { serial: Serial::new(serial), guid: None }
}

pub fn slot_key(key: usize) -> SlotKey {
    SlotKey {
        public: Ok(KEYS[key]),
        policies: Some(POLICIES),
        source: KeySource::Metadata,
        is_generated: true,
    }
}

/// A session with card 1, whose slot is this.
pub fn session(slot: SlotState) -> Facts {
    let facts = Facts::new(card(1), "reader", Key::default().place(None));
    let pin = PinFacts { tries: Some(3), ..PinFacts::default() };
    Facts { slot: Some(slot), pin, ..facts }
}

/// The same, whose PIN the card accepted.
pub fn verified(session: Facts) -> Facts {
    Facts { pin: PinFacts { verified: true, ..session.pin }, ..session }
}

/// A profile of the declared id that so many of these cards open, by their places; each holds the key of
/// its place.
pub fn sealed(threshold: usize, serials: &[u32]) -> Sealed {
    let piv = serials.iter().enumerate();
    Sealed {
        id: DECLARED.into(),
        salt_id: "of-old".into(),
        names_recipient: true,
        threshold,
        unlisted: Vec::new(),
        is_version_1: false,
        piv: piv.map(|(at, serial)| (at, params(card(*serial), at, true, None))).collect(),
        ids: Vec::new(),
        typed: Vec::new(),
        others: Vec::new(),
    }
}

/// What is known where there is such a profile.
pub fn known(threshold: usize, serials: &[u32]) -> Known {
    Known { profile: Some(sealed(threshold, serials)), ..Known::default() }
}
