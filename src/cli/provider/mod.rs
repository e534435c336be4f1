//! `provider`: the ways in, shown, added and removed.

mod code;
mod passphrase;
mod piv;
mod remove;

use std::fmt::{self, Write as _};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    Ended,
    admin::{ChangeArgs, KeyArgs},
    changed::Changed,
    print,
    view::ProfileView,
};
use crate::{
    apply::{Run, Unsealed, unseal},
    error::Result,
    observe,
    plan::Goal,
    profile::{Profile, change, seal::NewProvider, store::Store},
    spec::{Key, Name, Spec},
    system::terminal::Terminal,
};

#[derive(Subcommand)]
pub(super) enum ProviderCommand {
    /// Show what opens a key, and what the spec declares besides; opens nothing, asks no card
    List(KeyArgs),
    /// Add a way in; the key is opened as usual, no other way in has to be there, no secret changes
    #[command(subcommand)]
    Add(AddCommand),
    /// Remove ways in; no secret changes
    ///
    /// The rest has to be enough to open the key. What is removed still opens every old copy of the
    /// profile: if it is in the wrong hands, `nixos-cryptkey rotate` makes a new key.
    Remove(remove::RemoveArgs),
}

#[derive(Subcommand)]
pub(super) enum AddCommand {
    /// Add a recovery code, for paper; it is shown once, on the terminal
    ///
    /// It is stored only after a part of it was typed back.
    Recovery(AddArgs),
    /// Add a passphrase of at least 12 characters
    ///
    /// Whoever can read the profile can try passphrases, without this machine and as many as they
    /// like. So a profile with one has to be kept from others.
    Passphrase(AddArgs),
    /// Add a card, without a start of the key's unit
    ///
    /// With one reader, the key is opened with the card that is in it, and the new one is asked for
    /// then. At boot only the cards are used that the spec lists, where it lists any.
    Piv(piv::PivArgs),
}

#[derive(Args)]
pub(super) struct AddArgs {
    #[command(flatten)]
    change: ChangeArgs,
    /// What it is called in the profile; by default its kind and a number
    #[arg(long)]
    id: Option<Name>,
}

pub(super) fn run(command: &ProviderCommand, json: bool) -> Result<Ended> {
    let changed = match command {
        ProviderCommand::List(args) => return list(args, json),
        ProviderCommand::Add(AddCommand::Recovery(args)) => code::add(args)?,
        ProviderCommand::Add(AddCommand::Passphrase(args)) => passphrase::add(args)?,
        ProviderCommand::Add(AddCommand::Piv(args)) => piv::add(args)?,
        ProviderCommand::Remove(args) => remove::remove(args)?,
    };
    print(json, &changed)?;
    Ok(None)
}

#[derive(Serialize)]
struct Listed {
    #[serde(skip)]
    key: String,
    profile: ProfileView,
}

fn list(args: &KeyArgs, json: bool) -> Result<Ended> {
    let (spec, key) = args.load()?;
    let profile = read(&spec, &args.key, &key)?;
    let profile = ProfileView::of(&key, &profile, None);
    print(json, &Listed { key: args.key.clone(), profile })?;
    Ok(None)
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:\n{:#}", self.key, self.profile)
    }
}

/// The profile of a key, which has to be there.
fn read(spec: &Spec, name: &str, key: &Key) -> Result<Profile> {
    let profile = observe::profile(&Store::open(&spec.state_dir)?, name, key)?;
    profile.ok_or_else(|| observe::no_profile(name))
}

/// Opens the key and adds the provider that `make` makes, with a person at the terminal; it is called
/// `kind` and a number where the arguments give it no id.
fn added(
    args: &AddArgs,
    kind: &str,
    make: impl FnOnce(&Terminal, &Profile, String) -> Result<NewProvider>,
) -> Result<Changed> {
    let AddArgs { change: args, id } = args;
    let (spec, key) = args.key.load()?;
    args.check(&spec, &key)?;
    let terminal = Terminal::open(format!("key {}: adding a {kind} provider", args.key.key))?;
    let mut run = Run::default();
    let mut new_id = String::new();
    let goal = |profile: &Profile| {
        new_id = id.as_ref().map_or_else(|| profile.unused_id(kind), Name::to_string);
        change::check_added(profile, &new_id)?;
        Ok(Goal::Open([].into()))
    };
    let mut unsealed = unseal(&mut run, &spec, &args.key.key, &key, None, goal)?;
    let profile = unsealed.profile()?;
    let new = make(&terminal, profile, new_id.clone())?;
    let (changed, _) = change::added(profile, new, &unsealed.secrets())?;
    finish_added(args, &key, &mut unsealed, &changed, new_id)
}

/// Writes a profile with a new provider, and says what that can do.
fn finish_added(
    args: &ChangeArgs,
    key: &Key,
    unsealed: &mut Unsealed,
    changed: &Profile,
    id: String,
) -> Result<Changed> {
    let kept = args.write(unsealed, changed)?;
    let others = changed.threshold() - 1;
    let how = if others == 0 {
        "alone".into()
    } else {
        format!("together with {others} of the other {}", changed.providers().len() - 1)
    };
    let mut notes = String::new();
    // Writing to a string never fails.
    let _ = writeln!(notes, "  Back the profile up again: older copies of it do not know {id}.");
    Ok(Changed {
        key: args.key.key.clone(),
        done: format!("{id} added; it opens the key {how}"),
        added: vec![id],
        removed: Vec::new(),
        profile: ProfileView::of(key, changed, None),
        output: args.output.clone(),
        kept,
        notes,
    })
}
