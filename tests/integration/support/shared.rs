//! A profile that any of several cards opens, as no command makes one yet.

use cryptkey::{
    profile::{
        ProviderKind,
        piv::{Params, Peer, SharedX},
        seal::{NewProvider, seal},
        store::Store,
    },
    token::{KeySource, PinPolicy, TouchPolicy},
};
use p256::{
    NonZeroScalar, ProjectivePoint, PublicKey,
    elliptic_curve::{PrimeField, point::AffineCoordinates},
};

use super::{Machine, TestCard, Yubikey};

/// Seals key `vault` to the keys in this slot of the cards, of which any opens it.
pub fn save(machine: &Machine, cards: &[&Yubikey], slot: &str) {
    let providers = cards
        .iter()
        .enumerate()
        .map(|(place, card)| provider(&format!("card-{}", place + 1), card, slot));
    let (profile, _) = seal("vault", 1, providers.collect()).unwrap();
    Store::open(&machine.state).unwrap().save(&profile).unwrap();
}

/// A card with a key in a slot as a provider.
pub fn provider(id: &str, card: &Yubikey, slot: &str) -> NewProvider {
    let memory = card.memory();
    let touch_policy = match memory["slots"][slot]["touch_policy"].as_str() {
        Some("always") => TouchPolicy::Always,
        _ => TouchPolicy::Never,
    };
    let mut bytes = [0; 32];
    base16ct::lower::decode(card.private_key(slot), &mut bytes).unwrap();
    let scalar = p256::Scalar::from_repr(bytes.into()).unwrap();
    let secret = NonZeroScalar::new(scalar).unwrap();
    let peer = Peer::random().unwrap();
    let x = (ProjectivePoint::from(peer.point()) * *secret).to_affine().x();
    let params = Params {
        peer,
        public_key: PublicKey::from_secret_scalar(&secret),
        slot: slot.parse().unwrap(),
        serial: Some(memory["serial"].to_string().parse().unwrap()),
        guid: None,
        card_name: card.reader(),
        touch_policy,
        pin_policy: Some(PinPolicy::Once),
        key_source: Some(KeySource::Metadata),
        attestation: None,
    };
    let secret = params.secret(&SharedX::new(&x.into()));
    NewProvider { id: id.into(), kind: ProviderKind::Piv(Box::new(params)), secret }
}
