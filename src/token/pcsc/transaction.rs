//! A session with the card in a reader, and how it begins.
//!
//! The card is connected to exclusively where nobody else uses it: pcscd's transactions do not isolate.
//! A call of another client that came a moment before runs inside of them, and pcscd forgets the lock of
//! a client that died before it resets the card. Both need another client with a handle, which an
//! exclusive connection rules out, from its first moment until after the reset.
//!
//! A session begins on a thread of its own, as libpcsclite has calls for that which know no deadline
//! (`SCardConnect` and `SCardBeginTransaction` while another program holds the card) and which keep a
//! place in the queue when they are waited for again. It is handed over then, and that thread watches.

use std::{
    ffi::CStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use pcsc::{Card, Disposition, Protocol, Protocols, ShareMode, Transaction};
use zeroize::Zeroizing;

use super::{Fault, Transport, establish, watch::Watch};
use crate::{
    system::signals::{Shelter, sheltered},
    token::Wait,
};

/// The whole answer to a command whose length a card refuses.
const WRONG_LENGTH: [u8; 2] = [0x67, 0x00];

/// A session with a card.
pub(super) struct PcscTransport {
    /// None once the session is over.
    card: Option<Card>,
    /// Whether nobody else can have a handle on the card.
    share: ShareMode,
    leave_le_out: LeaveLeOut,
    /// How the card is made to forget.
    forgets_by: Disposition,
    watch: Watch,
    /// From when the card is about to learn something, until it was reset.
    shelter: Option<Shelter>,
}

/// A session that may begin at any time. Where it begins while nobody waits for it, it ends at once: it
/// would keep others from the card and serve nobody.
pub(super) struct Beginning {
    /// What came of it, once.
    result: mpsc::Receiver<Result<PcscTransport, Fault>>,
    attended: Attended,
}

/// Whether somebody waits for a session, or has it. Locked by either side while it decides what to do
/// about that, and never while it asks pcscd for anything.
#[derive(Clone)]
struct Attended(Arc<Mutex<bool>>);

impl Attended {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Beginning {
    /// Asks for a session with the card in `reader`; `alone`, if that can be had at once.
    pub fn start(reader: &CStr, alone: bool) -> Result<Self, Fault> {
        let (begun, result) = mpsc::channel();
        let attended = Attended(Arc::new(Mutex::new(true)));
        let (reader, attends) = (reader.to_owned(), attended.clone());
        let run = move || {
            let transport = begin(&reader, alone);
            let watch = transport.as_ref().ok().map(|transport| transport.watch.clone());
            let is_attended = {
                let attended = attends.lock();
                // Told before anybody can turn away.
                let transport = if *attended { transport } else { Err(Fault::Held) };
                let _ = begun.send(transport);
                *attended
            };
            if let Some(watch) = watch.filter(|_| is_attended) {
                watch.watch();
            }
        };
        let thread = thread::Builder::new().name("card".into()).stack_size(256 * 1024);
        sheltered(|| thread.spawn(run)).map_err(|_| Fault::Pcsc(pcsc::Error::NoMemory))?;
        Ok(Self { result, attended })
    }

    /// Waits for it to begin. `None`: it may still begin, and then comes to nothing
    /// ([`Fault::Held`]) unless it is waited for again by then.
    pub fn wait(&self, limit: Duration) -> Option<Result<PcscTransport, Fault>> {
        *self.attended.lock() = true;
        match self.result.recv_timeout(limit) {
            Ok(result) => return Some(result),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Some(Err(Fault::Absent)),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        let mut attended = self.attended.lock();
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

/// Begins a session, as soon as nobody else holds the card.
fn begin(reader: &CStr, alone: bool) -> Result<PcscTransport, Fault> {
    // pcscd answers SCardConnect only once nobody else has a transaction, and until then nothing else of
    // the same context: so this has one of its own.
    let context = establish()?;
    let connect = |share| context.connect(reader, share, Protocols::ANY).map(|card| (card, share));
    let connected = match alone.then(|| connect(ShareMode::Exclusive)) {
        // Somebody has a handle on it.
        Some(Err(pcsc::Error::SharingViolation)) | None => connect(ShareMode::Shared),
        Some(connected) => connected,
    };
    let (mut card, share) = connected?;
    if share == ShareMode::Shared {
        // It is ended by name.
        std::mem::forget(transaction(&mut card, share)?);
    }
    let watch = Watch::new().map_err(|_| Fault::Pcsc(pcsc::Error::NoMemory))?;
    Ok(PcscTransport {
        card: Some(card),
        share,
        leave_le_out: LeaveLeOut(false),
        forgets_by: Disposition::ResetCard,
        watch,
        shelter: None,
    })
}

/// Begins a transaction, which may be within another one of the same handle.
fn transaction(mut card: &mut Card, share: ShareMode) -> Result<Transaction<'_>, pcsc::Error> {
    loop {
        match card.transaction2() {
            Ok(transaction) => return Ok(transaction),
            // A reset before our transaction takes nothing from us. After our own one it is what pcscd
            // tells every handle.
            Err((same, pcsc::Error::ResetCard)) => {
                same.reconnect(share, Protocols::ANY, Disposition::LeaveCard)?;
                card = same;
            }
            Err((_, error)) => return Err(error),
        }
    }
}

/// Resets the card, or has it without power for a moment, and lets nobody else use it before that or
/// after.
fn reset(card: &mut Card, share: ShareMode, how: Disposition) -> Result<(), pcsc::Error> {
    transaction(card, share)?.end(how).map_err(|(_, error)| error)
}

impl Transport for PcscTransport {
    fn transmit(&mut self, command: &[u8], wait: Wait) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let Self { card, leave_le_out, watch, .. } = self;
        let card = card.as_ref().ok_or(Fault::Absent)?;
        watch.call(wait, || leave_le_out.transmit(card, command))
    }

    fn reset(&mut self) -> Result<(), Fault> {
        let Self { card, share, watch, .. } = self;
        let card = card.as_mut().ok_or(Fault::Absent)?;
        watch.call(Wait::ANSWER, || {
            reset(card, *share, Disposition::ResetCard)?;
            // The handle has to take note of it.
            Ok(card.reconnect(*share, Protocols::ANY, Disposition::LeaveCard)?)
        })
    }

    fn reset_at_end(&mut self) {
        self.shelter.get_or_insert_default();
    }

    fn power_off_at_end(&mut self) {
        self.forgets_by = Disposition::UnpowerCard;
    }

    fn is_alone(&self) -> bool {
        self.share == ShareMode::Exclusive
    }

    fn is_interrupted(&self) -> bool {
        self.watch.is_interrupted()
    }
}

impl Drop for PcscTransport {
    /// Ends the session, so that the card has forgotten what it learned when this returns. libpcsclite
    /// is done with it then, too: the process may end, which takes apart what a call uses.
    fn drop(&mut self) {
        let Some(mut card) = self.card.take() else { return };
        let (share, how, learned) = (self.share, self.forgets_by, self.shelter.is_some());
        let ended = self.watch.call(Wait::ANSWER, || {
            let done = if learned { reset(&mut card, share, how) } else { Ok(()) };
            // Without a word, dropping the card would reset it even where nothing was presented, and
            // disturb whoever else uses it. A PIN must not stay verified: where the reset failed, what is
            // left is another one on the way out.
            let left = done.map_or(how, |()| Disposition::LeaveCard);
            card.disconnect(left).map_err(|(_, error)| error.into())
        });
        if let Err(fault) = ended {
            tracing::debug!("ending the session: {fault}");
        }
        self.watch.end();
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
