//! `pin forget`: has the PIN guard forget a card's PINs.

use std::fmt;

use clap::Subcommand;
use serde::Serialize;

use super::{Ended, SpecFile, print};
use crate::{card::CardName, error::Result, guard, profile::store::Store, spec};

#[derive(Subcommand)]
pub(super) enum PinCommand {
    /// Forget which PINs a card rejected, so that they may be presented to it again
    ///
    /// Needs no card. Make sure first that the PIN is right: presenting a wrong one costs a try.
    Forget {
        /// The card's serial, or its GUID if it has none (`unnamed` if it has neither)
        #[arg(long, value_name = "SERIAL")]
        card: CardName,
        #[command(flatten)]
        file: SpecFile,
    },
}

#[derive(Serialize)]
struct Forgotten {
    forgotten: Vec<String>,
}

pub(super) fn run(PinCommand::Forget { card, file }: &PinCommand, json: bool) -> Result<Ended> {
    let spec = spec::load(&file.spec)?;
    let forgotten = guard::forget(&Store::open(&spec.state_dir)?, card)?;
    let forgotten = forgotten.iter().map(CardName::to_string).collect();
    print(json, &Forgotten { forgotten })?;
    Ok(None)
}

impl fmt::Display for Forgotten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.forgotten.is_empty() {
            writeln!(f, "Nothing was remembered of its PINs.")?;
        }
        self.forgotten.iter().try_for_each(|card| writeln!(f, "{card}: its PINs are forgotten"))
    }
}
