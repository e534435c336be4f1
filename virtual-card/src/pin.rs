//! PIN and PUK: VERIFY, CHANGE REFERENCE DATA, RESET RETRY COUNTER (SP 800-73-4 part 2, 3.2), and
//! Yubico's SET PIN RETRIES and RESET.

use crate::apdu::{Command, Sw};
use crate::card::{Answer, Card, Stop};
use crate::state::{ManagementKey, Reference, slot_name};
use crate::{objects, state};

/// The factory's PIN.
pub(crate) const DEFAULT_PIN: &[u8] = b"123456";
/// The factory's PUK.
pub(crate) const DEFAULT_PUK: &[u8] = b"12345678";

const PIN: u8 = 0x80;
const PUK: u8 = 0x81;
const ATTESTATION: u8 = 0xF9;

impl Card {
    pub(crate) fn verify(&mut self, command: &Command) -> Answer {
        if command.p2 != PIN {
            return Err(Sw::NO_REFERENCE.into());
        }
        match (command.p1, command.data.as_slice()) {
            (0xFF, []) => {
                self.session.pin_verified = false;
                Ok(Vec::new())
            }
            (0, []) if self.session.pin_verified => Ok(Vec::new()),
            (0, []) if self.state.pin.tries == 0 => Err(Sw::BLOCKED.into()),
            (0, []) => Err(Sw::tries(self.state.pin.tries).into()),
            (0, pin) => {
                let pin = eight(pin)?;
                self.session.pin_verified = false;
                self.present(PIN, pin)?;
                self.session.pin_verified = true;
                self.session.pin_fresh = true;
                Ok(Vec::new())
            }
            _ => Err(Sw::WRONG_P1P2.into()),
        }
    }

    /// Changes the PIN or the PUK, each with itself.
    pub(crate) fn change_reference_data(&mut self, command: &Command) -> Answer {
        if command.p1 != 0 || !matches!(command.p2, PIN | PUK) {
            return Err(Sw::NO_REFERENCE.into());
        }
        let (old, new) = two(&command.data)?;
        if command.p2 == PIN {
            // Should the old PIN be wrong, it is not verified any more (SP 800-73-4).
            self.session.pin_verified &= old == self.state.pin.value.0;
        }
        self.present(command.p2, old)?;
        self.replace(command.p2, new)
    }

    /// Sets a new PIN with the PUK.
    pub(crate) fn reset_retry_counter(&mut self, command: &Command) -> Answer {
        if command.p1 != 0 || command.p2 != PIN {
            return Err(Sw::NO_REFERENCE.into());
        }
        let (puk, new) = two(&command.data)?;
        self.present(PUK, puk)?;
        self.replace(PIN, new)
    }

    /// FA: P1 and P2 are the new numbers of tries. PIN and PUK become the defaults.
    pub(crate) fn set_retries(&mut self, command: &Command) -> Answer {
        if !self.session.managed || !self.session.pin_verified {
            return Err(Sw::SECURITY_STATUS.into());
        }
        if command.p1 == 0 || command.p2 == 0 {
            return Err(Sw::WRONG_DATA.into());
        }
        self.state.pin = Reference::new(DEFAULT_PIN, command.p1);
        self.state.puk = Reference::new(DEFAULT_PUK, command.p2);
        self.save()?;
        Ok(Vec::new())
    }

    /// FB: back to the factory's state, if PIN and PUK are blocked. The attestation key stays.
    pub(crate) fn factory_reset(&mut self, _: &Command) -> Answer {
        if self.state.pin.tries != 0 || self.state.puk.tries != 0 {
            return Err(Sw::CONDITIONS.into());
        }
        let algorithm =
            if self.state.legacy { state::Cipher::TripleDes } else { state::Cipher::Aes192 };
        self.state.pin = Reference::new(DEFAULT_PIN, 3);
        self.state.puk = Reference::new(DEFAULT_PUK, 3);
        self.state.management_key = ManagementKey::factory(algorithm);
        self.state.slots.retain(|name, _| *name == slot_name(ATTESTATION));
        self.state.objects.retain(|tag, _| tag == objects::ATTESTATION_CERTIFICATE);
        crate::random(&mut self.state.guid.0);
        objects::make_factory_objects(&mut self.state);
        self.save()?;
        let application = self.session.application;
        self.reset();
        self.session.application = application;
        Ok(Vec::new())
    }

    fn reference(&mut self, which: u8) -> &mut Reference {
        if which == PUK { &mut self.state.puk } else { &mut self.state.pin }
    }

    /// Compares a PIN or PUK. The try is spent, on disk, before the card says that it was wrong.
    fn present(&mut self, which: u8, value: &[u8]) -> Result<(), Stop> {
        let reference = self.reference(which);
        if reference.tries == 0 {
            return Err(Sw::BLOCKED.into());
        }
        let right = reference.value.0 == value;
        let before = reference.tries;
        let after = if right { reference.max_tries } else { before - 1 };
        reference.tries = after;
        if after != before {
            self.save()?;
        }
        if right { Ok(()) } else { Err(Sw::tries(after).into()) }
    }

    fn replace(&mut self, which: u8, new: &[u8]) -> Answer {
        let length = new.iter().position(|b| *b == 0xFF).unwrap_or(8);
        if length < 6 || new[length..].iter().any(|b| *b != 0xFF) {
            return Err(Sw::WRONG_DATA.into());
        }
        let reference = self.reference(which);
        let tries = reference.max_tries;
        *reference = Reference::new(new, tries);
        self.save()?;
        Ok(Vec::new())
    }
}

fn eight(pin: &[u8]) -> Result<&[u8], Sw> {
    if pin.len() == 8 { Ok(pin) } else { Err(Sw::WRONG_DATA) }
}

fn two(data: &[u8]) -> Result<(&[u8], &[u8]), Sw> {
    if data.len() == 16 { Ok(data.split_at(8)) } else { Err(Sw::WRONG_DATA) }
}
