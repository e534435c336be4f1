//! `pin forget`: has the PIN guard forget a card's PINs.

use std::fmt;

use clap::Subcommand;
use serde::Serialize;

use super::{Ended, SpecFile, print};
use crate::{
    error::Result,
    spec,
    system::state_dir::StateDir,
    token::{CardName, guard},
};

#[derive(Subcommand)]
pub(super) enum PinCommand {
    /// Forget which PINs a card rejected, so that they may be presented to it again
    ///
    /// Needs no card. Make sure first that the PIN is right: presenting a wrong one costs a try.
    Forget {
        /// The card, as the refusal and `status` name it: its serial or its GUID (`unnamed` without both)
        #[arg(long, value_name = "SERIAL")]
        card: CardName,
        #[command(flatten)]
        file: SpecFile,
    },
}

#[derive(Serialize)]
struct Outcome {
    #[serde(skip)]
    card: CardName,
    forgotten: bool,
    /// The cards of which something is remembered still.
    remembered: Vec<String>,
}

pub(super) fn run(PinCommand::Forget { card, file }: &PinCommand, json: bool) -> Result<Ended> {
    let spec = spec::load(&file.spec)?;
    let (forgotten, remembered) = guard::forget(&mut StateDir::open(&spec.state_dir)?, card)?;
    let remembered = remembered.iter().map(CardName::to_string).collect();
    print(json, &Outcome { card: *card, forgotten, remembered })?;
    Ok(None)
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { card, forgotten, remembered } = self;
        if *forgotten {
            return writeln!(f, "{card}: its PINs are forgotten");
        }
        writeln!(f, "Nothing was remembered of the PINs of {card}.")?;
        if remembered.is_empty() {
            return Ok(());
        }
        writeln!(f, "Remembered are those of {}.", remembered.join(", "))
    }
}
