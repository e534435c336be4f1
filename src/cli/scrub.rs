//! `scrub`: removes what was published.

use std::{collections::BTreeSet, fmt};

use serde::Serialize;

use super::{Ended, SpecArgs, print};
use crate::{apply::SIBLING_LIMIT, error::Result, publish, system::lock};

#[derive(Serialize)]
struct Scrubbed {
    removed: Vec<String>,
}

pub(super) fn run(args: &SpecArgs, json: bool) -> Result<Ended> {
    let spec = args.load()?;
    let mut names: BTreeSet<String> =
        args.select(&spec).map(|(name, _)| name.to_string()).collect();
    if args.keys.is_empty() {
        // Also what an earlier spec published.
        names.extend(publish::published_keys(&spec.runtime_dir)?);
    }
    let mut removed = Vec::new();
    for name in names {
        // A run that is about to publish would undo this, or be undone in the middle.
        let _sibling = lock::lock(&spec.runtime_dir, &name, SIBLING_LIMIT)?;
        if publish::scrub(&spec.runtime_dir, &name)? {
            removed.push(name);
        }
    }
    print(json, &Scrubbed { removed }).map(|()| None)
}

impl fmt::Display for Scrubbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.removed.is_empty() {
            writeln!(f, "Nothing was published.")?;
        }
        self.removed.iter().try_for_each(|name| writeln!(f, "{name}: scrubbed"))
    }
}
