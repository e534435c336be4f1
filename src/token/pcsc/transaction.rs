//! A transaction on a card in a reader, owned by a thread of its own.
//!
//! So every wait has a deadline: libpcsclite has calls that know none (`SCardConnect` and
//! `SCardBeginTransaction` while another program holds the card, a transmit that waits for a touch,
//! and all of them while pcscd hangs). A thread that is left behind ends with the process, and pcscd
//! then resets the card that it held.

use std::{
    ffi::CStr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use pcsc::{Card, Disposition, Protocol, Protocols, ShareMode};
use zeroize::Zeroizing;

use super::{Fault, Transport, establish};

/// How long the end of a session may take, a reset of the card included.
const END_LIMIT: Duration = Duration::from_secs(3);
/// The whole answer to a command whose length a card refuses.
const WRONG_LENGTH: [u8; 2] = [0x67, 0x00];

/// What the thread that owns the card is asked for; each is answered once.
enum Request {
    Transmit(Zeroizing<Vec<u8>>, mpsc::Sender<Result<Zeroizing<Vec<u8>>, Fault>>),
    Reset(mpsc::Sender<Result<(), Fault>>),
}

/// A transaction on a card, owned by a thread.
pub(super) struct PcscTransport {
    /// None once the session is over.
    requests: Option<mpsc::Sender<Request>>,
    reset_at_end: Arc<AtomicBool>,
    /// Closed when the transaction is over.
    ended: mpsc::Receiver<()>,
    attended: Attended,
}

/// A transaction that may begin at any time. Where it begins while nobody waits for it, it ends at
/// once: it would keep others from the card and serve nobody.
pub(super) struct Beginning {
    pub transport: PcscTransport,
    /// Whether it began, once.
    result: mpsc::Receiver<Result<(), Fault>>,
}

/// Whether somebody waits for a transaction, or has it. Locked by either side while it decides what
/// to do about that, and never while it asks pcscd for anything.
#[derive(Clone)]
struct Attended(Arc<Mutex<bool>>);

impl Attended {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Beginning {
    /// Asks for a transaction with the card in `reader`.
    pub fn start(reader: &CStr) -> Result<Self, Fault> {
        let (requests, inbox) = mpsc::channel();
        let (begun, result) = mpsc::channel();
        let (alive, ended) = mpsc::channel();
        let reset_at_end = Arc::new(AtomicBool::new(false));
        let attended = Attended(Arc::new(Mutex::new(true)));
        let worker = Worker {
            inbox,
            reset_at_end: Arc::clone(&reset_at_end),
            attended: attended.clone(),
            _alive: alive,
        };
        let reader = reader.to_owned();
        thread::Builder::new()
            .name("card".into())
            .stack_size(256 * 1024)
            .spawn(move || worker.run(&reader, &begun))
            .map_err(|_| Fault::Pcsc(pcsc::Error::NoMemory))?;
        let transport = PcscTransport { requests: Some(requests), reset_at_end, ended, attended };
        Ok(Self { transport, result })
    }

    /// Waits for it to begin. `None`: it may still begin, and then comes to nothing
    /// ([`Fault::Held`]) unless it is waited for again by then.
    pub fn wait(&self, limit: Duration) -> Option<Result<(), Fault>> {
        *self.transport.attended.lock() = true;
        match self.result.recv_timeout(limit) {
            Ok(result) => return Some(result),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Some(Err(Fault::Absent)),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        let mut attended = self.transport.attended.lock();
        match self.result.try_recv() {
            Ok(result) => Some(result),
            Err(mpsc::TryRecvError::Disconnected) => Some(Err(Fault::Absent)),
            Err(mpsc::TryRecvError::Empty) => {
                *attended = false;
                None
            }
        }
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
        // One that nobody waits for does not begin any more.
        if !*self.attended.lock() {
            return;
        }
        let _ = self.ended.recv_timeout(END_LIMIT);
    }
}

/// The thread's side of [`PcscTransport`].
struct Worker {
    inbox: mpsc::Receiver<Request>,
    reset_at_end: Arc<AtomicBool>,
    attended: Attended,
    /// Dropped last of all: when libpcsclite is done with the card and its context. The process may end
    /// then, which takes apart what a call of libpcsclite that is under way still uses.
    _alive: mpsc::Sender<()>,
}

impl Worker {
    fn run(self, reader: &CStr, begun: &mpsc::Sender<Result<(), Fault>>) {
        // pcscd answers SCardConnect only once nobody else has a transaction, and until then
        // nothing else of the same context: so this has one of its own.
        let card = establish()
            .and_then(|context| context.connect(reader, ShareMode::Shared, Protocols::ANY));
        let mut card = match card {
            Ok(card) => card,
            Err(error) => {
                let _ = begun.send(Err(error.into()));
                return;
            }
        };
        // Without a word, dropping the card would reset it even where nothing was presented, and
        // disturb whoever else uses it.
        let disposition = self.serve(&mut card, begun);
        let _ = card.disconnect(disposition);
    }

    /// One transaction after another, the next one after each reset, until nobody asks any more.
    /// Returns what is still to be done with the card.
    fn serve(&self, card: &mut Card, begun: &mpsc::Sender<Result<(), Fault>>) -> Disposition {
        let mut begun = begun.clone();
        let mut leave_le_out = LeaveLeOut(false);
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
                            return Disposition::LeaveCard;
                        }
                    }
                    Err((_, error)) => {
                        let _ = begun.send(Err(error.into()));
                        return Disposition::LeaveCard;
                    }
                }
            };
            let is_attended = {
                let attended = self.attended.lock();
                if *attended {
                    // Told before anybody can turn away.
                    let _ = begun.send(Ok(()));
                }
                *attended
            };
            if !is_attended {
                let _ = transaction.end(Disposition::LeaveCard);
                let _ = begun.send(Err(Fault::Held));
                return Disposition::LeaveCard;
            }
            let reset = loop {
                match self.inbox.recv() {
                    Ok(Request::Transmit(command, reply)) => {
                        let _ = reply.send(leave_le_out.transmit(&transaction, &command));
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
            let ended = transaction.end(disposition).map_err(|(_, error)| error);
            match (reset, ended) {
                // The next turn answers, once the card is ours again.
                (Some(reply), Ok(())) => begun = reply,
                (Some(reply), Err(error)) => {
                    let _ = reply.send(Err(error.into()));
                    return disposition;
                }
                (None, Ok(())) => return Disposition::LeaveCard,
                // A PIN must not stay verified: what is left is to reset it on the way out.
                (None, Err(error)) => {
                    tracing::debug!("ending the transaction: {error}");
                    return disposition;
                }
            }
        }
    }
}

/// Whether a command with data goes without Le. T=0 has no command with both: the answer to data is
/// fetched by GET RESPONSE (ISO/IEC 7816-3, 12.2.1). Most readers see to that themselves; for one that
/// exchanges TPDUs it is up to us. pcscd is asked for the protocol only where the card refuses a length,
/// as that costs a call of its own.
struct LeaveLeOut(bool);

impl LeaveLeOut {
    fn transmit(&mut self, card: &Card, command: &[u8]) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let Some(without_le) = without_le(command) else { return transmit(card, command) };
        if !self.0 {
            let answer = transmit(card, command)?;
            let is_t0 =
                || card.status2_owned().is_ok_and(|is| is.protocol2() == Some(Protocol::T0));
            if *answer != WRONG_LENGTH || !is_t0() {
                return Ok(answer);
            }
            self.0 = true;
        }
        transmit(card, without_le)
    }
}

