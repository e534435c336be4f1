//! Turns at a card. systemd starts the runs for all keys of a card at once; they use it one after
//! the other, and what that takes is not counted as waiting for the card.
//!
//! The turn is a lock, `RUNTIMEDIR/.locks/card@<reader>`: a card sits in exactly one reader, which is
//! known before the card is asked for anything. A run takes it before it asks PC/SC for the card,
//! and gives it back when its session has ended, or nothing came of it. It has none while it waits
//! for a card that is away, or for a person to type.
//!
//! No circle of waits can form: a run waits for a turn only while it has no turn, no session and no
//! transaction that might begin ([`super::Pcsc`] ends one at once that begins unattended).
//! Locks that are taken under a turn, as the state directory's, are held by nobody who waits for a
//! turn, and the lock of a key, under which turns are taken, is wanted by nobody who has one. Who
//! has a turn is bound by the limits of the card's answers, and who dies loses it.

use std::{
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use super::plain_text;
use crate::{
    error::{Class, Error, Result},
    system::lock::{self, Guard},
};

/// So much of a reader's name goes into the name of its lock: three characters for each byte make
/// no more than the 255 that a file's name may have. Readers differ in the end of their names.
const NAME_BYTES: usize = 80;

/// A turn at the card in a reader, until it is dropped.
pub struct Turn {
    /// None for a command that takes no turns.
    _lock: Option<Guard>,
}

/// How turns are taken.
#[derive(Clone, Copy)]
pub struct Turns<'a> {
    /// Where the locks are; none for a command that changes nothing and therefore takes no turn.
    runtime_dir: Option<&'a Path>,
    limit: Duration,
}

impl<'a> Turns<'a> {
    /// Turns among the runs with this runtime directory. `limit` is how long all the others may take
    /// together.
    #[must_use]
    pub fn among(runtime_dir: &'a Path, limit: Duration) -> Self {
        Self { runtime_dir: Some(runtime_dir), limit }
    }

    /// The same, where all the others may take no longer than this together.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        Self { limit: self.limit.min(limit), ..self }
    }

    /// No turns: for a look that changes nothing, and that any user may take.
    #[must_use]
    pub fn none() -> Self {
        Self { runtime_dir: None, limit: Duration::ZERO }
    }
}

/// The place of one search in the queues for turns.
pub(super) struct Queue<'a> {
    turns: Turns<'a>,
    /// What is left of the limit.
    left: Duration,
    /// The lock that is waited for, of the card in a reader.
    awaited: Option<(String, Receiver<Result<Guard>>)>,
    /// The turn that came, at the card in a reader.
    came: Option<(String, Guard)>,
}

impl<'a> Queue<'a> {
    pub fn new(turns: Turns<'a>) -> Self {
        Self { turns, left: turns.limit, awaited: None, came: None }
    }

    /// What is left of the limit.
    pub fn left(&self) -> Duration {
        self.left
    }

    /// Whether the turn at the card in `reader` was waited for, and came.
    pub fn has(&self, reader: &str) -> bool {
        self.came.as_ref().is_some_and(|(of, _)| of == reader)
    }

    /// Gives back the turn that came, if one did.
    pub fn give_back(&mut self) {
        self.came = None;
    }

    /// Waits for no turn any more.
    pub fn leave(&mut self) {
        self.awaited = None;
        self.came = None;
    }

