//! What a sealed profile is and should be, through any changes.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    rc::Rc,
};

use cryptkey::error::Class;
use cryptkey::profile::{
    Argon2Params, Profile, ProviderKind, Version,
    change::{added, renamed, replaced, reshared, without},
    seal::{self, NewProvider, OpenError, Opened, ProviderSecret},
};
use proptest::prelude::*;

use crate::{
    cards::Card,
    shares::{self, Share},
    vectors,
};

/// What opens a provider: its secret. It costs nothing, as a recovery code whose stretched secret is a
/// random one.
#[derive(Clone)]
pub struct Way(Rc<ProviderSecret>);

impl Way {
    pub fn new() -> Self {
        Self::from(&ProviderSecret::new(&Argon2Params::random().unwrap().salt))
    }

    pub fn from(secret: &ProviderSecret) -> Self {
        Self(Rc::new(ProviderSecret::new(secret.as_bytes())))
    }

    pub fn secret(&self) -> &ProviderSecret {
        &self.0
    }

    pub fn provider(&self, id: &str) -> NewProvider {
        let kind = ProviderKind::Recovery(Argon2Params::random().unwrap());
        let secret = ProviderSecret::new(self.0.as_bytes());
        NewProvider { id: id.into(), kind, secret }
    }
}

/// The secrets of those at `places`, with their places.
pub fn secrets<'a>(ways: &'a [Way], places: &[usize]) -> Vec<(usize, &'a ProviderSecret)> {
    places.iter().map(|&place| (place, ways[place].secret())).collect()
}

/// The numbers below `count`, in an order that hangs on the seed.
fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let hasher = BuildHasherDefault::<DefaultHasher>::new();
    let mut all: Vec<_> = (0..count).collect();
    all.sort_by_key(|place| hasher.hash_one((seed, place)));
    all
}

/// A key as it should be: its profile, and what opens it, in the order of its providers.
pub struct Model {
    pub profile: Profile,
    pub ways: Vec<Way>,
    pub id: String,
    /// Its outputs of 32 bytes, by their labels.
    pub outputs: Vec<(String, Vec<u8>)>,
    /// What opened it once.
    pub removed: Vec<Way>,
    /// The shares from before it was shared anew the last time.
    pub stale: Vec<Share>,
}

/// A change, with what is drawn for it.
#[derive(Clone, Debug)]
pub enum Change {
    Added,
    Without(u8),
    Replaced(prop::sample::Index),
    Renamed,
    Reshared(u8, u8, usize),
}

pub fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => Just(Change::Added),
        2 => any::<u8>().prop_map(Change::Without),
        2 => any::<prop::sample::Index>().prop_map(Change::Replaced),
        1 => Just(Change::Renamed),
        2 => (any::<u8>(), any::<u8>(), 0..3usize)
            .prop_map(|(keep, threshold, new)| Change::Reshared(keep, threshold, new)),
    ]
}

/// The outputs of these labels.
pub fn outputs<'a>(
    opened: &Opened,
    labels: impl IntoIterator<Item = &'a str>,
) -> Vec<(String, Vec<u8>)> {
    let output = |label: &str| (label.into(), opened.output(label, 32).unwrap().to_vec());
    labels.into_iter().map(output).collect()
}

/// The places whose bits are set.
fn places(of: usize, bits: u8) -> BTreeSet<usize> {
    (0..of).filter(|place| bits >> place & 1 == 1).collect()
}

impl Model {
    pub fn new(threshold: u8, count: usize) -> Self {
        let ways: Vec<_> = (0..count).map(|_| Way::new()).collect();
        let providers = ways.iter().enumerate().map(|(n, way)| way.provider(&format!("way-{n}")));
        let (profile, opened) = seal::seal("vault", threshold, providers.collect()).unwrap();
        let outputs = outputs(&opened, ["backups", "ssh", ""]);
        Self { id: profile.id(), profile, ways, outputs, removed: Vec::new(), stale: Vec::new() }
    }

