//! Finding the card: the readers are looked through, and where the card is not there, the next
//! change is awaited, up to the key's `cardTimeoutSec`.

use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use super::{
    Fault, Readers, Session, Wanted,
    pcsc::service,
    plain_text,
    recognize::{Why, examine},
    turn::{Queue, Turn, Turns},
};
use crate::{
    error::{Class, Error, Result},
    system::{Deadline, notify},
};

/// How long the first look waits for a reader that is held, before the others are looked at.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// How long later looks do, and how often systemd hears that we still wait.
const LOOK: Duration = Duration::from_secs(5);
/// Waits shorter than this are not worth a line.
const SILENT: Duration = Duration::from_secs(1);
/// What the rest of a run may take once its turn came, besides the waits that systemd hears of.
const REST: Duration = Duration::from_secs(60);
/// pcscd (2.3) counts a reader that comes some time before it lists it, and does not tell then: so the
/// next look comes after this long, whatever pcscd tells.
const UNTOLD: Duration = Duration::from_millis(500);
/// How long a reader that is held is left alone between two looks, which wait for it.
const HELD_PAUSE: Duration = Duration::from_millis(250);

/// What is looked for, and for how long.
pub struct Hunt<'a> {
    /// The key that it is for.
    pub key: &'a str,
    /// The cards.
    pub wanted: &'a Wanted,
    /// Until when the card is waited for. Put off by what it takes until other runs are done with it.
    pub deadline: &'a mut Deadline,
    /// How long that was in the beginning, for people.
    pub limit: Duration,
    /// How turns are taken.
    pub turns: Turns<'a>,
    /// Whether somebody is there to insert the card.
    pub attended: bool,
}

/// The card that is looked for, in a session. Nothing is presented to any card on the way.
///
/// # Errors
/// `no-card`, `card-busy`, `permission`; `bad-spec` where the spec names no card and there are
/// several; `publish` where the locks can't be used.
pub fn find(readers: &mut dyn Readers, hunt: Hunt<'_>) -> Result<Session> {
    let search = Search {
        readers,
        silent: Deadline::after(SILENT),
        queue: Queue::new(hunt.turns),
        hunt,
        mute: BTreeSet::new(),
        told_turn: false,
    };
    search.run()
}

struct Search<'a> {
    readers: &'a mut dyn Readers,
    hunt: Hunt<'a>,
    /// Until when waiting for the card is not worth a line.
    silent: Deadline,
    queue: Queue<'a>,
    /// The readers whose card gave no answer. pcscd still waits for it, so that it is no other program
    /// that holds such a card.
    mute: BTreeSet<String>,
    /// Whether it was told that another run is waited for.
    told_turn: bool,
}

/// What a look through the readers found.
enum Look {
    /// The card.
    Found(Box<Session>),
    /// It is not there, and this is what is, by reader.
    Missing(Vec<(String, Why)>),
    /// It may be the one in this reader, at which another run has its turn.
    Taken(String),
    /// There is no pcscd, or none that answers; which of them.
    NoService(&'static str),
}

impl Search<'_> {
    fn run(mut self) -> Result<Session> {
        if let Some(session) = self.usual_reader()? {
            return Ok(session);
        }
        let mut limit = FIRST_LOOK;
        let mut told = false;
        loop {
            if self.silent.passed() && !self.hunt.deadline.passed() {
                self.tell_wait(!told);
                told = true;
                limit = self.hunt.deadline.remaining().clamp(FIRST_LOOK, LOOK);
            }
            let look = self.look(limit)?;
            let seen = match look {
                Look::Found(session) => return Ok(*session),
                Look::Taken(reader) => {
                    self.await_turn(&reader)?;
                    continue;
                }
                Look::Missing(seen) => Ok(seen),
                Look::NoService(what) => Err(what),
            };
            self.queue.leave();
            if self.hunt.deadline.passed() {
                return Err(self.missing(seen));
            }
            let slice = self.hunt.deadline.remaining().min(if told { LOOK } else { SILENT });
            let longest = match seen {
                Err(_) => slice,
                Ok(seen) if seen.iter().any(|(_, why)| why.passes_without_a_word()) => HELD_PAUSE,
                Ok(_) => UNTOLD,
            };
            // What ends the wait early is seen by the next look.
            self.readers.wait(slice.min(longest));
        }
    }

