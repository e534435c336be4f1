//! What the cards of a world say without the PIN, true or not.

use super::{
    run::Run,
    world::{Attests, Content, KEYS, TRUST, Tells},
};
use crate::{
    profile::piv::{Params, same_key},
    token::{Attestation, CardName, KeySource, Serial, SlotKey, SlotState, Statement},
};

impl Run<'_> {
    /// Whether this is the provider's card: by its key, else by its name.
    pub fn is(&self, card: usize, provider: &Params) -> bool {
        let by_key = matches!(self.told(card), SlotState::Key(SlotKey { public: Ok(key), .. })
            if same_key(&key, &provider.public_key));
        let (serial, guid) = (provider.serial, provider.guid);
        by_key || self.cards[card].name.is(&CardName { serial, guid })
    }

    /// What the card says of its slot without the PIN.
    pub fn told(&self, card: usize) -> SlotState {
        let card = &self.cards[card];
        let key = |public, policies, source| {
            SlotState::Key(SlotKey { public, policies, source, is_generated: true })
        };
        match (card.tells, card.content) {
            (Tells::Nothing { .. }, _) => SlotState::Unknown,
            (Tells::Certificate(other), _) => key(Ok(KEYS[other]), None, KeySource::Certificate),
            (Tells::Truth { .. }, Content::Empty) => SlotState::Empty,
            (Tells::Truth { policies }, content) => {
                let public = match content {
                    Content::Key(own) => Ok(KEYS[own]),
                    _ => Err("P-384".into()),
                };
                key(public, policies.then_some(card.policies), KeySource::Metadata)
            }
        }
    }

    /// What the card attests of its slot.
    pub fn attested(&self, index: usize) -> Attestation {
        let card = &self.cards[index];
        let is_new = matches!(card.content, Content::Key(3));
        let about = match (card.attests, card.content) {
            (Attests::Nothing, _) => return Attestation::None,
            (Attests::Untrusted, Content::Empty) => {
                return Attestation::Untrusted("stranger".into());
            }
            (Attests::Untrusted, _) => return Attestation::Bad("stranger".into()),
            (_, Content::Empty) => return Attestation::Able(TRUST),
            (Attests::Imported, _) if !is_new => return Attestation::Able(TRUST),
            (Attests::OtherKey, Content::Key(own)) => Ok(KEYS[(own + 1) % KEYS.len()]),
            (_, Content::Key(own)) => Ok(KEYS[own]),
            (_, Content::P384) => Err("P-384".into()),
        };
        let serial = match card.attests {
            Attests::OtherSerial => Serial::new(9),
            _ => card.name.serial,
        };
        Attestation::Made(TRUST, Statement { public: about, serial, policies: Some(card.policies) })
    }
}
