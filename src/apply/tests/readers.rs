//! Readers with cards in the same process, which note what a card is told, and at any APDU pull the card
//! or kill the run.

use std::{cell::RefCell, path::Path, rc::Rc, time::Duration};

use p256::PublicKey;
use virtual_card::{Card, Options, TouchMode, state::State};
use zeroize::Zeroizing;

use crate::token::{Fault, Readers, Transport, Wait};

/// How a run ends that is killed.
pub struct Killed;

/// The readers, of which everybody holds the same ones.
#[derive(Clone)]
pub struct Desk(Rc<RefCell<Inner>>);

struct Inner {
    readers: Vec<Reader>,
    seen: Vec<Seen>,
    /// The APDUs, counted from 0, at which the card vanishes: before it hears them, or after.
    vanishes: Vec<(usize, bool)>,
    comes_back: bool,
    /// The APDU before which the run is killed.
    killed: Option<usize>,
    apdus: usize,
}

struct Reader {
    card: Card,
    is_inserted: bool,
    is_verified: bool,
}

/// What a card was told, and how it was before.
#[derive(Clone, Debug)]
pub struct Seen {
    pub card: usize,
    pub what: What,
    /// The tries that its PIN had.
    pub tries: u8,
    /// Whether it had accepted its PIN in this session.
    pub is_verified: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It was given a PIN.
    Pin,
    /// It made a key in a slot that held this one.
    Generated(u8, Held),
    /// It agreed on a key, with that of a slot.
    Agreed(u8),
    /// Somebody else may use it now.
    End,
    /// Anything else.
    Asked,
}

/// What is in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    Nothing,
    Key(PublicKey),
    /// Of another kind.
    Other,
}

impl Desk {
    /// Readers with these cards, which live below `dir`.
    pub fn new(dir: &Path, cards: &[State], inserted: &[bool]) -> Self {
        let reader = |(at, (state, is_inserted)): (usize, (&State, &bool))| {
            let home = dir.join(format!("card-{at}"));
            std::fs::create_dir(&home).unwrap();
            state.save(&home).unwrap();
            let card = Card::open(&home, Options::default()).unwrap();
            card.controls().touch(TouchMode::Give);
            Reader { card, is_inserted: *is_inserted, is_verified: false }
        };
        let readers = cards.iter().zip(inserted).enumerate().map(reader).collect();
        let (seen, vanishes) = (Vec::new(), Vec::new());
        let (comes_back, killed, apdus) = (true, None, 0);
        Self(Rc::new(RefCell::new(Inner { readers, seen, vanishes, comes_back, killed, apdus })))
    }

    /// What happens in the runs from now on. What was seen before is forgotten.
    pub fn disturb(&self, vanishes: &[(usize, bool)], comes_back: bool, killed: Option<usize>) {
        let mut desk = self.0.borrow_mut();
        (desk.seen, desk.apdus) = (Vec::new(), 0);
        (desk.vanishes, desk.comes_back, desk.killed) = (vanishes.to_vec(), comes_back, killed);
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.0.borrow().seen.clone()
    }

    pub fn apdus(&self) -> usize {
        self.0.borrow().apdus
    }
}

impl Reader {
    fn held(&self, slot: u8) -> Held {
        match self.card.state().slot(slot) {
            None => Held::Nothing,
            Some(key) => {
                PublicKey::from_sec1_bytes(&key.public_key.0).map_or(Held::Other, Held::Key)
            }
        }
    }
}

impl Readers for Desk {
    fn list(&mut self) -> Result<Vec<(String, bool)>, Fault> {
        let desk = self.0.borrow();
        let readers = desk.readers.iter().enumerate();
        Ok(readers.map(|(at, reader)| (format!("Reader {at}"), reader.is_inserted)).collect())
    }

    fn wait(&mut self, _: Duration) {}

    fn open(&mut self, reader: &str, _: Duration) -> Result<Box<dyn Transport>, Fault> {
        let at = reader.strip_prefix("Reader ").and_then(|at| at.parse::<usize>().ok());
        let desk = self.0.borrow();
        let is_there = |at: &usize| desk.readers.get(*at).is_some_and(|reader| reader.is_inserted);
        let card = at.filter(is_there).ok_or(Fault::Absent)?;
        Ok(Box::new(Wire { desk: self.clone(), card, reset_at_end: false }))
    }
}

/// A session with a card.
struct Wire {
    desk: Desk,
    card: usize,
    reset_at_end: bool,
}

impl Transport for Wire {
    fn transmit(&mut self, command: &[u8], _: Wait) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let mut desk = self.desk.0.borrow_mut();
        let (number, card) = (desk.apdus, self.card);
        desk.apdus += 1;
        if desk.killed == Some(number) {
            drop(desk);
            std::panic::resume_unwind(Box::new(Killed));
        }
        let vanishes = desk.vanishes.iter().find(|(at, _)| *at == number).map(|(_, hears)| *hears);
        let comes_back = desk.comes_back;
        let Inner { readers, seen, .. } = &mut *desk;
        let reader = &mut readers[card];
        if !reader.is_inserted {
            return Err(Fault::Absent);
        }
        let what = match (command[1], command.get(4)) {
            (0x20, Some(8)) => What::Pin,
            (0x47, _) => What::Generated(command[3], reader.held(command[3])),
            (0x87, _) if command[2] == 0x11 => What::Agreed(command[3]),
            _ => What::Asked,
        };
        let (tries, is_verified) = (reader.card.state().pin.tries, reader.is_verified);
        let answer =
            if vanishes == Some(false) { None } else { reader.card.transmit(command).ok() };
        let is_ok = answer.as_ref().is_some_and(|answer| answer.ends_with(&[0x90, 0]));
        reader.is_verified |= what == What::Pin && is_ok;
        if answer.is_some() && (is_ok || !matches!(what, What::Generated(..) | What::Agreed(_))) {
            seen.push(Seen { card, what, tries, is_verified });
        }
        if vanishes.is_some() {
            reader.card.reset();
            (reader.is_inserted, reader.is_verified) = (comes_back, false);
            return Err(Fault::Absent);
        }
        answer.map(Zeroizing::new).ok_or(Fault::Absent)
    }

    fn reset(&mut self) -> Result<(), Fault> {
        let mut desk = self.desk.0.borrow_mut();
        let reader = &mut desk.readers[self.card];
        reader.card.reset();
        reader.is_verified = false;
        Ok(())
    }

    fn reset_at_end(&mut self) {
        self.reset_at_end = true;
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.reset_at_end {
            // Also where the run was killed: then pcscd does it.
            drop(self.reset());
        }
        let mut desk = self.desk.0.borrow_mut();
        let reader = &desk.readers[self.card];
        let (tries, is_verified) = (reader.card.state().pin.tries, reader.is_verified);
        desk.seen.push(Seen { card: self.card, what: What::End, tries, is_verified });
    }
}
