//! Too little memory to stretch a passphrase, in a process of its own: the limit counts for all of it.

#![allow(clippy::unwrap_used)]

use std::fs;

use cryptkey::{
    error::Class,
    profile::{Argon2Params, ProviderKind, Wrong},
    system::memory::protect,
};
use expect_test::expect;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

#[test]
fn too_little_memory_is_a_named_error() {
    // Locked on touch, as in the unit.
    protect().unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mapped = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let mapped: u64 = mapped.trim().trim_end_matches(" kB").parse().unwrap();
    let (_, most) = getrlimit(Resource::RLIMIT_AS).unwrap();
    setrlimit(Resource::RLIMIT_AS, (mapped + 128 * 1024) * 1024, most).unwrap();

    let kind = |memory_kib| {
        ProviderKind::Passphrase(Argon2Params { salt: [7; 32], time: 2, memory_kib, threads: 4 })
    };
    let Some(Err(Wrong::Fault(error))) = kind(262_144).typed(b"two words") else {
        panic!("there was memory");
    };
    assert_eq!(error.class, Class::Internal);
    expect!["stretching a passphrase or recovery code: there is no memory for it: it takes 256 MiB. Stop what else takes memory, or give the machine more, or the unit (its MemoryMax=), and try again."].assert_eq(&error.to_string());
    assert!(kind(65536).typed(b"two words").unwrap().is_ok());
}
