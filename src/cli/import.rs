//! `import`: takes a profile from elsewhere: one of cryptkey, which becomes version 2, or one of another
//! machine.

use std::{fmt::Write as _, path::PathBuf};

use clap::Args;

use super::{
    Ended,
    admin::{self, ChangeArgs},
    changed::Changed,
    keep::{self, KeepArgs, Kept},
    print,
    view::ProfileView,
};
use crate::{
    apply::{Run, Unsealed, unseal},
    error::{Class, Error, Result},
    plan::Goal,
    profile::{
        Profile, Version, change,
        store::{Store, load_file},
    },
    spec::Spec,
};

#[derive(Args)]
pub(super) struct ImportArgs {
    /// The profile's file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    change: ChangeArgs,
    /// How many of the providers are to open the key together (version 1 only) [default: as many as now]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(1..))]
    threshold: Option<u8>,
    #[command(flatten)]
    keep: KeepArgs,
}

pub(super) fn run(args: &ImportArgs, json: bool) -> Result<Ended> {
    let (spec, declared) = args.change.key.load()?;
    args.change.check_target(&spec, &declared)?;
    let name = &*args.change.key.key;
    let loaded = load_file(&args.file)?;
    if let Some(warning) = loaded.warning {
        tracing::warn!("{warning}");
    }
    let (profile, version) = (loaded.profile.clone(), loaded.profile.version());
    let has_cards = profile.piv_providers().next().is_some();
    args.check(&spec, &profile)?;
    let (mut run, mut kept) = (Run::default(), None);
    let from = Some((args.file.clone(), loaded.profile));
    let mut unsealed = unseal(&mut run, &spec, name, &declared, from, |profile| {
        if version == Version::V2 {
            return Ok(Goal::Open([].into()));
        }
        let threshold = args.threshold.unwrap_or(profile.threshold());
        let kept = kept.insert(args.keep.of(name, &declared, profile, threshold)?);
        Ok(Goal::Renew(kept.places.clone()))
    })?;
    declared.profile_id.as_ref().map_or(Ok(()), |id| unsealed.check_declared(id))?;
    let changed = match &kept {
        Some(kept) => args.resealed(&mut unsealed, kept)?,
        None if profile.name() == name => profile,
        None => change::renamed(&profile, name, &unsealed.secrets())?.0,
    };
    let backup = args.write(&mut unsealed, &changed)?;
    let target = args.change.output.clone().unwrap_or_else(|| unsealed.store().file(name));
    let is_gone = args.file.canonicalize().ok() == target.canonicalize().ok();
    let kept = kept.unwrap_or_default();
    let mut notes = String::new();
    for provider in &kept.foreign {
        // Writing to a string never fails.
        let _ = writeln!(notes, "  Left out: {provider}, which nixos-cryptkey does not know.");
    }
    if declared.profile_id.is_none() {
        let _ = writeln!(
            notes,
            "  So that a lost profile never becomes a new key, add to configuration.nix:\n    \
             security.cryptkey.keys.{name}.profileId = \"{}\";",
            changed.id()
        );
    }
    notes += &keep::misfits(name, &spec, &changed);
    if version == Version::V1 {
        notes += &args.exposed(is_gone, has_cards);
    }
    let opens = keep::who_opens(&changed);
    let changed = Changed {
        key: name.into(),
        done: format!("imported, {opens}; its secrets stay what they were"),
        added: Vec::new(),
        removed: kept.left_out,
        profile: ProfileView::of(&declared, &changed, None),
        output: args.change.output.clone(),
        kept: backup,
        notes,
    };
    print(json, &changed).map(|()| None)
}

