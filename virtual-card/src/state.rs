//! What the card remembers without power: one JSON file, `card.json`.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::{Options, attestation, objects};

/// The name of the state file in the state directory.
pub const FILE: &str = "card.json";

/// Bytes that are written as hex.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hex(pub Vec<u8>);

impl TryFrom<String> for Hex {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        base16ct::mixed::decode_vec(&text).map(Self).map_err(|e| format!("{e}: {text:?}"))
    }
}

impl From<Hex> for String {
    fn from(bytes: Hex) -> Self {
        base16ct::lower::encode_string(&bytes.0)
    }
}

/// Everything that outlives a power cycle.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// Serial number; 0 identifies nothing.
    pub serial: u32,
    /// Firmware version.
    pub version: [u8; 3],
    /// The GUID of the factory CHUID.
    pub guid: Hex,
    /// An old card: no metadata, attestation or serial, and no management application.
    pub legacy: bool,
    /// The PIN.
    pub pin: Reference,
    /// The PIN unblocking key.
    pub puk: Reference,
    /// The management key, 9B.
    pub management_key: ManagementKey,
    /// Keys by slot, such as `9d`.
    pub slots: BTreeMap<String, Slot>,
    /// Data objects by tag, such as `5fc102`: what GET DATA answers inside tag 53.
    pub objects: BTreeMap<String, Hex>,
    /// The certificate at the root of the attestation chain, DER.
    pub attestation_root: Hex,
}

/// A PIN or PUK.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reference {
    /// Its value, padded with FF to eight bytes.
    pub value: Hex,
    /// Tries left.
    pub tries: u8,
    /// Tries after a success.
    pub max_tries: u8,
}

/// The management key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ManagementKey {
    /// Its cipher.
    pub algorithm: Cipher,
    /// The key.
    pub key: Hex,
    /// Whether it is the factory default.
    pub default: bool,
}

/// The cipher of a management key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Cipher {
    /// Triple DES with three keys: cards before firmware 5.7.
    #[serde(rename = "3des")]
    #[value(name = "3des")]
    TripleDes,
    /// AES-128.
    Aes128,
    /// AES-192: the default of firmware 5.7.
    Aes192,
    /// AES-256.
    Aes256,
}

/// An asymmetric key in a slot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Slot {
    /// Its curve.
    pub algorithm: Curve,
    /// The scalar, big-endian, as long as the curve's field.
    pub private_key: Hex,
    /// The point, uncompressed SEC1.
    pub public_key: Hex,
    /// When the PIN is needed.
    pub pin_policy: PinPolicy,
    /// When a touch is needed.
    pub touch_policy: TouchPolicy,
    /// Where the key came from.
    pub origin: Origin,
}

/// The curve of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Curve {
    /// NIST P-256, algorithm 11.
    P256,
    /// NIST P-384, algorithm 14.
    P384,
}

/// When a key needs the PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PinPolicy {
    /// Never.
    Never = 1,
    /// Once since the card was powered.
    Once = 2,
    /// Right before every use.
    Always = 3,
}

/// When a key needs a touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TouchPolicy {
    /// Never.
    Never = 1,
    /// At every use.
    Always = 2,
    /// Unless there was one in the last 15 seconds.
    Cached = 3,
}

/// Where a key came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Made on the card.
    Generated = 1,
    /// Brought to the card.
    Imported = 2,
}

impl Reference {
    /// A PIN or PUK with all its tries.
    pub fn new(value: &[u8], tries: u8) -> Self {
        let mut value = value.to_vec();
        value.resize(8, 0xFF);
        Self { value: Hex(value), tries, max_tries: tries }
    }
}

impl ManagementKey {
    /// The factory default: 0102…08 three times (the first 16, 24 or 32 bytes of it, repeated).
    pub fn factory(algorithm: Cipher) -> Self {
        let key = (1..=8).cycle().take(algorithm.key_len()).collect();
        Self { algorithm, key: Hex(key), default: true }
    }
}

impl State {
    /// The state of a new card.
    pub fn new(options: &Options) -> Result<Self, String> {
        let mut guid = vec![0; 16];
        crate::random(&mut guid);
        let cipher = options.management_key_algorithm.unwrap_or(if options.legacy {
            Cipher::TripleDes
        } else {
            Cipher::Aes192
        });
        if !(6..=8).contains(&options.pin.len()) {
            return Err("a PIN has six to eight bytes".to_owned());
        }
        let mut state = Self {
            serial: options.serial,
            version: if options.legacy { [4, 2, 8] } else { [5, 7, 1] },
            guid: Hex(guid),
            legacy: options.legacy,
            pin: Reference::new(options.pin.as_bytes(), options.pin_tries),
            puk: Reference::new(crate::pin::DEFAULT_PUK, 3),
            management_key: ManagementKey::factory(cipher),
            slots: BTreeMap::new(),
            objects: BTreeMap::new(),
            attestation_root: Hex::default(),
        };
        objects::make_factory_objects(&mut state);
        attestation::make_authority(&mut state);
        for slot in &options.slots {
            let (name, key) = slot.make()?;
            state.slots.insert(name, key);
        }
        Ok(state)
    }

    /// Reads the state file; `None` if there is none.
    pub fn load(dir: &Path) -> io::Result<Option<Self>> {
        match fs::read(dir.join(FILE)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Replaces the state file in one step.
    pub fn save(&self, dir: &Path) -> io::Result<()> {
        let new = dir.join(format!("{FILE}.new"));
        fs::write(&new, serde_json::to_string_pretty(self)? + "\n")?;
        fs::rename(new, dir.join(FILE))
    }

    /// The key in a slot.
    pub fn slot(&self, slot: u8) -> Option<&Slot> {
        self.slots.get(&slot_name(slot))
    }
}

/// The name of a slot in the state file.
pub fn slot_name(slot: u8) -> String {
    format!("{slot:02x}")
}
