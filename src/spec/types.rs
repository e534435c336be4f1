//! The types of the spec, version 1. The JSON Schema is made of them, and of these comments.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    names::{AbsolutePath, Label, Name, ProfileId, SubjectName, UnitName, Whole},
    owner::{Account, FileMode},
    source::{ManagementKeySource, PinSource},
};
use crate::{
    secret::{Algorithm, Alphabet, CharClass, Format, Recipe},
    token::{CardName, Fingerprint, Guid, PinPolicy, Place, Serial, Slot, TouchPolicy},
};

/// What the machine should have: keys that only a smart card opens, and the secrets made of them.
/// The spec holds no secret itself, and everybody may read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[schemars(title = "The spec of nixos-cryptkey", extend("required" = ["version", "keys"]))]
pub struct Spec {
    /// The version of this format.
    pub version: Version,
    /// The directory of the profiles (`<key>.toml`). It must keep its contents across boots: with a
    /// lost profile, its secrets are lost.
    #[serde(deserialize_with = "through::<AbsolutePath, _, _>")]
    #[schemars(with = "AbsolutePath")]
    pub state_dir: PathBuf,
    /// The directory of the published secrets (`<key>/<secret>`), on a tmpfs or ramfs.
    #[serde(deserialize_with = "through::<AbsolutePath, _, _>")]
    #[schemars(with = "AbsolutePath")]
    pub runtime_dir: PathBuf,
    /// The keys, by name.
    pub keys: BTreeMap<Name, Key>,
    /// The names of keys that other specs of this machine declare. Their profiles are no orphans,
    /// which would keep a new key from being sealed to the same slot of the same card.
    pub other_keys: Vec<Name>,
    /// The profiles that the configuration ships for keys of other specs of this machine. A key that
    /// one of them is sealed to is not overwritten.
    #[serde(deserialize_with = "each::<AbsolutePath, _, _>")]
    #[schemars(with = "Vec<AbsolutePath>")]
    pub other_profiles: Vec<PathBuf>,
    /// What to do where another program uses a card that is about to get a PIN or a management key.
    pub shared_card: SharedCard,
    /// Who else may reach cards and readers.
    pub pcsc: Pcsc,
}

impl Spec {
    /// Whether this spec, or another one of the machine, declares the key.
    #[must_use]
    pub fn declares(&self, name: &str) -> bool {
        self.keys.contains_key(name) || self.other_keys.iter().any(|other| **other == *name)
    }
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            version: Version,
            state_dir: "/var/lib/cryptkey".into(),
            runtime_dir: "/run/cryptkey".into(),
            keys: BTreeMap::new(),
            other_keys: Vec::new(),
            other_profiles: Vec::new(),
            shared_card: SharedCard::Warn,
            pcsc: Pcsc::default(),
        }
    }
}

/// What to do where another program still uses the card after 2 s. It may use the card's keys while the
/// PIN is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SharedCard {
    /// Go on beside it, and warn of it.
    Warn,
    /// Present nothing to the card.
    Refuse,
}

/// Who may reach cards and readers, as far as polkit decides it. What polkit says of others stays
/// as it is. Only `nixos-cryptkey polkit` reads this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Pcsc {
    /// These users.
    pub users: Vec<SubjectName>,
    /// The members of these groups.
    pub groups: Vec<SubjectName>,
}

/// The number 1: the version of the spec that this program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(from = "Whole<1, 1>")]
#[schemars(with = "Whole<1, 1>")]
pub struct Version;

impl From<Whole<1, 1>> for Version {
    fn from(_: Whole<1, 1>) -> Self {
        Self
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        output.serialize_u8(1)
    }
}

