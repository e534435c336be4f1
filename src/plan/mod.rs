//! The planner: what comes next, from the spec and what is known. No I/O, no clock, no randomness.
//!
//! Some facts come only after others were acted on (a slot that tells nothing before the PIN), so
//! `apply` carries one step out, adds what it learned to [`Known`], and asks again. `plan` prints
//! the steps as far as they are certain.

mod advice;
mod attestation;
mod hazard;
mod known;
mod overwrite;
mod refusal;
mod remembered;
mod skip;
mod step;
#[cfg(test)]
mod tests;
mod ways;

pub use attestation::Mistrust;
pub use hazard::Hazard;
pub use known::{Goal, Known, Leave, Runner, Sealed};
pub use refusal::Refusal;
pub use skip::{Findings, Marked, Obstacle, PinInHand, obstacle};
pub use step::{Sealing, Step};
pub use ways::Way;

use crate::{
    spec::{Enroll, Key, ManagementKeySource, PinSource, ProfileId},
    token::{Facts, PinPolicy, PinState, Place, SlotKey, SlotState, guard::History},
};

use overwrite::{Fate, check_replacement, fate, is_to_be_tried};

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Carry this out, then ask again.
    Step(Step),
    /// Everything is as the spec wants it.
    Done,
    /// Nothing more is done, for this reason.
    Refuse(Refusal),
}

/// The next step for a key, with the card in hand.
#[must_use]
pub fn next(key: &Key, known: &Known, session: Option<&Facts>) -> Next {
    decide(key, known, session).unwrap_or_else(Next::Refuse)
}

/// As [`next`], with refusals as errors.
fn decide(key: &Key, known: &Known, session: Option<&Facts>) -> Result<Next, Refusal> {
    let doomed = known.doomed(key);
    known.leave.profile_id(key).map_or(Ok(()), |declared| known.check_proven(declared))?;
    if known.is_as_open_as_wanted(key) {
        // What a command opens the key for says nothing of what a run has begun.
        if known.goal == Goal::Publish {
            if known.record_is_done() {
                return Ok(Next::Step(Step::EndRecord));
            }
            if !known.published {
                return Ok(Next::Step(Step::Publish));
            }
        }
        if known.to_join(key).is_empty() {
            return Ok(Next::Done);
        }
    }
    match (&known.profile, doomed) {
        (Some(sealed), Some(place)) => check_replacement(key, known, sealed, place)?,
        (Some(sealed), None) => check_profile(key, known, sealed)?,
        (None, _) => check_enrollment(key, known)?,
    }
    let Some(session) = session else {
        return known.next_way(key).map(Next::Step);
    };
    let Some(slot) = &session.slot else {
        return Ok(Next::Step(Step::InspectSlot));
    };
    // A session for something else than what is to be done is none.
    let provider =
        known.candidates(key).find(|(place, _)| session.provider == Some(*place)).map(|(_, p)| p);
    let fate = match (&known.profile, session.provider, provider) {
        (None, None, _) => {
            check_orphan(session)?;
            Some(fate(key, known, session, slot, None)?)
        }
        // It gets a share of an open key: no profile of another one is in danger.
        (Some(sealed), None, _) if known.joins(key, session.listed) => {
            ways::check_id(key, known, sealed, session)?;
            Some(fate(key, known, session, slot, None)?)
        }
        (Some(_), place, Some(provider)) if place == doomed => {
            Some(fate(key, known, session, slot, Some(provider))?)
        }
        (Some(_), _, Some(provider)) => {
            remembered::check_key(provider, session, slot)?;
            remembered::check_policies(provider, slot, session.place.policies(), known.leave)?;
            if let SlotState::Key(found) = slot {
                check_policies(session.place, found)?;
            }
            None
        }
        _ => return known.next_way(key).map(Next::Step),
    };
    let generates = matches!(fate, Some(Fate::Generate(_)));
    if let Some(fate) = fate {
        // What is still to be found out is not known, whatever a certificate says.
        let slot = if fate == Fate::Probe { &SlotState::Unknown } else { slot };
        let wants = attestation::step(key, session, slot, generates);
        let wants = wants.map_err(|why| Refusal::Attestation { slot: session.place.slot, why })?;
        if let Some(step) = wants {
            return Ok(Next::Step(step));
        }
    }
    if let Some(step) = pin_step(key, known, session, generates)? {
        return Ok(Next::Step(step));
    }
    Ok(Next::Step(match (fate, session.provider) {
        (None, Some(index)) => Step::OpenShare(index),
        (None, None) => Step::FindCard,
        (Some(Fate::Probe), _) => Step::ProbeSlot,
        (Some(Fate::Generate(Some(_))), _) if is_to_be_tried(session, slot) => Step::TryKey,
        (Some(Fate::Generate(destroys)), _) => match known.record_for(key, session, destroys) {
            Some(record) => Step::BeginRecord(record),
            None => Step::Generate(destroys),
        },
        (Some(Fate::Use), None) if known.profile.is_some() => Step::Enroll(Sealing::Added),
        (Some(Fate::Use), None) if known.settled.len() + 1 < new_threshold(key) => Step::Prepare,
        (Some(Fate::Use), None) => Step::Enroll(Sealing::New),
        (Some(Fate::Use), Some(_)) if known.open => Step::Enroll(Sealing::Same),
        (Some(Fate::Use), Some(_)) => Step::Enroll(Sealing::Renewed),
    }))
}

