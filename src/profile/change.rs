//! Changes of a sealed profile: every one is a pure function from one profile to another of the same
//! master key and output salt, so the id and every output stay. (A new key is [`super::seal::seal`].)
//!
//! `secrets` are those of the providers that opened, with their places in [`Profile::providers`]: at
//! least threshold many, and all of them must open their shares. Before a change is returned, the new
//! profile was read back, and opened by the secrets that are still in it and with each new provider's.
//!
//! All but [`reshared`] keep the polynomial: what a provider's share was, an old copy of the file still
//! opens with it. They take version 2; [`reshared`] takes version 1, too. What comes out is version 2.

use std::collections::BTreeSet;

use super::{
    Profile, Provider, Version,
    open::{open_shares, opened_by},
    seal::{NewProvider, OpenError, Opened, ProviderSecret, Task, seal_key},
    shamir::{self, Share},
};
use crate::error::{self, Class, Error};

/// Puts `new` in the place of the provider at `place`: the same id, the same share at the same index,
/// sealed to another secret.
///
/// # Errors
/// `profile` for version 1. Whatever else fails is a fault of the program.
#[inline(never)]
pub fn replaced(
    profile: &Profile,
    place: usize,
    new: NewProvider,
    secrets: &[(usize, &ProviderSecret)],
) -> error::Result<(Profile, Opened)> {
    let change = Change::of_version_2(profile, "replacing a provider of", secrets)?;
    let old = change.provider_at(place)?;
    let (provider, secret) =
        change.sealed(NewProvider { id: old.id.clone(), ..new }, old.share_index)?;
    let mut changed = profile.clone();
    changed.providers[place] = provider;
    let kept: Vec<_> = secrets.iter().filter(|(at, _)| *at != place).copied().collect();
    change.finish(changed, &kept, &[(place, &secret)], Vec::new())
}

/// Adds a provider at the end, with a share at the lowest index that none has.
///
/// # Errors
/// `bad-spec` where its id is in use, is empty or holds a control character, and where 255 providers
/// are there; `profile` for version 1.
#[inline(never)]
pub fn added(
    profile: &Profile,
    new: NewProvider,
    secrets: &[(usize, &ProviderSecret)],
) -> error::Result<(Profile, Opened)> {
    let index = check_added(profile, &new.id)?;
    let change = Change::of_version_2(profile, ADDING, secrets)?;
    let (provider, secret) = change.sealed(new, Some(index))?;
    let mut changed = profile.clone();
    changed.providers.push(provider);
    let place = profile.providers.len();
    change.finish(changed, secrets, &[(place, &secret)], Vec::new())
}

const ADDING: &str = "adding a provider to";
const REMOVING: &str = "removing providers of";

/// That a provider of this id can be added, before anything is asked for it; the index of its share.
///
/// # Errors
/// As [`added`].
pub fn check_added(profile: &Profile, id: &str) -> error::Result<u8> {
    check_version(profile, ADDING)?;
    let task = task(profile, ADDING);
    task.check_word("id", id)?;
    if profile.providers.iter().any(|provider| provider.id == id) {
        return Err(task.in_use(id));
    }
    let used: BTreeSet<_> = profile.providers.iter().filter_map(Provider::share_index).collect();
    (1..=255).find(|index| !used.contains(index)).ok_or_else(|| {
        task.refused("it has 255 providers", "Remove one first: a profile has at most 255.")
    })
}

