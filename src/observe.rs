//! What the disk says of a key, without changing it: its profile, and those of other keys that have to do
//! with the same slot.

use std::path::Path;

use crate::{
    error::{Class, Error, Result},
    plan::Sealed,
    profile::{
        Profile, ProviderKind, Version,
        store::{Store, load_shipped},
    },
    publish::{self, Standing},
    spec::{Card, Key, Spec},
    token::{CardName, Slot, SlotState, same_key},
};

/// The profile of a key: the one that the spec ships, else the one in the state directory.
///
/// # Errors
/// `profile` where it is damaged, or where the state directory holds one with another id beside a
/// shipped one: which of the two is meant is for a person to say.
pub fn profile(store: &Store, name: &str, key: &Key) -> Result<Option<Profile>> {
    let own = store.load(name)?;
    if let Some(warning) = own.as_ref().and_then(|loaded| loaded.warning.as_ref()) {
        tracing::warn!("key {name}: {warning}");
    }
    let own = own.map(|loaded| loaded.profile);
    match &key.profile {
        Some(path) => shipped(store, name, path, own).map(Some),
        None => Ok(own),
    }
}

/// Whether anything is published of a key: since the machine booted, it had a profile then.
///
/// # Errors
/// `publish` where that can't be told.
pub fn stands(spec: &Spec, name: &str) -> Result<bool> {
    Ok(publish::standing(&spec.runtime_dir, name)? != Standing::Nothing)
}

/// The error where a command needs the profile of a key, and there is none.
#[must_use]
pub fn no_profile(name: &str) -> Error {
    Error::new(
        Class::Profile,
        format!("key {name}: looking for its profile"),
        "there is none",
        "If it was lost, mount the state directory, or bring a copy back with `nixos-cryptkey import`. Only \
         if there never was one: `nixos-cryptkey apply` makes it, and with it new secrets.",
    )
}

/// Reports in what the profile differs from the spec, where only an admin's command changes it.
pub fn report(name: &str, key: &Key, profile: &Profile) {
    for (_, provider) in profile.piv_providers() {
        let card = provider.card();
        if !is_listed(key, &card) {
            tracing::warn!(
                "key {name}: its profile is sealed to {card}, which `cards` does not list. It is not used; \
                 `nixos-cryptkey provider remove` takes it out of the profile."
            );
        }
    }
    let threshold = profile.threshold();
    if let Some(declared) = key.threshold.filter(|declared| *declared != threshold) {
        tracing::warn!(
            "key {name}: its profile takes {threshold} of its providers to open, and the spec declares \
             {declared}. `nixos-cryptkey reseal --key {name} --threshold {declared}` changes that."
        );
    }
    // To others they are sealed by themselves.
    if key.profile.is_none() && profile.version() == Version::V2 {
        return;
    }
    for card in not_enrolled(key, profile) {
        let card = card.name();
        tracing::warn!(
            "key {name}: {card} can't open it, and its profile {}",
            match &key.profile {
                Some(_) =>
                    "comes with the configuration: ship one from `nixos-cryptkey provider add piv`.",
                None =>
                    "is of version 1: `nixos-cryptkey import` makes one that more cards can open.",
            }
        );
    }
}

/// The cards that the spec lists and the profile does not know.
pub fn not_enrolled<'a>(key: &'a Key, profile: &Profile) -> impl Iterator<Item = &'a Card> {
    let sealed = sealed(profile, key);
    key.cards.iter().filter(move |card| !sealed.knows(key, card))
}

/// Whether the spec lets the card open the key.
#[must_use]
pub fn is_listed(key: &Key, card: &CardName) -> bool {
    key.cards.is_empty() || key.cards.iter().any(|declared| card.may_be(&declared.name()))
}

