//! The seam below a session: readers, and what carries APDUs to the card in one. PC/SC is one such
//! thing ([`super::Pcsc`]); the tests put cards there that are in the same process.

use std::time::Duration;

use zeroize::Zeroizing;

use super::Fault;

/// The readers of the machine.
pub trait Readers {
    /// The names of all readers, each with whether it holds a card now.
    ///
    /// # Errors
    /// [`Fault::Absent`] where there is nobody to ask, [`Fault::TimedOut`] where no answer came yet.
    fn list(&mut self) -> Result<Vec<(String, bool)>, Fault>;

    /// Waits until something changed since [`Self::list`], at most for `limit`. What it was shows in
    /// the next list.
    fn wait(&mut self, limit: Duration);

    /// Begins a session with the card in `reader`, in which nobody else uses it, and which lasts until
    /// the transport is dropped. Waits up to `limit` for another program that holds either.
    ///
    /// # Errors
    /// [`Fault::Held`] where `limit` was not enough; [`Fault::Absent`] where the card has gone.
    fn open(&mut self, reader: &str, limit: Duration) -> Result<Box<dyn Transport>, Fault>;
}

/// How long the answer to an APDU is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// How long, so that it counts.
    pub limit: Duration,
    /// How much longer, so that nobody leaves a card that is at work.
    pub grace: Duration,
}

impl Wait {
    /// For all that needs no touch. Key generation, the slowest, takes under 2 s on real cards.
    pub const ANSWER: Self = Self { limit: Duration::from_secs(10), grace: Duration::from_secs(3) };

    /// For what may need a touch, up to `limit`. The card waits as long as it sees fit: `YubiKey`s 15 s.
    #[must_use]
    pub fn touch(limit: Duration) -> Self {
        Self { limit, grace: Duration::from_secs(60) }
    }
}

/// What carries APDUs to a card.
pub trait Transport {
    /// Sends one short command APDU and returns the answer with its status word at the end, at
    /// least 2 bytes.
    fn transmit(&mut self, command: &[u8], wait: Wait) -> Result<Zeroizing<Vec<u8>>, Fault>;

    /// Resets the card, so that it forgets PIN, management key and selected application, without
    /// letting another program in between if that can be had.
    fn reset(&mut self) -> Result<(), Fault>;

    /// Asks for a reset at the end of the session: the card is about to learn something (a PIN, a
    /// management key) that must not outlive it.
    fn reset_at_end(&mut self);

    /// Has the power taken from the card at the end, too, as its reader ignores resets.
    fn power_off_at_end(&mut self) {}

    /// Whether nobody else can use the card, whatever becomes of this program.
    fn is_alone(&self) -> bool {
        true
    }

    /// Whether the run is to end as soon as the session has.
    fn is_interrupted(&self) -> bool {
        false
    }
}
