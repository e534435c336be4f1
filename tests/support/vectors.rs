//! The test vectors, and cards made of their private keys.

use std::collections::BTreeMap;

use cryptkey::profile::{
    Profile, ProviderKind,
    piv::{Params, SharedX},
    recovery::RecoveryCode,
    seal::{self, OpenError, Opened, ProviderSecret},
};
use p256::{ProjectivePoint, PublicKey, Scalar, elliptic_curve::PrimeField as _};
use serde::Deserialize;

/// A profile's file with what opens it and what comes out.
pub struct Vector {
    pub name: &'static str,
    pub text: &'static str,
    pub opens: Opens,
}

#[derive(Deserialize)]
pub struct Opens {
    pub cards: Vec<Card>,
    pub recovery: Option<String>,
    pub outputs: BTreeMap<String, String>,
}

#[derive(Deserialize)]
pub struct Card {
    pub serial: String,
    pub private_key: String,
}

macro_rules! vectors {
    ($($name:literal),*) => {
        vec![$(Vector {
            name: $name,
            text: include_str!(concat!("../vectors/profiles/", $name, ".toml")),
            opens: serde_json::from_str(
                include_str!(concat!("../vectors/profiles/", $name, ".json")),
            ).unwrap(),
        }),*]
    };
}

/// Every profile of the vectors.
pub fn profiles() -> Vec<Vector> {
    vectors!["piv-only", "piv-piv-recovery-any", "piv-piv-recovery", "piv-recovery"]
}

pub fn unhex<const N: usize>(text: &str) -> [u8; N] {
    base16ct::lower::decode_vec(text).unwrap().try_into().unwrap()
}

/// What a card with this private key answers: the x-coordinate of its product with the point.
pub fn agree(private_key: &[u8; 32], point: &PublicKey) -> SharedX {
    use p256::elliptic_curve::point::AffineCoordinates as _;
    let d = Scalar::from_repr((*private_key).into()).unwrap();
    SharedX::new(&(ProjectivePoint::from(point) * d).to_affine().x().into())
}

impl Vector {
    /// The secrets of the profile's PIV providers, by the cards with their serials. The profile
    /// may be another than the vector's: the cards multiply whatever point it asks for.
    pub fn secrets(&self, profile: &Profile) -> Vec<(usize, ProviderSecret)> {
        profile
            .piv_providers()
            .filter_map(|(place, params)| Some((place, self.secret(params)?)))
            .collect()
    }

    /// The secret of the profile's recovery provider, by the vector's code.
    pub fn recovered(&self, profile: &Profile) -> Option<(usize, ProviderSecret)> {
        let code: RecoveryCode = self.opens.recovery.as_ref()?.parse().unwrap();
        profile.providers().iter().enumerate().find_map(|(place, provider)| match provider.kind() {
            ProviderKind::Recovery(argon2) => {
                Some((place, argon2.secret(code.as_bytes()).unwrap()))
            }
            _ => None,
        })
    }

    fn secret(&self, params: &Params) -> Option<ProviderSecret> {
        let serial = params.serial.map(|serial| serial.to_string());
        let card = self.opens.cards.iter().find(|card| Some(&card.serial) == serial.as_ref())?;
        Some(params.secret(&agree(&unhex(&card.private_key), params.peer_point())))
    }

    /// Opens a profile with the cards of the vector.
    pub fn open(&self, profile: &Profile) -> Result<Opened, OpenError> {
        let secrets = self.secrets(profile);
        seal::open(profile, &by_reference(&secrets))
    }
}

pub fn by_reference(secrets: &[(usize, ProviderSecret)]) -> Vec<(usize, &ProviderSecret)> {
    secrets.iter().map(|(place, secret)| (*place, secret)).collect()
}
