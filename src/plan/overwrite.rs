//! Overwriting (rule 4): which key may be destroyed, and what becomes of the profile that hangs on it.
//!
//! The spec names the one key that may be destroyed. Whether that was done is read from what is there:
//! afterwards no slot holds the named key and no profile is sealed to it, so that the spec asks for
//! nothing any more. In between, a record on the disk says which slot has a key of ours that no
//! profile knows yet.

use super::{
    Hazard, Known, Refusal, Sealed, check_declared, check_policies, check_slots, remembered,
};
use crate::{
    profile::{generating::Generating, piv},
    spec::{Enroll, Key},
    token::{
        CardName, Facts, Fingerprint, KeySource, PinPolicy, SlotKey, SlotState, TouchPolicy,
        fingerprint, is_named_by,
    },
};

/// What is to be done with the slot that is to hold the key of a new profile or provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Find out by key agreements what is in it.
    Probe,
    /// Generate a key in it, destroying this one.
    Generate(Option<Fingerprint>),
    /// Use the key in it.
    Use,
}

impl Known {
    /// The provider whose card key the spec has destroyed, and another one put in its place.
    #[must_use]
    pub fn doomed(&self, key: &Key) -> Option<usize> {
        let named = self.leave.named(key)?;
        let sealed = self.profile.as_ref().filter(|_| !self.enrolled)?;
        let doomed = |provider: &piv::Params| {
            provider.slot == key.place_of(&provider.card()).slot
                && is_named_by(&provider.public_key, named)
        };
        sealed.piv.iter().find(|(_, provider)| doomed(provider)).map(|(&place, _)| place)
    }

    /// Whether there is a record of a generation whose key the open profile is sealed to.
    pub(super) fn record_is_done(&self) -> bool {
        self.record.is_some_and(|record| {
            let providers = self.profile.iter().flat_map(|sealed| sealed.piv.values());
            let made = |provider: &piv::Params| {
                let destroyed =
                    record.destroys.is_some_and(|d| is_named_by(&provider.public_key, d));
                record.is_about(&provider.card(), provider.slot) && !destroyed
            };
            // One that is begun later is about a card that the key is still to be sealed to.
            self.enrolled && !self.published || providers.into_iter().any(made)
        })
    }

    /// What was about to be generated in the session's slot.
    fn recorded(&self, session: &Facts) -> Option<Generating> {
        self.record.filter(|record| record.is_about(&session.card, session.place.slot))
    }

    /// The record that has to be on the disk before a key is generated that destroys this one.
    pub(super) fn record_for(
        &self,
        key: &Key,
        session: &Facts,
        destroys: Option<Fingerprint>,
    ) -> Option<Generating> {
        let wanted = Generating { card: session.card, slot: session.place.slot, destroys };
        let there = self.recorded(session);
        // Of an empty slot, a record of what was in it before says as much.
        let is_there = there.is_some_and(|there| destroys.is_none() || there == wanted);
        (self.leave.overwrites(key) && !is_there).then_some(wanted)
    }
}

impl Sealed {
    /// Whether the other providers open it without the one at `place`, so that it can be sealed again.
    /// A version 1 profile can't be.
    pub(super) fn opens_without(&self, asks: bool, place: usize) -> bool {
        self.others(asks, place) >= self.threshold && !self.is_version_1
    }

    /// How many other providers than the one at `place` may open it.
    fn others(&self, asks: bool, place: usize) -> usize {
        self.usable(asks) - usize::from(self.piv.contains_key(&place))
    }
}

/// What has to hold before a card is looked for to replace the key of the provider at `place`.
pub(super) fn check_replacement(
    key: &Key,
    known: &Known,
    sealed: &Sealed,
    place: usize,
) -> Result<(), Refusal> {
    check_declared(key, known, sealed)?;
    let asks = known.leave.asks(key);
    if let Some(path) = known.leave.shipped(key) {
        let profile = path.display().to_string();
        return Err(Refusal::Overwrite(Hazard::ShippedDoomed { profile }));
    }
    if known.state_is_in_ram {
        return Err(Refusal::StateInRam);
    }
    check_slots(key, sealed)?;
    if sealed.opens_without(asks, place) {
        return Ok(());
    }
    if !key.overwrite.as_ref().is_some_and(|overwrite| overwrite.abandon_profile) {
        let others = if sealed.is_version_1 { 0 } else { sealed.others(asks, place) };
        return Err(Refusal::Overwrite(Hazard::LastOpener { threshold: sealed.threshold, others }));
    }
    // What is made in its place is another key (rule 3).
    if known.leave.profile_id(key).is_some() {
        return Err(Refusal::Overwrite(Hazard::AbandonForbidden { option: "profileId" }));
    }
    if key.enroll == Enroll::Never {
        return Err(Refusal::Overwrite(Hazard::AbandonForbidden { option: "enroll" }));
    }
    // It would be sealed to one card.
    if key.threshold.is_some_and(|threshold| threshold > 1) {
        return Err(Refusal::Overwrite(Hazard::AbandonForbidden { option: "threshold" }));
    }
    Ok(())
}

