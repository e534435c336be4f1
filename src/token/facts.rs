//! What is known of the card in hand. Its session writes it, the planner reads it.

use super::{
    Attestation, CardName, Fingerprint, PinPolicy, Slot, SlotKey, SlotState, TouchPolicy,
    guard::History,
};

/// The slot of a card that a key uses, and the policies that the key there has or gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The slot.
    pub slot: Slot,
    /// When the card wants the PIN.
    pub pin_policy: PinPolicy,
    /// When the card wants a touch.
    pub touch_policy: TouchPolicy,
}

impl Place {
    /// Both policies, as a card tells them.
    #[must_use]
    pub fn policies(self) -> (PinPolicy, TouchPolicy) {
        (self.pin_policy, self.touch_policy)
    }
}

/// What is known of the card in hand.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The card, as far as it is known.
    pub card: CardName,
    /// The reader that it is in.
    pub reader: String,
    /// What of it is used.
    pub place: Place,
    /// The provider that it opens; none to enroll.
    pub provider: Option<usize>,
    /// Its place in the spec's list of cards, if it is there.
    pub listed: Option<usize>,
    /// What is in the slot; none before it was asked for.
    pub slot: Option<SlotState>,
    /// What the card attests of the slot; none before it was asked for.
    pub attestation: Option<Attestation>,
    /// Who the card says it is; asked for only where its slot does not hold the key that it was
    /// enrolled with.
    pub identity: Option<Identity>,
    /// Whether key agreements were tried to tell what is in the slot.
    pub probed: bool,
    /// Whether the key in the slot has agreed on a key in this session, so that this card can.
    pub agrees: bool,
    /// Whether the card says that its management key is the maker's.
    pub factory_management_key: Option<bool>,
    /// A profile that the spec does not name, and that is sealed to this slot of this card.
    pub orphan: Option<String>,
    /// A profile of another key that is sealed to the very key that is in the slot.
    pub dependent: Option<String>,
    /// Its PIN.
    pub pin: PinFacts,
}

/// What is known of a PIN in a session.
#[derive(Clone, Debug, Default)]
pub struct PinFacts {
    /// The tries that it has left; none before they were asked for.
    pub tries: Option<u8>,
    /// What became of it before; none before that was looked up.
    pub history: Option<History>,
    /// Whether the card accepted it in this session.
    pub verified: bool,
    /// Whether it was the last thing that the card was told, as PIN policy "always" wants it.
    pub is_fresh: bool,
}

impl Facts {
    /// The policies that the key in the slot has, as far as the card told them: else those that it is to
    /// have.
    #[must_use]
    pub fn policies(&self) -> (PinPolicy, TouchPolicy) {
        match &self.slot {
            Some(SlotState::Key(SlotKey { policies: Some(told), .. })) => *told,
            _ => self.place.policies(),
        }
    }

    /// What is known of a card when its session begins.
    #[must_use]
    pub fn new(card: CardName, reader: &str, place: Place) -> Self {
        Self {
            card,
            reader: reader.into(),
            place,
            provider: None,
            listed: None,
            slot: None,
            attestation: None,
            identity: None,
            probed: false,
            agrees: false,
            factory_management_key: None,
            orphan: None,
            dependent: None,
            pin: PinFacts::default(),
        }
    }
}

/// Who a card says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its serial and its GUID.
    pub name: CardName,
    /// The fingerprint of its attestation key; none where it has none, or nobody wanted to know.
    pub attestation_key: Option<Fingerprint>,
}
