//! Asking a person: for a PIN, or for what opens a share without a card.

use std::time::Duration;

use zeroize::Zeroizing;

use super::{Attempt, Failure, Work, out_of_order};
use crate::{
    error::{Class, Error},
    profile::{Provider, ProviderKind, Wrong, seal::NewProvider},
    system::{Deadline, notify},
};

/// How often a person may try a passphrase or a recovery code.
const TRIES: u32 = 3;
/// How long systemd is told to wait for the stretching of an answer. It takes about a second with the
/// params that this program writes.
const STRETCHING: Duration = Duration::from_secs(120);

impl Work<'_> {
    /// Asks for what opens the share of the provider at `index`. No card has a part in it.
    pub(super) fn ask_share(&mut self, index: usize) -> Attempt {
        let profile = self.profile.as_ref().ok_or_else(|| out_of_order(self.name))?.clone();
        let provider = profile.providers().get(index).ok_or_else(|| out_of_order(self.name))?;
        let what = match provider.kind() {
            ProviderKind::Recovery(_) => format!("recovery code {}", provider.id()),
            _ => format!("passphrase {}", provider.id()),
        };
        let tried = format!("key {}: asking for {what}", self.name);
        let refused = |class, found: &str, advice: &str| {
            Failure::Final(Error::new(class, tried.clone(), found, advice))
        };
        let mut wrong = String::new();
        for left in (0..TRIES).rev() {
            let typed = self.ask(&format!("{wrong}Key {}, {what}:", self.name), &what)?;
            if typed.is_empty() {
                let advice = "Start the unit again to be asked once more.";
                return Err(refused(Class::NoAnswer, "nothing was typed", advice));
            }
            // A profile may want more work of this than usual.
            notify::extend_timeout(STRETCHING);
            notify::status(&format!("trying {what} of key {}", self.name));
            let secret = provider.kind().typed(&typed).ok_or_else(|| out_of_order(self.name))?;
            let fault = match secret {
                Ok(secret) => match profile.check_share(index, &secret) {
                    Ok(()) => {
                        // What it took to type is not taken from the time for the next card.
                        self.deadline = Deadline::after(self.patience());
                        if self.known.goal.renews(index) {
                            self.renew_typed(provider, &typed)?;
                        }
                        return self.add_share(index, secret, true);
                    }
                    Err(_) => "it does not open the key".into(),
                },
                Err(Wrong::Malformed(fault)) => fault,
                Err(Wrong::Fault(error)) => return Err(error.into()),
            };
            tracing::warn!("{tried}: {fault}; tries left: {left}");
            wrong = format!("Wrong: {fault}. ");
        }
        let advice = "Look for the right one and start the unit again. No try of a card was spent.";
        Err(refused(Class::WrongAnswer, &format!("{TRIES} answers did not open it"), advice))
    }

    /// Stretches what was typed with a fresh salt, so that the provider can be sealed to anew.
    fn renew_typed(&mut self, provider: &Provider, typed: &[u8]) -> Attempt {
        let kind = provider.kind().renewed()?.ok_or_else(|| out_of_order(self.name))?;
        let secret = match kind.typed(typed).ok_or_else(|| out_of_order(self.name))? {
            Ok(secret) => secret,
            Err(Wrong::Fault(error)) => return Err(error.into()),
            // It was read before.
            Err(Wrong::Malformed(_)) => return Err(out_of_order(self.name)),
        };
        self.prepared.push(NewProvider { id: provider.id().to_owned(), kind, secret });
        Ok(())
    }

    /// Shows `prompt`, and waits for the answer as long as the spec says. `what` is for the log.
    pub(super) fn ask(&mut self, prompt: &str, what: &str) -> Attempt<Zeroizing<Vec<u8>>> {
        let (name, limit) = (self.name, self.key.ask_timeout);
        notify::status(&format!("waiting for {what}"));
        notify::extend_timeout(limit * 2);
        tracing::info!("key {name}: asking for {what}, for {} s", limit.as_secs());
        (self.run.person)(prompt, &format!("cryptkey:{name}"), limit).map_err(|error| {
            // Who is not there for one question is not there for the next.
            self.known.unanswered |= error.class == Class::NoAnswer;
            error.into()
        })
    }
}
