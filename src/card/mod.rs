//! The only code that talks to hardware: PC/SC, APDUs, PIV.

mod apdu;
mod fault;
mod management;
pub mod names;
mod pcsc;
mod piv;
mod slot;
mod tlv;

pub use apdu::Transport;
pub use fault::{Fault, StatusWord};
pub use management::{Cipher, ManagementKey, ManagementMetadata};
pub use names::{CardName, Fingerprint, Guid, PinPolicy, Serial, Slot, TouchPolicy};
pub use pcsc::Pcsc;
pub use piv::{Pin, PinTries, Piv, Verdict};
pub use slot::{KeySource, SlotKey, SlotState, fingerprint};
