//! The PIN: counting its tries, getting it, presenting it once.

use std::{env, path::Path};

use zeroize::Zeroizing;

use super::{Attempt, Failure, Work, out_of_order};
use crate::{
    error::{Class, Error, Result},
    guard::{History, PinGuard},
    spec::PinSource,
    system::{Deadline, notify, secret_file::read_private},
    token::{CardName, Fault, KeySource, Pin, PinTries, Piv, SlotState, Verdict},
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

    /// The one name by which the guard knows the card for good: the serial of one that tells its keys,
    /// as its maker gives each its own, whatever GUID some tool writes; the GUID of others, whose maker
    /// may give all of them one serial. It is the card's own answer, and not what a profile says of a
    /// card that held the same key.
    fn guarded_card(&mut self) -> Attempt<CardName> {
        let (_, session) = self.session()?;
        let (tells, is_sure) = match &session.slot {
            Some(SlotState::Key(key)) => {
                let tells = matches!(key.source, KeySource::Metadata | KeySource::Attestation);
                (tells, tells && key.is_generated)
            }
            Some(SlotState::Empty) => (true, false),
            // It was found by the name that it goes by.
            Some(SlotState::Unknown) | None => (false, session.provider.is_some()),
        };
        let named = if session.provider.is_none() || is_sure { Some(session.card) } else { None };
        let by = |name: CardName| match (tells, name) {
            (true, CardName { serial: serial @ Some(_), .. }) => CardName { serial, guid: None },
            (_, CardName { guid: guid @ Some(_), .. }) => CardName { serial: None, guid },
            (_, CardName { serial, .. }) => CardName { serial, guid: None },
        };
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
        let refused = |origin: &str, found: String, advice: &str| {
            let tried = format!("key {}: getting the PIN of {card} ({origin})", self.name);
            Failure::Final(Error::new(Class::PinRefused, tried, found, advice))
        };
        // The error of a file that can't be read, with the key and the card that it is for.
        let read = |path: &Path, origin: String| {
            read_private(path, LONGEST_FILE, Class::PinRefused)
                .map_err(|error| {
                    let tried =
                        format!("key {}: getting the PIN of {card}: {}", self.name, error.tried);
                    Failure::Final(Error { tried, ..error })
                })
                .map(|bytes| (bytes, origin))
        };
        let (bytes, origin) = match source {
            Some(PinSource::File(path)) => read(&path, path.display().to_string())?,
            Some(PinSource::Credential(name)) => {
                let origin = format!("credential {name}");
                let Some(directory) = env::var_os("CREDENTIALS_DIRECTORY") else {
                    let found = "$CREDENTIALS_DIRECTORY is not set".into();
                    let advice =
                        "Run it from a unit with LoadCredential= or LoadCredentialEncrypted=.";
                    return Err(refused(&origin, found, advice));
                };
                read(&Path::new(&directory).join(&name), origin)?
            }
            // The answer was for one card: another one's tries are not at stake for it.
            Some(PinSource::Ask) => {
                if let Some(pin) = self.accepted_pin(&card) {
                    return Ok((pin.clone(), "typed before".into()));
                }
                match self.answers.iter().find(|(asked, _)| *asked == card) {
                    Some((_, answer)) => (Zeroizing::new(answer.to_vec()), "typed".into()),
                    None => return Err(out_of_order(self.name)),
                }
            }
            None => return Err(out_of_order(self.name)),
        };
        match Pin::new(&bytes) {
            Some(pin) => Ok((pin, origin)),
            None => Err(refused(
                &origin,
                format!(
                    "it has {} characters, and a PIN has 6 to 8, no blank or line end among them",
                    bytes.len()
                ),
                "Nothing was presented. Correct the PIN.",
            )),
        }
    }
}
