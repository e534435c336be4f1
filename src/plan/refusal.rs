//! Why the planner goes no further. What to do next about each is in `advice`.

use super::{Hazard, Mistrust};
use crate::{
    error::Error,
    token::guard::Rejection,
    token::{CardName, Fingerprint, PinPolicy, Slot, TouchPolicy},
};

/// A named reason to go no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The declared profile is not there.
    ProfileLost {
        /// The declared id.
        id: String,
    },
    /// There is no profile, and the key's secrets are published: it had one in this boot.
    ProfileGone,
    /// The profile is not the declared one.
    OtherProfile {
        /// The declared id.
        declared: String,
        /// The id of the one that is there.
        found: String,
    },
    /// There is no profile, and none may be made.
    NotEnrolled,
    /// There is no profile, and one made now would be gone after the next power-off.
    StateInRam,
    /// The profile's providers don't reach its threshold.
    OutOfReach {
        /// Shares that open the profile.
        threshold: usize,
        /// Its cards.
        cards: usize,
        /// Its passphrases and recovery codes.
        typed: usize,
        /// The types of its other providers, which nothing here can open.
        others: Vec<String>,
        /// Whether the spec lets people be asked.
        asks: bool,
    },
    /// A card was to get an id that another provider of the profile has.
    IdInUse {
        /// The id.
        id: String,
    },
    /// A new key would take more cards to open than the spec lists.
    TooFewCards {
        /// The declared threshold.
        threshold: usize,
        /// The cards.
        listed: usize,
    },
    /// A new key would take keys on several cards, where keys may be destroyed.
    OneAtATime {
        /// The declared threshold.
        threshold: usize,
    },
    /// The profile is sealed to cards that the spec does not list.
    Unlisted {
        /// Those cards.
        cards: Vec<CardName>,
    },
    /// The card has neither a serial nor a GUID.
    Nameless,
    /// The profile is sealed to another slot of a card than the declared one.
    OtherSlot {
        /// The card.
        card: CardName,
        /// The spec's.
        declared: Slot,
        /// The profile's.
        sealed: Slot,
    },
    /// A profile that the spec does not name is sealed to the slot.
    Orphan {
        /// The profile's file.
        profile: String,
        /// The slot.
        slot: Slot,
    },
    /// The slot holds another key than the one that the profile is sealed to.
    KeyChanged {
        /// The slot.
        slot: Slot,
        /// The profile's.
        sealed: Fingerprint,
        /// The card's, or the name of its kind.
        found: Result<Fingerprint, String>,
    },
    /// A card that goes by the name of the enrolled one is another one.
    OtherCard {
        /// The profile's name for it.
        sealed: CardName,
        /// Its own.
        found: CardName,
        /// The attestation keys, of the enrolled one and of this one, if the profile knows any.
        keys: Option<(Fingerprint, Option<Fingerprint>)>,
    },
    /// The key that the profile is sealed to has other policies than when it was enrolled.
    PoliciesChanged {
        /// The slot.
        slot: Slot,
        /// The profile's.
        sealed: (PinPolicy, TouchPolicy),
        /// The card's.
        found: (PinPolicy, TouchPolicy),
    },
    /// The card's attestation is not what the spec wants.
    Attestation {
        /// The slot.
        slot: Slot,
        /// What is wrong with it.
        why: Mistrust,
    },
    /// The slot of an enrolled card is empty.
    SlotEmptied {
        /// The slot.
        slot: Slot,
    },
    /// The key in the slot is not a P-256 key.
    OtherKind {
        /// The slot.
        slot: Slot,
        /// What it is.
        kind: String,
    },
    /// The key in the slot has other policies than the declared ones.
    OtherPolicies {
        /// The spec's.
        declared: (PinPolicy, TouchPolicy),
        /// The card's.
        found: (PinPolicy, TouchPolicy),
    },
    /// A key would be destroyed that may not be.
    Overwrite(Hazard),
    /// Whether the slot is empty can't be found out.
    CannotTell,
    /// A key has to be generated, and no management key is declared.
    NoManagementKey {
        /// Whether the card's is still the maker's, where the card tells.
        factory_default: Option<bool>,
        /// Whether there is a key in the slot.
        overwrites: bool,
    },
    /// A PIN is needed, and none is declared.
    NoPin,
    /// A person would have to type the PIN, and nobody answered another question of this run.
    Unanswered,
    /// Too few tries are left to present a PIN.
    TooFewTries {
        /// So many.
        left: u8,
        /// At least so many have to be.
        wanted: u8,
    },
    /// The card rejected this PIN in an earlier run.
    PinRemembered(Rejection),
    /// The card rejected the PIN in this run.
    PinRejected {
        /// Tries left.
        left: u8,
    },
    /// The PIN was presented in this run, and the card did not say what it made of it.
    PinUnresolved,
}

impl Refusal {
    /// The refusal as an error about the key called `name`.
    #[must_use]
    pub fn error(&self, name: &str) -> Error {
        let (class, tried, found, advice) = self.parts(name);
        Error::new(class, format!("key {name}: {tried}"), found, advice)
    }
}
