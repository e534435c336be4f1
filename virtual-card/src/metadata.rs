//! Yubico's GET METADATA, F7 (firmware 5.3 and later).

use crate::apdu::{Command, Sw};
use crate::card::{Answer, Card};
use crate::keys;
use crate::pin::{DEFAULT_PIN, DEFAULT_PUK};
use crate::state::{Reference, Slot};
use crate::tlv;

const ALGORITHM: u32 = 1;
const POLICY: u32 = 2;
const ORIGIN: u32 = 3;
const PUBLIC_KEY: u32 = 4;
const IS_DEFAULT: u32 = 5;
const TRIES: u32 = 6;

impl Card {
    pub(crate) fn metadata(&self, command: &Command) -> Answer {
        if command.p1 != 0 {
            return Err(Sw::WRONG_P1P2.into());
        }
        match command.p2 {
            0x80 => Ok(reference(&self.state.pin, DEFAULT_PIN)),
            0x81 => Ok(reference(&self.state.puk, DEFAULT_PUK)),
            0x9B => {
                let key = &self.state.management_key;
                Ok([
                    tlv::encode(ALGORITHM, &[key.algorithm.number()]),
                    tlv::encode(POLICY, &[0, 1]),
                    tlv::encode(IS_DEFAULT, &[u8::from(key.default)]),
                ]
                .concat())
            }
            id if keys::is_key_slot(id) => Ok(slot(self.state.slot(id).ok_or(Sw::NO_REFERENCE)?)),
            _ => Err(Sw::NO_REFERENCE.into()),
        }
    }
}

fn reference(reference: &Reference, default: &[u8]) -> Vec<u8> {
    let is_default = reference.value == Reference::new(default, 0).value;
    [
        tlv::encode(ALGORITHM, &[0xFF]),
        tlv::encode(IS_DEFAULT, &[u8::from(is_default)]),
        tlv::encode(TRIES, &[reference.max_tries, reference.tries]),
    ]
    .concat()
}

fn slot(key: &Slot) -> Vec<u8> {
    [
        tlv::encode(ALGORITHM, &[key.algorithm.number()]),
        tlv::encode(POLICY, &[key.pin_policy as u8, key.touch_policy as u8]),
        tlv::encode(ORIGIN, &[key.origin as u8]),
        tlv::encode(PUBLIC_KEY, &tlv::encode(0x86, &key.public_key.0)),
    ]
    .concat()
}
