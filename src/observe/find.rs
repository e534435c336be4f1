//! Finding the card: the readers are looked through, and where the card is not there, the next
//! change is awaited, up to the key's `cardTimeoutSec`.

use std::{fmt::Write as _, time::Duration};

use super::{
    Held,
    recognize::{Why, candidates, examine},
    service,
};
use crate::{
    card::{Fault, Pcsc},
    error::{Class, Error, Result},
    plan::Known,
    profile::plain_text,
    spec::Key,
    system::{Deadline, notify},
};

/// How long the first look waits for a reader that is held, before the others are looked at.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// How long later looks do, and how often systemd hears that we still wait.
const LOOK: Duration = Duration::from_secs(5);
/// Waits shorter than this are not worth a line.
const SILENT: Duration = Duration::from_secs(1);

/// The card that the key wants, in a session: to open a share, or to be enrolled.
///
/// Nothing is presented to any card on the way.
///
/// # Errors
/// `no-card`, `card-busy`, `permission`; `bad-spec` where the spec names no card and there are
/// several.
pub fn find(name: &str, key: &Key, known: &Known, deadline: Deadline) -> Result<Held> {
    Search { name, key, known, deadline, wanted: describe(key, known), pcsc: Pcsc::default() }.run()
}

struct Search<'a> {
    name: &'a str,
    key: &'a Key,
    known: &'a Known,
    deadline: Deadline,
    /// What is looked for, for people.
    wanted: String,
    pcsc: Pcsc,
}

/// What a look through the readers found.
enum Look {
    /// The card.
    Found(Box<Held>),
    /// It is not there, and this is what is, by reader.
    Missing(Vec<(String, Why)>),
    /// There is no pcscd.
    NoService,
}

