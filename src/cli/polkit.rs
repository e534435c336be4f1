//! `polkit`: who may reach cards and readers.

use std::{fmt, path::PathBuf};

use clap::Args;
use serde::Serialize;

use super::{Ended, SpecFile, print};
use crate::{
    error::Result,
    polkit::{self, FILE, Outcome},
    spec::{self, Pcsc, SubjectName},
};

#[derive(Args)]
pub(super) struct PolkitArgs {
    #[command(flatten)]
    file: SpecFile,
    /// Remove the rule, whomever the spec lists
    #[arg(long, conflicts_with = "spec")]
    remove: bool,
    /// polkit's directory for the rule
    #[arg(long, value_name = "DIR", default_value = polkit::DIRECTORY)]
    directory: PathBuf,
}

#[derive(Serialize)]
struct Ruled {
    rule: Outcome,
    file: PathBuf,
    #[serde(flatten)]
    pcsc: Pcsc,
}

pub(super) fn run(args: &PolkitArgs, json: bool) -> Result<Ended> {
    let pcsc = if args.remove { Pcsc::default() } else { spec::load(&args.file.spec)?.pcsc };
    let rule = polkit::install(&args.directory, &pcsc)?;
    print(json, &Ruled { rule, file: args.directory.join(FILE), pcsc }).map(|()| None)
}

impl fmt::Display for Ruled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.rule {
            Outcome::Installed => "polkit: installed",
            Outcome::Unchanged => "polkit: unchanged",
            Outcome::Removed => "polkit: removed",
        })?;
        let lists = [("users", &self.pcsc.users), ("groups", &self.pcsc.groups)];
        let lists = lists.iter().filter(|(_, names)| !names.is_empty()).map(|(what, names)| {
            let names: Vec<_> = names.iter().map(SubjectName::as_str).collect();
            format!("{what} {}", names.join(", "))
        });
        match lists.collect::<Vec<_>>().join("; ").as_str() {
            "" if self.rule == Outcome::Removed => writeln!(f),
            "" => writeln!(f, ", nobody is listed"),
            lists => writeln!(f, ", {lists}"),
        }
    }
}
