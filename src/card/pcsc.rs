//! PC/SC: waiting for cards, and the transport to one of them.
//!
//! Every call runs on a thread of its own and is waited for with a deadline: libpcsclite has calls
//! that know no timeout (`SCardBeginTransaction`, a transmit that waits for a touch, and all of them
//! while pcscd hangs). A thread that is left behind ends with the process, and pcscd then resets
//! the card that it held.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    ffi::{CStr, CString},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use pcsc::{Card, Context, Disposition, Protocols, ReaderState, Scope, ShareMode, State};
use zeroize::Zeroizing;

use super::{Fault, apdu::Transport};
use crate::system::{Deadline, bounded};

/// How long pcscd itself may take for what depends on no card.
const SERVICE_LIMIT: Duration = Duration::from_secs(5);
/// How long the end of a session may take, a reset of the card included.
const END_LIMIT: Duration = Duration::from_secs(3);
/// pcscd tells of a reader that becomes free only sometimes: ask again after this long.
const HELD_RETRY: Duration = Duration::from_millis(250);

/// A connection to pcscd.
pub struct Pcsc {
    context: Context,
    /// Transactions that were asked for and not begun in time, by reader. Each waits on: one more
    /// for each look would use up pcscd's clients.
    begun: RefCell<BTreeMap<String, Beginning>>,
    /// What is known of "is there another reader" and of each reader, in this order.
    states: Vec<ReaderState>,
}

impl Pcsc {
    /// Connects to pcscd; a socket-activated one is started by this.
    pub fn connect() -> Result<Self, Fault> {
        let context = bounded(SERVICE_LIMIT, || Context::establish(Scope::System))
            .ok_or(Fault::TimedOut)??;
        let states = vec![ReaderState::new(pcsc::PNP_NOTIFICATION(), State::UNAWARE)];
        Ok(Self {
            context,
            begun: RefCell::default(),
            states,
        })
    }

    /// The names of all readers, each with whether it holds a card now.
    pub fn readers(&mut self) -> Result<Vec<(String, bool)>, Fault> {
        let context = self.context.clone();
        let names = bounded(SERVICE_LIMIT, move || context.list_readers_owned());
        let names = match names.ok_or(Fault::TimedOut)? {
            Ok(names) => names,
            Err(pcsc::Error::NoReadersAvailable) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        self.states
            .retain(|state| is_notification(state) || names.iter().any(|n| **n == *state.name()));
        for name in names {
            if !self.states.iter().any(|state| *state.name() == *name) {
                self.states.push(ReaderState::new(name, State::UNAWARE));
            }
        }
        self.refresh(Duration::ZERO)?;
        Ok(self
            .states
            .iter()
            .filter(|state| !is_notification(state))
            .map(|state| {
                let present = state.event_state().contains(State::PRESENT);
                (state.name().to_string_lossy().into_owned(), present)
            })
            .collect())
    }

    /// Waits until a reader or a card came or went since [`Self::readers`], at most for `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<(), Fault> {
        self.refresh(limit)
    }

    /// Asks pcscd for the state of all readers, as soon as it is not the known one.
    fn refresh(&mut self, limit: Duration) -> Result<(), Fault> {
        let context = self.context.clone();
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

    /// Connects to the card in `reader` and begins a transaction, which lasts until the transport
    /// is dropped. Waits up to `limit` for another program that holds either.
    ///
    /// # Errors
    /// [`Fault::Held`] where `limit` was not enough; [`Fault::Absent`] where the card has gone.
    pub fn open(&self, reader: &str, limit: Duration) -> Result<Box<dyn Transport>, Fault> {
        let name = CString::new(reader).map_err(|_| Fault::Absent)?;
        let deadline = Deadline::after(limit);
        loop {
            let waiting = self.begun.borrow_mut().remove(reader);
            let beginning = match waiting {
                Some(beginning) => beginning,
                None => Beginning::start(&name)?,
            };
            let result = beginning
                .result
                .recv_timeout(deadline.remaining().max(END_LIMIT));
            match result {
                Ok(Ok(())) => return Ok(Box::new(beginning.transport)),
                Ok(Err(Fault::Held)) if !deadline.passed() => self.wait_until_free(&name, deadline),
                Ok(Err(fault)) => return Err(fault),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(Fault::Absent),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    self.begun.borrow_mut().insert(reader.to_owned(), beginning);
                    return Err(Fault::Held);
                }
            }
        }
    }

    /// Waits for a sign that nobody holds `reader` for itself any more.
    fn wait_until_free(&self, reader: &CStr, deadline: Deadline) {
        let context = self.context.clone();
        let mut state = [ReaderState::new(
            reader,
            State::PRESENT | State::EXCLUSIVE | State::INUSE,
        )];
        let limit = deadline.remaining().min(HELD_RETRY);
        bounded(limit + SERVICE_LIMIT, move || {
            // Whatever comes of it, the card is tried again.
            let _ = context.get_status_change(limit, &mut state);
        });
    }
}

fn is_notification(state: &ReaderState) -> bool {
    state.name() == pcsc::PNP_NOTIFICATION()
}

/// What the thread that owns the card is asked for; each is answered once.
enum Request {
    Transmit(
        Zeroizing<Vec<u8>>,
        mpsc::Sender<Result<Zeroizing<Vec<u8>>, Fault>>,
    ),
    Reset(mpsc::Sender<Result<(), Fault>>),
}

/// A transaction on a card, owned by a thread.
struct PcscTransport {
    /// None once the session is over.
    requests: Option<mpsc::Sender<Request>>,
    reset_at_end: Arc<AtomicBool>,
    /// Closed when the thread has ended.
    ended: mpsc::Receiver<()>,
}

