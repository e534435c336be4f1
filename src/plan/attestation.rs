//! What a card's attestation has to be for its key to be enrolled. Asked for where the spec wants
//! it, before a PIN is spent and before a key is generated.

use super::Step;
use crate::{
    error::Class,
    spec::{AttestationPolicy, Key},
    token::{Attestation, CardName, Facts, KeySource, Slot, SlotState, Statement, same_key},
};

/// Why a card is not enrolled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mistrust {
    /// An attestation is required, and the card makes none.
    Unable,
    /// An attestation is required, and there is none of the key in the slot: it was imported.
    Unattested,
    /// The card's attestation key is not to be trusted, so neither would be what it says.
    Untrusted(String),
    /// The attestation of the slot's key is bad.
    Bad(String),
}

/// The step that attestation wants next for a card that is to be enrolled, if any. Where a key is to
/// be generated, whatever is in the slot now, the card has to be one whose word will count.
pub(super) fn step(
    key: &Key,
    session: &Facts,
    slot: &SlotState,
    generate: bool,
) -> Result<Option<Step>, Mistrust> {
    let is_required = match key.attestation.policy {
        AttestationPolicy::Off => return Ok(None),
        AttestationPolicy::IfAvailable => false,
        AttestationPolicy::Required => true,
    };
    let Some(attestation) = &session.attestation else {
        return Ok(Some(Step::Attest));
    };
    let why = match attestation {
        Attestation::Bad(why) => Some(Mistrust::Bad(why.clone())),
        Attestation::Untrusted(why) if is_required || generate => {
            Some(Mistrust::Untrusted(why.clone()))
        }
        Attestation::None if is_required => Some(Mistrust::Unable),
        Attestation::Able(_) if is_required && !generate && *slot != SlotState::Unknown => {
            Some(Mistrust::Unattested)
        }
        // One of the two is wrong, and generating would destroy the key if there is one (rule 4).
        Attestation::Made(..) if *slot == SlotState::Empty => Some(Mistrust::Bad(
            "the card attests the key in the slot, and says elsewhere that there is none".into(),
        )),
        Attestation::Made(_, statement) if !generate => {
            disagreement(session, slot, statement).map(Mistrust::Bad)
        }
        _ => None,
    };
    why.map_or(Ok(None), Err)
}

/// In what the statement differs from what the card says otherwise, or from the declaration.
fn disagreement(session: &Facts, slot: &SlotState, statement: &Statement) -> Option<String> {
    let (declared, serial) = (session.place.policies(), session.card.serial);
    let about = |serial| CardName { serial, guid: None };
    // A key that is not known yet is compared when it is.
    if let SlotState::Key(found) = slot {
        let is_same = match (&found.public, &statement.public) {
            (Ok(found), Ok(attested)) => same_key(found, attested),
            _ => false,
        };
        if !is_same {
            return Some("it is about another key than the one in the slot".into());
        }
        if found.source == KeySource::Metadata && !found.is_generated {
            return Some("the card says elsewhere that the key was imported".into());
        }
    }
    match statement.policies {
        // Some cards tell their serial nowhere else.
        _ if serial.is_some() && statement.serial != serial => {
            let (attested, told) = (about(statement.serial), about(serial));
            Some(format!("it is about {attested}, and this is {told}"))
        }
        None => Some("it does not say which policies the key has".into()),
        Some((pin, touch)) if (pin, touch) != declared => Some(format!(
            "it says that the key has PIN policy {pin} and touch policy {touch}, and the spec \
             declares {} and {}",
            declared.0, declared.1
        )),
        Some(_) => None,
    }
}

impl Mistrust {
    /// The refusal's class, what was tried, what was found and what to do next. `option` names an
    /// option of the key.
    pub(super) fn parts(
        &self,
        slot: Slot,
        option: impl Fn(&str) -> String,
    ) -> (Class, &'static str, String, String) {
        let (found, advice) = match self {
            Self::Unable => (
                "the card makes none: it has no attestation key".into(),
                format!(
                    "Use a card that can, or set {} to \"if-available\" to do without.",
                    option("attestation.policy")
                ),
            ),
            Self::Unattested => (
                format!("there is none of the key in slot {slot}: the card did not make it itself"),
                format!(
                    "Choose an empty slot with {}, in which the card makes a key; or set {} to \
                     \"if-available\" to do without.",
                    option("slot"),
                    option("attestation.policy")
                ),
            ),
            Self::Untrusted(why) => (
                why.clone(),
                format!(
                    "If the card is genuine, {} lacks its maker's root, or what is between the two: \
                     Yubico's are at https://developers.yubico.com/PKI/. Otherwise do not trust this \
                     card. Nothing was written.",
                    option("attestation.roots")
                ),
            ),
            Self::Bad(why) => (
                why.clone(),
                format!(
                    "Do not trust this card, unless {} lacks its maker's root or what is between \
                     the two: Yubico's are at https://developers.yubico.com/PKI/. No profile was \
                     written.",
                    option("attestation.roots")
                ),
            ),
        };
        (Class::KeyChanged, "checking the card's attestation", found, advice)
    }
}
