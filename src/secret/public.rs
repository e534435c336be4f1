//! The public halves of a key's secrets, kept in the state directory, so that they can be had without the
//! card: `STATEDIR/<key>.public`, see `docs/key-schedule.md`.

use std::{collections::BTreeMap, io};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Class, Error, Result},
    profile::seal::Opened,
    system::{durable, state_dir::StateDir},
};

/// The longest file that is read, in bytes.
const MOST_BYTES: usize = 1 << 20;

/// The public halves of a key, by the names of its secrets: texts that end with a line feed.
pub type PublicHalves = BTreeMap<String, String>;

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// The key's name.
    name: String,
    /// [`Opened::authenticate`] of the rest, in hex.
    integrity: String,
    /// The public halves.
    secrets: PublicHalves,
}

/// The name of the file in the state directory.
#[must_use]
pub fn file_of(key: &str) -> String {
    format!("{key}.public")
}

/// What the file says, unproven; nothing where there is no file.
///
/// # Errors
/// `profile` where it can't be read, or is something else.
pub fn read(state: &StateDir, key: &str) -> Result<PublicHalves> {
    Ok(kept(state, key)?.map(|kept| kept.secrets).unwrap_or_default())
}

fn kept(state: &StateDir, key: &str) -> Result<Option<Kept>> {
    let Some(bytes) = state.read_file(&file_of(key), MOST_BYTES)? else { return Ok(None) };
    let kept = std::str::from_utf8(&bytes).ok().and_then(|text| toml::from_str::<Kept>(text).ok());
    kept.filter(|kept| kept.name == key).map(Some).ok_or_else(|| {
        Error::new(
            Class::Profile,
            format!("reading {}", state.path().join(file_of(key)).display()),
            format!("it does not hold the public halves of key {key}"),
            "The next run that opens the key writes it anew. Find out who changed it.",
        )
    })
}

/// The public halves as the opened key gives them, and as they were kept before.
pub struct Proven {
    now: Kept,
    before: Option<PublicHalves>,
}

impl Proven {
    /// Proves the public halves of `key` with the opened key, and what was kept of them before: what was
    /// changed by others is told and counts for nothing.
    pub fn new(state: &StateDir, key: &str, halves: PublicHalves, opened: &Opened) -> Self {
        let integrity = |halves: &PublicHalves| {
            let covered = serde_json::json!([key, halves]).to_string();
            base16ct::lower::encode_string(&opened.authenticate(covered.as_bytes()))
        };
        let before = kept(state, key).unwrap_or_else(|error| {
            tracing::warn!("key {key}: {error}");
            None
        });
        let before = before.filter(|kept| {
            let is_ours = kept.integrity == integrity(&kept.secrets);
            if !is_ours {
                let file = state.path().join(file_of(key));
                tracing::warn!(
                    "key {key}: somebody changed {}; it is written anew",
                    file.display()
                );
            }
            is_ours
        });
        let now = Kept { name: key.into(), integrity: integrity(&halves), secrets: halves };
        Self { now, before: before.map(|kept| kept.secrets) }
    }

    /// Keeps them, if they are not kept already. Returns those that are new.
    ///
    /// # Errors
    /// `permission` where the file can't be written. What was there is there still.
    pub fn keep(self, state: &mut StateDir) -> Result<PublicHalves> {
        let Self { now, before } = self;
        // Where there never were any, there need be no file.
        let is_kept = before.as_ref().map_or(now.secrets.is_empty(), |kept| *kept == now.secrets);
        if !is_kept {
            let file = file_of(&now.name);
            let tried = format!("writing {}", state.path().join(&file).display());
            let _lock = state.lock(&tried)?;
            let text = toml::to_string(&now).map_err(io::Error::other);
            let dir = state.writable()?;
            text.and_then(|text| durable::replace(dir, &file, text.as_bytes())).map_err(
                |error| {
                    let advice = "Make the state directory writable. The secrets are published.";
                    Error::new(Class::Permission, tried, error.to_string(), advice)
                },
            )?;
        }
        let known = before.unwrap_or_default();
        let mut new = now.secrets;
        new.retain(|name, half| known.get(name) != Some(half));
        Ok(new)
    }
}