    fn tried(&self) -> String {
        format!("key {}: looking for {}", self.hunt.key, self.hunt.wanted)
    }

    fn tell_wait(&self, first: bool) {
        let Hunt { key: name, wanted, .. } = self.hunt;
        notify::status(&format!("waiting for {wanted}"));
        notify::extend_timeout(LOOK * 3);
        if first {
            let seconds = self.hunt.deadline.remaining().as_secs() + 1;
            if self.hunt.attended {
                tracing::info!("Insert {wanted}. Key {name} waits for it, up to {seconds} s more.");
                return;
            }
            tracing::info!("key {name}: waiting for {wanted}, up to {seconds} s more");
        }
    }

    /// Waits for the turn at the card in a reader; not for long, as the card may be elsewhere
    /// meanwhile.
    fn await_turn(&mut self, reader: &str) -> Result<()> {
        let waited = self.queue.wait(reader, if self.told_turn { LOOK } else { SILENT });
        let waited = waited.map_err(|error| Error {
            tried: format!("key {}: {}", self.hunt.key, error.tried),
            ..error
        })?;
        self.hunt.deadline.put_off(waited);
        self.silent.put_off(waited);
        let came = self.queue.has(reader);
        if !came {
            notify::status(&format!("waiting for another run to be done with reader {reader}"));
            notify::extend_timeout(LOOK * 3);
            if !self.told_turn {
                let (name, seconds) = (self.hunt.key, self.queue.left().as_secs());
                tracing::info!(
                    "key {name}: waiting for another run to be done with the card in reader \
                     {reader:?}, up to {seconds} s more"
                );
            }
            self.told_turn = true;
        } else if self.told_turn {
            // The wait may have used up what the unit's start timeout has for the rest of the run.
            notify::extend_timeout(self.hunt.deadline.remaining().saturating_add(REST));
        }
        if came && !self.is_named() {
            // Such a look takes several turns: always from the first reader to the last, which pcscd
            // lists to all runs in one order. So of several runs one gets them all.
            self.queue.give_back();
        }
        Ok(())
    }

    /// Whether the spec or the profile names the card, so that the first match is it.
    fn is_named(&self) -> bool {
        !matches!(self.hunt.wanted, Wanted::Any(_))
    }

    /// The card, if it is in the reader that it was enrolled in: mostly it still is, and then
    /// nobody needs to ask what other readers there are. Whatever else there is, the looks see.
    fn usual_reader(&mut self) -> Result<Option<Session>> {
        let Some(reader) = self.usual_readers().next().map(str::to_owned) else {
            return Ok(None);
        };
        let mut turn = self.queue.take(&reader)?;
        if turn.is_none() {
            // Mostly they need it for a moment only.
            self.await_turn(&reader)?;
            turn = self.queue.take(&reader)?;
        }
        let Some(turn) = turn else { return Ok(None) };
        Ok(self.examine(&reader, FIRST_LOOK, turn).ok())
    }

    /// The readers in which the cards were enrolled.
    fn usual_readers(&self) -> impl Iterator<Item = &str> {
        let enrolled = match self.hunt.wanted {
            Wanted::Enrolled(enrolled) => enrolled.as_slice(),
            Wanted::Named(_) | Wanted::Any(_) => &[],
        };
        enrolled.iter().map(|enrolled| enrolled.reader.as_str())
    }

