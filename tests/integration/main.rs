//! The program as its users run it: the real binary, a real pcscd, a virtual YubiKey and the
//! Nitrokey's own firmware as cards. What must come out is computed by `tests/expected.py`.
//!
//! It needs root (RAM file systems are mounted) and the packages that the Makefile names. What is
//! missing fails the tests and says how to get it; nothing is skipped.

#![allow(clippy::unwrap_used, clippy::expect_used)]
// `json!` makes values that are handed over as they are.
#![allow(clippy::needless_pass_by_value)]

mod alone;
mod ask;
mod attestation;
mod chosen;
mod cli;
mod derive;
mod enroll;
mod forged;
mod formats;
mod guard;
mod import;
mod lost;
mod management;
mod messages;
mod overwrite;
mod overwrite_manners;
mod pin;
mod policies;
mod profiles;
mod provider;
mod provider_cards;
mod publishing;
mod readers;
mod removal;
mod reseal;
mod restart;
mod secrecy;
mod several;
mod siblings;
mod steady;
mod support;
mod waiting;
mod ways_in;
