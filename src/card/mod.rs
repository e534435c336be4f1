//! The only code that talks to hardware: PC/SC, APDUs, PIV.

mod names;

pub use names::{Fingerprint, Guid, PinPolicy, Serial, Slot, TouchPolicy};