/// Drops the providers at `places`. `secrets` may be theirs.
///
/// # Errors
/// `bad-spec` where fewer than the threshold would stay; `profile` for version 1.
#[inline(never)]
pub fn without(
    profile: &Profile,
    places: &BTreeSet<usize>,
    secrets: &[(usize, &ProviderSecret)],
) -> error::Result<(Profile, Opened)> {
    check_without(profile, places)?;
    let mut change = Change::of_version_2(profile, REMOVING, secrets)?;
    for place in places {
        change.provider_at(*place)?;
    }
    let mut changed = profile.clone();
    let mut place = 0..;
    changed.providers.retain(|_| place.next().is_none_or(|place| !places.contains(&place)));
    // Those behind a dropped one move up.
    let kept = secrets.iter().filter(|(at, _)| !places.contains(at));
    let kept: Vec<_> =
        kept.map(|(at, secret)| (at - places.range(..at).count(), *secret)).collect();
    let shares = change.shares.drain(..).zip(secrets);
    let dropped = shares.filter(|(_, (at, _))| places.contains(at)).map(|(share, _)| share);
    let dropped = dropped.collect();
    change.finish(changed, &kept, &[], dropped)
}

/// That the providers at `places` can be dropped, before anything is asked for it.
///
/// # Errors
/// As [`without`].
pub fn check_without(profile: &Profile, places: &BTreeSet<usize>) -> error::Result<()> {
    check_version(profile, REMOVING)?;
    let left = profile.providers.len().saturating_sub(places.len());
    if left < profile.threshold.into() {
        return Err(task(profile, REMOVING).refused(
            format!("it would leave {left} of which {} are needed", profile.threshold),
            "Add another provider first, or lower the threshold with `nixos-cryptkey reseal`.",
        ));
    }
    Ok(())
}

/// Gives the profile another name.
///
/// # Errors
/// `bad-spec` where that is empty or holds a control character; `profile` for version 1.
#[inline(never)]
pub fn renamed(
    profile: &Profile,
    name: &str,
    secrets: &[(usize, &ProviderSecret)],
) -> error::Result<(Profile, Opened)> {
    let change = Change::of_version_2(profile, "renaming", secrets)?;
    change.task.check_word("name", name)?;
    let changed = Profile { name: name.into(), ..profile.clone() };
    change.finish(changed, secrets, &[], Vec::new())
}

/// Shares the key anew: a fresh polynomial, of which any `threshold` of exactly these providers open
/// it, with the indexes 1, 2, … in their order. [`Provider::again`] makes them of those that stay.
///
/// The profile may be of version 1.
///
/// # Errors
/// As [`super::seal::seal`].
#[inline(never)]
pub fn reshared(
    profile: &Profile,
    threshold: u8,
    providers: Vec<NewProvider>,
    secrets: &[(usize, &ProviderSecret)],
) -> error::Result<(Profile, Opened)> {
    let Change { task, opened, .. } = Change::of(profile, "resealing", secrets)?;
    let frame = Profile {
        version: Version::V2,
        name: profile.name.clone(),
        threshold,
        output_salt: profile.output_salt,
        fields: profile.fields.clone(),
        integrity: [0; 32],
        providers: Vec::new(),
    };
    seal_key(&task, frame, opened.master.as_bytes(), providers, super::random)
}

fn task(profile: &Profile, doing: &str) -> Task {
    let tried = format!("{doing} profile {}", profile.name);
    Task { tried, left: "The profile was left as it is." }
}

/// That the profile is one that can be changed, before anything is asked for it. `doing` is the change,
/// as "resealing".
///
/// # Errors
/// `profile` for version 1, which nothing but [`reshared`] takes.
pub fn check_version(profile: &Profile, doing: &str) -> error::Result<()> {
    if profile.version == Version::V2 {
        return Ok(());
    }
    Err(Error::new(
        Class::Profile,
        format!("{doing} profile {}", profile.name),
        "it is of version 1, written by cryptkey",
        "Bring it over first, with the profile's own file: `nixos-cryptkey import FILE --key KEY`.",
    ))
}

/// A change under way, of a profile that opened.
struct Change<'a> {
    task: Task,
    old: &'a Profile,
    opened: Opened,
    /// Those of the secrets, in their order.
    shares: Vec<Share>,
}

