//! Selection of applications and the table of their commands.
//!
//! SELECT and its answer: SP 800-73-4 part 2, 3.1.1. The instructions from F6 on are Yubico's.

use crate::apdu::{Command, Sw};
use crate::card::{Answer, Card};
use crate::tlv;

/// The PIV application, with its version.
const PIV_AID: [u8; 11] = [0xA0, 0, 0, 3, 8, 0, 0, 0x10, 0, 1, 0];
/// Its shortest right-truncated form: the provider's id.
const PIV_RID_LEN: usize = 5;
/// Yubico's management application, which tells ykman what the device is.
const MANAGEMENT_AID: [u8; 8] = [0xA0, 0, 0, 5, 0x27, 0x47, 0x11, 0x17];

/// Capability bit: PIV.
const CAPABILITY_PIV: u8 = 0x10;
/// Form factor: USB-A keychain.
pub(crate) const FORM_FACTOR: u8 = 1;

/// An application on the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Application {
    Piv,
    Management,
}

impl Card {
    /// Carries a complete command out.
    pub(crate) fn dispatch(&mut self, command: &Command) -> Answer {
        if command.ins == 0xA4 {
            return self.select(command);
        }
        match self.session.application {
            Some(Application::Piv) => self.piv(command),
            Some(Application::Management) => self.management(command),
            None => Err(Sw::UNKNOWN_INS.into()),
        }
    }

    /// Selecting PIV again keeps its security status (SP 800-73-4); anything else clears it. After
    /// an unknown AID a YubiKey has no application selected and knows no instruction.
    fn select(&mut self, command: &Command) -> Answer {
        if command.p1p2() != 0x0400 {
            return Err(Sw::WRONG_P1P2.into());
        }
        let aid = command.data.as_slice();
        if aid.len() >= PIV_RID_LEN && PIV_AID.starts_with(aid) {
            self.session.pin_fresh = false;
            self.session.challenge = None;
            if self.session.application != Some(Application::Piv) {
                self.deselect();
            }
            self.session.application = Some(Application::Piv);
            return Ok(application_property_template());
        }
        self.deselect();
        if aid == MANAGEMENT_AID && !self.state.legacy {
            self.session.application = Some(Application::Management);
            let [major, minor, patch] = self.state.version;
            return Ok(format!("Virtual mgr - FW version {major}.{minor}.{patch}").into_bytes());
        }
        Err(Sw::NOT_FOUND.into())
    }

    fn deselect(&mut self) {
        self.session.application = None;
        self.session.pin_verified = false;
        self.session.pin_fresh = false;
        self.session.managed = false;
        self.session.challenge = None;
    }

    fn piv(&mut self, command: &Command) -> Answer {
        let pin_fresh = std::mem::take(&mut self.session.pin_fresh);
        match command.ins {
            0x20 => self.verify(command),
            0x24 => self.change_reference_data(command),
            0x2C => self.reset_retry_counter(command),
            0x47 => self.generate(command),
            0x87 if command.p2 == 0x9B => self.authenticate_management(command),
            0x87 => self.use_key(command, pin_fresh),
            0xCB => self.get_data(command),
            0xDB => self.put_data(command),
            0xFA => self.set_retries(command),
            0xFB => self.factory_reset(command),
            0xFD => Ok(self.state.version.to_vec()),
            0xFE => self.import(command),
            0xFF => self.set_management_key(command),
            _ if self.state.legacy => Err(Sw::UNKNOWN_INS.into()),
            0xF6 => self.move_key(command),
            0xF7 => self.metadata(command),
            0xF8 => Ok(self.state.serial.to_be_bytes().to_vec()),
            0xF9 => self.attest(command),
            _ => Err(Sw::UNKNOWN_INS.into()),
        }
    }

    /// READ CONFIG: what ykman shows as device information.
    fn management(&self, command: &Command) -> Answer {
        if command.ins != 0x1D {
            return Err(Sw::UNKNOWN_INS.into());
        }
        if command.p1 != 0 {
            return Ok(vec![0]);
        }
        let info = [
            tlv::encode(0x01, &[CAPABILITY_PIV]),
            tlv::encode(0x02, &self.state.serial.to_be_bytes()),
            tlv::encode(0x03, &[CAPABILITY_PIV]),
            tlv::encode(0x04, &[FORM_FACTOR]),
            tlv::encode(0x05, &self.state.version),
            tlv::encode(0x0A, &[0]),
        ]
        .concat();
        let length = u8::try_from(info.len()).map_err(|_| Sw::FAILURE)?;
        Ok([&[length], info.as_slice()].concat())
    }
}

/// What a YubiKey answers: the application's identifier without the provider's, and the authority.
fn application_property_template() -> Vec<u8> {
    let (provider, identifier) = PIV_AID.split_at(PIV_RID_LEN);
    let identifier = tlv::encode(0x4F, identifier);
    let authority = tlv::encode(0x79, &tlv::encode(0x4F, provider));
    tlv::encode(0x61, &[identifier, authority].concat())
}
