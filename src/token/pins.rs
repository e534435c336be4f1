//! What a run learned of PINs, over all of its keys and sessions.

use std::fmt;

use zeroize::Zeroizing;

use super::{CardName, Facts, Pin};

/// What a run learned of PINs.
#[derive(Clone, Default)]
pub struct Pins {
    /// Those that were presented and not accepted.
    presented: Vec<Presented>,
    accepted: Vec<(CardName, Pin)>,
    /// What a person typed for the key at hand, and for which card.
    typed: Vec<(CardName, Zeroizing<Vec<u8>>)>,
}

/// A PIN that was presented, and that the card was not seen to accept: in this run, it gets no other.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Presented {
    /// What the card is known by. A card that holds an enrolled key goes by its provider's name.
    card: CardName,
    /// The reader that it was in: a card with a copy of another's key may go by both names.
    reader: String,
    state: PinState,
}

/// What became of a PIN that was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinState {
    /// The card did not say what it made of it.
    Unresolved,
    /// The card rejected it, and so many tries are left.
    Rejected(u8),
}

impl Pins {
    /// What became of a PIN that the card in hand did not accept in this run, if there was one. What is
    /// not surely another card counts as this one.
    #[must_use]
    pub fn state(&self, of: &Facts) -> Option<PinState> {
        let is_its = |pin: &&Presented| pin.reader == of.reader || pin.card.may_be(&of.card);
        self.presented.iter().rev().find(is_its).map(|pin| pin.state)
    }

    /// Notes that a PIN goes to a card: should it vanish before it answers, this is what is known.
    pub fn go_out(&mut self, to: &Facts) {
        let (card, reader, state) = (to.card, to.reader.clone(), PinState::Unresolved);
        self.presented.push(Presented { card, reader, state });
    }

    /// Notes that the card accepted the PIN that just went out.
    pub fn accept(&mut self, card: CardName, pin: Pin) {
        self.presented.pop();
        if self.accepted(&card).is_none() {
            self.accepted.push((card, pin));
        }
    }

    /// Notes that the card rejected the PIN that just went out, with so many tries left.
    pub fn reject(&mut self, left: u8) {
        if let Some(last) = self.presented.last_mut() {
            last.state = PinState::Rejected(left);
        }
    }

    /// The PIN that the card accepted in this run, if it did.
    #[must_use]
    pub fn accepted(&self, card: &CardName) -> Option<&Pin> {
        self.accepted.iter().find(|(name, _)| name.is_known_as(card)).map(|(_, pin)| pin)
    }

    /// What a person typed for this card.
    #[must_use]
    pub fn typed(&self, card: &CardName) -> Option<&[u8]> {
        self.typed.iter().find(|(name, _)| name == card).map(|(_, typed)| &typed[..])
    }

    /// Notes what a person typed for this card.
    pub fn answer(&mut self, card: CardName, typed: Zeroizing<Vec<u8>>) {
        self.typed.push((card, typed));
    }

    /// Whether nobody has to be asked for the PIN of this card any more.
    #[must_use]
    pub fn has(&self, card: &CardName) -> bool {
        self.typed(card).is_some() || self.accepted(card).is_some()
    }

    /// Whether somebody was asked for the PIN of what may be this card.
    #[must_use]
    pub fn may_have(&self, card: &CardName) -> bool {
        let accepted = self.accepted.iter().map(|(name, _)| name);
        accepted.chain(self.typed.iter().map(|(name, _)| name)).any(|name| name.may_be(card))
    }

    /// What was typed for one key is not used for the next one, unless the card accepted it.
    pub fn forget_typed(&mut self) {
        self.typed.clear();
    }
}

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pins").field("presented", &self.presented).finish_non_exhaustive()
    }
}
