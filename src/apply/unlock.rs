//! The PIN: counting its tries, getting it, presenting it once.

use std::{env, path::Path};

use super::{Attempt, Failure, Work, out_of_order};
use crate::{
    card::{CardName, Fault, Pin, PinTries, Piv, SlotState, Verdict},
    error::{Class, Error, Result},
    guard::{self, History, PinGuard},
    spec::PinSource,
    system::{Deadline, notify, secret_file::read_private},
};

/// No PIN is longer, with its line ending; what is longer is another file.
const LONGEST_FILE: usize = 64;

impl Work<'_> {
    pub(super) fn count_tries(&mut self) -> Attempt {
        // Before a reset takes what is known of the slot.
        let card = self.guarded_card()?;
        let what = "asking for the PIN's tries";
        let mut was_reset = false;
        let tries = self.with_card(what, |piv| match piv.pin_tries()? {
            // Somebody left the PIN verified, which hides the counter: the card is made to forget.
            PinTries::Verified => {
                was_reset = true;
                piv.reset()?;
                piv.pin_tries()
            }
            counted @ PinTries::Left(_) => Ok(counted),
        });
        if was_reset {
            // The transaction was over for a moment, in which others may have changed the slot.
            self.session()?.1.slot = None;
        }
        let left = match tries {
            Ok(PinTries::Left(left)) => left,
            Ok(PinTries::Verified) => {
                return Err(self.uncounted("it says that the PIN is verified"));
            }
            Err(Failure::Card(Fault::Status(word), _)) => {
                return Err(self.uncounted(&format!("the card answered {word}")));
            }
            Err(other) => return Err(other),
        };
        notify::status(&format!("PIN tries left: {left}"));
        // Under the turn: nobody else learns anything of the card's PINs meanwhile. What became of the
        // last one is settled before anything else, also where nothing is to be presented.
        self.guard = Some(PinGuard::open(&self.store, card, left)?);
        self.session()?.1.tries = Some(left);
        Ok(())
    }

    fn uncounted(&self, found: &str) -> Failure {
        Failure::Final(Error::new(
            Class::PinRefused,
            format!("key {}: asking for the PIN's tries", self.name),
            format!("{found}, so that they are not known"),
            "Nothing was presented. Take the card out, insert it again and start over.",
        ))
    }

    /// Asks a person, with no session open: a card must not be held for minutes.
    pub(super) fn ask_pin(&mut self) -> Attempt {
        let (_, session) = self.session()?;
        let (card, tries) = (session.card, session.tries.unwrap_or_default());
        if self.accepted_pin(&card).is_some() {
            self.known.answered.push(card);
            return Ok(());
        }
        self.end_session();
        let prompt = format!("PIN of {card}, for {} (tries left: {tries}):", self.name);
        let answer = self.ask(&prompt, &format!("the PIN of {card}"))?;
        self.answers.push((card, answer));
        self.known.answered.push(card);
        self.deadline = Deadline::after(self.key.card_timeout);
        Ok(())
    }

    /// Gets the PIN, and looks up what the card made of it before.
    pub(super) fn recall_pin(&mut self) -> Attempt {
        let (card, tries) = (self.session()?.1.card, self.tries()?);
        let (pin, origin) = self.read_pin()?;
        let history = match self.accepted_pin(&card) {
            Some(accepted) if accepted.is(&pin) => History::Proven,
            Some(_) => {
                return Err(Failure::Final(Error::new(
                    Class::PinRefused,
                    format!("key {}: presenting the PIN ({origin}) to {card}", self.name),
                    "the card accepted another PIN in this run",
                    "Nothing was presented. Have all keys of this card name the same PIN.",
                )));
            }
            None => {
                let guard = self.guard.as_ref().ok_or_else(|| out_of_order(self.name))?;
                guard.recall(&pin, tries)
            }
        };
        self.session()?.1.history = Some(history);
        self.pin = Some((pin, origin));
        Ok(())
    }

    /// Records that the PIN is about to be presented: a run that is killed before it knows what became
    /// of it leaves that to the next one.
    pub(super) fn record_pin(&mut self) -> Attempt {
        if self.store.is_in_ram() {
            tracing::warn!(
                "key {}: the state directory is in RAM, so that a PIN which the card rejects is forgotten \
                 at power-off: a wrong one costs a try at each boot. Keep stateDir on a disk.",
                self.name
            );
        }
        let left = self.tries()?;
        let (Some(guard), Some((pin, _))) = (&mut self.guard, &self.pin) else {
            return Err(out_of_order(self.name));
        };
        guard.intend(pin, left, self.name).map_err(|error| {
            let tried = format!("key {}: {}", self.name, error.tried);
            Error { tried, ..error }
        })?;
        self.session()?.1.history = Some(History::Recorded);
        Ok(())
    }

    /// The tries that the PIN had left before it was presented in this session.
    fn tries(&mut self) -> Attempt<u8> {
        let tries = self.session()?.1.tries;
        tries.ok_or_else(|| out_of_order(self.name))
    }

    /// Presents the PIN: at most one that the card has not accepted, per card and run.
    pub(super) fn present_pin(&mut self) -> Attempt {
        let (card, left) = (self.session()?.1.card, self.tries()?);
        let Some((pin, origin)) = self.pin.clone() else { return Err(out_of_order(self.name)) };
        let tried = format!("key {}: presenting the PIN ({origin}) to {card}", self.name);
        self.known.pin_goes_out();
        let verdict = self.with_card("presenting the PIN", |piv| piv.verify_pin(&pin));
        if verdict.is_err() {
            // The card may have rejected it: the next run reads that from the counter.
            self.remember(|guard, name| guard.intend(&pin, left, name));
        }
        let verdict = match verdict {
            Err(Failure::Card(Fault::Status(word), _)) => {
                return Err(Failure::Final(Error::new(
                    Class::PinRefused,
                    tried,
                    format!("the card answered {word} and does not take it as a PIN"),
                    "PINs are 6 to 8 digits; some cards take other characters too. Correct the PIN.",
                )));
            }
            other => other?,
        };
        let typed = self.session()?.1.pin == Some(PinSource::Ask);
        self.remember(|guard, name| match verdict {
            Verdict::Accepted => guard.accepted(&pin, left, typed),
            Verdict::Rejected(now_left) => guard.rejected(&pin, now_left, name),
        });
        match verdict {
            Verdict::Accepted => {
                self.known.pin_came_back(None);
                if self.accepted_pin(&card).is_none() {
                    self.run.accepted.push((card, pin));
                }
                self.pin_is_fresh = true;
                Ok(())
            }
            Verdict::Rejected(left) => {
                self.known.pin_came_back(Some(left));
                notify::status(&format!("{card} rejected the PIN; tries left: {left}"));
                Err(Failure::Final(Error::new(
                    Class::PinWrong,
                    tried,
                    format!("the card rejected it; tries left: {left}"),
                    "It is not presented again before it changes. Correct it: each wrong one costs a \
                     try, and with none left the card locks itself until it is unblocked with the PUK.",
                )))
            }
        }
    }

    /// Writes down what became of the PIN. Where it can't be written, the card's counter tells the next
    /// run.
    fn remember(&mut self, write: impl FnOnce(&mut PinGuard, &str) -> Result<()>) {
        let written = self.guard.as_mut().map_or(Ok(()), |guard| write(guard, self.name));
        if let Err(error) = written {
            tracing::warn!("key {}: {error}", self.name);
        }
    }

    /// The name by which the guard knows the card: by the card's own answer, and not by what a profile
    /// says of a card that held the same key.
    fn guarded_card(&mut self) -> Attempt<CardName> {
        let (_, session) = self.session()?;
        let (tells, is_sure) = match &session.slot {
            Some(SlotState::Key(key)) => {
                let tells = key.source.tells();
                (tells, tells && key.is_generated)
            }
            Some(SlotState::Empty) => (true, false),
            // It was found by the name that it goes by.
            Some(SlotState::Unknown) | None => (false, session.provider.is_some()),
        };
        let named = if session.provider.is_none() || is_sure { Some(session.card) } else { None };
        let by = |card: CardName| guard::name(card, tells);
        match named.map(by) {
            Some(name) if name != CardName::default() => Ok(name),
            _ => self.with_card("asking for its name", Piv::name).map(by),
        }
    }

    /// The PIN that the card accepted in this run, if it did.
    fn accepted_pin(&self, card: &CardName) -> Option<&Pin> {
        let mut accepted = self.run.accepted.iter();
        accepted.find(|(name, _)| name.is_known_as(card)).map(|(_, pin)| pin)
    }

    /// The PIN, and where it came from.
    fn read_pin(&mut self) -> Attempt<(Pin, String)> {
        let (_, session) = self.session()?;
        let (card, source) = (session.card, session.pin.clone());
        let read = match source {
            // The answer was for one card: another one's tries are not at stake for it.
            Some(PinSource::Ask) => {
                if let Some(pin) = self.accepted_pin(&card) {
                    return Ok((pin.clone(), "typed before".into()));
                }
                match self.answers.iter().find(|(asked, _)| *asked == card) {
                    Some((_, answer)) => as_pin(answer, "typed".into()),
                    None => return Err(out_of_order(self.name)),
                }
            }
            Some(PinSource::File(path)) => read_pin(&path, path.display().to_string()),
            Some(PinSource::Credential(name)) => read_credential(&name),
            None => return Err(out_of_order(self.name)),
        };
        read.map_err(|error| {
            let tried = format!("key {}: getting the PIN of {card}{}", self.name, error.tried);
            Failure::Final(Error { tried, ..error })
        })
    }
}