impl Search<'_> {
    fn run(mut self) -> Result<Held> {
        let silent = Deadline::after(SILENT);
        if let Some(held) = self.usual_reader() {
            return Ok(held);
        }
        let mut limit = FIRST_LOOK;
        let mut told = false;
        loop {
            if silent.passed() && !self.deadline.passed() {
                self.tell_wait(!told);
                told = true;
                limit = self.deadline.remaining().clamp(FIRST_LOOK, LOOK);
            }
            let look = self.look(limit)?;
            if let Look::Found(held) = look {
                return Ok(*held);
            }
            if self.deadline.passed() {
                return Err(self.missing(look));
            }
            let slice = self.deadline.remaining().min(if told { LOOK } else { SILENT });
            match look {
                // What ends the wait early is seen by the next look.
                Look::NoService => drop(service::wait(slice)),
                _ => drop(self.pcsc.wait(slice)),
            }
        }
    }

    fn tried(&self) -> String {
        format!("key {}: looking for {}", self.name, self.wanted)
    }

    fn tell_wait(&self, first: bool) {
        let Self { name, wanted, .. } = self;
        notify::status(&format!("waiting for {wanted}"));
        notify::extend_timeout(LOOK * 3);
        if first {
            let seconds = self.deadline.remaining().as_secs() + 1;
            tracing::info!("key {name}: waiting for {wanted}, up to {seconds} s more");
        }
    }

    /// The card, if it is in the reader that it was enrolled in: mostly it still is, and then
    /// nobody needs to ask what other readers there are. Whatever else there is, the looks see.
    fn usual_reader(&mut self) -> Option<Held> {
        let (_, provider) = candidates(self.known).next()?;
        let reader = provider.card_name.clone();
        examine(&mut self.pcsc, &reader, self.key, self.known, FIRST_LOOK).ok()
    }

    /// One look through all readers.
    fn look(&mut self, limit: Duration) -> Result<Look> {
        let mut readers = match self.pcsc.readers() {
            Ok(readers) => readers,
            Err(Fault::Absent) => return Ok(Look::NoService),
            Err(fault) => return Err(fault.error(self.tried())),
        };
        // Those that a card was enrolled in come first.
        readers.sort_by_key(|(reader, _)| {
            !candidates(self.known).any(|(_, p)| p.card_name == plain_text(reader))
        });
        // Where the spec or the profile names the card, the first match is it.
        let named = self.known.profile.is_some() || !self.key.cards.is_empty();
        let (mut seen, mut found) = (Vec::new(), Vec::new());
        for (reader, present) in readers {
            let examined = if present {
                examine(&mut self.pcsc, &reader, self.key, self.known, limit)
            } else {
                Err(Why::Empty)
            };
            match examined {
                Ok(held) if named => return Ok(Look::Found(Box::new(held))),
                Ok(held) => found.push(held),
                Err(Why::Fault(fault @ Fault::Denied)) => return Err(fault.error(self.tried())),
                Err(Why::Empty) if present => seen.push((reader, Why::Mute)),
                Err(why) => seen.push((reader, why)),
            }
        }
        // Whether another reader has a card with PIV too may not be known: wait until it can be told.
        let is_clear = |(_, why): &_| matches!(why, Why::Empty | Why::NoPiv | Why::Other(_));
        Ok(match (found.len(), found.pop()) {
            (1, Some(held)) if seen.iter().all(is_clear) => Look::Found(Box::new(held)),
            (2.., Some(last)) => return Err(self.ambiguous(found, last)),
            _ => Look::Missing(seen),
        })
    }

    /// Why there is no card, from what was seen in the last look.
    fn missing(&self, look: Look) -> Error {
        let waited = self.key.card_timeout.as_secs();
        let within = if waited == 0 { String::new() } else { format!(" within {waited} s") };
        let Look::Missing(seen) = look else {
            let found = format!("pcscd was not there{within}");
            return service::no_service(self.tried(), found);
        };
        if let Some((reader, _)) = seen.iter().find(|(_, why)| matches!(why, Why::Held)) {
            let who = service::likely_holder();
            return Error::new(
                Class::Busy,
                self.tried(),
                format!("reader {reader:?} is held, likely by {who}, and was not free{within}"),
                "End that program, or have it let go of the card. gpg's scdaemon wants \
                 `disable-ccid` and `pcsc-shared` in scdaemon.conf.",
            );
        }
        if let Some((reader, Why::Fault(fault))) =
            seen.iter().find(|(_, why)| matches!(why, Why::Fault(_)))
        {
            return fault.error(format!("{}, in reader {reader:?}", self.tried()));
        }
        let mut found = format!("it was not there{within}");
        let empty = seen.iter().filter(|(_, why)| matches!(why, Why::Empty)).count();
        for (reader, why) in &seen {
            let what = match why {
                Why::Empty | Why::Held | Why::Fault(_) => continue,
                Why::Other(card) => format!("holds {card}"),
                Why::NoPiv => "holds a card without PIV".into(),
                Why::Mute => "holds a card that does not answer".into(),
            };
            // Writing to a string never fails.
            let _ = write!(found, "; reader {reader:?}: {what}");
        }
        let _ = match (seen.len(), empty) {
            (0, _) => write!(found, "; there is no reader"),
            (_, 0) => Ok(()),
            (all, empty) => write!(found, "; {empty} of {all} readers are empty"),
        };
        let advice = "Insert the card, and start the unit again. `nixos-cryptkey cards` shows what is there.";
        Error::new(Class::NoCard, self.tried(), found, advice)
    }

    /// Several cards, and nothing that says which.
    fn ambiguous(&self, mut found: Vec<Held>, last: Held) -> Error {
        let Self { name, key, .. } = self;
        found.push(last);
        let described = found.into_iter().map(|Held { mut piv, facts }| {
            let state = piv.inspect(key.slot).map_or_else(|f| f.to_string(), |s| s.to_string());
            format!("{} in {:?} (slot {}: {state})", facts.card, facts.reader, key.slot)
        });
        Error::new(
            Class::Spec,
            format!("key {name}: choosing a card to enroll"),
            format!("there are several: {}", described.collect::<Vec<_>>().join(", ")),
            format!(
                "Say which with security.cryptkey.keys.{name}.cards = [ {{ serial = \"…\"; }} ], or \
                 remove the others."
            ),
        )
    }
}

/// What is looked for, for people.
fn describe(key: &Key, known: &Known) -> String {
    let names: Vec<_> = match &known.profile {
        Some(_) => candidates(known).map(|(_, provider)| provider.card().to_string()).collect(),
        None => key.cards.iter().map(|card| card.name().to_string()).collect(),
    };
    if names.is_empty() { "a card".into() } else { names.join(" or ") }
}