    /// Begins a session with the card in a reader, if it is the one.
    fn examine(
        &mut self,
        reader: &str,
        limit: Duration,
        turn: Turn,
    ) -> std::result::Result<Session, Why> {
        let examined = examine(self.readers, reader, self.hunt.wanted, limit, turn);
        match examined {
            Err(Why::Held) if self.mute.contains(reader) => Err(Why::Fault(Fault::TimedOut)),
            Err(Why::Fault(Fault::TimedOut)) => {
                self.mute.insert(reader.to_owned());
                examined
            }
            Err(Why::Held) => examined,
            _ => {
                self.mute.remove(reader);
                examined
            }
        }
    }

    /// One look through all readers.
    fn look(&mut self, limit: Duration) -> Result<Look> {
        let mut readers = match self.readers.list() {
            Ok(readers) => readers,
            Err(Fault::Absent) => return Ok(Look::NoService("was not there")),
            // It was waited for: the next look goes on with that.
            Err(Fault::TimedOut) => return Ok(Look::NoService("gave no answer")),
            Err(fault) => return Err(fault.error(self.tried())),
        };
        // The one whose turn was waited for comes first, then those that a card was enrolled in.
        readers.sort_by_key(|(reader, _)| {
            let is_usual = self.usual_readers().any(|usual| usual == plain_text(reader));
            (!self.queue.has(reader), !is_usual)
        });
        let named = self.is_named();
        let (mut seen, mut found) = (Vec::new(), Vec::new());
        let mut taken = None;
        for (reader, present) in readers {
            let turn = if present { self.queue.take(&reader)? } else { None };
            let examined = match turn {
                Some(turn) => self.examine(&reader, limit, turn),
                None if !present => Err(Why::Empty),
                // What is in the others can be told already if the card has a name.
                None if named => {
                    taken.get_or_insert(reader);
                    continue;
                }
                None => return Ok(Look::Taken(reader)),
            };
            match examined {
                Ok(session) if named => return Ok(Look::Found(Box::new(session))),
                Ok(session) => found.push(session),
                Err(Why::Fault(fault @ Fault::Denied)) => return Err(fault.error(self.tried())),
                Err(Why::Empty) if present => seen.push((reader, Why::Mute)),
                Err(why) => seen.push((reader, why)),
            }
        }
        if let Some(reader) = taken {
            return Ok(Look::Taken(reader));
        }
        // Whether another reader has a card with PIV too may not be known: wait until it can be told.
        let is_clear = |(_, why): &_| matches!(why, Why::Empty | Why::NoPiv | Why::Other(_));
        Ok(match (found.len(), found.pop()) {
            (1, Some(only)) if seen.iter().all(is_clear) => Look::Found(Box::new(only)),
            (2.., Some(last)) => return Err(self.ambiguous(found, last)),
            _ => Look::Missing(seen),
        })
    }

    /// Why there is no card, from what was seen in the last look, or what pcscd did.
    fn missing(&self, seen: std::result::Result<Vec<(String, Why)>, &str>) -> Error {
        let waited = self.hunt.limit.as_secs();
        let within = if waited == 0 { String::new() } else { format!(" within {waited} s") };
        let seen = match seen {
            Ok(seen) => seen,
            Err(what) => {
                return service::no_service(self.tried(), format!("pcscd {what}{within}"));
            }
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
        let advice = "Insert the card, and start the unit again, or reload it if it is up. `nixos-cryptkey cards` shows what is there.";
        Error::new(Class::NoCard, self.tried(), found, advice)
    }

    /// Several cards, and nothing that says which.
    fn ambiguous(&self, mut found: Vec<Session>, last: Session) -> Error {
        let name = self.hunt.key;
        found.push(last);
        let described = found.into_iter().map(|mut session| {
            let state = session.inspect().map_or_else(|f| f.to_string(), |s| s.to_string());
            let facts = &session.facts;
            format!("{} in {:?} (slot {}: {state})", facts.card, facts.reader, facts.place.slot)
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
