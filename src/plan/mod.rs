//! The planner: what comes next, from the spec and what is known. No I/O, no clock, no randomness.
//!
//! Some facts come only after others were acted on (a slot that tells nothing before the PIN), so
//! `apply` carries one step out, adds what it learned to [`Known`], and asks again. `plan` prints
//! the steps as far as they are certain.

mod attestation;
mod hazard;
mod overwrite;
mod refusal;
mod remembered;
mod step;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use attestation::Mistrust;
pub use hazard::Hazard;
pub use refusal::Refusal;
pub use step::{Sealing, Step};

use crate::{
    card::{Attestation, CardName, Fingerprint, PinPolicy, SlotKey, SlotState},
    guard::History,
    profile::{generating::Generating, piv},
    spec::{Enroll, Key, ManagementKeySource, PinSource},
};

use overwrite::{Fate, check_replacement, fate};

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

/// All that is known of a key, of the machine and of the card in hand.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "facts, each of which is so or not")]
pub struct Known {
    /// The profile, if there is one.
    pub profile: Option<Sealed>,
    /// Whether the state directory is on a RAM file system: a profile there is lost at power-off.
    pub state_is_in_ram: bool,
    /// The profile's providers that opened their share in this run.
    pub opened: BTreeSet<usize>,
    /// The session with a card, while there is one.
    pub session: Option<Session>,
    /// The PINs of this run that were presented and not accepted.
    pub pins: Vec<Presented>,
    /// The cards whose PIN a person gave.
    pub answered: Vec<CardName>,
    /// Whether the key is open: outputs can be derived.
    pub open: bool,
    /// Whether a profile was written in this run.
    pub enrolled: bool,
    /// A record of a key that was about to be generated, in this run or in one that was killed.
    pub record: Option<Generating>,
    /// Whether the declared secrets are published.
    pub published: bool,
}

/// What the planner has to know of a profile.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// Its public id.
    pub id: String,
    /// Shares that open it.
    pub threshold: usize,
    /// Its PIV providers whose cards the spec lists, by index.
    pub piv: BTreeMap<usize, piv::Params>,
    /// The cards of its other PIV providers. They see no PIN of ours.
    pub unlisted: Vec<CardName>,
    /// The types of its other providers.
    pub others: Vec<String>,
    /// Whether it is of version 1, which whoever reads it can take apart and make anew.
    pub is_version_1: bool,
}

/// A session with a card.
#[derive(Clone, Debug)]
pub struct Session {
    /// The card, as far as it is known.
    pub card: CardName,
    /// The reader that it is in.
    pub reader: String,
    /// The provider that it opens; none to enroll.
    pub provider: Option<usize>,
    /// Where its PIN comes from.
    pub pin: Option<PinSource>,
    /// Where its management key comes from.
    pub management_key: Option<ManagementKeySource>,
    /// What is in the slot; none before it was asked for.
    pub slot: Option<SlotState>,
    /// What the card attests of the slot; none before it was asked for.
    pub attestation: Option<Attestation>,
    /// Who the card says it is; asked for only where its slot does not hold the key that it was
    /// enrolled with.
    pub identity: Option<Identity>,
    /// Whether key agreements were tried to tell what is in the slot.
    pub probed: bool,
    /// Whether the card says that its management key is the maker's.
    pub factory_management_key: Option<bool>,
    /// A profile that the spec does not name, and that is sealed to this slot of this card.
    pub orphan: Option<String>,
    /// A profile of another key that is sealed to the very key that is in the slot.
    pub dependent: Option<String>,
    /// The tries that the PIN has left; none before they were asked for.
    pub tries: Option<u8>,
    /// What is known of the PIN; none before it was looked up.
    pub history: Option<History>,
    /// Whether the card accepted the PIN in this session.
    pub verified: bool,
}

/// Who a card says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its serial and its GUID.
    pub name: CardName,
    /// The fingerprint of its attestation key; none where it has none, or nobody wanted to know.
    pub attestation_key: Option<Fingerprint>,
}

