//! The flows: what a run does with a card.

use serde_json::{Value, json};

use crate::support::{TestCard as _, Yubikey};

/// What a run does with a card, and what was there before.
pub struct Flow {
    pub name: &'static str,
    /// Arguments of `virtual-card`.
    pub card: &'static [&'static str],
    /// What the spec says of the key besides the usual.
    pub key: fn() -> Value,
    /// What it said when the key was enrolled; none where it is enrolled now.
    pub enrolled: Option<fn() -> Value>,
    /// Whether the card keeps its management key behind the PIN.
    pub protected: bool,
    /// Whether it has to attest its key.
    pub attests: bool,
    /// What hangs on the key in the slot, which is destroyed for another one; none where it is not.
    pub dooms: Option<Hangs>,
    /// The card that something happens to: the one whose key that is, or the other one.
    pub faulted: usize,
}

/// What hangs on a key that is destroyed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hangs {
    Nothing,
    /// The profile, which is given up.
    Profile,
    /// The profile, which another card opens, too.
    Shared,
}

impl Flow {
    /// Arguments of `virtual-card` for each card.
    pub fn cards(&self) -> Vec<&'static [&'static str]> {
        let other = (self.dooms == Some(Hangs::Shared)).then_some(OTHER);
        [self.card].into_iter().chain(other).collect()
    }

    /// Whether the secrets that are published before are those that are published after.
    pub fn keeps_secrets(&self) -> bool {
        self.dooms.map_or(self.enrolled.is_some(), |hangs| hangs == Hangs::Shared)
    }

    /// Has a finger ready, where one is wanted.
    pub fn touch(&self, card: &Yubikey) {
        if (self.key)().get("touchPolicy").is_some() {
            card.tell("touch give");
        }
    }
}

const EMPTY: &[&str] = &[];
const FULL: &[&str] = &["--slot-key", "9d=generate"];
const OTHER: &[&str] = &["--serial", "90210002", "--slot-key", "9d=generate"];
const LEGACY: &[&str] = &["--legacy", "--slot-key", "9d=generate"];

fn plain() -> Value {
    json!({})
}

fn changed() -> Value {
    json!({ "secrets": {
        "backup": { "use": "other backups", "format": "base64" },
        "more": { "use": "more", "format": "raw" },
    } })
}

fn always() -> Value {
    json!({ "pinPolicy": "always" })
}

fn never() -> Value {
    json!({ "pinPolicy": "never" })
}

fn touch() -> Value {
    json!({ "touchPolicy": "always", "touchTimeoutSec": 5 })
}

fn protected() -> Value {
    json!({ "managementKey": { "protected": true } })
}

const ENROLL: Flow = Flow {
    name: "",
    card: EMPTY,
    key: plain,
    enrolled: None,
    protected: false,
    attests: false,
    dooms: None,
    faulted: 0,
};
const RESEAL: Flow = Flow { card: FULL, dooms: Some(Hangs::Shared), ..ENROLL };
const VERIFY: Flow = Flow { enrolled: Some(plain), ..ENROLL };

pub const FLOWS: &[Flow] = &[
    Flow { name: "enroll into an empty slot", ..ENROLL },
    Flow { name: "enroll an existing key", card: FULL, ..ENROLL },
    Flow { name: "enroll, PIN always", key: always, ..ENROLL },
    Flow { name: "enroll, PIN never", key: never, ..ENROLL },
    Flow { name: "enroll, touch always", key: touch, ..ENROLL },
    Flow { name: "enroll, protected management key", key: protected, protected: true, ..ENROLL },
    Flow { name: "enroll into an empty slot, attested", attests: true, ..ENROLL },
    Flow { name: "enroll an existing key, attested", card: FULL, attests: true, ..ENROLL },
    Flow { name: "enroll on a card that tells nothing", card: LEGACY, ..ENROLL },
    Flow { name: "verify", ..VERIFY },
    Flow { name: "verify with other secrets", key: changed, ..VERIFY },
    Flow { name: "verify, PIN always", key: always, enrolled: Some(always), ..VERIFY },
    Flow { name: "verify, PIN never", key: never, enrolled: Some(never), ..VERIFY },
    Flow { name: "verify, touch always", key: touch, enrolled: Some(touch), ..VERIFY },
    Flow { name: "verify on a card that tells nothing", card: LEGACY, ..VERIFY },
    Flow { name: "overwrite", card: FULL, dooms: Some(Hangs::Nothing), ..ENROLL },
    Flow { name: "overwrite, given up", card: FULL, dooms: Some(Hangs::Profile), ..VERIFY },
    Flow { name: "overwrite, resealed", ..RESEAL },
    Flow { name: "overwrite, resealed, and the other card", faulted: 1, ..RESEAL },
];
