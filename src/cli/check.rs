//! `check`: every fault of a spec in one run, without a card, pcscd or the machine's users.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::{Ended, SpecFile, print};
use crate::{
    error::{Class, Error, Result},
    observe,
    profile::{self, store::load_shipped},
    secret::chosen,
    spec::{self, Fault, Key, Spec},
};

#[derive(Serialize)]
struct Checked {
    faults: Vec<Fault>,
}

pub(super) fn run(file: &SpecFile, json: bool) -> Result<Ended> {
    let text = spec::text(&file.spec)?;
    let faults = match spec::read(&text) {
        Ok(spec) => {
            spec.keys.iter().for_each(|(name, key)| warn_of_formats(name, key));
            [shipped_profiles(&spec), chosen_secrets(&spec)].concat()
        }
        Err(faults) => faults,
    };
    let failed = (!faults.is_empty()).then_some(Class::Spec);
    print(json, &Checked { faults })?;
    Ok(failed)
}

/// The faults of profiles that come with the configuration.
fn shipped_profiles(spec: &Spec) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, key) in &spec.keys {
        let Some(path) = &key.profile else { continue };
        let mut fault = |field, message| {
            faults.push(Fault { path: format!("keys.{name}.{field}"), message });
        };
        let shipped = match load_shipped(path) {
            Ok(shipped) => shipped,
            Err(error) => {
                fault("profile", format!("{}: {}. {}", error.tried, error.found, error.advice));
                continue;
            }
        };
        if let Some(declared) = &key.profile_id
            && shipped.recipient().is_some()
            && ![shipped.id(), shipped.salt_id()].contains(&declared.as_str().to_owned())
        {
            fault(
                "profileId",
                format!("found {declared}; the shipped profile has {}", shipped.id()),
            );
        }
        for (_, provider) in shipped.piv_providers() {
            let (card, sealed) = (provider.card(), provider.slot);
            let declared = key.place_of(&card).slot;
            if declared != sealed {
                let found = format!("found {declared}; the shipped profile is sealed to {sealed}");
                fault("slot", format!("{found} of {card}"));
            }
        }
        let (usable, wanted) =
            (observe::sealed(&shipped, key).usable(key.ask), shipped.threshold());
        if usable < wanted.into() {
            fault(
                "profile",
                format!("{usable} of its providers can be used here, and {wanted} open it"),
            );
        }
        warn_of_passphrases(name, &shipped);
    }
    faults
}

/// The faults of secrets that are files of the configuration. Who can open them, only the card tells.
fn chosen_secrets(spec: &Spec) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, key) in &spec.keys {
        let files = key.secrets.iter().filter_map(|(secret, of)| Some((secret, of.file.as_ref()?)));
        for (secret, file) in files {
            if let Err(Error { tried, found, advice, .. }) = chosen::check(file) {
                let path = format!("keys.{name}.secrets.{secret}.file");
                faults.push(Fault { path, message: format!("{tried}: {found}. {advice}") });
            }
        }
    }
    faults
}

/// One use in two formats is the same bytes twice.
fn warn_of_formats(name: &str, key: &Key) {
    let mut first = BTreeMap::new();
    for (secret, of) in key.secrets.iter().filter(|(_, of)| of.file.is_none()) {
        let (earlier, kind) =
            *first.entry(&*of.usage).or_insert((secret, (of.format, of.algorithm)));
        if kind != (of.format, of.algorithm) {
            tracing::warn!(
                "keys.{name}.secrets: {earlier} and {secret} have one use and different formats. They are made of \
                 the same bytes: anyone who has one has the other. Give each a use of its own."
            );
        }
    }
}

/// A passphrase provider makes a public profile a target for guessing.
fn warn_of_passphrases(name: &str, shipped: &profile::Profile) {
    if shipped.has_passphrase() {
        tracing::warn!(
            "keys.{name}.profile: it has a passphrase provider, and whoever reads the configuration \
             can guess at the passphrase"
        );
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.faults {
            writeln!(f, "{fault}")?;
        }
        match self.faults.len() {
            0 => writeln!(f, "The spec is good."),
            1 => writeln!(f, "The spec has 1 fault."),
            count => writeln!(f, "The spec has {count} faults."),
        }
    }
}
