//! Key agreements, with whatever PIN and touch the card's key wants.

use super::{Attempt, Failure, Work};
use crate::{
    error::{Class, Error},
    profile::piv::SharedX,
    system::notify,
    token::{
        Fault, KeySource, PinPolicy, Slot, SlotKey, SlotState, StatusWord, TouchPolicy, Wait,
        base_point, even_key, fingerprint, same_key,
    },
};

impl Work<'_> {
    /// A key agreement on the open session, with whatever PIN and touch the key's policies want.
    pub(super) fn key_agreement(&mut self, peer: &p256::PublicKey) -> Attempt<SharedX> {
        let facts = &self.session()?.facts;
        if facts.policies().0 == PinPolicy::Always && !facts.pin.is_fresh {
            self.present_pin()?;
        }
        let (tried, limit) = self.expect_touch("agreeing on a key")?;
        let answer = self.session()?.agree(peer, limit);
        answer.map(|x| SharedX::new(&x)).map_err(|fault| self.agreement_failure(fault, tried))
    }

    /// What it means that the card did not agree on a key. It has one status word for a missing
    /// touch and a missing PIN.
    pub(super) fn agreement_failure(&mut self, fault: Fault, tried: String) -> Failure {
        let limit = self.key.touch_timeout.as_secs();
        let facts = self.session.as_ref().map(|session| &session.facts);
        let wants_touch = facts.is_some_and(|facts| facts.policies().1 != TouchPolicy::Never);
        let pin_is_settled = facts.is_some_and(|facts| {
            let told = matches!(&facts.slot, Some(SlotState::Key(key)) if key.policies.is_some());
            facts.pin.verified || told
        });
        match fault {
            Fault::TimedOut if wants_touch => {
                self.run.awaits_touch = true;
                no_touch(tried, format!("no touch came within {limit} s"))
            }
            Fault::Status(StatusWord::SECURITY_STATUS) if wants_touch && pin_is_settled => {
                no_touch(tried, "no touch came before the card gave up".into())
            }
            Fault::Status(StatusWord::SECURITY_STATUS) => Failure::Final(Error::new(
                Class::KeyChanged,
                tried,
                "the card wants a PIN or a touch that the spec does not declare",
                format!(
                    "Set security.cryptkey.keys.{0}.pinPolicy and .touchPolicy to what the key has.",
                    self.name
                ),
            )),
            Fault::Status(
                StatusWord::WRONG_DATA
                | StatusWord::NOT_SUPPORTED
                | StatusWord::WRONG_PARAMETERS
                | StatusWord::UNKNOWN_INSTRUCTION,
            ) => self.no_agreement(&fault, tried),
            fault => Failure::Card(fault, tried),
        }
    }

    /// What it means that the card knows of no such thing as a key agreement.
    fn no_agreement(&self, fault: &Fault, tried: String) -> Failure {
        let facts = self.session.as_ref().map(|session| &session.facts);
        let slot = facts.map_or(Slot::KEY_MANAGEMENT, |facts| facts.place.slot);
        let found = match facts.and_then(|facts| facts.slot.as_ref()) {
            // A certificate may be an old one.
            Some(SlotState::Key(SlotKey { public: Ok(public), source, .. }))
                if *source != KeySource::Certificate =>
            {
                let key = fingerprint(public);
                format!("{fault}: with {key} in slot {slot} it can't agree on keys (ECDH)")
            }
            _ => {
                format!("{fault}: it can't agree on keys (ECDH), or slot {slot} holds no P-256 key")
            }
        };
        let advice = if slot == Slot::KEY_MANAGEMENT {
            "This card is of no use here: take one that does ECDH with P-256.".into()
        } else {
            format!(
                "In slot {slot} this card is of no use here. Some cards agree on keys in slot {} alone: \
                 choose that with security.cryptkey.keys.{}.slot, or take another card.",
                Slot::KEY_MANAGEMENT,
                self.name
            )
        };
        Failure::Final(Error::new(Class::Card, tried, found, advice))
    }

    /// Has the key that is to be destroyed agree on a key. The other one is the base point, so that the
    /// answer is no secret: it is the key itself.
    pub(super) fn try_key(&mut self) -> Attempt {
        let answer = self.key_agreement(&base_point()).map_err(|failure| match failure {
            Failure::Final(error) => Failure::Final(Error {
                advice: format!("Nothing was destroyed. {}", error.advice),
                ..error
            }),
            fault @ Failure::Card(..) => fault,
        })?;
        let facts = &self.session()?.facts;
        let (card, slot) = (facts.card, facts.place.slot);
        let told = match &facts.slot {
            Some(SlotState::Key(key)) => key.public.clone().ok(),
            _ => None,
        };
        let used = even_key(answer.as_bytes());
        if matches!((told, used), (Some(told), Some(used)) if same_key(&told, &used)) {
            return Ok(());
        }
        Err(Failure::Final(Error::new(
            Class::KeyChanged,
            format!("key {}: having {card} use the key that is to be overwritten", self.name),
            format!("its answer is not that of the key that it shows in slot {slot}"),
            "Nothing was destroyed. Do not trust this card.",
        )))
    }

    /// Says that a touch is wanted, if it is; and how long what comes next may take.
    pub(super) fn expect_touch(&mut self, what: &str) -> Attempt<(String, Wait)> {
        let facts = &self.session()?.facts;
        let (card, policy) = (facts.card, facts.policies().1);
        let tried = format!("key {}: {what} with {card}", self.name);
        if policy == TouchPolicy::Never {
            return Ok((tried, Wait::ANSWER));
        }
        let limit = self.key.touch_timeout;
        let wait = Wait::touch(limit);
        notify::status("touch the card now");
        notify::extend_timeout(limit * 2 + wait.grace);
        tracing::info!("key {}: touch {card} now (within {} s)", self.name, limit.as_secs());
        Ok((tried, wait))
    }
}

fn no_touch(tried: String, found: String) -> Failure {
    let advice = "Start the unit again and touch the card when it blinks.";
    Failure::Final(Error::new(Class::NoAnswer, tried, found, advice))
}