/// One random master key, which exists only sealed, and the secrets made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Key {
    /// The cards that may open the key. Empty: the only card present, whichever it is. A listed card
    /// that is there and not enrolled yet is enrolled once the key is open.
    pub cards: Vec<Card>,
    /// How many of the key's providers (cards, recovery codes, passphrases) have to come together to
    /// open it. A new key is sealed to so many cards of the list, which all have to be there. Where
    /// the profile has another number, that is only reported: `nixos-cryptkey reseal` changes it.
    /// None: whatever the profile has, and 1 for a new key.
    #[serde(deserialize_with = "maybe::<Threshold, _, _>")]
    #[schemars(with = "Option<Threshold>")]
    pub threshold: Option<u8>,
    /// The slot of the card's key: 9a, 9d, 9e or 82 to 95. 9c only signs and is refused.
    pub slot: Slot,
    /// When the card wants a touch. A key that is there must have this policy, where the card can
    /// tell; a key that is generated gets it.
    pub touch_policy: TouchPolicy,
    /// When the card wants the PIN. As for `touchPolicy`, the card's key must have it or gets it.
    pub pin_policy: PinPolicy,
    /// What enrollment does with a key that is in the slot already.
    pub mode: Mode,
    /// Which key may be destroyed. Used only with `"mode": "overwrite"`.
    pub overwrite: Option<Overwrite>,
    /// Whether the card has to attest that it made the key itself.
    pub attestation: Attestation,
    /// Whether a profile is made when there is none.
    pub enroll: Enroll,
    /// The id of the profile that must be there. With it, a lost profile is an error and never
    /// leads to a new key, whose secrets would all be other ones. Enrollment prints it.
    pub profile_id: Option<ProfileId>,
    /// A sealed profile that comes with the configuration, in place of the one in `stateDir`.
    /// Nothing is enrolled beside it.
    #[serde(deserialize_with = "maybe::<AbsolutePath, _, _>")]
    #[schemars(with = "Option<AbsolutePath>")]
    pub profile: Option<PathBuf>,
    /// Whether an absent card or reader, or a touch or an answer that did not come, is no failure.
    /// A wrong PIN, a changed key and a damaged or lost profile are never forgiven.
    pub soft_fail: bool,
    /// Where the PIN comes from. None: only if no card needs one.
    pub pin: Option<PinSource>,
    /// With fewer tries left than this, no PIN is presented: the last one is never spent.
    #[serde(deserialize_with = "through::<MinTries, _, _>")]
    #[schemars(with = "MinTries")]
    pub min_tries: u8,
    /// Where the card's management key comes from, which is needed to generate a key on the card.
    /// None: nothing can be generated.
    pub management_key: Option<ManagementKeySource>,
    /// How long to wait for the card, in seconds. 0: it is there or it is not. What runs for other
    /// keys of the card take is not counted.
    #[serde(
        rename = "cardTimeoutSec",
        deserialize_with = "through::<CardTimeout, _, _>",
        serialize_with = "seconds"
    )]
    #[schemars(with = "CardTimeout")]
    pub card_timeout: Duration,
    /// How long to wait for a touch, in seconds. Most cards give up earlier by themselves.
    #[serde(
        rename = "touchTimeoutSec",
        deserialize_with = "through::<TouchTimeout, _, _>",
        serialize_with = "seconds"
    )]
    #[schemars(with = "TouchTimeout")]
    pub touch_timeout: Duration,
    /// Whether a person is asked for a passphrase or a recovery code where the cards that are there
    /// do not open the key.
    pub ask: bool,
    /// How long a question waits for an answer, in seconds: for a PIN, a passphrase or a recovery
    /// code.
    #[serde(
        rename = "askTimeoutSec",
        deserialize_with = "through::<AskTimeout, _, _>",
        serialize_with = "seconds"
    )]
    #[schemars(with = "AskTimeout")]
    pub ask_timeout: Duration,
    /// The secrets, by name. The name is the name of the published file.
    pub secrets: BTreeMap<Name, Secret>,
}

type CardTimeout = Whole<0, 3600>;
type TouchTimeout = Whole<1, 600>;
type AskTimeout = Whole<1, 600>;
type Threshold = Whole<1, 255>;
type Length = Whole<1, 1024>;
type MinTries = Whole<2, 15>;

impl Key {
    /// Where the PIN of a card comes from: its own source or, for want of one, the key's.
    #[must_use]
    pub fn pin_for<'a>(&'a self, card: Option<&'a Card>) -> Option<&'a PinSource> {
        card.and_then(|card| card.pin.as_ref()).or(self.pin.as_ref())
    }

    /// Where the management key of a card comes from, in the same way.
    #[must_use]
    pub fn management_key_for<'a>(
        &'a self,
        card: Option<&'a Card>,
    ) -> Option<&'a ManagementKeySource> {
        card.and_then(|card| card.management_key.as_ref()).or(self.management_key.as_ref())
    }
}

