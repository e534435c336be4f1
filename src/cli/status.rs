//! `status`: keys, their providers, the cards that are there, and what is published.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::{Ended, SpecArgs, print, public, view::ProfileView};
use crate::{
    error::{Error, Result},
    observe,
    profile::store::Store,
    publish::{self, PublishedFile},
    spec::{Key, Spec},
    system::users,
    token::guard::{self, Rejection},
    token::{ReaderView, scan},
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    keys: BTreeMap<String, KeyStatus>,
    /// None where PC/SC could not be asked.
    readers: Option<Vec<ReaderView>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    readers_error: Option<Error>,
    /// The PINs that cards rejected, and that are therefore not presented again.
    rejected_pins: Option<Vec<Rejection>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected_pins_error: Option<Error>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyStatus {
    /// None before enrollment.
    profile: Option<ProfileView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile_error: Option<Error>,
    /// None where nothing is published.
    published: Option<Vec<FileStatus>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    published_error: Option<Error>,
    /// The public halves of its secrets that are known.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    public_halves: BTreeMap<String, PublicHalf>,
}

#[derive(Serialize)]
struct PublicHalf {
    text: String,
    /// Whether the key gave it since the machine started.
    verified: bool,
}

#[derive(Serialize)]
struct FileStatus {
    name: String,
    owner: String,
    group: String,
    mode: String,
    length: u64,
}

pub(super) fn run(args: &SpecArgs, json: bool) -> Result<Ended> {
    let spec = args.load()?;
    let mut slots: Vec<_> = args.select(&spec).flat_map(|(_, key)| key.slots()).collect();
    slots.sort_unstable();
    slots.dedup();
    let (readers, readers_error) = apart(scan(&slots));
    let keys: BTreeMap<_, _> = args
        .select(&spec)
        .map(|(name, key)| (name.to_string(), key_status(&spec, name, key, readers.as_deref())))
        .collect();
    let (rejected_pins, rejected_pins_error) =
        apart(Store::open(&spec.state_dir).and_then(|store| guard::rejections(&store)));
    let errors = keys.values().flat_map(|key| [&key.profile_error, &key.published_error]);
    let errors = errors.chain([&rejected_pins_error]);
    let failed = errors.flatten().map(|error| error.class).next();
    print(json, &Status { keys, readers, readers_error, rejected_pins, rejected_pins_error })?;
    Ok(failed)
}

fn key_status(spec: &Spec, name: &str, key: &Key, readers: Option<&[ReaderView]>) -> KeyStatus {
    let profile = Store::open(&spec.state_dir)
        .and_then(|store| observe::profile(&store, name, key))
        .map(|profile| profile.map(|profile| ProfileView::of(key, &profile, readers)));
    let (profile, profile_error) = apart(profile);
    let published = publish::published(&spec.runtime_dir, name)
        .map(|files| files.map(|files| files.into_iter().map(file).collect()));
    let (published, published_error) = apart(published);
    // What is wrong there, is wrong with the profile or with what is published, too.
    let halves = Store::open(&spec.state_dir)
        .and_then(|store| public::halves(spec, &store, name, key, None))
        .unwrap_or_default();
    let public_half =
        |half: public::Half| PublicHalf { text: half.text, verified: half.is_published };
    KeyStatus {
        profile: profile.flatten(),
        profile_error,
        published: published.flatten(),
        published_error,
        public_halves: halves.into_iter().map(|(name, half)| (name, public_half(half))).collect(),
    }
}

fn file(PublishedFile { name, uid, gid, mode, length }: PublishedFile) -> FileStatus {
    let (owner, group) = (users::user_name(uid), users::group_name(gid));
    FileStatus { name, owner, group, mode: format!("{mode:04o}"), length }
}

fn apart<T>(result: Result<T>) -> (Option<T>, Option<Error>) {
    match result {
        Ok(value) => (Some(value), None),
        Err(error) => (None, Some(error)),
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, key) in &self.keys {
            writeln!(f, "{name}:")?;
            write!(f, "{key}")?;
        }
        for reader in self.readers.iter().flatten() {
            write!(f, "{reader}")?;
        }
        for Rejection { card, at, key, left, .. } in self.rejected_pins.iter().flatten() {
            writeln!(f, "{card}: a PIN was rejected at {at} (key {key}; {left} tries left then)")?;
        }
        self.rejected_pins_error.iter().try_for_each(|error| writeln!(f, "PINs: {error}"))?;
        self.readers_error.iter().try_for_each(|error| writeln!(f, "Readers: {error}"))
    }
}

impl fmt::Display for KeyStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.profile, &self.profile_error) {
            (Some(profile), _) => write!(f, "{profile}")?,
            (None, Some(error)) => writeln!(f, "  profile: {error}")?,
            (None, None) => writeln!(f, "  profile: none yet")?,
        }
        match (&self.published, &self.published_error) {
            (Some(files), _) => {
                for FileStatus { name, owner, group, mode, length } in files {
                    writeln!(f, "  published: {name} ({owner}:{group} {mode}, {length} bytes)")?;
                }
                if files.is_empty() {
                    writeln!(f, "  published: an empty set")?;
                }
            }
            (None, Some(error)) => writeln!(f, "  published: {error}")?,
            (None, None) => writeln!(f, "  published: nothing")?,
        }
        self.public_halves.iter().try_for_each(|(name, PublicHalf { text, verified })| {
            let unproven = if *verified { "" } else { " (not verified since the machine started)" };
            public::shown(f, "  ", &format!("{name}{unproven}"), text)
        })
    }
}
