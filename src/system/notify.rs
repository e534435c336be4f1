//! What systemd is told while the service starts. Nothing is said where nobody listens
//! (`NOTIFY_SOCKET` is not set), and that nobody hears is never a fault of the run.

use std::time::Duration;

use sd_notify::NotifyState;

/// Shows `text` as the unit's status ("waiting for card 12345678").
pub fn status(text: &str) {
    // A line feed would start another assignment, and names of readers come from outside.
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    send(&NotifyState::Status(&line));
}

/// Asks for `more` time from now until the next message of this kind; to be sent before the unit's
/// `TimeoutStartSec=` passes, and again before `more` has.
pub fn extend_timeout(more: Duration) {
    let micros = u32::try_from(more.as_micros()).unwrap_or(u32::MAX);
    send(&NotifyState::ExtendTimeoutUsec(micros));
}

/// Tells that the secrets are there.
pub fn ready() {
    send(&NotifyState::Ready);
}

fn send(state: &NotifyState) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
        tracing::debug!("systemd was not told {state}: {error}");
    }
}
