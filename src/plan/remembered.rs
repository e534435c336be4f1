//! What a profile remembers of the card that it is sealed to, and how another one is told apart.
//! An unchanged card is asked for nothing but its slot's key.

use super::{Leave, Refusal};
use crate::{
    error::Class,
    profile::piv,
    token::{
        CardName, Facts, Fingerprint, PinPolicy, Slot, SlotKey, SlotState, TouchPolicy,
        fingerprint, same_key,
    },
};

/// The slot holds the key that the profile is sealed to, or does not tell.
pub(super) fn check_key(
    provider: &piv::Params,
    session: &Facts,
    slot: &SlotState,
) -> Result<(), Refusal> {
    let sealed = &provider.public_key;
    let refusal = match slot {
        SlotState::Unknown => return Ok(()),
        SlotState::Key(SlotKey { public: Ok(public), .. }) if same_key(public, sealed) => {
            return Ok(());
        }
        SlotState::Key(found) => Refusal::KeyChanged {
            slot: provider.slot,
            sealed: fingerprint(sealed),
            found: found.public.as_ref().map(fingerprint).map_err(Clone::clone),
        },
        SlotState::Empty => Refusal::SlotEmptied { slot: provider.slot },
    };
    Err(other_card(provider, session).unwrap_or(refusal))
}

/// The refusal of a card that goes by the name of the enrolled one, and is another one: that its
/// slot holds another key is no wonder then.
pub(super) fn other_card(provider: &piv::Params, session: &Facts) -> Option<Refusal> {
    let (sealed, found) = (provider.card(), session.identity?);
    let attested = provider.attestation.map(|trust| trust.card_key);
    let is_other = match attested {
        // The one thing of a card that stays, whatever is done to its PIV application.
        Some(card_key) => found.attestation_key != Some(card_key),
        None => is_other(&sealed, &found.name),
    };
    let keys = attested.map(|card_key| (card_key, found.attestation_key));
    is_other.then_some(Refusal::OtherCard { sealed, found: found.name, keys })
}

/// Whether a name is surely another card's.
pub(super) fn is_other(sealed: &CardName, found: &CardName) -> bool {
    differ(sealed.serial, found.serial) || differ(sealed.guid, found.guid)
}

fn differ<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one != other)
}

/// The policies of the key, where the card tells them, are those that the profile remembers; or the
/// declared ones, if they want no less of people, or somebody said that it may be less. A card's word alone
/// weakens nothing.
pub(super) fn check_policies(
    provider: &piv::Params,
    slot: &SlotState,
    declared: (PinPolicy, TouchPolicy),
    leave: Leave,
) -> Result<(), Refusal> {
    let (SlotState::Key(SlotKey { policies: Some(found), .. }), Some(pin_policy)) =
        (slot, provider.pin_policy)
    else {
        return Ok(());
    };
    let sealed = (pin_policy, provider.touch_policy);
    let is_no_weaker = wants_no_less(found.0, sealed.0, (PinPolicy::Never, PinPolicy::Always))
        && wants_no_less(found.1, sealed.1, (TouchPolicy::Never, TouchPolicy::Always));
    if *found == sealed || *found == declared && (is_no_weaker || leave.accepts_policies) {
        return Ok(());
    }
    Err(Refusal::PoliciesChanged { slot: provider.slot, sealed, found: *found })
}

/// Whether a policy wants at least as much as another one, of those that lie between these.
fn wants_no_less<T: Copy + PartialEq>(found: T, sealed: T, (least, most): (T, T)) -> bool {
    sealed == least || found == most || found == sealed
}

/// The text of [`Refusal::OtherCard`].
pub(super) fn other_card_parts(
    sealed: &CardName,
    found: &CardName,
    keys: Option<&(Fingerprint, Option<Fingerprint>)>,
) -> (Class, &'static str, String, String) {
    let what = match keys {
        Some((sealed, Some(found))) => {
            format!("its attestation key is {found}, and that of the enrolled one {sealed}")
        }
        Some((sealed, None)) => {
            format!("it has no attestation key, and the enrolled one has {sealed}")
        }
        None => format!("it is {}, and the enrolled one {}", in_full(found), in_full(sealed)),
    };
    (
        Class::KeyChanged,
        "checking the card before its PIN is spent",
        format!("{found} is another card than the enrolled one that goes by this name: {what}"),
        "Insert the card that was enrolled. If this is it, its PIV application was reset or set up \
         anew, and the secrets are gone unless another provider opens the profile."
            .into(),
    )
}

fn in_full(card: &CardName) -> String {
    let guid = card.guid.map_or("no GUID".into(), |guid| format!("GUID {guid}"));
    card.serial.map_or(guid.clone(), |serial| format!("serial {serial} with {guid}"))
}

/// The text of [`Refusal::PoliciesChanged`].
pub(super) fn policies_parts(
    name: &str,
    slot: Slot,
    sealed: (PinPolicy, TouchPolicy),
    found: (PinPolicy, TouchPolicy),
) -> (Class, &'static str, String, String) {
    (
        Class::KeyChanged,
        "checking the card before its PIN is spent",
        format!(
            "the key in slot {slot} has PIN policy {} and touch policy {}, and its profile remembers \
             {} and {}",
            found.0, found.1, sealed.0, sealed.1
        ),
        format!(
            "The key was imported again with others, the card changed them when it refused to generate a key, \
             it is another card with a copy of the key, or the profile was tampered with. If you know that \
             they are right, declare them in security.cryptkey.keys.{name}, and then, with THRESHOLD as it \
             is: `nixos-cryptkey reseal --key {name} --threshold THRESHOLD --accept-policies`. Otherwise \
             insert the card that was enrolled, or restore the profile."
        ),
    )
}
