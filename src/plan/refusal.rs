//! Why the planner goes no further, each with what to do next.

use super::{
    Hazard, Mistrust,
    remembered::{other_card_parts, policies_parts},
    ways::out_of_reach_parts,
};
use crate::{
    card::{CardName, Fingerprint, PinPolicy, Slot, TouchPolicy},
    error::{Class, Error},
    guard::Rejection,
};

/// A named reason to go no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The declared profile is not there.
    ProfileLost {
        /// The declared id.
        id: String,
    },
    /// The profile is not the declared one.
    OtherProfile {
        /// The declared id.
        declared: String,
        /// The id of the one that is there.
        found: String,
    },
    /// The profile is of version 1, and the spec pins it by its id.
    PinnedVersion1,
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
    /// The profile is sealed to another slot than the declared one.
    OtherSlot {
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

    #[expect(clippy::too_many_lines, reason = "a table: one text for each refusal")]
    fn parts(&self, name: &str) -> (Class, &'static str, String, String) {
        let option = |field: &str| format!("security.cryptkey.keys.{name}.{field}");
        match self {
            Self::ProfileLost { id } => (
                Class::Profile,
                "looking for its profile",
                format!("profile {id} is declared and is not there"),
                format!(
                    "Restore the profile from a backup, or mount the state directory. Only if every \
                     secret of this key may change, remove {} to enroll a new key.",
                    option("profileId")
                ),
            ),
            Self::OtherProfile { declared, found } => (
                Class::Profile,
                "checking its profile",
                format!("the spec declares profile {declared}, and {found} is there"),
                format!(
                    "Restore the declared profile, or correct {}. Nothing was changed.",
                    option("profileId")
                ),
            ),
            Self::PinnedVersion1 => (
                Class::Profile,
                "checking its profile",
                "the spec declares its id, and it is of version 1: whoever reads such a file can make \
                 another one with the same id"
                    .into(),
                format!("Restore the version 2 profile. For one of cryptkey's, remove {}.", option("profileId")),
            ),
            Self::StateInRam => (
                Class::Profile,
                "enrolling",
                "the state directory is on a RAM file system, where the profile would be lost at the \
                 next power-off, and every secret with it"
                    .into(),
                "Mount a persistent file system there, or set stateDir to a directory on one.".into(),
            ),
            Self::NotEnrolled => (
                Class::Profile,
                "looking for its profile",
                "there is none, and enroll is \"never\"".into(),
                format!(
                    "Restore the profile from a backup, or set {} to \"auto\" to make one.",
                    option("enroll")
                ),
            ),
            Self::OutOfReach { threshold, cards, typed, others, asks } => {
                out_of_reach_parts(*threshold, *cards, (*typed, *asks), others, option)
            }
            Self::TooFewCards { threshold, listed } => (
                Class::Spec,
                "enrolling",
                format!("its threshold is {threshold}, and the spec lists {listed} cards"),
                format!(
                    "List as many cards in {}. Or set {} to 1, add a recovery code or a passphrase with \
                     `nixos-cryptkey provider add`, and raise it with `nixos-cryptkey reseal`.",
                    option("cards"),
                    option("threshold")
                ),
            ),
            Self::OneAtATime { threshold } => (
                Class::Spec,
                "enrolling",
                format!("its threshold is {threshold}, and mode \"overwrite\" makes the key of one card only"),
                format!(
                    "Nothing was generated. Set {} to 1 for the first run, and raise it with `nixos-cryptkey \
                     reseal` once the other cards have joined; or set {} to \"use-existing\".",
                    option("threshold"),
                    option("mode")
                ),
            ),
            Self::Unlisted { cards } => (
                Class::Spec,
                "opening its profile",
                format!(
                    "it is sealed to {}, which `cards` does not list",
                    cards.iter().map(CardName::to_string).collect::<Vec<_>>().join(" and ")
                ),
                format!("Add the card to {}, or restore the right profile.", option("cards")),
            ),
            Self::Nameless => (
                Class::Card,
                "enrolling",
                "the card has neither a serial nor a GUID, by which it could be known again".into(),
                "Write a CHUID to it (`ykman piv objects generate chuid`), and start over.".into(),
            ),
            Self::OtherSlot { declared, sealed } => (
                Class::Spec,
                "opening its profile",
                format!("the spec declares slot {declared}, and the profile is sealed to {sealed}"),
                format!("Set {} to \"{sealed}\".", option("slot")),
            ),
            Self::Orphan { profile, slot } => (
                Class::Profile,
                "enrolling",
                format!("{profile} is sealed to slot {slot} of this card, and the spec does not name it"),
                format!(
                    "If the key was renamed, rename that file to {name}.toml; if it is not wanted \
                     any more, move it out of the state directory. If another spec declares the \
                     key, list it in `otherKeys`. Otherwise choose another slot."
                ),
            ),
            Self::KeyChanged { slot, sealed, found } => (
                Class::KeyChanged,
                "checking the card before its PIN is spent",
                match found {
                    Ok(found) => {
                        format!("slot {slot} holds {found}, and the profile is sealed to {sealed}")
                    }
                    Err(kind) => format!(
                        "slot {slot} holds a key of another kind ({kind}), and the profile is sealed \
                         to {sealed}"
                    ),
                },
                "Insert the card that was enrolled. If its key was replaced, the secrets are gone \
                 unless another provider opens the profile."
                    .into(),
            ),
            Self::OtherCard { sealed, found, keys } => {
                other_card_parts(sealed, found, keys.as_ref())
            }
            Self::PoliciesChanged { slot, sealed, found } => policies_parts(*slot, *sealed, *found),
            Self::Attestation { slot, why } => why.parts(*slot, option),
            Self::SlotEmptied { slot } => (
                Class::KeyChanged,
                "checking the card before its PIN is spent",
                format!("slot {slot} is empty, and the profile is sealed to a key in it"),
                "Insert the card that was enrolled. If it was reset, the secrets are gone unless \
                 another provider opens the profile."
                    .into(),
            ),
            Self::OtherKind { slot, kind } => (
                Class::KeyChanged,
                "enrolling",
                format!("slot {slot} holds a key of another kind ({kind}), and a P-256 key is needed"),
                format!("Choose an empty slot with {}.", option("slot")),
            ),
            Self::OtherPolicies { declared, found } => (
                Class::KeyChanged,
                "checking the card before its PIN is spent",
                format!(
                    "its key has PIN policy {} and touch policy {}, and the spec declares {} and {}",
                    found.0, found.1, declared.0, declared.1
                ),
                format!(
                    "Declare what the key has ({} = \"{}\", {} = \"{}\"), or choose another slot: \
                     policies are fixed when a key is generated.",
                    option("pinPolicy"),
                    found.0,
                    option("touchPolicy"),
                    found.1
                ),
            ),
            Self::CannotTell => (
                Class::Card,
                "enrolling",
                "the card does not tell whether the slot is empty, and it holds no usable P-256 key"
                    .into(),
                format!(
                    "Generate a P-256 key in the slot with the maker's tool, or choose another slot \
                     with {}. Nothing was generated, so that no key was destroyed.",
                    option("slot")
                ),
            ),
            Self::Overwrite(hazard) => hazard.parts(&option),
            Self::NoManagementKey { factory_default, overwrites } => (
                Class::Spec,
                "enrolling",
                format!(
                    "{}generating a key takes the card's management key, {}",
                    if *overwrites { "" } else { "the slot is empty, and " },
                    if *factory_default == Some(true) {
                        "which is still the one that every card is shipped with"
                    } else {
                        "of which the spec says nothing"
                    }
                ),
                format!(
                    "Change it with `ykman piv access change-management-key --protect` and set {0} \
                     to {{\"protected\": true}}; or name a file that holds it with {{\"file\": …}}; \
                     or allow the maker's with {{\"factoryDefault\": true}}.",
                    option("managementKey")
                ),
            ),
            Self::NoPin => (
                Class::Spec,
                "unlocking the card",
                "its PIN is needed, and the spec names none".into(),
                format!("Set {}.", option("pin")),
            ),
            Self::Unanswered => (
                Class::NoAnswer,
                "unlocking the card",
                "its PIN is to be typed, and nobody answered the question before".into(),
                "Start the unit again, and be there to answer.".into(),
            ),
            Self::TooFewTries { left: 0, .. } => (
                Class::PinRefused,
                "unlocking the card",
                "its PIN is blocked: it has no tries left".into(),
                "Nothing was presented. Unblock the PIN with the PUK (`ykman piv access unblock-pin`)."
                    .into(),
            ),
            Self::TooFewTries { left, wanted } => (
                Class::PinRefused,
                "unlocking the card",
                format!("tries left for its PIN: {left}; wanted are at least {wanted}"),
                "Nothing was presented. Present the right PIN by hand (`ykman piv access verify-pin`), \
                 which restores the tries, or set a new one with the PUK (`ykman piv access \
                 unblock-pin`)."
                    .into(),
            ),
            Self::PinRemembered(Rejection { card, at, key, left, told }) => (
                Class::PinRefused,
                "unlocking the card",
                if *told {
                    format!(
                        "{card} rejected this very PIN at {at}, when key {key} presented it; tries left \
                         then: {left}"
                    )
                } else {
                    format!(
                        "this very PIN was presented to {card} at {at} for key {key}, in a run that did \
                         not live to hear the answer, and a try was gone; tries left then: {left}"
                    )
                },
                format!(
                    "Nothing was presented. Correct the PIN that {} names. If it is right by now, or \
                     always was: `nixos-cryptkey pin forget --card {}`.",
                    option("pin"),
                    card.argument()
                ),
            ),
            Self::PinRejected { left } => (
                Class::PinWrong,
                "unlocking the card",
                format!("the card rejected the PIN in this run; tries left: {left}"),
                format!("Correct the PIN that {} names.", option("pin")),
            ),
            Self::PinUnresolved => (
                Class::PinRefused,
                "unlocking the card",
                "the card went away while it checked the PIN, or gave no clear answer".into(),
                "It may have cost a try, so that it is not presented again in this run. Insert the \
                 card firmly and start over."
                    .into(),
            ),
        }
    }
}
