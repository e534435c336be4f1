//! `apply`: the program's main job.

use std::{collections::BTreeMap, fmt};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{
    Ended, SpecArgs, print,
    public::shown,
    restart::{self, Told},
    tell,
};
use crate::{
    apply::{Done, Report, Run, apply},
    error::{Error, Result},
    publish::Outcome,
    secret::public::PublicHalves,
    system::{memory, notify},
};

#[derive(Args)]
pub(super) struct ApplyArgs {
    #[command(flatten)]
    spec: SpecArgs,
    /// Ask the card also where nothing would change
    #[arg(long)]
    always: bool,
    /// When the units restart that read a secret whose bytes have changed
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = When::Now)]
    restart: When,
}

/// When the readers of what changed restart.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum When {
    /// At once
    Now,
    /// At the next `nixos-cryptkey restart`, for runs that may not tell systemd themselves
    Later,
    /// The same; but nobody has read what was not there before, as at a boot
    Boot,
}

#[derive(Serialize)]
struct Applied {
    keys: BTreeMap<String, Line>,
    /// None where nobody had to be told, or it is for later.
    #[serde(skip_serializing_if = "Option::is_none")]
    readers: Option<Told>,
}

/// What became of one key.
#[derive(Serialize)]
#[serde(tag = "result", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Line {
    /// Its profile was made.
    Enrolled { profile_id: String, published: Published },
    /// Its profile was opened.
    Verified { profile_id: String, published: Published },
    /// Nothing was done, and no card was asked: what is published is what would be.
    NotVerified { profile_id: String, published: Published },
    /// A soft failure.
    Skipped { error: Error },
    /// A hard one.
    Failed { error: Error },
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Published {
    unchanged: bool,
    added: Vec<String>,
    changed: Vec<String>,
    removed: Vec<String>,
    /// Those that nobody has seen yet.
    #[serde(skip_serializing_if = "PublicHalves::is_empty")]
    public_halves: PublicHalves,
}

pub(super) fn run(args: &ApplyArgs, json: bool) -> Result<Ended> {
    let ApplyArgs { spec: args, always, restart: when } = args;
    let spec = args.load()?;
    let mut run = Run::default();
    (run.always, run.boots) = (*always, *when == When::Boot);
    let mut failed = None;
    let mut keys = BTreeMap::new();
    for (name, key) in args.select(&spec) {
        let line = match apply(&mut run, &spec, name, key) {
            Ok(report) => Line::done(report),
            Err(mut error) if key.soft_fail && error.class.is_soft() => {
                // Starting a unit that is up does nothing.
                error.advice = format!(
                    "{} After a soft failure the unit is up: `systemctl reload cryptkey-{name}`, \
                     then start what was skipped.",
                    error.advice
                );
                tracing::warn!("{error}");
                notify::status(&format!("{name} skipped: {}", error.found));
                Line::Skipped { error }
            }
            Err(error) => {
                tell(&error);
                failed.get_or_insert(error.class);
                Line::Failed { error }
            }
        };
        keys.insert(name.to_string(), line);
    }
    // The PINs were for the keys that came after.
    drop(run);
    memory::wipe_stack();
    let readers = (*when == When::Now).then(|| restart::restart(&spec, args.select(&spec)));
    let readers = readers.filter(|readers| !readers.is_nothing());
    failed = failed.or(readers.as_ref().and_then(Told::ended));
    print(json, &Applied { keys, readers })?;
    if failed.is_none() {
        notify::ready();
    }
    Ok(failed)
}

impl Line {
    fn done(report: Report) -> Self {
        let Report { profile_id, done, outcome, new_public_halves: public_halves } = report;
        let published = match outcome {
            Outcome::Unchanged => {
                Published { unchanged: true, public_halves, ..Published::default() }
            }
            Outcome::Changed(changes) => Published {
                unchanged: false,
                added: changes.added,
                changed: changes.changed,
                removed: changes.removed,
                public_halves,
            },
        };
        match done {
            Done::Enrolled => Self::Enrolled { profile_id, published },
            Done::Verified => Self::Verified { profile_id, published },
            Done::Skipped => Self::NotVerified { profile_id, published },
        }
    }
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, line) in &self.keys {
            match line {
                Line::Verified { published, .. } => {
                    writeln!(f, "{name}: verified, {published}")?;
                    published.show_public_halves(f)?;
                }
                Line::NotVerified { published, .. } => {
                    writeln!(f, "{name}: {published}, not verified (the card was not asked)")?;
                }
                Line::Enrolled { profile_id, published } => {
                    writeln!(f, "{name}: enrolled, {published}")?;
                    published.show_public_halves(f)?;
                    writeln!(
                        f,
                        "  So that a lost profile never becomes a new key, add to configuration.nix:\n  \
                         security.cryptkey.keys.{name}.profileId = \"{profile_id}\";"
                    )?;
                }
                Line::Skipped { .. } => writeln!(f, "{name}: skipped")?,
                Line::Failed { error } => writeln!(f, "{name}: failed ({})", error.class.name())?,
            }
        }
        self.readers.iter().try_for_each(|readers| readers.fmt(f))
    }
}

impl Published {
    fn show_public_halves(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut halves = self.public_halves.iter();
        halves.try_for_each(|(name, half)| shown(f, "  ", name, half))
    }
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.unchanged {
            return f.write_str("unchanged");
        }
        let lists =
            [("added", &self.added), ("changed", &self.changed), ("removed", &self.removed)];
        let parts: Vec<_> = lists
            .into_iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(what, names)| format!("{what} {}", names.join(", ")))
            .collect();
        if parts.is_empty() {
            return f.write_str("published nothing");
        }
        f.write_str(&parts.join("; "))
    }
}
