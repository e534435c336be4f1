//! What keeps a run from being left out. A run whose result would be what stands needs no card; in
//! doubt it is not left out.

use std::fmt;

use super::{Known, Next, next};
use crate::{
    spec::{Key, ProfileId},
    token::{CardName, guard::Memory},
};

/// What is known, without a card, of what stands and of what a run would go by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// How the mark of what is published compares; none where nothing is published, as at each boot.
    pub mark: Option<Marked>,
    /// A user or group that is not known now.
    pub unknown_account: Option<String>,
    /// The first published file that is not as it was left.
    pub deviates: Option<String>,
    /// For each provider of the profile whose card the spec lists: the card, and what is known of its PIN.
    pub pins: Vec<(CardName, PinInHand)>,
}

/// The mark of what is published, beside what it would be now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marked {
    /// There is none.
    Missing,
    /// It is of a program that made or wrote secrets in another way.
    OtherOutputs,
    /// The spec said something else of the key then.
    OtherSpec,
    /// The profile was another file then.
    OtherProfile,
    /// It is the same.
    Same,
}

/// What is known of the PIN that a card would be presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinInHand {
    /// None would be.
    NotNeeded,
    /// A person would type it.
    Typed,
    /// It can't be read now.
    Missing,
    /// What the guard remembers of it.
    Read(Memory),
}

/// Why a run is not left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Nothing is published: so it is at each boot.
    NothingPublished,
    /// What is published has no mark.
    Unmarked,
    /// The program makes or writes secrets in another way.
    Outputs,
    /// The spec says something else of the key.
    Spec,
    /// The profile is another file.
    Profile,
    /// There is no profile, or one of version 1, which anybody can make anew.
    NoSealedProfile,
    /// Only the opened key would tell whether it is the declared one.
    Unproven,
    /// A key is being generated, or one is to be destroyed.
    Generating,
    /// The planner refuses to go on with what is known.
    Refused,
    /// The spec lists a card that the profile does not know.
    NewCard(CardName),
    /// A user or group is not known.
    UnknownAccount(String),
    /// A published file, or their directory, is not as it was left.
    Deviates(String),
    /// The PIN of a card is not surely the last accepted one.
    Pin(CardName, PinInHand),
    /// Not enough cards would be presented a PIN that they accepted last.
    TooFewPins,
}

/// What keeps the run from being left out; none where its result is sure to be what stands.
#[must_use]
pub fn obstacle(key: &Key, known: &Known, facts: &Findings) -> Option<Obstacle> {
    match facts.mark {
        None => return Some(Obstacle::NothingPublished),
        Some(Marked::Missing) => return Some(Obstacle::Unmarked),
        Some(Marked::OtherOutputs) => return Some(Obstacle::Outputs),
        Some(Marked::OtherSpec) => return Some(Obstacle::Spec),
        Some(Marked::OtherProfile) => return Some(Obstacle::Profile),
        Some(Marked::Same) => {}
    }
    let Some(sealed) = known.profile.as_ref().filter(|sealed| !sealed.is_version_1) else {
        return Some(Obstacle::NoSealedProfile);
    };
    let declared = key.profile_id.as_ref().map(ProfileId::as_str);
    if declared.is_some_and(|id| !sealed.names_recipient && id != sealed.salt_id) {
        return Some(Obstacle::Unproven);
    }
    if known.record.is_some() || known.doomed(key).is_some() {
        return Some(Obstacle::Generating);
    }
    if matches!(next(key, known, None), Next::Refuse(_)) {
        return Some(Obstacle::Refused);
    }
    if let Some(card) = key.cards.iter().find(|card| !sealed.knows(key, card)) {
        return Some(Obstacle::NewCard(card.name()));
    }
    if let Some(account) = &facts.unknown_account {
        return Some(Obstacle::UnknownAccount(account.clone()));
    }
    if let Some(what) = &facts.deviates {
        return Some(Obstacle::Deviates(what.clone()));
    }
    let is_sure = |pin: &PinInHand| {
        matches!(pin, PinInHand::NotNeeded | PinInHand::Read(Memory::LastAccepted))
    };
    // A card that was never here, a spare one in a safe, keeps nobody waiting.
    let is_new = |pin: &PinInHand| *pin == PinInHand::Read(Memory::None);
    if let Some((card, pin)) = facts.pins.iter().find(|(_, pin)| !is_sure(pin) && !is_new(pin)) {
        return Some(Obstacle::Pin(*card, *pin));
    }
    let sure = facts.pins.iter().filter(|(_, pin)| is_sure(pin)).count();
    let wanted = sealed.threshold.min(facts.pins.len()).max(1);
    (sure < wanted).then_some(Obstacle::TooFewPins)
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingPublished => f.write_str("nothing is published"),
            Self::Unmarked => {
                f.write_str("what is published has no mark that it can be compared with")
            }
            Self::Outputs => {
                f.write_str("this version of the program makes secrets in another way")
            }
            Self::Spec => f.write_str("the spec of the key has changed"),
            Self::Profile => f.write_str("the profile has changed"),
            Self::NoSealedProfile => f.write_str("there is no profile of version 2"),
            Self::Unproven => {
                f.write_str("only the opened key tells whether it is the declared one")
            }
            Self::Generating => f.write_str("a key is being generated, or is to be"),
            Self::Refused => f.write_str("it can't be opened as things stand"),
            Self::NewCard(card) => write!(f, "the profile does not know {card}"),
            Self::UnknownAccount(account) => write!(f, "{account} is not known"),
            Self::Deviates(what) => write!(f, "{what} is not as it was left"),
            Self::Pin(card, PinInHand::Typed) => write!(f, "the PIN of {card} is typed"),
            Self::Pin(card, PinInHand::Missing) => write!(f, "the PIN of {card} can't be read"),
            Self::Pin(card, _) => write!(f, "{card} did not accept this PIN last"),
            Self::TooFewPins => f.write_str("no card accepted its PIN last, or too few did"),
        }
    }
}
