//! The few things asked of Linux: memory, locks, mounts, users, prompts,
//! notifications, orders to systemd, logs.

pub mod ask;
pub mod bounded;
pub mod clock;
pub mod durable;
pub mod lock;
pub mod log;
pub mod memory;
pub mod notify;
pub mod runtime_dir;
pub mod secret_file;
pub mod swap;
pub mod systemctl;
pub mod terminal;
pub mod users;

pub use bounded::{Deadline, bounded, start};
