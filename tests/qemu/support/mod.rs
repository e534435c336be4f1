//! Machines of QEMU. What is put into them is what goes into the containers of `tests/vm`: a
//! [`Machine`] can what they can, as far as that is needed.

// Each test takes what it needs.
#![allow(dead_code)]

pub mod card;
#[path = "../../support/code.rs"]
pub mod code;
mod commands;
#[path = "../../vm/support/consumer.rs"]
pub mod consumer;
#[path = "../../vm/support/cryptkey.rs"]
pub mod cryptkey;
mod files;
pub mod machine;
#[path = "../../support/nix.rs"]
pub mod nix;
pub mod process;
pub mod qmp;
#[path = "../../support/recipes.rs"]
pub mod recipes;
#[path = "../../integration/support/run.rs"]
pub mod run;
pub mod wire;

pub use card::Card;
pub use consumer::Consumer;
pub use machine as container;
pub use machine::Machine;
pub use machine::Machine as Container;
