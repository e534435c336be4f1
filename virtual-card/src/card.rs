//! The card: APDUs in, answers out. Chaining, GET RESPONSE, faults, counts and the log live here;
//! what commands mean lives in the applet's files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{fmt, fs, io, thread};

use crate::apdu::{Command, Sw};
use crate::applet::Application;
use crate::auth::Challenge;
use crate::log::Log;
use crate::state::State;
use crate::{Action, Controls, Options};

const GET_RESPONSE: u8 = 0xC0;
/// More than any object that fits.
const MAX_CHAIN: usize = 4096;

/// The card is not in the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed;

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the card was removed")
    }
}

impl std::error::Error for Removed {}

/// Why a command ended without data.
#[derive(Debug)]
pub(crate) enum Stop {
    Status(Sw),
    Removed,
}

impl From<Sw> for Stop {
    fn from(sw: Sw) -> Self {
        Self::Status(sw)
    }
}

impl From<Removed> for Stop {
    fn from(_: Removed) -> Self {
        Self::Removed
    }
}

/// The data of an answer.
pub(crate) type Answer = Result<Vec<u8>, Stop>;

/// What a reset clears.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub application: Option<Application>,
    pub pin_verified: bool,
    /// The command before this one was a VERIFY that succeeded: what "PIN always" asks for.
    pub pin_fresh: bool,
    pub managed: bool,
    pub challenge: Option<Challenge>,
    pub touches: BTreeMap<u8, Instant>,
    chain: Option<Command>,
    pending: Option<Vec<u8>>,
}

/// A software PIV card.
#[derive(Debug)]
pub struct Card {
    dir: PathBuf,
    log: Log,
    pub(crate) options: Options,
    pub(crate) state: State,
    pub(crate) session: Session,
    pub(crate) controls: Controls,
}

