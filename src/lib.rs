//! `nixos-cryptkey`: secrets for NixOS services that only a smart card in the machine can unlock.
//!
//! The flow is `spec -> observe -> plan -> apply -> publish`; `docs/architecture.md` is its map.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod apply;
#[cfg(test)]
#[path = "../tests/support/chance.rs"]
mod chance;
pub mod cli;
pub mod error;
pub mod kdf;
pub mod observe;
pub mod plan;
pub mod polkit;
pub mod profile;
pub mod publish;
pub mod secret;
pub mod spec;
pub mod system;
pub mod token;