/// A PIN that was presented, and that the card was not seen to accept: in this run, it gets no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    /// What the card is known by. A card that holds an enrolled key goes by its provider's name.
    pub card: CardName,
    /// The reader that it was in: a card with a copy of another's key may go by both names.
    pub reader: String,
    /// What became of the PIN.
    pub state: PinState,
}

/// What became of a PIN that was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinState {
    /// The card did not say what it made of it.
    Unresolved,
    /// The card rejected it, and so many tries are left.
    Rejected(u8),
}

impl Known {
    /// What became of a PIN that the session's card did not accept in this run, if there was one.
    /// What is not surely another card counts as this one.
    #[must_use]
    pub fn pin_state(&self, session: &Session) -> Option<PinState> {
        let mut pins = self.pins.iter().rev();
        pins.find(|pin| pin.reader == session.reader || pin.card.may_be(&session.card))
            .map(|pin| pin.state)
    }

    /// Notes that a PIN is about to be presented in the session: should the card vanish before it
    /// answers, this is what is known.
    pub fn pin_goes_out(&mut self) {
        self.pins.extend(self.session.as_ref().map(|session| Presented {
            card: session.card,
            reader: session.reader.clone(),
            state: PinState::Unresolved,
        }));
    }

    /// Notes what the card said of the PIN that just went out: so many tries left, or nothing where
    /// it accepted it.
    pub fn pin_came_back(&mut self, rejected: Option<u8>) {
        match (rejected, self.pins.last_mut()) {
            (Some(left), Some(last)) => last.state = PinState::Rejected(left),
            _ => drop(self.pins.pop()),
        }
        if let Some(session) = &mut self.session {
            session.verified = rejected.is_none();
        }
    }
}

/// The next step for a key.
#[must_use]
pub fn next(key: &Key, known: &Known) -> Next {
    decide(key, known).unwrap_or_else(Next::Refuse)
}

/// As [`next`], with refusals as errors.
fn decide(key: &Key, known: &Known) -> Result<Next, Refusal> {
    let doomed = known.doomed(key);
    if known.open && doomed.is_none() {
        return Ok(match known.published {
            true => Next::Done,
            false if known.record_is_done() => Next::Step(Step::EndRecord),
            false => Next::Step(Step::Publish),
        });
    }
    match (&known.profile, doomed) {
        (Some(sealed), Some(place)) => check_replacement(key, known, sealed, place)?,
        (Some(sealed), None) => check_profile(key, sealed)?,
        (None, _) => check_enrollment(key, known)?,
    }
    let Some(session) = &known.session else {
        return Ok(Next::Step(Step::FindCard));
    };
    let Some(slot) = &session.slot else {
        return Ok(Next::Step(Step::InspectSlot));
    };
    // A session for something else than what is to be done is none.
    let provider =
        known.candidates(key).find(|(place, _)| session.provider == Some(*place)).map(|(_, p)| p);
    let fate = match (&known.profile, session.provider, provider) {
        (None, None, _) => {
            check_orphan(key, session)?;
            Some(fate(key, known, session, slot, None)?)
        }
        (Some(_), place, Some(provider)) if place == doomed => {
            Some(fate(key, known, session, slot, Some(provider))?)
        }
        (Some(_), _, Some(provider)) => {
            remembered::check_key(provider, session, slot)?;
            remembered::check_policies(provider, slot)?;
            if let SlotState::Key(found) = slot {
                check_policies(key, found)?;
            }
            None
        }
        _ => return Ok(Next::Step(Step::FindCard)),
    };
    let generates = matches!(fate, Some(Fate::Generate(_)));
    if let Some(fate) = fate {
        // What is still to be found out is not known, whatever a certificate says.
        let slot = if fate == Fate::Probe { &SlotState::Unknown } else { slot };
        let wants = attestation::step(key, session, slot, generates);
        let wants = wants.map_err(|why| Refusal::Attestation { slot: key.slot, why })?;
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
        (Some(Fate::Generate(destroys)), _) => match known.record_for(key, session, destroys) {
            Some(record) => Step::BeginRecord(record),
            None => Step::Generate(destroys),
        },
        (Some(Fate::Use), None) => Step::Enroll(Sealing::New),
        (Some(Fate::Use), Some(_)) if known.open => Step::Enroll(Sealing::Same),
        (Some(Fate::Use), Some(_)) => Step::Enroll(Sealing::Renewed),
    }))
}