/// That a profile is the one that the spec declares, if it does.
fn check_declared(key: &Key, known: &Known, sealed: &Sealed) -> Result<(), Refusal> {
    match known.leave.profile_id(key) {
        // Without a recipient the opened key tells.
        Some(declared) if sealed.names_recipient => check_id(declared, &sealed.id, sealed),
        _ => Ok(()),
    }
}

impl Known {
    /// That the key is the declared one if it is open, whatever its profile says of itself: before
    /// anything of it is published, or sealed to anybody.
    pub(crate) fn check_proven(&self, declared: &ProfileId) -> Result<(), Refusal> {
        match (&self.proven_id, &self.profile) {
            (Some(proven), Some(sealed)) => check_id(declared, proven, sealed),
            _ => Ok(()),
        }
    }
}

/// That `id` is the declared one; or that the declared one is of the kind that there was before, a hash
/// of the output salt. In version 1 that counts for nothing: whoever reads such a profile can make
/// another one with the same salt.
fn check_id(declared: &ProfileId, id: &str, sealed: &Sealed) -> Result<(), Refusal> {
    let declared = declared.as_str();
    if declared == id || declared == sealed.salt_id && !sealed.is_version_1 {
        return Ok(());
    }
    Err(Refusal::OtherProfile { declared: declared.to_owned(), found: id.to_owned() })
}

/// What has to hold of a profile before a card is looked for.
fn check_profile(key: &Key, known: &Known, sealed: &Sealed) -> Result<(), Refusal> {
    check_declared(key, known, sealed)?;
    if known.reach(key) < sealed.threshold {
        return Err(known.out_of_reach(key));
    }
    check_slots(key, sealed)
}

/// Each card's slot is the declared one.
fn check_slots(key: &Key, sealed: &Sealed) -> Result<(), Refusal> {
    let mut providers = sealed.piv.values();
    let other = providers.find_map(|provider| {
        let declared = key.place_of(&provider.card()).slot;
        (declared != provider.slot).then_some((declared, provider))
    });
    other.map_or(Ok(()), |(declared, provider)| {
        Err(Refusal::OtherSlot { card: provider.card(), declared, sealed: provider.slot })
    })
}

/// What has to hold before a card is looked for to enroll (rule 3).
fn check_enrollment(key: &Key, known: &Known) -> Result<(), Refusal> {
    if let Some(id) = known.leave.profile_id(key) {
        return Err(Refusal::ProfileLost { id: id.as_str().to_owned() });
    }
    if known.stands {
        return Err(Refusal::ProfileGone);
    }
    if key.enroll == Enroll::Never {
        return Err(Refusal::NotEnrolled);
    }
    if known.state_is_in_ram {
        return Err(Refusal::StateInRam);
    }
    let (threshold, listed) = (new_threshold(key), key.cards.len());
    if threshold > listed.max(1) {
        return Err(Refusal::TooFewCards { threshold, listed });
    }
    // There is one record of a generation: what was made on the card before the last one would be a
    // key that nobody knows, after a kill.
    if threshold > 1 && known.leave.overwrites(key) {
        return Err(Refusal::OneAtATime { threshold });
    }
    Ok(())
}

/// How many cards a new key is sealed to at once: as many as have to come together to open it.
fn new_threshold(key: &Key) -> usize {
    key.threshold.unwrap_or(1).into()
}

/// Nothing is enrolled where the profile of a key that was renamed may be (rule 3).
fn check_orphan(session: &Facts) -> Result<(), Refusal> {
    match &session.orphan {
        Some(profile) => {
            Err(Refusal::Orphan { profile: profile.clone(), slot: session.place.slot })
        }
        None => Ok(()),
    }
}

/// Known policies are the declared ones.
fn check_policies(place: Place, found: &SlotKey) -> Result<(), Refusal> {
    let declared = place.policies();
    match found.policies {
        Some(found) if found != declared => Err(Refusal::OtherPolicies { declared, found }),
        _ => Ok(()),
    }
}

/// What the PIN still wants, if it is needed for what follows (rule 5).
fn pin_step(
    key: &Key,
    known: &Known,
    session: &Facts,
    generate: bool,
) -> Result<Option<Step>, Refusal> {
    let management_key = known.management_key(key, session.listed);
    let is_protected = management_key == Some(&ManagementKeySource::Protected);
    let pin = &session.pin;
    let takes_none = session.place.pin_policy == PinPolicy::Never && !(generate && is_protected);
    if pin.verified || takes_none {
        return Ok(None);
    }
    let source = known.pin_source(key, session.listed).ok_or(Refusal::NoPin)?;
    match known.pins.state(session) {
        Some(PinState::Rejected(left)) => return Err(Refusal::PinRejected { left }),
        Some(PinState::Unresolved) => return Err(Refusal::PinUnresolved),
        None => {}
    }
    match pin.tries {
        None => return Ok(Some(Step::CountTries)),
        Some(left) if left < key.min_tries => {
            return Err(Refusal::TooFewTries { left, wanted: key.min_tries });
        }
        Some(_) => {}
    }
    if source == PinSource::Ask && !known.pins.has(&session.card) {
        return if known.unanswered { Err(Refusal::Unanswered) } else { Ok(Some(Step::AskPin)) };
    }
    Ok(Some(match &pin.history {
        None => Step::RecallPin,
        Some(History::Unproven) => Step::RecordPin,
        Some(History::Proven | History::Recorded) => Step::PresentPin,
        Some(History::Rejected(when)) => {
            return Err(Refusal::PinRemembered(when.clone()));
        }
    }))
}
