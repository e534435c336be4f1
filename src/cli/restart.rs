//! `restart`: the units that have read what is now another one read it again. It is the only place
//! that has units restarted.
//!
//! Which units those are is in the spec. What was published says only which secrets are new: it was
//! written by runs with fewer rights than this one may have.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::Serialize;

use super::{Ended, SpecArgs, print, tell};
use crate::{
    apply::SIBLING_LIMIT,
    error::{Error, Result},
    publish,
    spec::{Key, Name, Spec, UnitName},
    system::{
        lock::{self, Guard},
        systemctl::{self, Order},
    },
};

/// What systemd was told.
#[derive(Default, Serialize)]
pub(super) struct Told {
    restarted: BTreeSet<String>,
    reloaded: BTreeSet<String>,
    /// The keys whose readers could not be told.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    failed: BTreeMap<String, Error>,
}

pub(super) fn run(args: &SpecArgs, json: bool) -> Result<Ended> {
    let spec = args.load()?;
    let restarted = restart(&spec, args.select(&spec));
    print(json, &restarted)?;
    Ok(restarted.ended())
}

/// Has systemd restart or reload who reads what is pending of these keys, each unit once, and then
/// forgets that it was pending. Failures are told.
pub(super) fn restart<'a>(spec: &Spec, keys: impl Iterator<Item = (&'a Name, &'a Key)>) -> Told {
    let mut done = Told::default();
    let mut held = Vec::new();
    for (name, key) in keys {
        match pending(spec, name) {
            Ok(None) => {}
            Ok(Some((lock, secrets))) => {
                done.add(key, &secrets);
                held.push((name, lock));
            }
            Err(error) => done.fail(name, error),
        }
    }
    // A unit that restarts need not reload.
    done.reloaded.retain(|unit| !done.restarted.contains(unit));
    let restarted = systemctl::queue(Order::Restart, &done.restarted);
    let reloaded = systemctl::queue(Order::Reload, &done.reloaded);
    if restarted.is_err() {
        done.restarted.clear();
    }
    if reloaded.is_err() {
        done.reloaded.clear();
    }
    let queued = restarted.and(reloaded);
    for (name, _lock) in held {
        let forgotten = queued.clone().and_then(|()| {
            // Last of all: a run that was killed before this has the next one tell them again.
            publish::nothing_pending(&spec.runtime_dir, name)
        });
        if let Err(error) = forgotten {
            done.fail(name, error);
        }
    }
    done
}

/// What is pending of a key, if anything, and the lock that keeps it so.
fn pending(spec: &Spec, name: &Name) -> Result<Option<(Guard, Vec<String>)>> {
    let dir = &spec.runtime_dir;
    // Mostly there is nothing, and nobody to wait for.
    if publish::pending(dir, name)?.is_empty() {
        return Ok(None);
    }
    let lock = lock::lock(dir, name, SIBLING_LIMIT)?;
    Ok(Some((lock, publish::pending(dir, name)?)))
}

impl Told {
    /// Adds the units that the spec has for these secrets of the key. A name that is none of its
    /// secrets' has none.
    fn add(&mut self, key: &Key, secrets: &[String]) {
        let pattern = |unit: &UnitName| unit.pattern().into_owned();
        for secret in secrets.iter().filter_map(|name| key.secrets.get(name.as_str())) {
            self.restarted.extend(secret.restart_units.iter().map(pattern));
            self.reloaded.extend(secret.reload_units.iter().map(pattern));
        }
    }

    fn fail(&mut self, name: &Name, error: Error) {
        tell(&error);
        self.failed.insert(name.to_string(), error);
    }

    /// How the command ends.
    pub(super) fn ended(&self) -> Ended {
        self.failed.values().map(|error| error.class).next()
    }

    /// Whether there was nobody to tell, and nothing went wrong.
    pub(super) fn is_nothing(&self) -> bool {
        self.restarted.is_empty() && self.reloaded.is_empty() && self.failed.is_empty()
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, units) in [("restart", &self.restarted), ("reload", &self.reloaded)] {
            if !units.is_empty() {
                let units: Vec<_> = units.iter().map(String::as_str).collect();
                writeln!(f, "To {what}, if active: {}", units.join(", "))?;
            }
        }
        let mut failed = self.failed.iter();
        failed.try_for_each(|(name, error)| writeln!(f, "{name}: failed ({})", error.class.name()))
    }
}