impl ImportArgs {
    /// Refuses what can't come to an end, before anybody is asked for anything.
    fn check(&self, spec: &Spec, profile: &Profile) -> Result<()> {
        let name = &*self.change.key.key;
        let tried = || format!("importing {} as key {name}", self.file.display());
        if profile.version() == Version::V2 && (self.threshold.is_some() || self.keep.is_used()) {
            return Err(Error::new(
                Class::Spec,
                tried(),
                "it is of version 2, which is taken as it is",
                "Import it without --threshold and --without, and use `nixos-cryptkey reseal` then.",
            ));
        }
        if self.change.output.is_none() {
            let store = Store::open(&spec.state_dir)?;
            if store.is_in_ram() {
                let dir = spec.state_dir.display();
                return Err(Error::new(
                    Class::Profile,
                    tried(),
                    format!(
                        "the state directory {dir} is on a RAM file system: the profile would be gone \
                             after the next power-off"
                    ),
                    "Set stateDir to a directory that keeps its contents.",
                ));
            }
            self.has_predecessor(&store, profile, None)?;
        }
        Ok(())
    }

    /// Whether the key has a profile of the same id, to be replaced.
    ///
    /// # Errors
    /// `profile` where it has one of another id, or one that can't be read.
    fn has_predecessor(
        &self,
        store: &Store,
        profile: &Profile,
        opened: Option<&str>,
    ) -> Result<bool> {
        let name = &*self.change.key.key;
        let Some(old) = store.load(name)? else { return Ok(false) };
        // A salt can be copied: where the old one names its recipient, the opened key has to have it.
        let own = old.profile.recipient().map(|own| own.id());
        let is_own = own.is_none_or(|own| opened.is_none_or(|opened| opened == own));
        if old.profile.is_of_same_key(profile) && is_own {
            return Ok(true);
        }
        let (old, id, file) = (old.profile.id(), profile.id(), store.file(name));
        Err(Error::new(
            Class::Profile,
            format!("importing {} as key {name}", self.file.display()),
            format!("its id is {id}, and there is {} with id {old}", file.display()),
            format!(
                "Their secrets differ. If that one is not wanted any more, move it out of the way and keep \
                 it: `mv {0} {0}.old`.",
                file.display()
            ),
        ))
    }

    /// A version 1 profile as version 2, with a fresh polynomial and the key's name.
    fn resealed(&self, unsealed: &mut Unsealed, kept: &Kept) -> Result<Profile> {
        let (profile, providers) = keep::again(unsealed, kept)?;
        let secrets = keep::secrets(&providers);
        let threshold = self.threshold.unwrap_or(profile.threshold());
        let (changed, _) = change::reshared(&profile, threshold, providers, &unsealed.secrets())?;
        let name = &*self.change.key.key;
        if changed.name() == name {
            return Ok(changed);
        }
        let secrets: Vec<_> = secrets.iter().enumerate().collect();
        Ok(change::renamed(&changed, name, &secrets)?.0)
    }

    /// Writes it; where the one before is kept.
    fn write(&self, unsealed: &mut Unsealed, profile: &Profile) -> Result<Option<PathBuf>> {
        if let Some(output) = &self.change.output {
            return admin::write_new(output, profile.to_toml().as_bytes()).map(|()| None);
        }
        let opened = unsealed.id().map(str::to_owned);
        if self.has_predecessor(unsealed.store(), profile, opened.as_deref())? {
            return unsealed.store().replace(&self.change.key.key, profile);
        }
        unsealed.store().save(profile).map(|()| None)
    }

    /// What is to be done about a version 1 file; it may be gone already, as the new one has its place.
    fn exposed(&self, is_gone: bool, has_cards: bool) -> String {
        let what = if is_gone {
            "The old profile is replaced and not kept. Destroy".into()
        } else {
            format!("Destroy {} and", self.file.display())
        };
        if !has_cards {
            return format!(
                "  {what} every copy of it, in backups too: each opens the same key, with the providers that \
                 it had.\n"
            );
        }
        format!(
            "  {what} every copy of it, in backups too: whoever reads one can compute what its\n  cards would \
             answer. Was one ever where others could read it (a disk without encryption, a backup, a git\n  \
             repository), run `nixos-cryptkey rotate --key {}` as well: only new secrets help then.\n",
            self.change.key.key
        )
    }
}
