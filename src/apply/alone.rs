//! That nobody else uses the card while it knows a PIN or a management key.

use super::{Attempt, Failure, Work};
use crate::{
    error::{Class, Error},
    spec::SharedCard,
    token::{Session, other_clients},
};

impl Work<'_> {
    /// To be called before the card is told `what` ("the PIN"). That others were asked to let go of it is
    /// behind this run: they were waited for when the session began.
    pub(super) fn see_to_others(&mut self, what: &str) -> Attempt {
        let session = self.session()?;
        if session.is_alone() {
            return Ok(());
        }
        let (card, reader) = (session.facts.card, session.facts.reader.clone());
        let clients = other_clients();
        let who = match &clients[..] {
            [] => "another program".into(),
            some => format!("another program, likely {}", some.join(" or ")),
        };
        let tried = format!("key {}: presenting {what} to {card}", self.name);
        let found = format!("reader {reader:?} is used beside this run by {who}");
        if self.spec.shared_card == SharedCard::Refuse {
            let advice = "Nothing was presented, as sharedCard is \"refuse\". End that program, or have it \
                          let go of the card when it does not use it, and start the unit again.";
            return Err(Failure::Final(Error::new(Class::Busy, tried, found, advice)));
        }
        if self.run.others.replace(who.clone()) != Some(who) {
            tracing::warn!(
                "{tried}: {found}. Until this run has ended it may use the card's keys without a PIN. End \
                 it, or set security.cryptkey.sharedCard = \"refuse\"."
            );
        }
        self.with_card("letting another program finish", Session::let_others_finish)
    }
}