    /// A profile of the vectors, imported: its outputs are those of the vector.
    pub fn imported(vector: &vectors::Vector, threshold: u8) -> Self {
        let old = Profile::parse(vector.text).unwrap();
        let mut given = vector.secrets(&old);
        given.extend(vector.recovered(&old));
        // A new point for each card; what is stretched is carried over.
        let provider = |(place, secret): &(usize, ProviderSecret)| {
            let provider = &old.providers()[*place];
            match provider.kind() {
                ProviderKind::Piv(_) => Card::new().enroll(provider.id()),
                _ => provider.again(secret),
            }
        };
        let providers: Vec<_> = given.iter().map(provider).collect();
        let ways = providers.iter().map(|provider| Way::from(&provider.secret)).collect();
        let removed = given
            .iter()
            .filter(|(place, _)| matches!(old.providers()[*place].kind(), ProviderKind::Piv(_)));
        let removed = removed.map(|(_, secret)| Way::from(secret)).collect();
        let threshold = threshold.min(u8::try_from(given.len()).unwrap());
        let given = vectors::by_reference(&given);
        let (profile, _) = reshared(&old, threshold, providers, &given).unwrap();
        let outputs = vector.opens.outputs.iter();
        let outputs = outputs.map(|(label, hex)| (label.clone(), vectors::unhex::<32>(hex).into()));
        assert!(profile.is_of_same_key(&old));
        Self {
            id: profile.id(),
            profile,
            ways,
            outputs: outputs.collect(),
            removed,
            stale: Vec::new(),
        }
    }

    fn is_opened_by(&self, opened: &Opened) -> bool {
        outputs(opened, self.outputs.iter().map(|(label, _)| &**label)) == self.outputs
    }

    /// At least as many as it takes, in any order.
    pub fn drawn(&self, seed: u64) -> Vec<usize> {
        let mut all = shuffled(self.ways.len(), seed);
        let threshold = usize::from(self.profile.threshold());
        let spare = self.ways.len() - threshold + 1;
        all.truncate(threshold + usize::try_from(seed % 7).unwrap() % spare);
        all
    }

    /// Makes the change, opened by some of the providers.
    pub fn change(&mut self, change: &Change, seed: u64) {
        let drawn = self.drawn(seed);
        let ways = self.ways.clone();
        let opening = secrets(&ways, &drawn);
        let old = self.profile.clone();
        let (count, new) = (self.ways.len(), Way::new());
        let (changed, opened) = match change {
            Change::Added if count > 5 => return,
            Change::Added => {
                let id = old.unused_id("way");
                let made = added(&old, new.provider(&id), &opening).unwrap();
                let last = made.0.providers().last().unwrap();
                assert_eq!((last.id(), made.0.providers().len()), (&*id, count + 1));
                assert_eq!(made.0.providers()[..count], *old.providers());
                self.ways.push(new);
                made
            }
            Change::Without(bits) => {
                let dropped = places(count, *bits);
                let made = without(&old, &dropped, &opening);
                if count - dropped.len() < old.threshold().into() {
                    let error = made.unwrap_err();
                    assert_eq!(error.class, Class::Spec);
                    assert!(error.found.contains("it would leave"), "{error}");
                    return;
                }
                let made = made.unwrap();
                let stay = (0..count).filter(|place| !dropped.contains(place));
                let stay: Vec<_> = stay.map(|place| old.providers()[place].clone()).collect();
                assert_eq!(made.0.providers(), stay);
                let mut place = 0..;
                let (removed, stay) = self
                    .ways
                    .drain(..)
                    .partition(|_| place.next().is_some_and(|place| dropped.contains(&place)));
                self.ways = stay;
                self.removed.extend::<Vec<_>>(removed);
                made
            }
            Change::Replaced(at) => {
                let at = at.index(count);
                let made = replaced(&old, at, new.provider("another"), &opening).unwrap();
                for (place, (old, new)) in
                    old.providers().iter().zip(made.0.providers()).enumerate()
                {
                    assert_eq!((old.id(), old.share_index()), (new.id(), new.share_index()));
                    assert_eq!(old == new, place != at);
                }
                self.removed.push(std::mem::replace(&mut self.ways[at], new));
                made
            }
            Change::Renamed => {
                let name = format!("{}x", old.name());
                let made = renamed(&old, &name, &opening).unwrap();
                assert_eq!((made.0.name(), made.0.providers()), (&*name, old.providers()));
                made
            }
            Change::Reshared(keep, threshold, new) => {
                let keep = places(count, *keep);
                let stay = keep.iter().map(|place| self.ways[*place].clone());
                let new = (0..*new).map(|_| Way::new()).take(6 - keep.len());
                let (stay, new): (Vec<_>, Vec<_>) = (stay.collect(), new.collect());
                let ids = (0..new.len()).map(|number| format!("new-{number}-{seed}"));
                let providers = stay.iter().zip(&keep);
                let providers =
                    providers.map(|(way, place)| old.providers()[*place].again(way.secret()));
                let providers =
                    providers.chain(new.iter().zip(ids).map(|(way, id)| way.provider(&id)));
                let providers: Vec<_> = providers.collect();
                let Some(threshold) = threshold.checked_rem(u8::try_from(providers.len()).unwrap())
                else {
                    assert_eq!(
                        reshared(&old, 1, providers, &opening).unwrap_err().class,
                        Class::Spec
                    );
                    return;
                };
                let made = reshared(&old, threshold + 1, providers, &opening).unwrap();
                for (place, (provider, at)) in made.0.providers().iter().zip(&keep).enumerate() {
                    let old = &old.providers()[*at];
                    assert_eq!((provider.id(), provider.kind()), (old.id(), old.kind()));
                    assert_eq!(provider.share_index().map(usize::from), Some(place + 1));
                }
                let text: toml::Table = toml::from_str(&old.to_toml()).unwrap();
                let share =
                    |place: usize| shares::share(&text, place, ways[place].secret().as_bytes());
                self.stale = (0..count).map(share).collect();
                let gone = (0..count).filter(|place| !keep.contains(place));
                self.removed.extend(gone.map(|place| self.ways[place].clone()));
                self.ways = stay.into_iter().chain(new).collect();
                made
            }
        };
        let kept =
            if matches!(change, Change::Reshared(..)) { None } else { Some(old.threshold()) };
        assert!(kept.is_none_or(|threshold| threshold == changed.threshold()));
        assert!(self.is_opened_by(&opened));
        self.profile = changed;
    }

