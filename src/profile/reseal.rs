//! Resealing: another card key takes the place of a provider's, and the key stays the same.

use subtle::ConstantTimeEq as _;

use super::{
    Profile,
    open::{OpenError, integrity, open_share},
    seal::{NewProvider, Opened, ProviderSecret, checked, open, provider},
    shamir,
};
use crate::error::{self, Class, Error};

/// Puts `new` in the place of the provider at `place` of a version 2 profile: the same id, the same
/// share of the same master key at the same index, sealed to another secret. The others stay as they
/// are, and so does every output.
///
/// `secrets` are those of enough other providers, with their places, to open the profile. The new one
/// was opened again before this returns, by them and with the new provider's secret.
pub fn reseal(
    profile: &Profile,
    place: usize,
    new: NewProvider,
    secrets: &[(usize, &ProviderSecret)],
) -> error::Result<(Profile, Opened)> {
    let fault = |found: String| {
        Error::new(
            Class::Internal,
            format!("resealing profile {}", profile.name),
            found,
            "The profile was left as it is. This is a fault of the program: report it.",
        )
    };
    let unopened = |error: OpenError| fault(error.to_string());
    if secrets.iter().any(|(other, _)| *other == place) {
        return Err(fault("the provider to replace can't open it".into()));
    }
    let opened = open(profile, secrets).map_err(unopened)?;
    let (old, index) =
        profile
            .providers
            .get(place)
            .and_then(|old| Some((old, old.share_index?)))
            .ok_or_else(|| fault("it has no such provider, or is of version 1".into()))?;
    let shares = secrets.iter().map(|(at, secret)| open_share(&profile.providers[*at], secret));
    let shares = shares.collect::<Result<Vec<_>, _>>().map_err(unopened)?;
    let share = shamir::share_at(&shares, index);

    let mut resealed = profile.clone();
    let new = NewProvider { id: old.id.clone(), ..new };
    let (new, secret) = provider(new, &share, &mut super::random, &fault)?;
    resealed.providers[place] = new;
    resealed.integrity = integrity(&resealed, opened.master.as_bytes());

    let same = |other: &Opened| {
        let same = other.master.as_bytes().ct_eq(opened.master.as_bytes());
        bool::from(same).then_some(()).ok_or_else(|| fault("it opens to another key".into()))
    };
    same(&checked(&resealed, secrets, &fault)?)?;
    let others = secrets.iter().take(usize::from(profile.threshold) - 1).copied();
    let with_new: Vec<_> = others.chain([(place, &secret)]).collect();
    same(&open(&resealed, &with_new).map_err(unopened)?)?;
    Ok((resealed, opened))
}
