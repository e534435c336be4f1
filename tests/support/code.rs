//! A recovery code for a profile that one card opens, as `provider add recovery` makes it.

#![allow(dead_code, clippy::unwrap_used)]

use cryptkey::profile::{
    Argon2Params, Profile, ProviderKind, change, piv::SharedX, recovery::RecoveryCode,
    seal::NewProvider,
};
use p256::{
    ProjectivePoint,
    elliptic_curve::{PrimeField as _, point::AffineCoordinates as _},
};

/// The profile with a recovery code more, and the code. `private_key` is that of the card of its first
/// provider, as hex.
pub fn with_code(profile: &[u8], private_key: &str) -> (String, String) {
    let profile = Profile::parse(std::str::from_utf8(profile).unwrap()).unwrap();
    let mut bytes = [0; 32];
    base16ct::lower::decode(private_key, &mut bytes).unwrap();
    let scalar = p256::Scalar::from_repr(bytes.into()).unwrap();
    let (place, card) = profile.piv_providers().next().unwrap();
    let x = (ProjectivePoint::from(card.peer_point()) * scalar).to_affine().x();
    let card = card.secret(&SharedX::new(&x.into()));

    let code = RecoveryCode::random().unwrap();
    let params = Argon2Params::random().unwrap();
    let secret = params.secret(code.as_bytes()).unwrap();
    let kind = ProviderKind::Recovery(params);
    let new = NewProvider { id: "recovery-1".into(), kind, secret };
    let (changed, _) = change::added(&profile, new, &[(place, &card)]).unwrap();
    (changed.to_toml(), code.shown().to_string())
}