impl Card {
    /// Opens the card that lives in a directory, or makes a new one there.
    pub fn open(dir: &Path, options: Options) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let state = if let Some(state) = State::load(dir)? {
            state
        } else {
            let state = State::new(&options).map_err(io::Error::other)?;
            state.save(dir)?;
            state
        };
        Ok(Self {
            dir: dir.to_owned(),
            log: Log::open(dir)?,
            options,
            state,
            session: Session::default(),
            controls: Controls::default(),
        })
    }

    /// A handle to touch, presence, faults and counts.
    pub fn controls(&self) -> Controls {
        self.controls.clone()
    }

    /// What the card remembers.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Sends one APDU.
    pub fn transmit(&mut self, apdu: &[u8]) -> Result<Vec<u8>, Removed> {
        if self.controls.is_removed() {
            self.reset();
            return Err(Removed);
        }
        if self.controls.is_to_reload() {
            self.reload();
        }
        if !self.options.apdu_latency.is_zero() {
            thread::sleep(self.options.apdu_latency);
        }
        let mut header = [0; 4];
        for (to, from) in header.iter_mut().zip(apdu) {
            *to = *from;
        }
        let command = Command::parse(apdu);
        let secret = command.as_ref().is_ok_and(|command| self.is_secret(command));
        let answer = match self.controls.begin(header) {
            None => self.answer(command),
            Some(Action::Status(sw)) => Ok(Sw(sw).bytes().to_vec()),
            Some(Action::Raw(bytes)) => Ok(bytes),
            Some(Action::Hang) => match self.controls.hang() {
                Ok(()) => self.answer(command),
                Err(removed) => Err(removed),
            },
            Some(Action::Forget) => {
                self.reset();
                self.answer(command)
            }
            Some(damage @ (Action::Cut(_) | Action::Short(_) | Action::Flip(..))) => {
                self.answer(command).map(|answer| damage.damage(answer))
            }
            Some(Action::HangAfter) => {
                let answer = self.answer(command);
                self.controls.hang().and(answer)
            }
            Some(Action::Remove) => {
                self.controls.remove();
                Err(Removed)
            }
            Some(Action::RemoveAfter) => {
                // The command counts; its answer is lost with the card.
                let _lost = self.answer(command);
                self.controls.remove();
                Err(Removed)
            }
        };
        self.log.write(apdu, secret, answer.as_deref().ok());
        if answer.is_err() {
            self.reset();
        }
        answer
    }

    /// Becomes what its state file says now. One that can't be read is a test that cannot be trusted,
    /// so it panics.
    fn reload(&mut self) {
        match State::load(&self.dir) {
            Ok(Some(state)) => self.state = state,
            other => panic!("reloading the card: {other:?}"),
        }
        self.reset();
    }

    /// Whether its reader only says that it resets it.
    pub fn ignores_resets(&self) -> bool {
        self.options.ignores_resets
    }

    /// A reset of the card: everything but [`State`] is gone.
    pub fn reset(&mut self) {
        self.session = Session::default();
    }

    /// Power off: for this card the same as a reset.
    pub fn power_off(&mut self) {
        self.reset();
    }

    pub(crate) fn save(&self) -> Result<(), Stop> {
        self.state.save(&self.dir).map_err(|_| Sw::FAILURE.into())
    }

    fn answer(&mut self, command: Result<Command, Sw>) -> Result<Vec<u8>, Removed> {
        match self.carry_out(command) {
            Ok(answer) => Ok(answer),
            Err(Stop::Status(sw)) => Ok(sw.bytes().to_vec()),
            Err(Stop::Removed) => Err(Removed),
        }
    }

    fn carry_out(&mut self, command: Result<Command, Sw>) -> Answer {
        let command = command?;
        let is_case_4 = !command.data.is_empty() && command.le.is_some();
        if command.extended && !self.options.extended_length
            || self.options.t0 && (command.extended || is_case_4)
        {
            return Err(Sw::WRONG_LENGTH.into());
        }
        if command.cla & !Command::CHAINING != 0 {
            return Err(Sw::UNKNOWN_CLA.into());
        }
        let room = match command.le {
            Some(le) => le,
            None if self.options.t0 => 0,
            None if command.extended => 65536,
            None => 256,
        };
        let pending = self.session.pending.take();
        if command.ins == GET_RESPONSE {
            self.session.chain = None;
            let pending = pending.ok_or(Sw::CONDITIONS)?;
            return Ok(self.part(pending, room));
        }
        match self.chain(command)? {
            None => Ok(Sw::OK.bytes().to_vec()),
            Some(command) => {
                let data = self.dispatch(&command)?;
                Ok(self.part(data, room))
            }
        }
    }

    /// Adds a part of a chain; the whole command once it is complete. A command other than the one
    /// that the chain began with drops the chain.
    fn chain(&mut self, part: Command) -> Result<Option<Command>, Sw> {
        let header = |c: &Command| (c.ins, c.p1, c.p2);
        let begun = self.session.chain.take().filter(|begun| header(begun) == header(&part));
        let chained = part.is_chained();
        let whole = match begun {
            Some(mut begun) => {
                begun.data.extend(part.data);
                begun
            }
            None => part,
        };
        if whole.data.len() > MAX_CHAIN {
            return Err(Sw::WRONG_LENGTH);
        }
        if chained {
            self.session.chain = Some(whole);
            return Ok(None);
        }
        Ok(Some(Command { cla: 0, ..whole }))
    }

    /// As much of an answer as the reader has room for; GET RESPONSE fetches the rest.
    fn part(&mut self, mut data: Vec<u8>, room: usize) -> Vec<u8> {
        let sw = if data.len() > room || self.options.t0 && (1..room).contains(&data.len()) {
            let rest = data.split_off(if data.len() > room { room } else { 0 });
            let length = u16::try_from(rest.len()).ok().filter(|n| *n < 256).unwrap_or(0);
            self.session.pending = Some(rest);
            Sw(if data.is_empty() && room > 0 { 0x6C00 } else { 0x6100 } | length)
        } else {
            Sw::OK
        };
        data.extend(sw.bytes());
        data
    }

    /// Whether the command's data stay out of the log.
    fn is_secret(&self, command: &Command) -> bool {
        let printed = |data: &[u8]| data.starts_with(&[0x5C, 3, 0x5F, 0xC1, 9]);
        match (command.ins, command.p2) {
            (0x20 | 0x24 | 0x2C | 0xFE | 0xFF, _) | (0x87, 0x9B) => true,
            (0xDB, _) => {
                let begun = self.session.chain.as_ref();
                printed(&command.data) || begun.is_some_and(|begun| printed(&begun.data))
            }
            _ => false,
        }
    }
}
