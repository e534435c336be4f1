//! The PIN: counting its tries, getting it, presenting it once.

use std::{env, path::Path};

use super::{Attempt, Failure, Work, out_of_order};
use crate::{
    error::{Class, Error, Result},
    spec::PinSource,
    system::{Deadline, notify, secret_file::read_private},
    token::{Fault, Pin, PinTries, Session, Verdict, guard::History},
};

/// No PIN is longer, with its line ending; what is longer is another file.
const LONGEST_FILE: usize = 64;

impl Work<'_> {
    pub(super) fn count_tries(&mut self) -> Attempt {
        // Before a reset takes what is known of the slot.
        let card = self.with_card("asking for its name", Session::guarded_name)?;
        let tries =
            self.with_card("asking for the PIN's tries", |session| match session.tries()? {
                // Somebody left the PIN verified, which hides the counter: the card is made to forget.
                PinTries::Verified => {
                    session.reset()?;
                    match session.tries()? {
                        PinTries::Verified => {
                            session.take_pin_back()?;
                            session.tries()
                        }
                        counted @ PinTries::Left(_) => Ok(counted),
                    }
                }
                counted @ PinTries::Left(_) => Ok(counted),
            });
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
        // What became of the last PIN is settled before anything else, also where nothing is to be
        // presented.
        let session = self.session.as_mut().ok_or_else(|| out_of_order(self.name))?;
        Ok(session.open_guard(&self.store, card, left)?)
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
        let facts = &self.session()?.facts;
        let (card, tries) = (facts.card, facts.pin.tries.unwrap_or_default());
        self.session = None;
        let prompt = format!("PIN of {card}, for {} (tries left: {tries}):", self.name);
        let answer = self.ask(&prompt, &format!("the PIN of {card}"))?;
        self.known.pins.answer(card, answer);
        self.deadline = Deadline::after(self.patience());
        Ok(())
    }

    /// Gets the PIN, and looks up what the card made of it before.
    pub(super) fn recall_pin(&mut self) -> Attempt {
        let (pin, origin) = self.read_pin()?;
        let session = self.session.as_mut().ok_or_else(|| out_of_order(self.name))?;
        let card = session.facts.card;
        let accepted = self.known.pins.accepted(&card);
        if accepted.is_some_and(|accepted| !accepted.is(&pin)) {
            return Err(Failure::Final(Error::new(
                Class::PinRefused,
                format!("key {}: presenting the PIN ({origin}) to {card}", self.name),
                "the card accepted another PIN in this run",
                "Nothing was presented. Have all keys of this card name the same PIN.",
            )));
        }
        let again = (pin.clone(), origin.clone());
        session.recall(pin, origin, accepted).ok_or_else(|| out_of_order(self.name))?;
        let facts = &session.facts;
        let (Some(tries), Some(_)) = (facts.pin.tries, facts.provider) else { return Ok(()) };
        if facts.pin.history == Some(History::Proven) {
            return Ok(());
        }
        // It may cost a try. What becomes of it is this card's, and not of one that a profile names.
        let own = self.with_card("asking for its name", Session::own_guarded_name)?;
        let session = self.session.as_mut().ok_or_else(|| out_of_order(self.name))?;
        session.open_guard(&self.store, own, tries)?;
        let accepted = self.known.pins.accepted(&card);
        session.recall(again.0, again.1, accepted).ok_or_else(|| out_of_order(self.name))
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
        let name = self.name;
        let recorded = self.session()?.record(name).ok_or_else(|| out_of_order(name))?;
        Ok(recorded.map_err(|error| {
            let tried = format!("key {name}: {}", error.tried);
            Error { tried, ..error }
        })?)
    }

    /// Presents the PIN: at most one that the card has not accepted, per card and run.
    pub(super) fn present_pin(&mut self) -> Attempt {
        self.see_to_others("the PIN")?;
        let name = self.name;
        let session = self.session.as_mut().ok_or_else(|| out_of_order(name))?;
        let (card, listed) = (session.facts.card, session.facts.listed);
        let is_typed = self.known.pin_source(self.key, listed) == Some(PinSource::Ask);
        self.known.pins.go_out(&session.facts);
        let tried = format!("key {name}: presenting the PIN ({}) to {card}", session.pin_origin());
        let refused = |class, found: String, advice: &str| {
            Failure::Final(Error::new(class, tried.clone(), found, advice))
        };
        match session.present(name, is_typed).ok_or_else(|| out_of_order(name))? {
            Ok((Verdict::Accepted, pin)) => {
                self.known.pins.accept(card, pin);
                Ok(())
            }
            Ok((Verdict::Rejected(left), _)) => {
                self.known.pins.reject(left);
                notify::status(&format!("{card} rejected the PIN; tries left: {left}"));
                Err(refused(
                    Class::PinWrong,
                    format!("the card rejected it; tries left: {left}"),
                    "It is not presented again before it changes, or the card has more tries again. \
                     Correct it: each wrong one costs a try, and with none left the card locks itself until it is unblocked with the PUK.",
                ))
            }
            Err(Fault::Status(word)) => Err(refused(
                Class::PinRefused,
                format!("the card answered {word} and does not take it as a PIN"),
                "PINs are 6 to 8 digits; some cards take other characters too. Correct the PIN.",
            )),
            Err(fault) => {
                Err(Failure::Card(fault, format!("key {name}: presenting the PIN with {card}")))
            }
        }
    }

    /// The PIN, and where it came from.
    fn read_pin(&mut self) -> Attempt<(Pin, String)> {
        let facts = &self.session()?.facts;
        let (card, listed) = (facts.card, facts.listed);
        let source = self.known.pin_source(self.key, listed);
        let read = match source {
            // The answer was for one card: another one's tries are not at stake for it.
            Some(PinSource::Ask) => {
                if let Some(pin) = self.known.pins.accepted(&card) {
                    return Ok((pin.clone(), "typed before".into()));
                }
                match self.known.pins.typed(&card) {
                    Some(typed) => as_pin(typed, "typed".into()),
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
