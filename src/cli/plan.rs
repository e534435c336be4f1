//! `plan`: what apply would do, as far as it is certain.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::{Ended, SpecArgs, print};
use crate::{
    apply::{Preview, preview},
    error::Result,
};

#[derive(Serialize)]
struct Planned {
    keys: BTreeMap<String, Preview>,
}

pub(super) fn run(args: &SpecArgs, json: bool) -> Result<Ended> {
    let spec = args.load()?;
    let keys: BTreeMap<_, _> = args
        .select(&spec)
        .map(|(name, key)| (name.to_string(), preview(&spec, name, key)))
        .collect();
    let failed = keys.values().find_map(|preview| Some(preview.refused.as_ref()?.class));
    print(json, &Planned { keys })?;
    Ok(failed)
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, preview) in &self.keys {
            writeln!(f, "{name}:")?;
            for fact in &preview.facts {
                writeln!(f, "  found: {fact}")?;
            }
            for (i, step) in preview.steps.iter().enumerate() {
                writeln!(f, "  {}. {step}", i + 1)?;
            }
            if let Some(on) = &preview.hangs_on {
                writeln!(f, "  What follows hangs on this: {on}.")?;
            }
            if let Some(error) = &preview.refused {
                writeln!(f, "  It would fail ({}): {error}", error.class.name())?;
            }
        }
        Ok(())
    }
}
