//! Signals that would end the process, while a card knows something that must not outlive its session.
//! They are put off until the session has ended, and do then what they ever do.

use std::fs;

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

/// What can be read once a signal was put off that will end the process. It is not to be read: it still
/// has to arrive. One that the process ignores (under nohup, in a shell's background) ends nothing.
///
/// # Errors
/// There are no more file descriptors.
pub fn put_off() -> nix::Result<SignalFd> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = ignored(&status);
    let ends = |signal: &Signal| ignored >> (*signal as u32 - 1) & 1 == 0;
    let mask: SigSet = ENDS.into_iter().filter(ends).collect();
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// The signals that a process ignores, by its status in /proc: a bit for each, that of signal 1 first.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_ignores_is_in_its_status() {
        let status =
            "SigBlk:\t0000000000000002\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000000\n";
        assert_eq!(
            ignored(status),
            1 << (Signal::SIGHUP as u32 - 1) | 1 << (Signal::SIGPIPE as u32 - 1)
        );
        assert_eq!(ignored("Name:\tx\n"), 0);
    }
}
