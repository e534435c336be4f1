//! What is known of a key, of the machine and of the card in hand.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    guard::History,
    profile::{generating::Generating, piv},
    spec::{ManagementKeySource, PinSource},
    token::{Attestation, CardName, Fingerprint, SlotState},
};

/// All that is known of a key, of the machine and of the card in hand.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "facts, each of which is so or not")]
pub struct Known {
    /// The profile, if there is one.
    pub profile: Option<Sealed>,
    /// Whether the state directory is on a RAM file system: a profile there is lost at power-off.
    pub state_is_in_ram: bool,
    /// What the run is for.
    pub goal: Goal,
    /// The profile's providers that opened their share in this run.
    pub opened: BTreeSet<usize>,
    /// Those that are not tried any more in this run: they are not there, or something failed.
    pub failed: BTreeSet<usize>,
    /// Whether nobody answered a question: then no other one is asked.
    pub unanswered: bool,
    /// The cards of the spec's list, by their places there, with which no session is begun any more
    /// to seal the key to them: what was to be done was done, or failed.
    pub settled: BTreeSet<usize>,
    /// The session with a card, while there is one.
    pub session: Option<Session>,
    /// The PINs of this run that were presented and not accepted.
    pub pins: Vec<Presented>,
    /// The cards whose PIN a person gave.
    pub answered: Vec<CardName>,
    /// Whether the key is open: outputs can be derived.
    pub open: bool,
    /// Whether a profile was made or replaced in this run.
    pub enrolled: bool,
    /// A record of a key that was about to be generated, in this run or in one that was killed.
    pub record: Option<Generating>,
    /// Whether the declared secrets are published.
    pub published: bool,
}

/// What a run is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Goal {
    /// To publish the secrets; then to seal the key to the cards that the spec lists, that the profile
    /// does not know, and that are there.
    #[default]
    Publish,
    /// To open the key, with these providers among others.
    Open(BTreeSet<usize>),
    /// To open the key, and to seal it to the cards that the spec lists and the profile does not know.
    Join,
}

/// What the planner has to know of a profile.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// Its public id.
    pub id: String,
    /// Shares that open it.
    pub threshold: usize,
    /// The ids of its providers.
    pub ids: Vec<String>,
    /// Its PIV providers whose cards the spec lists, by index.
    pub piv: BTreeMap<usize, piv::Params>,
    /// The cards of its other PIV providers. They see no PIN of ours.
    pub unlisted: Vec<CardName>,
    /// Its providers that a person types, in the order in which they are asked for.
    pub typed: Vec<usize>,
    /// The types of its other providers, which nothing here can open.
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
    /// Its place in the spec's list of cards, if it is there.
    pub listed: Option<usize>,
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
    /// Notes that a provider opened its share.
    pub fn share_opened(&mut self, place: usize) {
        self.opened.insert(place);
        let threshold = self.profile.as_ref().map_or(usize::MAX, |sealed| sealed.threshold);
        self.open |= self.opened.len() >= threshold;
    }

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
