//! Key agreements, with whatever PIN and touch the card's key wants.

use std::time::Duration;

use super::{Attempt, Failure, Work};
use crate::{
    error::{Class, Error},
    profile::piv::SharedX,
    system::notify,
    token::{Fault, PinPolicy, SlotState, StatusWord, TouchPolicy},
};

impl Work<'_> {
    /// A key agreement on the open session, with whatever PIN and touch the key's policies want.
    pub(super) fn key_agreement(&mut self, peer: &p256::PublicKey) -> Attempt<SharedX> {
        if self.key.pin_policy == PinPolicy::Always && !self.pin_is_fresh {
            self.present_pin()?;
        }
        let (tried, limit) = self.expect_touch("agreeing on a key");
        let slot = self.key.slot;
        let (piv, _) = self.session()?;
        let answer = piv.key_agreement(slot, peer, limit);
        self.pin_is_fresh = false;
        answer.map(|x| SharedX::new(&x)).map_err(|fault| self.agreement_failure(fault, tried))
    }

    /// What it means that the card did not agree on a key. It has one status word for a missing
    /// touch and a missing PIN.
    pub(super) fn agreement_failure(&mut self, fault: Fault, tried: String) -> Failure {
        let limit = self.key.touch_timeout.as_secs();
        let wants_touch = self.key.touch_policy != TouchPolicy::Never;
        let session = self.known.session.as_ref();
        let pin_is_settled = session.is_some_and(|session| {
            let told = matches!(&session.slot, Some(SlotState::Key(key)) if key.policies.is_some());
            session.verified || told
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
            fault => Failure::Card(fault, tried),
        }
    }

    /// Says that a touch is wanted, if it is; and how long what comes next may take.
    pub(super) fn expect_touch(&self, what: &str) -> (String, Duration) {
        let session = self.known.session.as_ref();
        let card = session.map(|s| s.card.to_string()).unwrap_or_default();
        let tried = format!("key {}: {what} with {card}", self.name);
        if self.key.touch_policy == TouchPolicy::Never {
            return (tried, crate::token::ANSWER_LIMIT);
        }
        let limit = self.key.touch_timeout;
        notify::status("touch the card now");
        notify::extend_timeout(limit * 2);
        tracing::info!("key {}: touch {card} now (within {} s)", self.name, limit.as_secs());
        (tried, limit)
    }
}

fn no_touch(tried: String, found: String) -> Failure {
    let advice = "Start the unit again and touch the card when it blinks.";
    Failure::Final(Error::new(Class::NoAnswer, tried, found, advice))
}