/// The shipped profile at `path`, beside which the state directory's must not be another one.
fn shipped(store: &Store, name: &str, path: &Path, own: Option<Profile>) -> Result<Profile> {
    let shipped = load_shipped(path)?;
    match own {
        Some(own) if !own.is_of_same_key(&shipped) => Err(Error::new(
            Class::Profile,
            format!("key {name}: choosing its profile"),
            format!(
                "{} has id {}, and {} in the state directory has id {}",
                path.display(),
                shipped.id(),
                store.file(name).display(),
                own.id()
            ),
            format!(
                "If the shipped one is right, move the other out of the state directory; if not, \
                 remove security.cryptkey.keys.{name}.profile. Their secrets differ."
            ),
        )),
        _ => Ok(shipped),
    }
}

/// What the planner has to know of a profile.
#[must_use]
pub fn sealed(profile: &Profile, key: &Key) -> Sealed {
    let (piv, unlisted): (Vec<_>, Vec<_>) =
        profile.piv_providers().partition(|(_, provider)| is_listed(key, &provider.card()));
    let providers = || profile.providers().iter().enumerate();
    let typed = providers().filter(|(_, provider)| provider.kind().is_typed());
    let mut typed: Vec<_> = typed.map(|(place, _)| place).collect();
    // Passphrases come first: they are shorter.
    typed.sort_by_key(|place| {
        matches!(profile.providers()[*place].kind(), ProviderKind::Recovery(_))
    });
    let others = providers().filter_map(|(_, provider)| match provider.kind() {
        ProviderKind::Unknown(name) => Some(name.clone()),
        _ => None,
    });
    Sealed {
        id: profile.id(),
        salt_id: profile.salt_id(),
        names_recipient: profile.recipient().is_some(),
        is_version_1: profile.version() == Version::V1,
        threshold: profile.threshold().into(),
        ids: profile.providers().iter().map(|provider| provider.id().to_owned()).collect(),
        piv: piv.into_iter().map(|(index, params)| (index, params.clone())).collect(),
        unlisted: unlisted.into_iter().map(|(_, provider)| provider.card()).collect(),
        typed,
        others: others.collect(),
    }
}

/// Profiles of other keys that a slot has to do with, by their files.
#[derive(Default)]
pub struct Others {
    /// One that no spec of the machine names, and that is sealed to this slot of this card.
    pub orphan: Option<String>,
    /// One that is sealed to the very key that is in the slot.
    pub dependent: Option<String>,
}

/// The profiles of other keys than `own` that have to do with this slot of this card. Whether the key may
/// overwrite others is known beside its name.
///
/// # Errors
/// `profile` where a profile that might be one can't be read.
pub fn others(
    store: &Store,
    spec: &Spec,
    (own, overwrites): (&str, bool),
    slot: Slot,
    card: CardName,
    state: &SlotState,
) -> Result<Others> {
    // What the spec declares matters only to a key that is to be destroyed.
    let is_other = |name: &str| name != own && (overwrites || !spec.declares(name));
    let mut profiles = Vec::new();
    for (name, loaded) in store.profiles()?.into_iter().filter(|(name, _)| is_other(name)) {
        profiles.push((store.file(&name), spec.declares(&name), loaded?.profile));
    }
    let declared = spec.keys.iter().filter(|(name, _)| is_other(name));
    let shipped = declared.filter_map(|(_, other)| other.profile.as_ref());
    for path in shipped.chain(&spec.other_profiles).filter(|_| overwrites) {
        profiles.push((path.clone(), true, load_shipped(path)?));
    }
    let mut others = Others::default();
    for (file, is_declared, profile) in profiles {
        for (_, provider) in profile.piv_providers() {
            let named = provider.card();
            let same_key = matches!(state, SlotState::Key(found)
                if found.public.as_ref().is_ok_and(|key| same_key(key, &provider.public_key)));
            // A card's GUID may change: some tools write a new one with each certificate.
            let same_serial = named.serial.is_some() && named.serial == card.serial;
            // Whatever slot it was in: cards move keys, too.
            if same_key {
                others.dependent.get_or_insert_with(|| file.display().to_string());
            }
            let same_slot = provider.slot == slot;
            if !is_declared && same_slot && (same_key || same_serial || named.may_be(&card)) {
                others.orphan.get_or_insert_with(|| file.display().to_string());
            }
        }
    }
    Ok(others)
}