impl<'a> Change<'a> {
    fn of(
        old: &'a Profile,
        doing: &str,
        secrets: &[(usize, &ProviderSecret)],
    ) -> error::Result<Self> {
        let task = task(old, doing);
        let unopened = |error: OpenError| task.fault(error.to_string());
        let (given, threshold) = (secrets.len(), old.threshold);
        if given < threshold.into() {
            return Err(unopened(OpenError::TooFew { given, threshold }));
        }
        let shares = open_shares(old, secrets).map_err(unopened)?;
        let opened = opened_by(old, &shares).map_err(unopened)?;
        Ok(Self { task, old, opened, shares })
    }

    fn of_version_2(
        old: &'a Profile,
        doing: &str,
        secrets: &[(usize, &ProviderSecret)],
    ) -> error::Result<Self> {
        check_version(old, doing)?;
        Self::of(old, doing, secrets)
    }

    fn provider_at(&self, place: usize) -> error::Result<&'a Provider> {
        let found = self.old.providers.get(place);
        found.ok_or_else(|| self.task.fault(format!("it has no provider number {place}")))
    }

    /// A provider with the share of the same polynomial at this index, and its secret.
    fn sealed(
        &self,
        new: NewProvider,
        index: Option<u8>,
    ) -> error::Result<(Provider, ProviderSecret)> {
        let index = index.ok_or_else(|| self.task.fault("a provider has no index"))?;
        self.task.provider(new, &shamir::share_at(&self.shares, index), &mut super::random)
    }

    fn finish(
        self,
        changed: Profile,
        kept: &[(usize, &ProviderSecret)],
        new: &[(usize, &ProviderSecret)],
        spare: Vec<Share>,
    ) -> error::Result<(Profile, Opened)> {
        self.task.finish(changed, self.opened.master.as_bytes(), kept, new, spare)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use zeroize::Zeroizing;

    use super::*;
    use crate::profile::{Argon2Params, ProviderKind, random};

    /// A profile of these shares, with the first `kept` as if they had been in it before.
    fn finish(
        threshold: u8,
        shares: &[Share],
        kept: usize,
        master: [u8; 32],
    ) -> error::Result<(Profile, Opened)> {
        let task = Task { tried: "trying".into(), left: "The profile was left as it is." };
        let mut profile = Profile {
            version: Version::V2,
            name: "vault".into(),
            threshold,
            output_salt: [1; 32],
            fields: BTreeMap::new(),
            integrity: [0; 32],
            providers: Vec::new(),
        };
        let mut secrets = Vec::new();
        for (number, share) in (0..).zip(shares) {
            let kind = ProviderKind::Recovery(Argon2Params::random()?);
            let secret = ProviderSecret::new(&[number; 32]);
            let new = NewProvider { id: format!("a-{number}"), kind, secret };
            let (provider, secret) = task.provider(new, share, &mut random)?;
            profile.providers.push(provider);
            secrets.push(secret);
        }
        let all: Vec<_> = secrets.iter().enumerate().collect();
        task.finish(profile, &master, &all[..kept], &all[kept..], Vec::new())
    }

    /// What the proof is for: faults of the program itself.
    #[test]
    fn what_would_not_open_is_not_returned() {
        let rows: Vec<_> = [5, 6].map(|byte| Zeroizing::new([byte; 32])).into();
        let shares = |degree, indexes: &[u8]| shamir::split(&[9; 32], &rows[..degree], indexes);
        for kept in 0..3 {
            assert!(finish(2, &shares(1, &[1, 2, 3]), kept, [9; 32]).is_ok());
        }
        // One that is not of the polynomial.
        let mut bent = shares(1, &[1, 2, 3]);
        bent[2].y[7] ^= 1;
        for (threshold, shares, master) in [
            (2, bent, [9; 32]),
            // All of them open it, but no two.
            (2, shares(2, &[1, 2, 3]), [9; 32]),
            (2, shares(1, &[1, 2, 3]), [8; 32]),
            (2, shares(1, &[1, 2, 1]), [9; 32]),
            (4, shares(1, &[1, 2, 3]), [9; 32]),
        ] {
            for kept in 0..3 {
                let error = finish(threshold, &shares, kept, master).map(drop).unwrap_err();
                assert_eq!(error.class, Class::Internal);
            }
        }
    }
}
