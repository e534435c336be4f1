//! The NixOS module, evaluated with nixpkgs' own library and unit types: what configurations yield,
//! good ones (`configurations/`, and those of `docs/recipes.md` and `docs/fleet.md`) and bad ones
//! (`bad-*.nix`).
//!
//! It needs `nix-instantiate`, `nix-build` and `systemd-analyze`. `UPDATE_EXPECT=1` writes what the
//! configurations yield to `yield/` and the reference of the options to `docs/options.md`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bad;
mod build;
mod configurations;
mod flake;
mod fleet;
mod options;
mod readme;
mod specs;
mod units;
mod variants;
mod yields;

#[path = "../support/nix.rs"]
mod nix;
#[path = "../support/recipes.rs"]
mod recipes;
