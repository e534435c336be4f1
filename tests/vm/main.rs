//! Booted machines: Debian 13 with its own systemd, polkit and pcscd, and a virtual card.
//!
//! It needs root and the packages that the Makefile names. What is missing fails the tests and says
//! how to get it; nothing is skipped.

#![allow(clippy::unwrap_used, clippy::expect_used)]
// `json!` makes values that are handed over as they are.
#![allow(clippy::needless_pass_by_value)]

mod access;
mod boot;
mod failing;
mod hardening;
mod machine;
mod mounts;
mod pins;
mod recipes;
mod recovery;
mod reload;
mod restart;
mod secrecy;
mod several;
mod stop;
mod support;
mod switch;