    /// The turn at the card in `reader`, if no other run has it.
    pub fn take(&mut self, reader: &str) -> Result<Option<Turn>> {
        let Some(runtime_dir) = self.turns.runtime_dir else {
            return Ok(Some(Turn { _lock: None }));
        };
        if let Some((_, guard)) = self.came.take_if(|(of, _)| of == reader) {
            return Ok(Some(Turn { _lock: Some(guard) }));
        }
        match lock::lock(runtime_dir, &lock_name(reader), Duration::ZERO) {
            Ok(guard) => Ok(Some(Turn { _lock: Some(guard) })),
            Err(error) if error.class == Class::Busy => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits up to `slice` for the turn at the card in `reader`, which [`Self::take`] then gives;
    /// how long it took. The place in the queue is kept for the next slice.
    ///
    /// # Errors
    /// `card-busy`, naming the reader and the process that has the turn, when the limit is used up.
    pub fn wait(&mut self, reader: &str, slice: Duration) -> Result<Duration> {
        let Some(runtime_dir) = self.turns.runtime_dir else {
            return Ok(Duration::ZERO);
        };
        self.give_back();
        let began = Instant::now();
        let (of, lock) = self.awaited.take().filter(|(of, _)| of == reader).unwrap_or_else(|| {
            (reader.into(), lock::begin(runtime_dir, &lock_name(reader), self.left))
        });
        match lock.recv_timeout(slice) {
            Ok(Ok(guard)) => self.came = Some((of, guard)),
            Ok(Err(error)) => {
                let tried = format!("its turn at the card in reader {reader:?}: {}", error.tried);
                return Err(Error { tried, ..error });
            }
            Err(RecvTimeoutError::Timeout) => self.awaited = Some((of, lock)),
            Err(RecvTimeoutError::Disconnected) => {
                let tried = format!("waiting for the turn at the card in reader {reader:?}");
                let advice = "Free memory or raise the limit on tasks, and start the unit again.";
                return Err(Error::new(
                    Class::Internal,
                    tried,
                    "there was no thread for it",
                    advice,
                ));
            }
        }
        let waited = began.elapsed();
        self.left = self.left.saturating_sub(waited);
        Ok(waited)
    }
}

/// The name of a reader's lock. No key's is like it: `@` is in no name.
fn lock_name(reader: &str) -> String {
    let name = plain_text(reader);
    let tail = &name.as_bytes()[name.len().saturating_sub(NAME_BYTES)..];
    let escaped = tail.iter().map(|&byte| match byte {
        b'/' | b'%' => format!("%{byte:02x}"),
        b' '..=b'~' => char::from(byte).into(),
        _ => format!("%{byte:02x}"),
    });
    format!("card@{}", escaped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use virtual_card::PATIENCE;

    use super::*;

    const READER: &str = "Card 0 00 00";

    #[test]
    fn who_has_the_turn_too_long_is_named() {
        let ram = tempfile::tempdir_in("/dev/shm").unwrap();
        let dir = ram.path().join("cryptkey");
        let mut first = Queue::new(Turns::among(&dir, PATIENCE));
        let turn = first.take(READER).unwrap().unwrap();
        let mut second = Queue::new(Turns::among(&dir, Duration::from_millis(1)));
        assert!(second.take(READER).unwrap().is_none());
        // Another reader is another turn.
        assert!(second.take("Card 0 00 01").unwrap().is_some());
        let error = second.wait(READER, PATIENCE).unwrap_err();
        assert_eq!(error.class, Class::Busy);
        assert!(error.tried.contains(READER), "{error}");
        assert!(error.found.contains(&format!("process {} (", std::process::id())), "{error}");
        drop(turn);
        assert!(second.take(READER).unwrap().is_some());
    }

    #[test]
    fn the_place_in_the_queue_is_kept_until_the_turn_comes() {
        let ram = tempfile::tempdir_in("/dev/shm").unwrap();
        let dir = ram.path().join("cryptkey");
        let turns = Turns::among(&dir, PATIENCE);
        let (mut first, mut second) = (Queue::new(turns), Queue::new(turns));
        let turn = first.take(READER).unwrap().unwrap();
        assert!(second.wait(READER, Duration::ZERO).is_ok());
        assert!(!second.has(READER));
        drop(turn);
        second.wait(READER, PATIENCE).unwrap();
        assert!(second.has(READER));
        assert!(second.left() < PATIENCE);
        // It came, and is not given to others before it is taken and over.
        assert!(first.take(READER).unwrap().is_none());
        drop(second.take(READER).unwrap().unwrap());
        assert!(first.take(READER).unwrap().is_some());
    }

    #[test]
    fn names_of_locks_are_names_of_files_and_of_no_key() {
        assert_eq!(lock_name("Card 0 00 00"), "card@Card 0 00 00");
        assert_eq!(lock_name(" a/b%\u{7}\u{fffd}\n"), "card@a%2fb%25 %ef%bf%bd");
        let (one, other) = ("\u{fffd}".repeat(40) + " 00 00", "\u{fffd}".repeat(40) + " 01 00");
        assert!(lock_name(&one).len() <= 255 && lock_name(&one) != lock_name(&other));
        assert!(lock_name(READER).parse::<crate::spec::Name>().is_err());
    }
}
