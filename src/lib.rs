//! `nixos-cryptkey`: secrets for NixOS services that only a smart card in the machine can unlock.
//!
//! The flow is `spec -> observe -> plan -> apply -> publish`; `docs/architecture.md` is its map.

pub mod card;
pub mod error;
pub mod publish;
pub mod system;
