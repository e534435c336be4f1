//! A machine with cards, and what the tests ask of both.

#[path = "../../support/agent.rs"]
pub mod agent;
#[path = "../../support/attack.rs"]
pub mod attack;
pub mod cards;
pub mod client;
pub mod leak;
pub mod machine;
#[path = "../../support/pty.rs"]
#[allow(dead_code, reason = "the campaign has no terminals")]
mod pty;
#[path = "../../support/published.rs"]
pub mod published;
#[path = "../../support/ram.rs"]
pub mod ram;
pub mod run;
#[allow(dead_code, reason = "not all of it is for the campaign")]
pub mod sealed;
pub mod shared;
pub mod systemd;
pub mod terminal;
pub mod vectors;

pub use cards::{Nitrokey, TestCard, Yubikey};
pub use client::Client;
pub use machine::Machine;
pub use run::{Output, Running};
pub use systemd::Systemd;
