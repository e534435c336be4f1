//! The PIV client against the software card of this workspace, against scripts that answer as other
//! cards do, and against garbage.

mod attestation;
mod faults;
mod garbage;
mod identity;
mod management;
mod pin;
mod probe;
mod slot;
mod support;
