//! `scrub`: removes what was published.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::{Ended, SpecArgs, print, tell};
use crate::{
    apply::SIBLING_LIMIT,
    error::{Error, Result},
    publish,
    system::lock,
};

#[derive(Serialize)]
struct Scrubbed {
    removed: Vec<String>,
    failed: BTreeMap<String, Error>,
}

pub(super) fn run(args: &SpecArgs, json: bool) -> Result<Ended> {
    let spec = args.load()?;
    let (mut removed, mut failed) = (Vec::new(), BTreeMap::new());
    let mut ended = None;
    for (name, _) in args.select(&spec) {
        // A run that is about to publish would undo this, or be undone in the middle.
        let scrubbed = lock::lock(&spec.runtime_dir, name, SIBLING_LIMIT)
            .and_then(|_sibling| publish::scrub(&spec.runtime_dir, name));
        match scrubbed {
            Ok(true) => removed.push(name.to_string()),
            Ok(false) => {}
            // What else there is has to go all the same.
            Err(error) => {
                tell(&error);
                ended.get_or_insert(error.class);
                failed.insert(name.to_string(), error);
            }
        }
    }
    print(json, &Scrubbed { removed, failed })?;
    Ok(ended)
}

impl fmt::Display for Scrubbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.removed.is_empty() && self.failed.is_empty() {
            writeln!(f, "Nothing was published.")?;
        }
        self.removed.iter().try_for_each(|name| writeln!(f, "{name}: scrubbed"))?;
        let mut failed = self.failed.iter();
        failed.try_for_each(|(name, error)| writeln!(f, "{name}: failed ({})", error.class.name()))
    }
}