impl Key {
    /// The slot and the policies of a card: its own or, for want of one, the key's.
    #[must_use]
    pub fn place(&self, card: Option<&Card>) -> Place {
        Place {
            slot: card.and_then(|card| card.slot).unwrap_or(self.slot),
            pin_policy: card.and_then(|card| card.pin_policy).unwrap_or(self.pin_policy),
            touch_policy: card.and_then(|card| card.touch_policy).unwrap_or(self.touch_policy),
        }
    }

    /// The same of a card by its name, as far as that tells which entry of the list is meant.
    #[must_use]
    pub fn place_of(&self, name: &CardName) -> Place {
        let find =
            |fits: &dyn Fn(&CardName) -> bool| self.cards.iter().find(|card| fits(&card.name()));
        self.place(find(&|listed| name.is(listed)).or_else(|| find(&|listed| name.may_be(listed))))
    }

    /// The slots that it uses, of whatever card.
    pub fn slots(&self) -> impl Iterator<Item = Slot> {
        let any = self.cards.is_empty().then_some(self.slot);
        self.cards.iter().map(|card| self.place(Some(card)).slot).chain(any)
    }
}

impl Default for Key {
    fn default() -> Self {
        Self {
            cards: Vec::new(),
            threshold: None,
            slot: Slot::KEY_MANAGEMENT,
            touch_policy: TouchPolicy::Never,
            pin_policy: PinPolicy::Once,
            mode: Mode::UseExisting,
            overwrite: None,
            attestation: Attestation::default(),
            enroll: Enroll::Auto,
            profile_id: None,
            profile: None,
            soft_fail: false,
            pin: None,
            min_tries: 2,
            management_key: None,
            card_timeout: Duration::from_secs(30),
            touch_timeout: Duration::from_secs(20),
            ask: true,
            ask_timeout: Duration::from_secs(90),
            secrets: BTreeMap::new(),
        }
    }
}

/// One card, named by its serial or its GUID; with both, it must have both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Card {
    /// The serial number in decimal, as `nixos-cryptkey cards` prints it.
    pub serial: Option<Serial>,
    /// The GUID, for cards without a serial and for makers who give all cards one serial.
    pub guid: Option<Guid>,
    /// The id that its provider in the profile gets when the card is enrolled. None: "card-1" or the
    /// next number.
    pub id: Option<Name>,
    /// The slot of this card's key, if not the key's `slot`.
    pub slot: Option<Slot>,
    /// When this card wants a touch, if not as the key's `touchPolicy` says.
    pub touch_policy: Option<TouchPolicy>,
    /// When this card wants the PIN, if not as the key's `pinPolicy` says.
    pub pin_policy: Option<PinPolicy>,
    /// Where this card's PIN comes from, if not from where the key's does.
    pub pin: Option<PinSource>,
    /// Where this card's management key comes from, if not from where the key's does.
    pub management_key: Option<ManagementKeySource>,
}

impl Card {
    /// What the spec says the card is known by.
    #[must_use]
    pub fn name(&self) -> CardName {
        CardName { serial: self.serial, guid: self.guid }
    }
}

/// What enrollment does with a key that is in the slot already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Uses it; an empty slot gets a new key.
    UseExisting,
    /// Destroys it and makes a new one, but only if `overwrite` names that very key.
    Overwrite,
}

/// Which key of the card may be destroyed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Overwrite {
    /// The fingerprint of its public key, as `nixos-cryptkey cards` prints it.
    pub fingerprint: Option<Fingerprint>,
    /// Whether a profile of this key that only the destroyed key opens may be given up: it is kept
    /// under a dated name, and a new master key is made, so that every secret changes.
    pub abandon_profile: bool,
}

/// Whether the card has to attest that it made its key, and who vouches for such cards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Attestation {
    /// When a card is asked for its attestation, which happens at enrollment.
    pub policy: AttestationPolicy,
    /// Files with the certificates, in PEM, of the makers' roots, and of whatever is between them
    /// and the cards. Self-signed ones are trusted, the others only where one of those vouches for
    /// them.
    #[serde(deserialize_with = "each::<AbsolutePath, _, _>")]
    #[schemars(with = "Vec<AbsolutePath>")]
    pub roots: Vec<PathBuf>,
}