/// What is to be done with a slot that is to hold the key of a new profile, or that of `doomed`.
pub(super) fn fate(
    key: &Key,
    known: &Known,
    session: &Facts,
    slot: &SlotState,
    doomed: Option<&piv::Params>,
) -> Result<Fate, Refusal> {
    // A profile, and a record, have to say which card it is.
    let sealed = doomed.map(piv::Params::card);
    if session.card == CardName::default() || sealed == Some(CardName::default()) {
        return Err(Refusal::Nameless);
    }
    if let Some(refusal) = doomed.and_then(|doomed| remembered::other_card(doomed, session)) {
        return Err(refusal);
    }
    // Another card may hold a copy of the key: it is not the one to be overwritten, and a run that was
    // killed would not find it again.
    if let Some(sealed) = sealed.filter(|sealed| remembered::is_other(sealed, &session.card)) {
        return Err(Refusal::OtherCard { sealed, found: session.card, keys: None });
    }
    let overwrites = known.leave.overwrites(key);
    let generate = |destroys: Option<Fingerprint>| match known.management_key(key, session.listed) {
        Some(_) => Ok(Fate::Generate(destroys)),
        None => Err(Refusal::NoManagementKey {
            factory_default: session.factory_management_key,
            overwrites: destroys.is_some(),
        }),
    };
    let found = match slot {
        SlotState::Empty => return generate(None),
        SlotState::Unknown if session.probed => return Err(Refusal::CannotTell),
        SlotState::Unknown => return Ok(Fate::Probe),
        // A certificate may be an old one. What is destroyed is what the card itself tells.
        SlotState::Key(SlotKey { source: KeySource::Certificate, .. })
            if overwrites && !session.probed =>
        {
            return Ok(Fate::Probe);
        }
        SlotState::Key(found) => found,
    };
    let public = match (&found.public, doomed) {
        (Ok(public), _) => public,
        (Err(kind), doomed) => {
            doomed.map_or(Ok(()), |doomed| remembered::check_key(doomed, session, slot))?;
            return Err(Refusal::OtherKind { slot: session.place.slot, kind: kind.clone() });
        }
    };
    let own = fingerprint(public);
    if known.leave.named(key).is_some_and(|named| is_named_by(public, named)) {
        if let Some(profile) = &session.dependent {
            let profile = profile.clone();
            return Err(Refusal::Overwrite(Hazard::Dependent { profile, key: own }));
        }
        return generate(Some(own));
    }
    // A key of ours that no profile knows yet.
    let recorded = known.recorded(session);
    let is_ours = recorded.is_some_and(|r| !r.destroys.is_some_and(|old| is_named_by(public, old)));
    if overwrites && !is_ours {
        doomed.map_or(Ok(()), |doomed| remembered::check_key(doomed, session, slot))?;
        let (slot, declared) = (session.place.slot, known.leave.named(key));
        return Err(Refusal::Overwrite(Hazard::NotNamed { slot, found: own, declared }));
    }
    check_policies(session.place, found)?;
    Ok(Fate::Use)
}

/// Whether the key that is to be destroyed still has to show that its card agrees on keys: if it can't,
/// the next key couldn't either. It is not asked for what only it would want of people: a PIN or a touch.
pub(super) fn is_to_be_tried(session: &Facts, slot: &SlotState) -> bool {
    let (pin, touch) = session.policies();
    let allows = (pin == PinPolicy::Never || session.pin.verified)
        && (touch == TouchPolicy::Never || session.place.touch_policy != TouchPolicy::Never);
    // Of some keys that is how they are known.
    let told = matches!(slot, SlotState::Key(key) if key.source == KeySource::KeyAgreement);
    allows && !told && !session.agrees
}
