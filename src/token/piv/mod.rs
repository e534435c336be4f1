//! PIV: APDUs, the application, its slots and what it attests.

mod apdu;
mod application;
mod attestation;
mod management;
mod slot;
#[cfg(test)]
mod tests;
mod tlv;

use super::{
    CardName, Fault, Fingerprint, Guid, KeySource, PinPolicy, Serial, Slot, StatusWord,
    TouchPolicy, Transport, Wait,
};

pub use application::{Pin, PinTries, Piv, Verdict};
pub use attestation::{Attestation, Roots, Statement, Trust};
pub use management::{Cipher, ManagementKey, ManagementMetadata};
pub use slot::{SlotKey, SlotState, base_point, even_key, fingerprint, is_named_by, same_key};
