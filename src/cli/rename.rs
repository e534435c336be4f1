//! `rename`: gives a key another name; its secrets stay.

use std::path::PathBuf;

use clap::Args;

use super::{
    Ended,
    admin::{self, ChangeArgs},
    changed::Changed,
    print,
    view::ProfileView,
};
use crate::{
    apply::{Run, SIBLING_LIMIT, unseal},
    error::{Class, Error, Result},
    plan::Goal,
    profile::{Profile, change, store::Store},
    secret::public::file_of,
    spec::Name,
    system::lock,
};

#[derive(Args)]
pub(super) struct RenameArgs {
    #[command(flatten)]
    change: ChangeArgs,
    /// The new name. The spec has to name the key by one or the other
    #[arg(long, value_name = "NAME")]
    to: Name,
}

pub(super) fn run(args: &RenameArgs, json: bool) -> Result<Ended> {
    let RenameArgs { change: ChangeArgs { key: of, output }, to } = args;
    let (from, to) = (&*of.key, &**to);
    let (spec, key) = of.load_as(&[from, to])?;
    args.change.check(&spec, &key)?;
    let renamed = |profile: &Profile, kept: Option<PathBuf>| Changed {
        key: to.into(),
        done: format!("renamed, it was {from}; no secret changed"),
        added: Vec::new(),
        removed: Vec::new(),
        profile: ProfileView::of(&key, profile, None),
        output: output.clone(),
        kept,
        notes: if spec.keys.contains_key(to) { String::new() } else { notes(from, to) },
    };
    let refused = |found: String, advice: &str| {
        Err(Error::new(Class::Profile, format!("renaming key {from} to {to}"), found, advice))
    };
    if from == to {
        return refused("that is its name".into(), "Give it another one.");
    }
    // Nobody else makes a profile of that name meanwhile.
    let _sibling = lock::lock(&spec.runtime_dir, to, SIBLING_LIMIT)?;
    let store = Store::open(&spec.state_dir)?;
    if output.is_none() {
        match (store.load(from)?, store.load(to)?) {
            // A run that was killed may have left it so.
            (None, Some(done)) if done.profile.name() == to => {
                store.sync(to)?;
                store.remove(&file_of(from))?;
                return print(json, &renamed(&done.profile, None)).map(|()| None);
            }
            (Some(old), Some(new)) if !old.profile.is_of_same_key(&new.profile) => {
                let found = format!("there is {}, of another key", store.file(to).display());
                return refused(found, "Take another name, or move that profile away.");
            }
            _ => {}
        }
    }
    let mut run = Run::default();
    let goal = |profile: &_| {
        change::check_version(profile, "renaming")?;
        Ok(Goal::Open([].into()))
    };
    let mut unsealed = unseal(&mut run, &spec, from, &key, None, goal)?;
    let (changed, _) = change::renamed(unsealed.profile()?, to, &unsealed.secrets())?;
    let kept = if let Some(output) = output {
        admin::write_new(output, changed.to_toml().as_bytes()).map(|()| None)?
    } else {
        let kept = unsealed.store().rename(from, &changed)?;
        // The next run that opens the key writes it under the new name.
        unsealed.store().remove(&file_of(from))?;
        kept
    };
    print(json, &renamed(&changed, kept)).map(|()| None)
}

/// What is to be done where the spec has the old name.
fn notes(from: &str, to: &str) -> String {
    format!(
        "  In configuration.nix, security.cryptkey.keys.{from} has to be called security.cryptkey.keys.{to}, \
         and its\n  secrets are in another directory then. Switch to that before cryptkey-{from} starts again: \
         it would find\n  no profile.\n"
    )
}
