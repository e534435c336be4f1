//! Signals that would end the process, while a card knows something that must not outlive its session.
//! They are put off until the session has ended, and do then what they ever do.

use nix::sys::{
    signal::{SigSet, SigmaskHow, Signal},
    signalfd::{SfdFlags, SignalFd},
};

/// Those that ask a process to end.
const ENDS: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

/// Puts signals off for this thread, until it is dropped by the same one. All other threads of the
/// process have been [`sheltered`] from their start.
pub struct Shelter {
    before: SigSet,
}

impl Shelter {
    /// From now on.
    #[must_use]
    pub fn new() -> Self {
        // With a set of one's own and a known way this can't fail.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK);
        Self { before: before.unwrap_or_else(|_| SigSet::empty()) }
    }
}

impl Default for Shelter {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Shelter {
    fn drop(&mut self) {
        // The same.
        let _ = self.before.thread_set_mask();
    }
}

/// Starts a thread with `start`, on which no signal arrives, ever.
pub fn sheltered<T>(start: impl FnOnce() -> T) -> T {
    let _shelter = Shelter::new();
    start()
}

/// What can be read once a signal was put off that asks the process to end. It is not to be read: it
/// still has to arrive.
///
/// # Errors
/// There are no more file descriptors.
pub fn put_off() -> nix::Result<SignalFd> {
    let mask: SigSet = ENDS.into_iter().collect();
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}