    /// Any threshold of the providers opens it to the key, no fewer do, and none that was removed.
    pub fn holds(&self, seed: u64) {
        let profile = Profile::parse(&self.profile.to_toml()).unwrap();
        assert_eq!((&profile, profile.id()), (&self.profile, self.id.clone()));
        assert_eq!((profile.version(), profile.providers().len()), (Version::V2, self.ways.len()));
        let threshold = usize::from(profile.threshold());
        let text: toml::Table = toml::from_str(&self.profile.to_toml()).unwrap();
        let shares: Vec<_> = (0..self.ways.len())
            .map(|place| shares::share(&text, place, self.ways[place].secret().as_bytes()))
            .collect();
        let (label, output) = &self.outputs[0];
        let order = shuffled(self.ways.len(), seed);
        for bits in 0..1 << self.ways.len() {
            let chosen = places(self.ways.len(), bits);
            let chosen: Vec<_> = order.iter().filter(|at| chosen.contains(at)).copied().collect();
            let given = secrets(&self.ways, &chosen);
            let opened = seal::open(&profile, &given);
            if chosen.len() >= threshold {
                assert!(self.is_opened_by(&opened.unwrap()), "{chosen:?}");
                continue;
            }
            let refused = opened.unwrap_err();
            assert!(matches!(refused, OpenError::TooFew { .. }), "{refused:?}");
            // Nor do their shares give the key away, also not with one from before it was shared anew.
            let few: Vec<_> = chosen.iter().map(|place| &shares[*place]).collect();
            if !few.is_empty() {
                assert_ne!(shares::output(&text, &few, label), *output, "{chosen:?}");
            }
            if chosen.len() + 1 == threshold && threshold > 1 {
                for stale in &self.stale {
                    let few: Vec<_> = few.iter().copied().chain([stale]).collect();
                    let is_usable = chosen.iter().all(|place| shares[*place].0 != stale.0);
                    assert!(!is_usable || shares::output(&text, &few, label) != *output);
                }
            }
        }
        let all: Vec<_> = shares.iter().collect();
        assert_eq!(shares::output(&text, &all[..threshold], label), *output);
        for (place, way) in self.ways.iter().enumerate() {
            assert_eq!(profile.check_share(place, way.secret()), Ok(()));
            for removed in &self.removed {
                let refused = profile.check_share(place, removed.secret()).unwrap_err();
                assert!(matches!(refused, OpenError::WrongSecret { .. }), "{refused:?}");
            }
        }
    }
}
