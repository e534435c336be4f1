//! The only code that talks to hardware: PC/SC, APDUs, PIV.

mod apdu;
mod fault;
mod management;
mod names;
mod piv;
mod slot;
mod tlv;

pub use apdu::Transport;
pub use fault::{Fault, StatusWord};
pub use management::{Cipher, ManagementKey, ManagementMetadata};
pub use names::{Fingerprint, Guid, PinPolicy, Serial, Slot, TouchPolicy};
pub use piv::{Pin, PinTries, Piv, Verdict};
pub use slot::{KeySource, SlotKey, SlotState, fingerprint};