/// A short command with data and Le, without that Le.
fn without_le(command: &[u8]) -> Option<&[u8]> {
    let (_le, head) = command.split_last()?;
    command.get(4).is_some_and(|&lc| lc > 0 && head.len() == 5 + usize::from(lc)).then_some(head)
}

/// One APDU. The buffer holds the longest short answer, and is wiped.
fn transmit(card: &Card, command: &[u8]) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let mut buffer = Zeroizing::new(vec![0; pcsc::MAX_BUFFER_SIZE]);
    let length = match card.transmit(command, &mut buffer) {
        // What libpcsclite gives for a card that was pulled while it worked, if the driver noticed
        // late. No card answers nothing at all. Whether it is gone, the next look tells: a card that
        // stays and does so again and again is no absent one, which `softFail` would forgive.
        Ok([]) => return Err(Fault::Lost),
        Ok(answer) => answer.len(),
        Err(pcsc::Error::InsufficientBuffer) => {
            return Err(Fault::Garbage("it is longer than a short APDU"));
        }
        Err(error) => return Err(error.into()),
    };
    buffer.truncate(length);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::without_le;

    #[test]
    fn t0_has_no_le_after_data() {
        let select = [0, 0xa4, 4, 0, 2, 7, 7, 0];
        assert_eq!(without_le(&select), Some(&select[..7]));
        for other in [&select[..7], &[0, 0x20, 0, 0x80, 0], &[0, 0xc0, 0, 0], &[]] {
            assert_eq!(without_le(other), None);
        }
    }
}
