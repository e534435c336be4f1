//! The token in hand: the only code that talks to hardware.
//!
//! PIV is one kind of token; what all have in common stands here, and PC/SC below.

mod fault;
pub mod names;
mod pcsc;
mod piv;

pub use fault::{Fault, StatusWord};
pub use names::{CardName, Fingerprint, Guid, KeySource, PinPolicy, Serial, Slot, TouchPolicy};
pub use pcsc::{Pcsc, service};
pub use piv::{
    ANSWER_LIMIT, Attestation, Cipher, ManagementKey, ManagementMetadata, Pin, PinTries, Piv,
    Roots, SlotKey, SlotState, Statement, Transport, Trust, Verdict, base_point, even_key,
    fingerprint, is_named_by,
};
