//! `public`: what may be shown to everybody of a key and its secrets; needs no card.

use std::{collections::BTreeMap, fmt};

use clap::Args;
use serde::Serialize;

use super::{Ended, admin::KeyArgs, print};
use crate::{
    error::{Class, Error, Result},
    observe,
    profile::store::Store,
    publish,
    secret::public::{self, PublicHalves},
    spec::{Key, Spec},
};

#[derive(Args)]
pub(super) struct PublicArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// Only the public half of this secret, and nothing else
    #[arg(long, value_name = "NAME")]
    secret: Option<String>,
}

/// What is known of a key.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Public {
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<String>,
    secrets: PublicHalves,
    /// Those that nothing proved since they were read from the disk.
    unverified: Vec<String>,
    /// Whether one secret was asked for.
    #[serde(skip)]
    alone: bool,
}

pub(super) fn run(args: &PublicArgs, json: bool) -> Result<Ended> {
    let (spec, key) = args.key.load()?;
    let name = &*args.key.key;
    let store = Store::open(&spec.state_dir)?;
    let found = halves(&spec, &store, name, &key, args.secret.as_deref())?;
    let recipient = match &args.secret {
        Some(_) => None,
        None => observe::profile(&store, name, &key)?.and_then(|profile| profile.recipient()),
    };
    let (mut secrets, mut unverified) = (PublicHalves::new(), Vec::new());
    for (secret, Half { text, is_published }) in found {
        if !is_published {
            unverified.push(secret.clone());
        }
        secrets.insert(secret, text);
    }
    if !unverified.is_empty() {
        tracing::warn!(
            "key {name}: not verified, as the key was not opened since the machine started: {}. It was read \
             from {}, and whoever can write there can change it.",
            unverified.join(", "),
            store.path().join(public::file_of(name)).display()
        );
    }
    let recipient = recipient.map(|recipient| recipient.to_string());
    print(json, &Public { recipient, secrets, unverified, alone: args.secret.is_some() })?;
    Ok(None)
}

/// The public half of a secret.
pub(super) struct Half {
    pub text: String,
    /// Whether it comes from what the opened key published, and not from the disk.
    pub is_published: bool,
}

/// The public halves of a key's secrets that are known, or of the one that is meant, which has to be.
pub(super) fn halves(
    spec: &Spec,
    store: &Store,
    name: &str,
    key: &Key,
    only: Option<&str>,
) -> Result<BTreeMap<String, Half>> {
    let refused = |found: String, advice: String| {
        let tried = format!("key {name}: looking for public halves");
        Err(Error::new(Class::Spec, tried, found, advice))
    };
    let with_half: Vec<_> =
        key.secrets.iter().filter(|(name, secret)| secret.public_file(name).is_some()).collect();
    if let Some(only) = only.filter(|only| with_half.iter().all(|(name, _)| ***name != **only)) {
        let have: Vec<_> = with_half.iter().map(|(name, _)| &***name).collect();
        return refused(
            format!("the key has no secret {only} with a public half"),
            format!(
                "Secrets with one: {}.",
                if have.is_empty() { "none".into() } else { have.join(", ") }
            ),
        );
    }
    let kept = public::read(store, name)?;
    let mut halves = BTreeMap::new();
    for (secret, of) in with_half {
        if only.is_some_and(|only| **secret != *only) {
            continue;
        }
        let file = of.public_file(secret).unwrap_or_default();
        let published = publish::public_text(&spec.runtime_dir, name, &file)?;
        let half = match (published, kept.get(&**secret)) {
            (Some(text), _) => Half { text, is_published: true },
            (None, Some(text)) => Half { text: text.clone(), is_published: false },
            (None, None) if only.is_some() => {
                return refused(
                    format!("the public half of {secret} is not known yet"),
                    format!("`nixos-cryptkey apply --key {name}` opens the key, and keeps it."),
                );
            }
            (None, None) => continue,
        };
        halves.insert(secret.to_string(), half);
    }
    Ok(halves)
}

impl fmt::Display for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.alone {
            return self.secrets.values().try_for_each(|half| f.write_str(half));
        }
        if let Some(recipient) = &self.recipient {
            writeln!(f, "age recipient of the key: {recipient}")?;
        }
        self.secrets.iter().try_for_each(|(name, half)| shown(f, "", name, half))
    }
}

/// Writes the public half of a secret for people: a line, or the lines below one.
pub(super) fn shown(
    f: &mut fmt::Formatter<'_>,
    indent: &str,
    name: &str,
    half: &str,
) -> fmt::Result {
    let half = half.trim_end();
    let break_ = if half.contains('\n') { "\n" } else { " " };
    writeln!(f, "{indent}public half of {name}:{break_}{half}")
}
