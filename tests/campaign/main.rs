//! The campaign of faults: every instant at which a run can be killed or its card, its disk or its
//! neighbours can fail. `make test` runs a bounded part of it, `make campaign` the whole; both start
//! from a seed that they print. What it counts is in `docs/reliability.md`.
//!
//! It needs what the integration tests need (root, pcscd, the cards), and runs the program that
//! `CRYPTKEY_PROGRAM` names: the release binary.

#![allow(clippy::unwrap_used, clippy::expect_used)]
// `json!` makes values that are handed over as they are.
#![allow(clippy::needless_pass_by_value)]

mod bench;
mod cards;
#[path = "../support/chance.rs"]
mod chance;
mod clock;
mod crash;
mod disk;
mod extent;
mod files;
mod flows;
mod full;
mod hostile;
mod memory;
mod memory_typed;
mod neighbour;
mod nitrokey;
mod outcome;
mod owner;
mod pins;
mod planted;
mod power;
mod proxy;
#[path = "../integration/support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;
mod together;
mod trace;
mod tracer;
#[path = "../support/vectors.rs"]
#[allow(dead_code)]
mod vectors;
