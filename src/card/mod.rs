//! The only code that talks to hardware: PC/SC, APDUs, PIV.

mod apdu;
mod attestation;
mod fault;
mod management;
pub mod names;
mod pcsc;
mod piv;
mod slot;
#[cfg(test)]
mod tests;
mod tlv;
mod transaction;

pub use apdu::{ANSWER_LIMIT, Transport};
pub use attestation::{Attestation, Roots, Statement, Trust};
pub use fault::{Fault, StatusWord};
pub use management::{Cipher, ManagementKey, ManagementMetadata};
pub use names::{CardName, Fingerprint, Guid, KeySource, PinPolicy, Serial, Slot, TouchPolicy};
pub use pcsc::Pcsc;
pub use piv::{Pin, PinTries, Piv, Verdict};
pub use slot::{SlotKey, SlotState, base_point, even_key, fingerprint, is_named_by};
