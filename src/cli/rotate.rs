//! `rotate`: a new master key, so that every output changes.

use std::{fmt::Write as _, path::Path};

use clap::Args;

use super::{
    Ended,
    admin::ChangeArgs,
    changed::Changed,
    keep::{self, KeepArgs},
    print,
    view::ProfileView,
};
use crate::{
    apply::{Run, unseal},
    error::{Class, Error, Result},
    plan::Goal,
    profile::{Profile, change, seal},
    spec::Key,
    system::terminal::Terminal,
};

#[derive(Args)]
pub(super) struct RotateArgs {
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    keep: KeepArgs,
}

pub(super) fn run(args: &RotateArgs, json: bool) -> Result<Ended> {
    let RotateArgs { change, keep } = args;
    let (spec, key) = change.key.load()?;
    change.check(&spec, &key)?;
    let name = &*change.key.key;
    let (mut run, mut kept) = (Run::default(), None);
    // The key is opened by all that stay, so that nobody else gives the machine other secrets.
    let mut unsealed = unseal(&mut run, &spec, name, &key, None, |profile| {
        change::check_version(profile, "rotating")?;
        let chosen = keep.of(name, &key, profile, profile.threshold())?;
        confirm(name)?;
        Ok(Goal::Renew(kept.insert(chosen).places.clone()))
    })?;
    let kept = kept.unwrap_or_default();
    let (old, providers) = keep::again(&mut unsealed, &kept)?;
    let (profile, _) = seal::seal(name, old.threshold(), providers)?;
    let backup = change.write(&mut unsealed, &profile)?;
    let own = key.profile.clone().unwrap_or_else(|| unsealed.store().file(name));
    let changed = Changed {
        key: name.into(),
        done: format!(
            "rotated, {}; all its secrets change at the next apply",
            keep::who_opens(&profile)
        ),
        added: Vec::new(),
        removed: kept.left_out,
        profile: ProfileView::of(&key, &profile, None),
        output: change.output.clone(),
        notes: keep::misfits(name, &spec, &profile)
            + &notes(name, &key, &profile, backup.as_deref().unwrap_or(&own)),
        kept: backup,
    };
    print(json, &changed).map(|()| None)
}

/// Has the key's name typed.
fn confirm(name: &str) -> Result<()> {
    let tried = format!("key {name}: rotating it");
    let terminal = Terminal::open(&*tried)?;
    terminal.say(&format!(
        "Every secret of key {name} will change. What was encrypted with the old ones (restic repositories,\n\
         databases, disks) has to be given the new ones by hand.\n"
    ))?;
    let typed = terminal.ask("Type the name of the key to go on: ")?;
    if *typed == *name.as_bytes() {
        return Ok(());
    }
    let advice = "Nothing was changed. Start the command again if you mean it.";
    Err(Error::new(Class::WrongAnswer, tried, "another name was typed", advice))
}

/// What has to be done next. The old key is in the file `old`.
fn notes(name: &str, key: &Key, profile: &Profile, old: &Path) -> String {
    let mut notes = String::new();
    // Writing to a string never fails.
    if key.profile.is_some() {
        let _ = writeln!(
            notes,
            "  Ship the new profile in place of security.cryptkey.keys.{name}.profile, which is the old one."
        );
    }
    if key.profile_id.is_some() {
        let _ = writeln!(
            notes,
            "  Set in configuration.nix, or the next apply fails:\n    \
             security.cryptkey.keys.{name}.profileId = \"{}\";",
            profile.id()
        );
    }
    for (secret, of) in &key.secrets {
        if let Some(file) = &of.file {
            let _ = writeln!(
                notes,
                "  Encrypt the file of secret {secret} again, to {}: {}",
                profile.recipient().map_or_else(String::new, |recipient| recipient.to_string()),
                file.display()
            );
        }
    }
    let _ = writeln!(
        notes,
        "  What was encrypted with the old secrets needs them until it is given the new ones:\n    \
         nixos-cryptkey derive --key {name} --profile {} --use LABEL\n  \
         Then destroy that file and every copy: whoever opens one has the old secrets.",
        old.display()
    );
    notes
}
