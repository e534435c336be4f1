//! A software PIV card that behaves like a YubiKey 5 with firmware 5.7, for tests.
//!
//! Written from NIST SP 800-73-4 and Yubico's description of its PIV extensions. [`Card`] is the
//! card in process; [`vpcd`] and [`control`] serve it to a real pcscd through vsmartcard-vpcd, [`vscard`]
//! to a machine of QEMU (the binary `virtual-card`); [`stack`] starts a private pcscd and that binary
//! for integration tests.
//! Its keys lie on disk in the clear: it protects nothing.

use std::time::Duration;

pub mod apdu;
mod applet;
mod attestation;
mod auth;
mod card;
pub mod control;
mod controls;
mod curve;
mod faults;
mod keys;
mod log;
mod metadata;
mod objects;
mod options;
mod pin;
pub mod stack;
pub mod state;
pub mod tlv;
mod touch;
pub mod vpcd;
pub mod vscard;

pub use card::{Card, Removed};
pub use controls::{Controls, Counts, Event, TouchMode};
pub use faults::{Action, Rule};
pub use options::{KeySource, Manner, Options, SlotOption, parse_policy};

/// How long the cards, and the tests with them, wait for what somebody else does. Only what hangs takes as
/// long, also on a machine that is busy with other work.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// Fills a buffer from the operating system's random generator.
///
/// # Panics
/// If there is none, which no supported system lacks.
fn random(buffer: &mut [u8]) {
    if let Err(e) = getrandom::fill(buffer) {
        panic!("no randomness: {e}");
    }
}
