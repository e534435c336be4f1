//! `export`: prints a sealed profile, for another machine or a backup.

use std::{fmt, path::PathBuf};

use clap::Args;
use serde::Serialize;

use super::{
    Ended,
    admin::{self, KeyArgs},
    print,
};
use crate::{
    error::{Class, Error, Result},
    observe,
    profile::{Version, store::Store},
};

#[derive(Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// Writes it to this new file instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Exported {
    #[serde(skip)]
    name: String,
    profile_id: String,
    /// The file that was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<PathBuf>,
    /// The profile's text, where no file was.
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
}

pub(super) fn run(args: &ExportArgs, json: bool) -> Result<Ended> {
    let (spec, key) = args.key.load()?;
    let name = &*args.key.key;
    let profile = observe::profile(&Store::open(&spec.state_dir)?, name, &key)?;
    let profile = profile.ok_or_else(|| observe::no_profile(name))?;
    if profile.version() == Version::V1 {
        return Err(Error::new(
            Class::Profile,
            format!("key {name}: exporting its profile"),
            "it is of version 1, written by cryptkey, and opens without a card to whoever reads it",
            format!(
                "Import it first, which makes it safe to be read: `nixos-cryptkey import FILE --key {name}`."
            ),
        ));
    }
    if profile.has_passphrase() {
        tracing::warn!(
            "key {name}: its profile has a passphrase provider: whoever reads it can guess at the passphrase. \
             Keep it where only you can read it."
        );
    }
    if let Some(output) = &args.output {
        admin::write_new(output, profile.to_toml().as_bytes())?;
    }
    let exported = Exported {
        name: name.into(),
        profile_id: profile.id(),
        written: args.output.clone(),
        profile: args.output.is_none().then(|| profile.to_toml()),
    };
    print(json, &exported).map(|()| None)
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(written) = &self.written {
            writeln!(f, "{}: its profile is in {}", self.name, written.display())?;
        }
        self.profile.iter().try_for_each(|profile| f.write_str(profile))
    }
}
