//! Cards as numbers: a private key, and how it is enrolled.

use cryptkey::{
    profile::{
        ProviderKind,
        piv::{Params, Peer, SharedX},
        seal::NewProvider,
    },
    token::{PinPolicy, Serial, TouchPolicy},
};
use p256::{
    NonZeroScalar, ProjectivePoint, PublicKey, U256,
    elliptic_curve::{Generate as _, ops::Reduce as _, point::AffineCoordinates as _},
};

/// A card with one key.
#[derive(Clone, Debug)]
pub struct Card(NonZeroScalar);

impl Card {
    pub fn new() -> Self {
        Self(NonZeroScalar::generate())
    }

    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(NonZeroScalar::reduce(&U256::from_be_slice(bytes)))
    }

    pub fn public_key(&self) -> PublicKey {
        PublicKey::from_secret_scalar(&self.0)
    }

    /// The product of the point and the card's private key.
    pub fn multiply(&self, point: &PublicKey) -> ProjectivePoint {
        point.to_projective() * *self.0
    }

    /// The card's answer to a key agreement.
    pub fn agree(&self, point: &PublicKey) -> SharedX {
        SharedX::new(&(ProjectivePoint::from(point) * *self.0).to_affine().x().into())
    }

    /// The card as a provider with a fresh peer, and its secret.
    pub fn enroll(&self, id: &str) -> NewProvider {
        let peer = Peer::random().unwrap();
        let x = self.agree(peer.point());
        let params = Params {
            peer,
            public_key: self.public_key(),
            slot: "9d".parse().unwrap(),
            serial: Serial::new(1),
            guid: None,
            card_name: "Virtual PCD 00 00".into(),
            touch_policy: TouchPolicy::Never,
            pin_policy: Some(PinPolicy::Once),
            key_source: None,
            attestation: None,
        };
        let secret = params.secret(&x);
        NewProvider { id: id.into(), kind: ProviderKind::Piv(Box::new(params)), secret }
    }
}
