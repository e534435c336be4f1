//! The steps of a plan, and what each leads to where all goes well.

use std::fmt;

use zeroize::Zeroizing;

use super::Known;
use crate::{
    profile::generating::Generating,
    token::{Facts, Fingerprint, KeySource, SlotKey, SlotState, base_point, guard::History},
};

/// One step. Each is safe to be killed in and to be run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait for the card, and begin a session with it.
    FindCard,
    /// Ask what is in the slot, without the PIN.
    InspectSlot,
    /// Ask what the card attests of the slot, and see who vouches for it.
    Attest,
    /// Ask how many tries the PIN has left.
    CountTries,
    /// End the session, and ask a person for the PIN.
    AskPin,
    /// Get the PIN, and look up what the card made of it before.
    RecallPin,
    /// Record that the PIN is about to be presented.
    RecordPin,
    /// Present the PIN.
    PresentPin,
    /// Find out by key agreements what is in the slot.
    ProbeSlot,
    /// Have the key that is to be destroyed agree on a key: a card that can't is of no use, and then its
    /// key would go in vain.
    TryKey,
    /// Record that a key is about to be generated.
    BeginRecord(Generating),
    /// Generate a key in the slot, which destroys this one.
    Generate(Option<Fingerprint>),
    /// Have the card prove its key, so that a new key can be sealed to it and to others at once.
    Prepare,
    /// Seal a key to the card, and write its profile.
    Enroll(Sealing),
    /// Remove the record of a generation whose key has its profile.
    EndRecord,
    /// Open the share of the provider with this index.
    OpenShare(usize),
    /// Ask a person for the passphrase or the recovery code of the provider with this index.
    AskShare(usize),
    /// Write the secrets to the RAM file system, if they are not there already.
    Publish,
}

/// What is sealed to a card's key, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealing {
    /// A new key, as the first profile.
    New,
    /// The same key, in the place of the provider whose card key was destroyed.
    Same,
    /// The same key, to one more provider.
    Added,
    /// A new key, as a profile in the place of the one that is given up.
    Renewed,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FindCard => f.write_str("find the card"),
            Self::InspectSlot => f.write_str("ask what is in the slot"),
            Self::Attest => f.write_str("check what the card attests of the slot's key"),
            Self::CountTries => f.write_str("ask how many tries the PIN has left"),
            Self::AskPin => f.write_str("ask a person for the PIN"),
            Self::RecallPin => f.write_str("look up whether the card rejected the PIN before"),
            Self::RecordPin => f.write_str("record that the PIN is about to be presented"),
            Self::PresentPin => f.write_str("present the PIN"),
            Self::ProbeSlot => f.write_str("find out by key agreements what is in the slot"),
            Self::TryKey => f.write_str(
                "have the key that is to be destroyed agree on a key, to see that the card can",
            ),
            Self::BeginRecord(_) => f.write_str("record that a key is about to be generated"),
            Self::Generate(None) => f.write_str("generate a P-256 key in the slot"),
            Self::Generate(Some(key)) => {
                write!(f, "DESTROY {key} in the slot, for good, and generate a P-256 key there")
            }
            Self::Prepare => f.write_str(
                "have the card prove its key, so that a new key can be sealed to it and to others",
            ),
            Self::Enroll(Sealing::New) => {
                f.write_str("seal a new key to the card and write its profile")
            }
            Self::Enroll(Sealing::Added) => f.write_str(
                "seal the key to this card too, and write the profile; no secret changes",
            ),
            Self::Enroll(Sealing::Same) => f.write_str(
                "seal the same key to the card's new key, and write the profile; the old one is kept \
                 under a dated name, and no secret changes",
            ),
            Self::Enroll(Sealing::Renewed) => f.write_str(
                "GIVE UP the profile, which is kept under a dated name; seal a new key to the card and \
                 write its profile: every secret changes",
            ),
            Self::EndRecord => f.write_str("remove the record of the generation"),
            Self::OpenShare(index) => write!(f, "open share {} with a key agreement", index + 1),
            Self::AskShare(index) => {
                write!(f, "ask a person for what opens share {}", index + 1)
            }
            Self::Publish => f.write_str("publish the secrets, if anything changed"),
        }
    }
}

impl Step {
    /// Adds to what is known what the step leads to where all goes well. Returns false where what
    /// follows can't be told before the step was carried out.
    #[must_use]
    pub fn assume(self, known: &mut Known, hand: &mut Option<Facts>) -> bool {
        let Some(session) = hand else {
            match self {
                Self::Publish => known.published = true,
                Self::EndRecord => known.record = None,
                Self::AskShare(index) => known.share_opened(index),
                _ => return false,
            }
            return true;
        };
        match self {
            Self::FindCard
            | Self::InspectSlot
            | Self::Attest
            | Self::CountTries
            | Self::ProbeSlot => {
                return false;
            }
            Self::AskPin => known.pins.answer(session.card, Zeroizing::default()),
            Self::RecallPin => session.pin.history = Some(History::Proven),
            Self::RecordPin => session.pin.history = Some(History::Recorded),
            Self::PresentPin => session.pin.verified = true,
            Self::TryKey => session.agrees = true,
            Self::BeginRecord(record) => known.record = Some(record),
            Self::EndRecord => known.record = None,
            // No step depends on which key it will be: the base point stands for it.
            Self::Generate(_) => {
                let public = Ok(base_point());
                let source = KeySource::KeyAgreement;
                session.attestation = None;
                session.slot = Some(SlotState::Key(SlotKey {
                    public,
                    policies: None,
                    source,
                    is_generated: true,
                }));
            }
            Self::Prepare => {
                known.settled.extend(session.listed);
                *hand = None;
            }
            Self::Enroll(sealing) => {
                known.open = true;
                known.enrolled |= sealing != Sealing::Added;
                known.settled.extend(session.listed);
                if sealing == Sealing::Added && known.record.is_some() {
                    // Whether that is about this card shows in the new profile.
                    return false;
                }
            }
            Self::OpenShare(index) => {
                *hand = None;
                known.share_opened(index);
            }
            Self::AskShare(index) => known.share_opened(index),
            Self::Publish => known.published = true,
        }
        true
    }
}
