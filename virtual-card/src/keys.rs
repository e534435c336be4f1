//! Keys: GENERATE ASYMMETRIC KEY PAIR and GENERAL AUTHENTICATE (SP 800-73-4 part 2, 3.3.2 and
//! 3.2.4), and Yubico's IMPORT and MOVE KEY.

use std::thread;

use crate::apdu::{Command, Sw};
use crate::card::{Answer, Card, Stop};
use crate::options::Manner;
use crate::state::{Curve, PinPolicy, Slot, TouchPolicy, slot_name};
use crate::tlv;

const ATTESTATION: u8 = 0xF9;
const DELETE: u8 = 0xFF;

/// What a YubiKey answers when a slot is empty or its key has another algorithm: yubikey-manager
/// treats this word from a signature as "no key or another one".
const NO_SUCH_KEY: Sw = Sw::WRONG_DATA;

/// Whether a slot can hold an asymmetric key.
pub(crate) fn is_key_slot(slot: u8) -> bool {
    matches!(slot, 0x9A | 0x9C | 0x9D | 0x9E | 0x82..=0x95 | ATTESTATION)
}

/// The policy of a key that was made without saying one.
pub(crate) fn default_pin_policy(slot: u8) -> PinPolicy {
    match slot {
        0x9C => PinPolicy::Always,
        0x9E => PinPolicy::Never,
        _ => PinPolicy::Once,
    }
}

impl PinPolicy {
    fn parse(byte: u8, slot: u8) -> Result<Self, Sw> {
        match byte {
            0 => Ok(default_pin_policy(slot)),
            1 => Ok(Self::Never),
            2 => Ok(Self::Once),
            3 => Ok(Self::Always),
            _ => Err(Sw::WRONG_DATA),
        }
    }
}

impl TouchPolicy {
    fn parse(byte: u8) -> Result<Self, Sw> {
        match byte {
            0 | 1 => Ok(Self::Never),
            2 => Ok(Self::Always),
            3 => Ok(Self::Cached),
            _ => Err(Sw::WRONG_DATA),
        }
    }
}

impl Card {
    /// The policies in tags AA and AB.
    fn policies(
        &mut self,
        elements: &[(u32, &[u8])],
        slot: u8,
    ) -> Result<(PinPolicy, TouchPolicy), Stop> {
        let old = self.state.slot(slot).filter(|_| self.has(Manner::KeepsPolicies));
        let old = old.map(|key| (key.pin_policy as u8, key.touch_policy as u8));
        let byte = |tag, kept: Option<u8>| match tlv::find(elements, tag) {
            None => Ok(kept.unwrap_or(0)),
            Some([byte]) => Ok(*byte),
            Some(_) => Err(Sw::WRONG_DATA),
        };
        let pin = PinPolicy::parse(byte(0xAA, old.map(|old| old.0))?, slot)?;
        let touch = TouchPolicy::parse(byte(0xAB, old.map(|old| old.1))?)?;
        if touch != TouchPolicy::Never && self.has(Manner::LacksTouch) {
            if let Some(key) = self.state.slots.get_mut(&slot_name(slot)) {
                key.pin_policy = pin;
                self.save()?;
            }
            return Err(Sw::NOT_SUPPORTED.into());
        }
        Ok((pin, touch))
    }

    fn has(&self, manner: Manner) -> bool {
        self.options.manners.contains(&manner)
    }

    pub(crate) fn generate(&mut self, command: &Command) -> Answer {
        self.require_management()?;
        let slot = command.p2;
        if command.p1 != 0 || !is_key_slot(slot) {
            return Err(Sw::WRONG_P1P2.into());
        }
        let wanted = tlv::elements(tlv::only(&command.data, 0xAC)?)?;
        let Some([number]) = tlv::find(&wanted, 0x80) else {
            return Err(Sw::WRONG_DATA.into());
        };
        let curve = Curve::from_number(*number).ok_or(Sw::WRONG_DATA)?;
        let (pin, touch) = self.policies(&wanted, slot)?;
        let key = Slot::generate(curve, pin, touch);
        let point = tlv::encode(0x86, &key.public_key.0);
        self.put_key(slot, key)?;
        Ok(tlv::encode(0x7F49, &point))
    }

