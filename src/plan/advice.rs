//! What each refusal says: its class, what was tried, what was found, what to do next.

use super::{
    Refusal,
    remembered::{other_card_parts, policies_parts},
    ways::out_of_reach_parts,
};
use crate::{
    error::Class,
    token::{CardName, guard::Rejection},
};

impl Refusal {
    #[expect(clippy::too_many_lines, reason = "a table: one text for each refusal")]
    pub(super) fn parts(&self, name: &str) -> (Class, &'static str, String, String) {
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
            Self::ProfileGone => (
                Class::Profile,
                "looking for its profile",
                "there is none, and its secrets are published: it had one in this boot".into(),
                format!(
                    "Nothing was changed. If stateDir, {0} or the key's name was changed, change that back, or \
                     move the profile along. Otherwise mount the state directory, or restore the profile \
                     from a backup. Only if every secret of this key may change: `systemctl restart \
                     cryptkey-{name}` makes a new key; without the module, `nixos-cryptkey scrub --key \
                     {name}` and then `apply`.",
                    option("profile")
                ),
            ),
            Self::OtherProfile { declared, found } => (
                Class::Profile,
                "checking its profile",
                format!("the spec declares profile {declared}, and this one is {found}"),
                format!(
                    "Nothing was changed. Restore the declared profile. Only if this one is right, set {} \
                     = \"{found}\";.",
                    option("profileId")
                ),
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
            Self::IdInUse { id } => (
                Class::Spec,
                "sealing it to one more card",
                format!("its profile has a provider {id} already, for another card"),
                format!(
                    "Give the card another id in {}; or, if it takes that one's place, take that one out \
                     first: `nixos-cryptkey provider remove --key {name} {id}`.",
                    option("cards")
                ),
            ),
            Self::TooFewCards { threshold, listed } => (
                Class::Spec,
                "enrolling",
                format!("its threshold is {threshold}; cards that the spec lists: {listed}"),
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
            Self::OtherSlot { card, declared, sealed } => (
                Class::Spec,
                "opening its profile",
                format!(
                    "the spec declares slot {declared} of {card}, and the profile is sealed to {sealed}"
                ),
                format!(
                    "Set {} to \"{sealed}\"; or, where the cards differ, the slot of this card in {}.",
                    option("slot"),
                    option("cards")
                ),
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
            Self::PoliciesChanged { slot, sealed, found } => {
                policies_parts(name, *slot, *sealed, *found)
            },
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
                "checking the policies of the card's key",
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