/// A transaction that may begin at any time.
struct Beginning {
    transport: PcscTransport,
    result: mpsc::Receiver<Result<(), Fault>>,
}

impl Beginning {
    fn start(reader: &CStr) -> Result<Self, Fault> {
        let (requests, inbox) = mpsc::channel();
        let (begun, result) = mpsc::channel();
        let (alive, ended) = mpsc::channel();
        let reset_at_end = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            inbox,
            reset_at_end: Arc::clone(&reset_at_end),
            _alive: alive,
        };
        let reader = reader.to_owned();
        thread::Builder::new()
            .name("card".into())
            .stack_size(256 * 1024)
            .spawn(move || worker.run(&reader, &begun))
            .map_err(|_| Fault::Pcsc(pcsc::Error::NoMemory))?;
        let transport = PcscTransport {
            requests: Some(requests),
            reset_at_end,
            ended,
        };
        Ok(Self { transport, result })
    }
}

impl PcscTransport {
    /// Has the thread do something, and waits for it.
    fn ask<T>(
        &self,
        limit: Duration,
        request: impl FnOnce(mpsc::Sender<Result<T, Fault>>) -> Request,
    ) -> Result<T, Fault> {
        let (reply, answer) = mpsc::channel();
        let requests = self.requests.as_ref().ok_or(Fault::Absent)?;
        requests.send(request(reply)).map_err(|_| Fault::Absent)?;
        match answer.recv_timeout(limit) {
            Ok(result) => result,
            Err(mpsc::RecvTimeoutError::Timeout) => Err(Fault::TimedOut),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(Fault::Absent),
        }
    }
}

impl Transport for PcscTransport {
    fn transmit(&mut self, command: &[u8], limit: Duration) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let command = Zeroizing::new(command.to_vec());
        self.ask(limit, |reply| Request::Transmit(command, reply))
    }

    fn reset(&mut self) -> Result<(), Fault> {
        self.ask(END_LIMIT, Request::Reset)
    }

    fn reset_at_end(&mut self) {
        self.reset_at_end.store(true, Ordering::Relaxed);
    }
}

impl Drop for PcscTransport {
    /// Ends the transaction and waits for that, so that the card is reset when this returns.
    fn drop(&mut self) {
        self.requests = None;
        let _ = self.ended.recv_timeout(END_LIMIT);
    }
}

/// The thread's side of [`PcscTransport`].
struct Worker {
    inbox: mpsc::Receiver<Request>,
    reset_at_end: Arc<AtomicBool>,
    _alive: mpsc::Sender<()>,
}

impl Worker {
    fn run(&self, reader: &CStr, begun: &mpsc::Sender<Result<(), Fault>>) {
        // pcscd answers SCardConnect only once nobody else has a transaction, and until then
        // nothing else of the same context: so this has one of its own.
        let card = Context::establish(Scope::System)
            .and_then(|context| context.connect(reader, ShareMode::Shared, Protocols::ANY));
        let mut card = match card {
            Ok(card) => card,
            Err(error) => {
                let _ = begun.send(Err(error.into()));
                return;
            }
        };
        self.serve(&mut card, begun);
        // Without this, dropping the card would reset it even where nothing was presented, and
        // disturb whoever else uses it.
        let _ = card.disconnect(Disposition::LeaveCard);
    }

    /// One transaction after another, the next one after each reset, until nobody asks any more.
    fn serve(&self, card: &mut Card, begun: &mpsc::Sender<Result<(), Fault>>) {
        let mut begun = begun.clone();
        loop {
            let transaction = loop {
                match card.transaction2() {
                    Ok(transaction) => break transaction,
                    // A reset before our transaction takes nothing from us. After our own one it
                    // is what pcscd tells every handle.
                    Err((same, pcsc::Error::ResetCard)) => {
                        let again = same.reconnect(
                            ShareMode::Shared,
                            Protocols::ANY,
                            Disposition::LeaveCard,
                        );
                        if let Err(error) = again {
                            let _ = begun.send(Err(error.into()));
                            return;
                        }
                    }
                    Err((_, error)) => {
                        let _ = begun.send(Err(error.into()));
                        return;
                    }
                }
            };
            let _ = begun.send(Ok(()));
            let reset = loop {
                match self.inbox.recv() {
                    Ok(Request::Transmit(command, reply)) => {
                        let _ = reply.send(transmit(&transaction, &command));
                    }
                    Ok(Request::Reset(reply)) => break Some(reply),
                    Err(mpsc::RecvError) => break None,
                }
            };
            let disposition = if reset.is_some() || self.reset_at_end.load(Ordering::Relaxed) {
                Disposition::ResetCard
            } else {
                Disposition::LeaveCard
            };
            if let Err((_, error)) = transaction.end(disposition) {
                tracing::debug!("ending the transaction: {error}");
            }
            match reset {
                // The next turn answers, once the card is ours again.
                Some(reply) => begun = reply,
                None => return,
            }
        }
    }
}

/// One APDU. The buffer holds the longest short answer, and is wiped.
fn transmit(card: &Card, command: &[u8]) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let mut buffer = Zeroizing::new(vec![0; pcsc::MAX_BUFFER_SIZE]);
    let length = match card.transmit(command, &mut buffer) {
        Ok(answer) => answer.len(),
        Err(pcsc::Error::InsufficientBuffer) => {
            return Err(Fault::Garbage("it is longer than a short APDU"));
        }
        Err(error) => return Err(error.into()),
    };
    buffer.truncate(length);
    Ok(buffer)
}
