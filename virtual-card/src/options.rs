//! How a card is made and how it behaves.

use std::time::Duration;

use crate::state::{Cipher, Curve, PinPolicy, Slot, TouchPolicy, slot_name};
use crate::{keys, state};

/// How a card is made and how it behaves.
///
/// The first group is the factory's: it shapes a new card and is ignored where the state directory
/// holds one already. The second group is this session's.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Debug)]
pub struct Options {
    /// Serial number of a new card.
    pub serial: u32,
    /// PIN of a new card.
    pub pin: String,
    /// Tries of the PIN of a new card.
    pub pin_tries: u8,
    /// Cipher of a new card's (default) management key; `None` is what the firmware has: AES-192,
    /// or 3DES for a legacy card.
    pub management_key_algorithm: Option<Cipher>,
    /// A new card without metadata (F7), attestation (F9), serial (F8) and management application.
    pub legacy: bool,
    /// Keys of a new card.
    pub slots: Vec<SlotOption>,

    /// Speak extended APDUs, as a YubiKey 5 does; otherwise they are refused with 6700.
    pub extended_length: bool,
    /// Speak T=0, as a card with contacts does behind a reader that exchanges TPDUs (ISO/IEC 7816-3,
    /// 10.3; 7816-4, annex A): an answer to a command with data is fetched by GET RESPONSE, another
    /// Le than the answer's length is told that one (6Cxx), and extended commands and an Le after
    /// data, which T=0 does not have, are refused with 6700.
    pub t0: bool,
    /// How long the card waits for a touch.
    pub touch_timeout: Duration,
    /// Sit in a reader whose driver says that it has reset the card, and does not; power it does take away.
    pub ignores_resets: bool,
    /// What each APDU takes.
    pub apdu_latency: Duration,
    /// What a key agreement takes on top.
    pub key_agreement_latency: Duration,
    /// In what it is unlike a YubiKey.
    pub manners: Vec<Manner>,
}

/// A way in which a card is unlike a YubiKey. Each was seen on a card that is sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Manner {
    /// A key that is generated without a policy gets that of the key which was in the slot.
    KeepsPolicies,
    /// It signs only: key agreements are answered with 6A80.
    LacksEcdh,
    /// It has no touch: with a touch policy, GENERATE and IMPORT are answered with 6A81. The key that
    /// is in the slot stays, and has got the PIN policy by then.
    LacksTouch,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            serial: 12_345_678,
            pin: "123456".to_owned(),
            pin_tries: 3,
            management_key_algorithm: None,
            legacy: false,
            slots: Vec::new(),
            extended_length: true,
            t0: false,
            touch_timeout: Duration::from_secs(15),
            ignores_resets: false,
            apdu_latency: Duration::ZERO,
            key_agreement_latency: Duration::ZERO,
            manners: Vec::new(),
        }
    }
}

/// A key that a new card has.
#[derive(Clone, Debug)]
pub struct SlotOption {
    /// The slot.
    pub slot: u8,
    /// Where its key comes from.
    pub key: KeySource,
    /// PIN policy; `None` is the slot's default.
    pub pin_policy: Option<PinPolicy>,
    /// Touch policy; `None` is never.
    pub touch_policy: Option<TouchPolicy>,
}

/// Where the key of a new card comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// Made on the card.
    Generate(Curve),
    /// This P-256 scalar, imported.
    Import(Vec<u8>),
}

impl SlotOption {
    /// `9d=HEX` (a P-256 scalar, imported), `9d=generate` or `9d=p384` (both generated).
    pub fn parse(text: &str) -> Result<Self, String> {
        let (slot, key) = split_slot(text)?;
        let key = match key {
            "generate" => KeySource::Generate(Curve::P256),
            "p384" => KeySource::Generate(Curve::P384),
            hex => KeySource::Import(state::Hex::try_from(hex.to_owned())?.0),
        };
        Ok(Self { slot, key, pin_policy: None, touch_policy: None })
    }

    /// The key for the state file.
    pub(crate) fn make(&self) -> Result<(String, Slot), String> {
        let pin = self.pin_policy.unwrap_or(keys::default_pin_policy(self.slot));
        let touch = self.touch_policy.unwrap_or(TouchPolicy::Never);
        let slot = match &self.key {
            KeySource::Generate(curve) => Slot::generate(*curve, pin, touch),
            KeySource::Import(scalar) => Slot::import(Curve::P256, scalar, pin, touch)
                .ok_or_else(|| format!("the key for {:02x} is no P-256 scalar", self.slot))?,
        };
        Ok((slot_name(self.slot), slot))
    }
}

/// `9d=once,cached`: a slot, its PIN policy and its touch policy.
pub fn parse_policy(text: &str) -> Result<(u8, PinPolicy, TouchPolicy), String> {
    let (slot, policies) = split_slot(text)?;
    let (pin, touch) = policies.split_once(',').ok_or("expected PIN-POLICY,TOUCH-POLICY")?;
    let word = |word: &str| serde_json::Value::String(word.to_owned());
    let pin = serde_json::from_value(word(pin)).map_err(|e| e.to_string())?;
    let touch = serde_json::from_value(word(touch)).map_err(|e| e.to_string())?;
    Ok((slot, pin, touch))
}

fn split_slot(text: &str) -> Result<(u8, &str), String> {
    let (slot, rest) = text.split_once('=').ok_or("expected SLOT=…")?;
    let slot = u8::from_str_radix(slot, 16).map_err(|e| format!("slot {slot:?}: {e}"))?;
    if !keys::is_key_slot(slot) {
        return Err(format!("{slot:02x} is no key slot"));
    }
    Ok((slot, rest))
}