/// That a profile is the one that the spec declares, if it does.
fn check_declared(key: &Key, sealed: &Sealed) -> Result<(), Refusal> {
    if let Some(declared) = &key.profile_id
        && declared.as_str() != sealed.id
    {
        let (declared, found) = (declared.as_str().to_owned(), sealed.id.clone());
        return Err(Refusal::OtherProfile { declared, found });
    }
    // The id is public: it pins a profile only where nobody without the card can make another one.
    if key.profile_id.is_some() && sealed.is_version_1 {
        return Err(Refusal::PinnedVersion1);
    }
    Ok(())
}

/// What has to hold of a profile before a card is looked for.
fn check_profile(key: &Key, sealed: &Sealed) -> Result<(), Refusal> {
    check_declared(key, sealed)?;
    if sealed.piv.len() < sealed.threshold && !sealed.unlisted.is_empty() {
        return Err(Refusal::Unlisted { cards: sealed.unlisted.clone() });
    }
    if sealed.piv.len() < sealed.threshold {
        let (threshold, piv) = (sealed.threshold, sealed.piv.len());
        return Err(Refusal::OutOfReach { threshold, piv, others: sealed.others.clone() });
    }
    match sealed.piv.values().find(|provider| provider.slot != key.slot) {
        Some(provider) => Err(Refusal::OtherSlot { declared: key.slot, sealed: provider.slot }),
        None => Ok(()),
    }
}

/// What has to hold before a card is looked for to enroll (rule 3).
fn check_enrollment(key: &Key, known: &Known) -> Result<(), Refusal> {
    if let Some(id) = &key.profile_id {
        return Err(Refusal::ProfileLost { id: id.as_str().to_owned() });
    }
    if key.enroll == Enroll::Never {
        return Err(Refusal::NotEnrolled);
    }
    if known.state_is_in_ram {
        return Err(Refusal::StateInRam);
    }
    Ok(())
}

/// Nothing is enrolled where the profile of a key that was renamed may be (rule 3).
fn check_orphan(key: &Key, session: &Session) -> Result<(), Refusal> {
    match &session.orphan {
        Some(profile) => Err(Refusal::Orphan { profile: profile.clone(), slot: key.slot }),
        None => Ok(()),
    }
}

/// Known policies are the declared ones.
fn check_policies(key: &Key, found: &SlotKey) -> Result<(), Refusal> {
    let declared = (key.pin_policy, key.touch_policy);
    match found.policies {
        Some(found) if found != declared => Err(Refusal::OtherPolicies { declared, found }),
        _ => Ok(()),
    }
}

/// What the PIN still wants, if it is needed for what follows (rule 5).
fn pin_step(
    key: &Key,
    known: &Known,
    session: &Session,
    generate: bool,
) -> Result<Option<Step>, Refusal> {
    let protected = session.management_key == Some(ManagementKeySource::Protected);
    if session.verified || (key.pin_policy == PinPolicy::Never && !(generate && protected)) {
        return Ok(None);
    }
    let source = session.pin.as_ref().ok_or(Refusal::NoPin)?;
    match known.pin_state(session) {
        Some(PinState::Rejected(left)) => return Err(Refusal::PinRejected { left }),
        Some(PinState::Unresolved) => return Err(Refusal::PinUnresolved),
        None => {}
    }
    match session.tries {
        None => return Ok(Some(Step::CountTries)),
        Some(left) if left < key.min_tries => {
            return Err(Refusal::TooFewTries { left, wanted: key.min_tries });
        }
        Some(_) => {}
    }
    if *source == PinSource::Ask && !known.answered.contains(&session.card) {
        return Ok(Some(Step::AskPin));
    }
    Ok(Some(match &session.history {
        None => Step::RecallPin,
        Some(History::Unproven) => Step::RecordPin,
        Some(History::Proven | History::Recorded) => Step::PresentPin,
        Some(History::Rejected(when)) => {
            return Err(Refusal::PinRemembered(when.clone()));
        }
    }))
}
