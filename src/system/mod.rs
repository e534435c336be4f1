//! The few things asked of Linux: memory, locks, mounts, users, prompts,
//! notifications, orders to systemd, logs.

pub mod ask;
pub mod bounded;
pub mod clock;
pub mod config_file;
pub mod durable;
pub mod lock;
pub mod log;
pub mod memory;
pub mod notify;
pub mod runtime_dir;
pub mod secret_file;
pub mod signals;
pub mod state_dir;
pub mod swap;
pub mod systemctl;
pub mod terminal;
pub mod users;

pub use bounded::{Deadline, bounded, start};

use crate::error::{Class, Error, Result};

/// Fills `bytes` from the operating system.
pub(crate) fn random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(no_random)
}

pub(crate) fn no_random(error: getrandom::Error) -> Error {
    Error::new(
        Class::Internal,
        "asking the operating system for random bytes",
        error.to_string(),
        "Nothing was written. Look into the kernel's log, and try again.",
    )
}
