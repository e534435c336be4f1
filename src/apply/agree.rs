//! Key agreements, with whatever PIN and touch the card's key wants.

use super::{Attempt, Failure, Work};
use crate::{
    error::{Class, Error},
    profile::piv::SharedX,
    system::notify,
    token::{Fault, PinPolicy, SlotState, StatusWord, TouchPolicy, Wait},
};

impl Work<'_> {
    /// A key agreement on the open session, with whatever PIN and touch the key's policies want.
    pub(super) fn key_agreement(&mut self, peer: &p256::PublicKey) -> Attempt<SharedX> {
        let facts = &self.session()?.facts;
        if facts.place.pin_policy == PinPolicy::Always && !facts.pin.is_fresh {
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
        let wants_touch = facts.is_some_and(|facts| facts.place.touch_policy != TouchPolicy::Never);
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
            fault => Failure::Card(fault, tried),
        }
    }

    /// Says that a touch is wanted, if it is; and how long what comes next may take.
    pub(super) fn expect_touch(&mut self, what: &str) -> Attempt<(String, Wait)> {
        let facts = &self.session()?.facts;
        let (card, policy) = (facts.card, facts.place.touch_policy);
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
