//! Waits that end: a deadline, and a way to leave a call behind that knows none.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use super::signals::sheltered;

/// Bytes of stack for a helper thread: look-ups of users run modules of libc. Pages that are never
/// touched cost nothing, with locked memory either.
const STACK_BYTES: usize = 1024 * 1024;

/// Runs `f` on a helper thread and waits for it at most `limit`. `None`: it did not end in time (or
/// the system gave no thread, which is logged).
///
/// A call that is late is left behind with its thread. That is safe here: what it returns later is
/// dropped, which undoes whatever it holds (a lock, a file), and the process ends soon with an
/// error that names what was waited for; nothing waits for the thread at exit.
pub fn bounded<T: Send + 'static>(
    limit: Duration,
    f: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    start(f).recv_timeout(limit).ok()
}

/// The same for who will wait more than once: the result comes from the receiver, which tells of a
/// missing thread by being disconnected.
pub fn start<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let helper = thread::Builder::new().name("bounded".into()).stack_size(STACK_BYTES);
    // Nobody listens any more once the limit has passed: the value is dropped there.
    let helper = sheltered(|| helper.spawn(move || drop(sender.send(f()))));
    if let Err(error) = helper {
        tracing::error!("no helper thread for a call that may wait: {error}");
    }
    receiver
}

/// A moment on the monotonic clock after which a wait is given up.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// The moment `limit` from now. A limit beyond the clock's range never passes.
    #[must_use]
    pub fn after(limit: Duration) -> Self {
        Self(Instant::now().checked_add(limit))
    }

    /// Has it come `by` later.
    pub fn put_off(&mut self, by: Duration) {
        self.0 = self.0.and_then(|at| at.checked_add(by));
    }

    /// What is left; zero once it has passed.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.0.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()))
    }

    /// Whether the moment is behind us.
    #[must_use]
    pub fn passed(self) -> bool {
        self.remaining().is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_value_of_a_call_that_ends() {
        assert_eq!(bounded(virtual_card::PATIENCE, || 7), Some(7));
    }

    #[test]
    fn leaves_a_call_behind_that_does_not_end_and_drops_what_it_returns_later() {
        struct Held(mpsc::Sender<()>);
        impl Drop for Held {
            fn drop(&mut self) {
                self.0.send(()).unwrap();
            }
        }
        let (go, wait) = mpsc::channel::<()>();
        let (dropped, was_dropped) = mpsc::channel();
        let late = bounded(Duration::from_millis(1), move || {
            wait.recv().unwrap();
            Held(dropped)
        });
        assert!(late.is_none());
        go.send(()).unwrap();
        was_dropped.recv().unwrap();
    }

    #[test]
    fn deadlines_pass_and_never_wrap() {
        assert!(Deadline::after(Duration::ZERO).passed());
        assert_eq!(Deadline::after(Duration::ZERO).remaining(), Duration::ZERO);
        assert!(!Deadline::after(Duration::MAX).passed());
        assert!(!Deadline::after(Duration::from_secs(3600)).passed());
    }
}
