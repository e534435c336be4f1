//! Touch policies.

use std::time::{Duration, Instant};

use crate::apdu::Sw;
use crate::card::{Card, Stop};
use crate::state::TouchPolicy;

/// How long a touch serves a key with the policy "cached".
const CACHED: Duration = Duration::from_secs(15);

impl Card {
    /// Waits for the touch that a key needs.
    pub(crate) fn require_touch(&mut self, slot: u8, policy: TouchPolicy) -> Result<(), Stop> {
        let fresh = self.session.touches.get(&slot).is_some_and(|at| at.elapsed() < CACHED);
        match policy {
            TouchPolicy::Never => return Ok(()),
            TouchPolicy::Cached if fresh => return Ok(()),
            TouchPolicy::Cached | TouchPolicy::Always => {}
        }
        if !self.controls.await_touch(self.options.touch_timeout)? {
            return Err(Sw::SECURITY_STATUS.into());
        }
        self.session.touches.insert(slot, Instant::now());
        Ok(())
    }
}