    /// FE: P1 is the algorithm; tag 06 has the scalar.
    pub(crate) fn import(&mut self, command: &Command) -> Answer {
        self.require_management()?;
        let slot = command.p2;
        if !is_key_slot(slot) {
            return Err(Sw::WRONG_P1P2.into());
        }
        let curve = Curve::from_number(command.p1).ok_or(Sw::WRONG_DATA)?;
        let given = tlv::elements(&command.data)?;
        let (pin, touch) = self.policies(&given, slot)?;
        let scalar = tlv::find(&given, 0x06).ok_or(Sw::WRONG_DATA)?;
        let key = Slot::import(curve, scalar, pin, touch).ok_or(Sw::WRONG_DATA)?;
        self.put_key(slot, key)?;
        Ok(Vec::new())
    }

    /// F6: P1 is where to, or FF to delete; P2 is where from. The key takes its policies along.
    pub(crate) fn move_key(&mut self, command: &Command) -> Answer {
        self.require_management()?;
        let (to, from) = (command.p1, command.p2);
        let allowed = is_key_slot(from)
            && (to == DELETE || (is_key_slot(to) && to != ATTESTATION && from != ATTESTATION));
        if !allowed {
            return Err(Sw::WRONG_P1P2.into());
        }
        if to != DELETE && self.state.slot(to).is_some() {
            return Err(Sw::WRONG_DATA.into());
        }
        let key = self.state.slots.remove(&slot_name(from)).ok_or(Sw::NO_REFERENCE)?;
        self.session.touches.remove(&from);
        if to == DELETE {
            self.save()?;
        } else {
            self.put_key(to, key)?;
        }
        Ok(Vec::new())
    }

    fn put_key(&mut self, slot: u8, key: Slot) -> Result<(), Stop> {
        self.session.touches.remove(&slot);
        self.state.slots.insert(slot_name(slot), key);
        self.save()
    }

    /// GENERAL AUTHENTICATE with a key: 81 is a digest to sign, 85 a point to agree with.
    pub(crate) fn use_key(&mut self, command: &Command, pin_fresh: bool) -> Answer {
        let slot = command.p2;
        if !is_key_slot(slot) || slot == ATTESTATION {
            return Err(Sw::WRONG_DATA.into());
        }
        let key = self.state.slot(slot).ok_or(NO_SUCH_KEY)?.clone();
        if command.p1 != key.algorithm.number() {
            return Err(NO_SUCH_KEY.into());
        }
        let template = tlv::elements(tlv::only(&command.data, 0x7C)?)?;
        let find = |tag| tlv::find(&template, tag);
        if find(0x82).is_none_or(|wanted| !wanted.is_empty()) {
            return Err(Sw::WRONG_DATA.into());
        }
        let scalar = &key.private_key.0;
        let (result, latency) = match (find(0x81), find(0x85)) {
            (Some(digest), None) => (key.algorithm.sign(scalar, digest), None),
            (None, Some(point)) if !self.has(Manner::LacksEcdh) => {
                (key.algorithm.agree(scalar, point), Some(self.options.key_agreement_latency))
            }
            _ => (None, None),
        };
        let verified = match key.pin_policy {
            PinPolicy::Never => true,
            PinPolicy::Once => self.session.pin_verified,
            PinPolicy::Always => self.session.pin_verified && pin_fresh,
        };
        if !verified {
            return Err(Sw::SECURITY_STATUS.into());
        }
        let result = result.ok_or(Sw::WRONG_DATA)?;
        self.require_touch(slot, key.touch_policy)?;
        if let Some(latency) = latency.filter(|latency| !latency.is_zero()) {
            thread::sleep(latency);
        }
        Ok(tlv::encode(0x7C, &tlv::encode(0x82, &result)))
    }
}
