//! Leaving a run out whose result would be what stands, and the mark by which the next one can tell.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Work, pin::kept_pin};
use crate::{
    error::{Class, Result},
    plan::{self, Findings, Marked, Obstacle, PinInHand},
    profile::{Version, piv},
    publish::{self, Mark, Standing},
    secret::chosen,
    spec::{Key, PinSource, Secret},
    system::memory,
    token::{
        KeySource, PinPolicy,
        guard::{self, Memory},
    },
};

impl Work<'_> {
    /// Whether the run is left out. Asks no card and changes nothing.
    pub(super) fn is_to_be_skipped(&self) -> bool {
        if self.run.always {
            return false;
        }
        if let Some(obstacle) = self.obstacle() {
            tracing::debug!("key {}: the card is asked: {obstacle}", self.name);
            return false;
        }
        tracing::debug!("key {}: nothing would change", self.name);
        true
    }

    /// What keeps the run from being left out; none where it can be.
    fn obstacle(&self) -> Option<Obstacle> {
        let facts = self.facts();
        memory::wipe_stack();
        match facts {
            Ok(facts) => plan::obstacle(self.key, &self.known, &facts),
            // The run itself says what is wrong.
            Err(_) => Some(Obstacle::Unmarked),
        }
    }

    #[inline(never)]
    fn facts(&self) -> Result<Findings> {
        let mut facts =
            Findings { mark: None, unknown_account: None, deviates: None, pins: Vec::new() };
        let found = match publish::standing(&self.spec.runtime_dir, self.name)? {
            Standing::Nothing => return Ok(facts),
            Standing::Unmarked => None,
            Standing::Marked(found) => Some(found),
        };
        let wanted = self.mark(BTreeMap::new());
        let compared = match (&found, &wanted) {
            (Some(found), _) if found.outputs != publish::OUTPUTS => Marked::OtherOutputs,
            (Some(found), Some(wanted)) if found.spec != wanted.spec => Marked::OtherSpec,
            (Some(found), Some(wanted)) if found.profile != wanted.profile => Marked::OtherProfile,
            (Some(_), Some(_)) => Marked::Same,
            _ => Marked::Missing,
        };
        facts.mark = Some(compared);
        let Some(mark) = found.filter(|_| compared == Marked::Same) else { return Ok(facts) };
        let mut holders = BTreeMap::new();
        for (name, secret) in &self.key.secrets {
            let Ok(files) = secret.files(name) else {
                facts.unknown_account = Some(format!("the owner or group of {name}"));
                return Ok(facts);
            };
            holders.extend(files);
        }
        let (dir, name) = (&self.spec.runtime_dir, self.name);
        facts.deviates = publish::deviation(dir, name, &mark, &holders)?;
        let providers = self.known.profile.iter().flat_map(|sealed| sealed.piv.values());
        facts.pins = providers.map(|params| (params.card(), self.pin_in_hand(params))).collect();
        Ok(facts)
    }

    /// What is known of the PIN that a provider's card would be presented.
    fn pin_in_hand(&self, params: &piv::Params) -> PinInHand {
        if self.key.place_of(&params.card()).pin_policy == PinPolicy::Never {
            return PinInHand::NotNeeded;
        }
        let card = params.card();
        let listed = self.key.cards.iter().find(|listed| card.may_be(&listed.name()));
        let source = self.key.pin_for(listed);
        if source == Some(&PinSource::Ask) {
            return PinInHand::Typed;
        }
        let Some(pin) = source.and_then(kept_pin) else { return PinInHand::Missing };
        let known_as = guard::name(card, params.key_source.is_some_and(KeySource::tells));
        match guard::remembered(&self.store, &known_as, &pin) {
            Ok(memory) => PinInHand::Read(memory),
            Err(_) => PinInHand::Read(Memory::Doubtful),
        }
    }

    /// What the published set was made of, with the digests of its files; none without a profile, or
    /// with one of version 1, whose text is a secret.
    fn mark(&self, secrets: BTreeMap<String, String>) -> Option<Mark> {
        let profile = self.profile.as_ref().filter(|profile| profile.version() == Version::V2)?;
        let profile = publish::digest(profile.to_toml().as_bytes());
        let spec = publish::digest(self.key.essence().to_string().as_bytes());
        Some(Mark { outputs: publish::OUTPUTS, spec, profile, secrets })
    }

    /// Leaves a mark after a run that ended well; after one that a card made doubtful, there is none.
    pub(super) fn leave_mark(&mut self, failed: Option<Class>) {
        let (dir, name) = (&self.spec.runtime_dir, self.name);
        let mut classes = self.failures.iter().map(|failure| failure.class).chain(failed);
        let secrets = self.digests.take();
        let done = if classes.any(is_doubt) {
            publish::remove_mark(dir, name)
        } else {
            let mark = secrets.filter(|_| failed.is_none()).and_then(|secrets| self.mark(secrets));
            mark.map_or(Ok(()), |mark| publish::leave_mark(dir, name, &mark))
        };
        if let Err(error) = done {
            // All that follows is that the next run asks the card.
            tracing::debug!("key {name}: {error}");
        }
    }
}

/// Whether an error says that the card would not open the key as it did. Of PINs the guard knows.
fn is_doubt(class: Class) -> bool {
    matches!(class, Class::Card | Class::KeyChanged)
}

/// How a run goes, and not what it comes to; and what is compared by itself: the profile and its id,
/// and who has the published files. Who reads them is no matter of theirs.
const NO_MATTER: [&str; 7] = [
    "softFail",
    "cardTimeoutSec",
    "touchTimeoutSec",
    "ask",
    "askTimeoutSec",
    "profile",
    "profileId",
];
const NO_MATTER_OF_A_SECRET: [&str; 5] = ["owner", "group", "mode", "restartUnits", "reloadUnits"];

impl Key {
    /// What decides what its published set is, and whether it can be opened. What is as it is by default
    /// is left out, so that an option that is new to the program changes nothing.
    fn essence(&self) -> Value {
        let mut key = unusual(self, &Key::default(), &NO_MATTER);
        let secret = |secret: &Secret| {
            let mut fields = unusual(secret, &Secret::default(), &NO_MATTER_OF_A_SECRET);
            if let Some(file) = &secret.file {
                // What it holds, and not what it is called. What can't be read is told by the run itself.
                let content =
                    chosen::read(file).map_or(Value::Null, |it| publish::digest(&it).into());
                fields.insert("file".into(), content);
            }
            fields
        };
        let secrets = self.secrets.iter().map(|(name, of)| (name.to_string(), secret(of).into()));
        key.insert("secrets".into(), Value::Object(secrets.collect()));
        key.into()
    }
}

/// The fields that are not as by default, and matter.
fn unusual<T: serde::Serialize>(value: &T, default: &T, no_matter: &[&str]) -> Map<String, Value> {
    let fields = |value: &T| match serde_json::to_value(value) {
        Ok(Value::Object(fields)) => fields,
        // Neither has a key that is no text, or a number that is none.
        _ => Map::new(),
    };
    let (mut fields, default) = (fields(value), fields(default));
    fields.retain(|name, value| {
        !no_matter.contains(&name.as_str()) && default.get(name) != Some(value)
    });
    fields
}
