//! Machines that boot, and what is put into them.

// Each test takes what it needs.
#![allow(dead_code)]

#[path = "../../support/agent.rs"]
pub mod agent;
pub mod card;
#[path = "../../support/code.rs"]
pub mod code;
mod commands;
pub mod consumer;
pub mod container;
pub mod cryptkey;
mod files;
#[path = "../../integration/support/leak.rs"]
pub mod leak;
#[path = "../../support/nix.rs"]
pub mod nix;
#[path = "../../support/pty.rs"]
mod pty;
#[path = "../../support/recipes.rs"]
pub mod recipes;
#[path = "../../integration/support/run.rs"]
pub mod run;
mod switch;
pub mod terminal;

pub use card::Card;
pub use consumer::Consumer;
pub use container::Container;
pub use switch::{Switched, switch};
