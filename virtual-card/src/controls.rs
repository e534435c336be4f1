//! The test's hand on the card, from another thread than the one that serves it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::card::Removed;
use crate::{Action, Rule};

/// What the finger does when the card asks for a touch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TouchMode {
    /// Nothing: the card waits until this changes or its time is up.
    #[default]
    Wait,
    /// It touches, every time.
    Give,
    /// It touches once, and then does nothing.
    Once,
    /// It refuses at once, every time.
    Withhold,
}

/// What a test can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The card waits for a touch.
    Touch,
    /// A `hang` fault holds the card.
    Hang,
    /// The card is in the reader.
    Inserted,
    /// The card was pulled.
    Removed,
    /// The card is in no reader, and the reader has noticed; or the reader is gone.
    Unlinked,
    /// pcscd has powered the card since it was put in, and tells its clients of it.
    Seen,
}

/// How many APDUs came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All of them.
    pub total: usize,
    /// Those that were not GET RESPONSE (C0).
    pub without_get_response: usize,
}

/// A handle to what tests control; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Controls(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
    reload: AtomicBool,
}

#[derive(Debug, Default)]
struct Inner {
    touch: TouchMode,
    waiting_for_touch: bool,
    hanging: bool,
    removed: bool,
    power: Power,
    rules: Vec<Rule>,
    counts: Counts,
}

/// How far a reader has come with the card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Power {
    /// In no reader (or in process).
    #[default]
    Off,
    /// Linked to a reader.
    Linked,
    /// Powered.
    On,
    /// Powered, and its ATR was read, which is part of powering it.
    Read,
    /// Its ATR was read once more: pcscd polls for its presence, so it tells clients of the card.
    /// Power that goes off and on again changes this no more.
    Seen,
}

impl Controls {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let result = change(&mut self.lock());
        self.0.changed.notify_all();
        result
    }

    fn wait_while(
        &self,
        timeout: Duration,
        goes_on: impl FnMut(&mut Inner) -> bool,
    ) -> MutexGuard<'_, Inner> {
        let waited = self.0.changed.wait_timeout_while(self.lock(), timeout, goes_on);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Sets what the finger does; also for a touch that the card waits for already.
    pub fn touch(&self, mode: TouchMode) {
        self.change(|inner| inner.touch = mode);
    }

    /// Pulls the card: the APDU under way, if it waits, and all later ones fail with [`Removed`].
    pub fn remove(&self) {
        self.change(|inner| inner.removed = true);
    }

    /// Puts the card back.
    pub fn insert(&self) {
        self.change(|inner| inner.removed = false);
    }

    /// Has the card read its state file again, before the next APDU. It forgets its session, too.
    pub fn reload(&self) {
        self.0.reload.store(true, Ordering::Relaxed);
    }

    /// Whether it is to, once.
    pub(crate) fn is_to_reload(&self) -> bool {
        self.0.reload.swap(false, Ordering::Relaxed)
    }

    /// Whether the card is pulled.
    pub fn is_removed(&self) -> bool {
        self.lock().removed
    }

    /// Adds a fault. Of several that meet the same APDU the oldest acts.
    pub fn fault(&self, rule: Rule) {
        self.change(|inner| inner.rules.push(rule));
    }

    /// Forgets all faults that have not happened, and ends a hang.
    pub fn clear_faults(&self) {
        self.change(|inner| {
            inner.rules.clear();
            inner.hanging = false;
        });
    }

    /// Lets a card that hangs go on.
    pub fn release(&self) {
        self.change(|inner| inner.hanging = false);
    }

    /// The APDUs since the last reset of the counts.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Counts from zero again.
    pub fn reset_counts(&self) {
        self.change(|inner| inner.counts = Counts::default());
    }

    /// Waits until something is so; false if the time is up first.
    pub fn wait(&self, event: Event, timeout: Duration) -> bool {
        let is_so = |inner: &Inner| match event {
            Event::Touch => inner.waiting_for_touch,
            Event::Hang => inner.hanging,
            Event::Inserted => !inner.removed && inner.power != Power::Off,
            Event::Removed => inner.removed,
            Event::Unlinked => inner.power == Power::Off,
            Event::Seen => inner.power == Power::Seen,
        };
        let inner = self.wait_while(timeout, |inner| !is_so(inner));
        is_so(&inner)
    }

    /// One line for the control socket.
    pub(crate) fn describe(&self) -> String {
        let inner = self.lock();
        serde_json::json!({
            "inserted": !inner.removed,
            "seen": inner.power == Power::Seen,
            "touch": format!("{:?}", inner.touch).to_lowercase(),
            "waiting_for_touch": inner.waiting_for_touch,
            "hanging": inner.hanging,
            "faults": inner.rules.len(),
            "counts": inner.counts,
        })
        .to_string()
    }

    /// Says how far the reader has come. It comes no further with a card that is pulled.
    pub(crate) fn power(&self, power: Power) {
        self.change(|inner| {
            inner.power = match (power, inner.power) {
                (Power::Off, _) => Power::Off,
                (_, now) if inner.removed => now,
                (Power::On, now @ (Power::Read | Power::Seen)) => now,
                (power, _) => power,
            };
        });
    }

    /// Whether the card is in a reader that has not powered it up yet.
    pub(crate) fn waits_for_power(&self) -> bool {
        self.lock().power == Power::Linked
    }

    /// The reader has read the ATR.
    pub(crate) fn atr_was_read(&self) {
        self.change(|inner| {
            inner.power = match inner.power {
                Power::On => Power::Read,
                Power::Read => Power::Seen,
                other => other,
            };
        });
    }

    /// Counts an APDU and says what shall go wrong with it.
    pub(crate) fn begin(&self, header: [u8; 4]) -> Option<Action> {
        self.change(|inner| {
            inner.counts.total += 1;
            if header[1] != 0xC0 {
                inner.counts.without_get_response += 1;
            }
            let met: Vec<bool> = inner.rules.iter_mut().map(|rule| rule.meets(header)).collect();
            let first = met.iter().position(|met| *met)?;
            Some(inner.rules.remove(first).action)
        })
    }

    /// Waits for a touch: true if it came.
    pub(crate) fn await_touch(&self, timeout: Duration) -> Result<bool, Removed> {
        self.change(|inner| inner.waiting_for_touch = true);
        let mut inner = self.wait_while(timeout, |i| i.touch == TouchMode::Wait && !i.removed);
        inner.waiting_for_touch = false;
        if inner.removed {
            return Err(Removed);
        }
        let touched = matches!(inner.touch, TouchMode::Give | TouchMode::Once);
        if inner.touch == TouchMode::Once {
            inner.touch = TouchMode::Wait;
        }
        Ok(touched)
    }

    /// Hangs until released.
    pub(crate) fn hang(&self) -> Result<(), Removed> {
        self.change(|inner| inner.hanging = true);
        let mut inner = self.wait_while(Duration::MAX, |i| i.hanging && !i.removed);
        inner.hanging = false;
        if inner.removed { Err(Removed) } else { Ok(()) }
    }

    /// Waits until the card is to be in the reader, or out of it.
    pub(crate) fn await_presence(&self, inserted: bool) {
        drop(self.wait_while(Duration::MAX, |inner| inner.removed == inserted));
    }
}