/// A PIN that nobody types; none where a person would, or it can't be had.
pub(super) fn kept_pin(source: &PinSource) -> Option<Pin> {
    let pin = match source {
        PinSource::File(path) => read_pin(path, path.display().to_string()),
        PinSource::Credential(name) => read_credential(name),
        PinSource::Ask => return None,
    };
    pin.ok().map(|(pin, _)| pin)
}

/// The PIN in a credential of the service. Of what an error says was tried, whose PIN it is comes
/// before.
fn read_credential(name: &str) -> Result<(Pin, String)> {
    let origin = format!("credential {name}");
    match env::var_os("CREDENTIALS_DIRECTORY") {
        Some(directory) => read_pin(&Path::new(&directory).join(name), origin),
        None => Err(Error::new(
            Class::PinRefused,
            format!(" ({origin})"),
            "$CREDENTIALS_DIRECTORY is not set",
            "Run it from a unit with LoadCredential= or LoadCredentialEncrypted=.",
        )),
    }
}

/// The PIN in a file; errors as of [`read_credential`].
fn read_pin(path: &Path, origin: String) -> Result<(Pin, String)> {
    let bytes = read_private(path, LONGEST_FILE, Class::PinRefused)
        .map_err(|error| Error { tried: format!(": {}", error.tried), ..error })?;
    as_pin(&bytes, origin)
}

fn as_pin(bytes: &[u8], origin: String) -> Result<(Pin, String)> {
    match Pin::new(bytes) {
        Some(pin) => Ok((pin, origin)),
        None => Err(Error::new(
            Class::PinRefused,
            format!(" ({origin})"),
            format!(
                "it has {} characters, and a PIN has 6 to 8, no blank or line end among them",
                bytes.len()
            ),
            "Nothing was presented. Correct the PIN.",
        )),
    }
}
