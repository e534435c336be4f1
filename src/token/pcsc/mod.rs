//! PC/SC: the readers, waiting for their cards, and getting hold of one.

pub(super) mod service;
mod transaction;
mod watch;

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString},
    sync::mpsc,
    thread,
    time::Duration,
};

use pcsc::{Context, ReaderState, Scope, State};

use self::transaction::{Beginning, PcscTransport};
use super::{Fault, Readers, Transport};
use crate::system::{Deadline, bounded, start};

/// How long pcscd itself may take for what depends on no card.
const SERVICE_LIMIT: Duration = Duration::from_secs(5);
/// As many readers as pcscd has, and as one call can ask for.
const MOST_READERS: usize = 16;
/// How long others may take, in all of a run, to let go of a card.
const OTHERS_LIMIT: Duration = Duration::from_secs(2);
/// When it is tried again.
const OTHERS_RETRY: Duration = Duration::from_millis(100);
/// pcscd tells of a reader that becomes free only sometimes: ask again after this long.
const HELD_RETRY: Duration = Duration::from_millis(250);

/// What is known of pcscd's readers. Connects to it when it has to, again after it went away.
#[derive(Default)]
pub struct Pcsc {
    context: Option<Context>,
    /// The context that was asked for and has not come yet: a pcscd that is just started by its
    /// socket also waits for polkit. One more for each look would use up its clients.
    connecting: Option<mpsc::Receiver<Result<Context, pcsc::Error>>>,
    /// What is known of "is there another reader" and of each reader, in this order.
    states: Vec<ReaderState>,
    /// Transactions that were asked for and did not begin in time, by reader. Each waits on: one
    /// more for each look would use up pcscd's clients.
    begun: BTreeMap<String, Beginning>,
    /// How much longer this waits for others to let go of a card; none for a look, which leaves them
    /// alone.
    patience: Option<Duration>,
}

impl Readers for Pcsc {
    /// A socket-activated pcscd is started by this.
    fn list(&mut self) -> Result<Vec<(String, bool)>, Fault> {
        let listed = self.ask();
        if listed.is_err() {
            self.context = None;
        }
        listed
    }

    fn wait(&mut self, limit: Duration) {
        if self.context.is_none() {
            // There is no pcscd, or none that answers.
            service::wait(limit);
        } else if self.refresh(limit).is_err() {
            self.context = None;
        }
    }

    fn open(&mut self, reader: &str, limit: Duration) -> Result<Box<dyn Transport>, Fault> {
        let name = CString::new(reader).map_err(|_| Fault::Absent)?;
        let mut deadline = Deadline::after(limit);
        loop {
            let beginning = match self.begun.remove(reader) {
                Some(waiting) => waiting,
                None => Beginning::start(&name, self.patience.is_some())?,
            };
            match beginning.wait(deadline.remaining()) {
                Some(Ok(session)) => match self.be_alone(session) {
                    Ok(session) => return Ok(Box::new(session)),
                    Err(waited) => deadline.put_off(waited),
                },
                Some(Err(Fault::Held)) if !deadline.passed() => {
                    self.wait_until_free(&name, deadline);
                }
                Some(Err(fault)) => return Err(fault),
                None => {
                    self.begun.insert(reader.to_owned(), beginning);
                    return Err(Fault::Held);
                }
            }
        }
    }
}

impl Pcsc {
    /// Readers for who presents a PIN to a card, and therefore wants to be alone with it.
    #[must_use]
    pub fn alone() -> Self {
        Self { patience: Some(OTHERS_LIMIT), ..Self::default() }
    }

    /// The session, or how long others were given to let go of the card, before it is tried again. pcscd
    /// does not tell when they do.
    fn be_alone(&mut self, session: PcscTransport) -> Result<PcscTransport, Duration> {
        let left = self.patience.filter(|left| !left.is_zero() && !session.is_alone());
        let Some(left) = left else { return Ok(session) };
        // They may need their turn to be done with it.
        drop(session);
        let slice = OTHERS_RETRY.min(left);
        thread::sleep(slice);
        self.patience = Some(left.saturating_sub(slice));
        Err(slice)
    }

    fn ask(&mut self) -> Result<Vec<(String, bool)>, Fault> {
        let context = self.context()?;
        let names = bounded(SERVICE_LIMIT, move || context.list_readers_owned());
        let names = match names.ok_or(Fault::TimedOut)? {
            Ok(names) => names,
            Err(pcsc::Error::NoReadersAvailable) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        self.states.retain(|state| {
            is_notification(state) || names.iter().any(|name| **name == *state.name())
        });
        for name in names {
            if !self.states.iter().any(|state| *state.name() == *name) {
                self.states.push(ReaderState::new(name, State::UNAWARE));
            }
        }
        // With all the readers that pcscd can have there is no room for the notification, and no
        // other reader to be told of.
        self.states.retain(|state| !is_notification(state));
        if self.states.len() < MOST_READERS {
            self.states.insert(0, ReaderState::new(pcsc::PNP_NOTIFICATION(), State::UNAWARE));
        }
        self.refresh(Duration::ZERO)?;
        let readers = self.states.iter().filter(|state| !is_notification(state));
        Ok(readers
            .map(|state| {
                let present = state.event_state().contains(State::PRESENT);
                (state.name().to_string_lossy().into_owned(), present)
            })
            .collect())
    }

    fn context(&mut self) -> Result<Context, Fault> {
        if let Some(context) = &self.context {
            return Ok(context.clone());
        }
        let connecting = self.connecting.take().unwrap_or_else(|| start(establish));
        let context = match connecting.recv_timeout(SERVICE_LIMIT) {
            Ok(context) => context?,
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(Fault::Absent),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                self.connecting = Some(connecting);
                return Err(Fault::TimedOut);
            }
        };
        self.states = vec![ReaderState::new(pcsc::PNP_NOTIFICATION(), State::UNAWARE)];
        Ok(self.context.insert(context).clone())
    }

    /// Asks pcscd for the state of all readers, as soon as it is not the known one.
    fn refresh(&mut self, limit: Duration) -> Result<(), Fault> {
        let context = self.context()?;
        let mut states = std::mem::take(&mut self.states);
        let (result, states) = bounded(limit + SERVICE_LIMIT, move || {
            for state in &mut states {
                state.sync_current_state();
            }
            (context.get_status_change(limit, &mut states), states)
        })
        .ok_or(Fault::TimedOut)?;
        self.states = states;
        match result {
            // A reader that went away between the calls is found missing by the next look.
            Ok(()) | Err(pcsc::Error::Timeout | pcsc::Error::UnknownReader) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for a sign that nobody holds `reader` for itself any more. Whatever comes of it, the
    /// card is tried again.
    fn wait_until_free(&mut self, reader: &CStr, deadline: Deadline) {
        let Ok(context) = self.context() else { return };
        let seen = State::PRESENT | State::EXCLUSIVE | State::INUSE;
        let mut state = [ReaderState::new(reader, seen)];
        let limit = deadline.remaining().min(HELD_RETRY);
        bounded(limit + SERVICE_LIMIT, move || context.get_status_change(limit, &mut state));
    }
}

/// A connection to pcscd.
///
/// A pcscd that ends just now looks to libpcsclite like one that denies access: it closes the
/// connection without a word. So only the second refusal counts.
fn establish() -> Result<Context, pcsc::Error> {
    Context::establish(Scope::System).or_else(|error| match error {
        pcsc::Error::SecurityViolation => Context::establish(Scope::System),
        other => Err(other),
    })
}

fn is_notification(state: &ReaderState) -> bool {
    state.name() == pcsc::PNP_NOTIFICATION()
}
