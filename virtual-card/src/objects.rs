//! Data objects: GET DATA and PUT DATA (SP 800-73-4 part 2, 3.1.2 and 3.3.1).

use crate::apdu::{Command, Sw};
use crate::card::{Answer, Card};
use crate::state::{Hex, State};
use crate::tlv;

/// The certificate of the attestation key.
pub(crate) const ATTESTATION_CERTIFICATE: &str = "5fff01";
const CHUID: &str = "5fc102";
const CAPABILITIES: &str = "5fc107";
const DISCOVERY: u32 = 0x7E;
/// Printed information (where Yubico's tools keep a PIN-protected management key), fingerprints,
/// facial image and iris images: read only after the PIN.
const NEEDS_PIN: [u32; 4] = [0x5F_C109, 0x5F_C103, 0x5F_C108, 0x5F_C121];
/// The largest object of a YubiKey.
const MAX_OBJECT: usize = 3063;
/// The FASC-N that SP 800-73 gives to cards that are not the government's.
const FASC_N: &str = "d4e739da739ced39ce739d836858210842108421c84210c3eb";

impl Card {
    /// Whether the PIN is missing comes before whether the object is there.
    pub(crate) fn get_data(&self, command: &Command) -> Answer {
        if command.p1p2() != 0x3FFF {
            return Err(Sw::WRONG_P1P2.into());
        }
        let tag = tag(tlv::only(&command.data, 0x5C)?)?;
        if tag == DISCOVERY {
            return Ok(discovery());
        }
        if NEEDS_PIN.contains(&tag) && !self.session.pin_verified {
            return Err(Sw::SECURITY_STATUS.into());
        }
        let object = self.state.objects.get(&name(tag)).ok_or(Sw::NOT_FOUND)?;
        Ok(tlv::encode(0x53, &object.0))
    }

    /// An empty object deletes.
    pub(crate) fn put_data(&mut self, command: &Command) -> Answer {
        if command.p1p2() != 0x3FFF {
            return Err(Sw::WRONG_P1P2.into());
        }
        self.require_management()?;
        let elements = tlv::elements(&command.data)?;
        let &[(0x5C, id), (0x53, object)] = elements.as_slice() else {
            return Err(Sw::WRONG_DATA.into());
        };
        if object.len() > MAX_OBJECT {
            return Err(Sw::NO_SPACE.into());
        }
        let name = name(tag(id)?);
        if object.is_empty() {
            self.state.objects.remove(&name);
        } else {
            self.state.objects.insert(name, Hex(object.to_vec()));
        }
        self.save()?;
        Ok(Vec::new())
    }
}

/// Three-byte tags, `5Fxxxx`; the discovery object is the only one with another length.
fn tag(bytes: &[u8]) -> Result<u32, Sw> {
    match *bytes {
        [0x7E] => Ok(DISCOVERY),
        [0x5F, high, low] => Ok(u32::from_be_bytes([0, 0x5F, high, low])),
        _ => Err(Sw::WRONG_DATA),
    }
}

fn name(tag: u32) -> String {
    format!("{tag:06x}")
}

/// The application's AID, and: the PIN of this application is the only one.
fn discovery() -> Vec<u8> {
    let aid = [0xA0, 0, 0, 3, 8, 0, 0, 0x10, 0, 1, 0];
    let content = [tlv::encode(0x4F, &aid), tlv::encode(0x5F2F, &[0x40, 0])].concat();
    tlv::encode(DISCOVERY, &content)
}

/// CHUID and card capability container.
pub(crate) fn make_factory_objects(state: &mut State) {
    let fasc_n = base16ct::lower::decode_vec(FASC_N).unwrap_or_default();
    let chuid = [
        tlv::encode(0x30, &fasc_n),
        tlv::encode(0x34, &state.guid.0),
        tlv::encode(0x35, b"20520417"),
        tlv::encode(0x3E, &[]),
        tlv::encode(0xFE, &[]),
    ];
    // Card identifier: GSC-RID, manufacturer, JavaCard, and 14 bytes that are the card's own.
    let card = [&[0xA0, 0, 0, 1, 0x16, 0xFF, 2], &state.guid.0[..14]].concat();
    let capabilities: [(u32, &[u8]); 12] = [
        (0xF0, &card),
        (0xF1, &[0x21]),
        (0xF2, &[0x21]),
        (0xF3, &[]),
        (0xF4, &[0]),
        (0xF5, &[0x10]),
        (0xF6, &[]),
        (0xF7, &[]),
        (0xFA, &[]),
        (0xFB, &[]),
        (0xFC, &[]),
        (0xFD, &[]),
    ];
    let mut container: Vec<u8> =
        capabilities.iter().flat_map(|(tag, value)| tlv::encode(*tag, value)).collect();
    container.extend(tlv::encode(0xFE, &[]));
    state.objects.insert(CHUID.to_owned(), Hex(chuid.concat()));
    state.objects.insert(CAPABILITIES.to_owned(), Hex(container));
}