/// When a card is asked to attest that it made its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AttestationPolicy {
    /// Never.
    #[default]
    Off,
    /// Always; a card that can't, or a key that was imported, is enrolled all the same. A bad
    /// attestation is refused.
    IfAvailable,
    /// Always; without a good attestation nothing is enrolled, or generated.
    Required,
}

/// Whether a profile is made when there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Enroll {
    /// The first time, a new master key is made and sealed to the card.
    Auto,
    /// No profile is an error.
    Never,
}

/// One published output of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Secret {
    /// An age file that holds the secret, encrypted to the key's recipient. None: the secret is derived
    /// from the key.
    #[serde(
        deserialize_with = "maybe::<AbsolutePath, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<AbsolutePath>")]
    pub file: Option<PathBuf>,
    /// What the secret is for. Secrets of one use are the same bytes, of another use others. By
    /// default the secret's own name; with the use written out, the secret can be renamed and stays
    /// the same.
    #[serde(
        rename = "use",
        deserialize_with = "through::<Label, _, _>",
        skip_serializing_if = "String::is_empty"
    )]
    #[schemars(with = "Label")]
    pub usage: String,
    /// How the secret is written.
    pub format: Format,
    /// With format `pem`, which kind of key it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Algorithm>,
    /// With format `password`, the characters that it is drawn from. None: letters and digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alphabet: Option<Alphabet>,
    /// With format `password`, the classes of which it has at least one character each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<CharClass>,
    /// How many bytes the secret has, before `format` is applied; how many characters a password has.
    /// Keys (`age`, `ed25519`, `wireguard`, `pem`) have a length of their own, and leave this at 32.
    #[serde(deserialize_with = "through::<Length, _, _>")]
    #[schemars(with = "Length")]
    pub length: usize,
    /// Whether a newline follows. What is more than a line (`ed25519`, `pem`) ends with one always.
    pub newline: bool,
    /// The user who owns the file.
    pub owner: Account,
    /// The group of the file.
    pub group: Account,
    /// The permissions of the file.
    pub mode: FileMode,
    /// Units that restart when the bytes of the secret have become others, if they are active then.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub restart_units: Vec<UnitName>,
    /// Units that reload then, or restart where they can't. What is in `restartUnits`, too, restarts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reload_units: Vec<UnitName>,
}

impl Secret {
    /// The name of the file of its public half, if it has one.
    #[must_use]
    pub fn public_file(&self, name: &str) -> Option<String> {
        (self.file.is_none() && self.format.has_public_half()).then(|| format!("{name}.pub"))
    }

    /// How it is made of the opened key, where it has no file.
    #[must_use]
    pub fn recipe(&self) -> Recipe<'_> {
        Recipe {
            usage: &self.usage,
            format: self.format,
            length: self.length,
            newline: self.newline,
            algorithm: self.algorithm.unwrap_or_default(),
            alphabet: self.alphabet.as_ref(),
            classes: &self.classes,
        }
    }
}

impl Default for Secret {
    fn default() -> Self {
        let root = Account::Name("root".into());
        Self {
            file: None,
            usage: String::new(),
            format: Format::Raw,
            algorithm: None,
            alphabet: None,
            classes: Vec::new(),
            length: 32,
            newline: false,
            owner: root.clone(),
            group: root,
            mode: FileMode(0o400),
            restart_units: Vec::new(),
            reload_units: Vec::new(),
        }
    }
}

/// Reads a plain type through `W`, which checks it.
fn through<'de, W, T, D>(input: D) -> Result<T, D::Error>
where
    W: Deserialize<'de> + Into<T>,
    D: Deserializer<'de>,
{
    W::deserialize(input).map(Into::into)
}

/// The same for a value that may be null.
fn maybe<'de, W, T, D>(input: D) -> Result<Option<T>, D::Error>
where
    W: Deserialize<'de> + Into<T>,
    D: Deserializer<'de>,
{
    Ok(Option::<W>::deserialize(input)?.map(Into::into))
}

/// The same for each item of a list.
fn each<'de, W, T, D>(input: D) -> Result<Vec<T>, D::Error>
where
    W: Deserialize<'de> + Into<T>,
    D: Deserializer<'de>,
{
    Ok(Vec::<W>::deserialize(input)?.into_iter().map(Into::into).collect())
}

fn seconds<S: Serializer>(duration: &Duration, output: S) -> Result<S::Ok, S::Error> {
    output.serialize_u64(duration.as_secs())
}
