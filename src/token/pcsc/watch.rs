//! A limit for calls of libpcsclite that know none: `SCardTransmit` while the card waits for a touch,
//! and all of them while pcscd hangs. The thread that uses the card makes them itself, as each change of
//! threads costs as much as pcscd does; another one sleeps beside it, and ends the connection to pcscd
//! once a call has passed its limit. The call returns then.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        eventfd::{EfdFlags, EventFd},
        signalfd::SignalFd,
        socket::{Shutdown, UnixAddr, getpeername, shutdown},
    },
};

use super::service;
use crate::{
    system::signals,
    token::{Fault, Wait},
};

/// How long the watcher sleeps where there is nothing to watch. No limit of a call is shorter, but for
/// touches, so that mostly nobody has to wake it.
const IDLE: Duration = Wait::ANSWER.limit;
/// More file descriptors than this process ever has.
const MOST_FILES: i32 = 1024;

/// The watch over the calls of one session.
#[derive(Clone)]
pub(super) struct Watch(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Wakes the watcher.
    wake: EventFd,
    /// Whether a signal was put off that asks the process to end.
    is_interrupted: AtomicBool,
}

struct State {
    /// When the call that is under way is late, and when it is given up on.
    call: Option<(Instant, Instant)>,
    /// Until when the watcher sleeps.
    sleeps_until: Instant,
    gave_up: bool,
    is_over: bool,
}

impl Watch {
    pub fn new() -> nix::Result<Self> {
        let state = State {
            call: None,
            sleeps_until: Instant::now() + IDLE,
            gave_up: false,
            is_over: false,
        };
        Ok(Self(Arc::new(Shared {
            state: Mutex::new(state),
            wake: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            is_interrupted: AtomicBool::new(false),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call, which returns in time, or once the grace that follows is over. What it returns late
    /// is dropped.
    pub fn call<T>(&self, wait: Wait, call: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        let late = Instant::now() + wait.limit;
        {
            let mut state = self.state();
            if state.gave_up {
                return Err(Fault::TimedOut);
            }
            state.call = Some((late, late + wait.grace));
            if late < state.sleeps_until {
                // A counter that is full wakes it, too.
                let _ = self.0.wake.write(1);
            }
        }
        let result = call();
        let mut state = self.state();
        state.call = None;
        if state.gave_up || Instant::now() > late { Err(Fault::TimedOut) } else { result }
    }

    /// Whether the process is to end as soon as the card has forgotten what it knows.
    pub fn is_interrupted(&self) -> bool {
        self.0.is_interrupted.load(Ordering::Relaxed)
    }

    /// There is nothing to watch any more. The watcher finds out when it wakes.
    pub fn end(&self) {
        self.state().is_over = true;
    }

    /// Watches until there is nothing to watch; the watcher's part.
    pub fn watch(&self) {
        let mut signals = signals::put_off().ok();
        let mut is_told = false;
        loop {
            let sleep = {
                let mut state = self.state();
                if state.is_over {
                    return;
                }
                let now = Instant::now();
                let until = match state.call {
                    Some((_, end)) if end <= now => {
                        state.gave_up = true;
                        hang_up();
                        now + IDLE
                    }
                    Some((late, end)) if late <= now => {
                        tell(&mut is_told);
                        end
                    }
                    Some((late, _)) => late,
                    None => now + IDLE,
                };
                state.sleeps_until = until;
                until.saturating_duration_since(now)
            };
            if self.sleep(sleep, signals.as_ref()) {
                signals = None;
                self.0.is_interrupted.store(true, Ordering::Relaxed);
                if self.state().call.is_some() {
                    tell(&mut is_told);
                }
            }
        }
    }

    /// Sleeps for so long, or until it is woken; whether a signal came.
    fn sleep(&self, limit: Duration, signals: Option<&SignalFd>) -> bool {
        use std::os::fd::AsFd as _;
        let of = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds: Vec<_> = [of(self.0.wake.as_fd())]
            .into_iter()
            .chain(signals.map(|signals| of(signals.as_fd())))
            .collect();
        // Rounded up: a sleep of zero would spin.
        let timeout = limit.as_millis().saturating_add(1);
        let woken = poll(&mut fds, PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX));
        let came = woken.is_ok() && fds.get(1).is_some_and(|fd| fd.any().unwrap_or(false));
        // There is nothing to read where it was not woken.
        let _ = self.0.wake.read();
        came
    }
}

/// Says that the run goes on for the card's sake only.
fn tell(is_told: &mut bool) {
    if !std::mem::replace(is_told, true) {
        tracing::info!(
            "The card still works. The run goes on once it has answered, or is given up."
        );
    }
}

/// Ends the connections of this process to pcscd. pcscd resets the card once that has answered.
fn hang_up() {
    let socket = service::socket();
    let is_pcscd = |path: &Path| path.file_name() == socket.file_name();
    for file in 0..MOST_FILES {
        if getpeername::<UnixAddr>(file).is_ok_and(|peer| peer.path().is_some_and(is_pcscd)) {
            // It may have ended just now.
            let _ = shutdown(file, Shutdown::Both);
        }
    }
}
