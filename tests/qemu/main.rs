//! Machines of QEMU with a USB reader and a TPM: real systemd, pcscd, libccid and polkit from a cold
//! start, where the reader comes seconds later than the key's unit.
//!
//! It needs root and the packages that the Makefile names. What is missing fails the tests and says
//! how to get it; nothing is skipped.

#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::needless_pass_by_value)]

mod recovery;
mod story;
mod support;
