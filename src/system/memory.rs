//! Keeps the process's memory to itself: no core dump, no debugger of the same user, no swap, and
//! nothing of a secret where it is not in use.

use std::{fs, hint::black_box};

use nix::{
    errno::Errno,
    libc,
    sys::{
        mman::{MlockAllFlags, mlockall},
        prctl::set_dumpable,
        resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit},
    },
};
use zeroize::Zeroize as _;

use crate::error::{Class, Error, Result};

/// `CAP_IPC_LOCK` in a capability mask (linux/capability.h).
const CAP_IPC_LOCK: u64 = 1 << 14;

/// How far the memory is protected. It can't be dumped in either case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Every page stays in RAM.
    Locked,
    /// Pages may be swapped; why they could not be locked, as a phrase.
    NotLocked(String),
}

/// Protects the process. To be called first of all, before there is anything to protect.
///
/// # Errors
/// `Class::Internal` where the process would stay dumpable. That pages can't be locked is no error:
/// an ordinary user may not, and `status` needs no card.
pub fn protect() -> Result<Protection> {
    let fault = |tried: &str, errno: Errno| {
        Error::new(
            Class::Internal,
            tried,
            errno.desc(),
            "See which seccomp filter or sandbox denies it (SystemCallFilter=, or a container's).",
        )
    };
    set_dumpable(false).map_err(|errno| fault("making the process undumpable", errno))?;
    // Also for the programs that it starts: exec makes them dumpable again.
    setrlimit(Resource::RLIMIT_CORE, 0, 0)
        .map_err(|errno| fault("turning core dumps off", errno))?;
    Ok(lock_pages())
}

/// How far [`wipe_stack`] reaches, in bytes: twice as far as the flows of the campaign, which looks at
/// what is below. Each page of it that was not in use costs a page fault.
const WIPED: usize = 96 * 1024;

/// Overwrites what calls that have returned left on the stack of this thread. Ciphers and hashes keep
/// copies of their keys in their frames, and the compiler does so with registers: no destructor knows
/// of those.
///
/// What is inlined in a caller's frame, which is still in use, stays: what handles secrets is
/// `#[inline(never)]` for this.
#[inline(never)]
#[allow(clippy::large_stack_arrays)]
pub fn wipe_stack() {
    // In words, as each element is written on its own.
    let mut below = [0_u64; WIPED / size_of::<u64>()];
    below.zeroize();
    black_box(&below);
}

/// Locks what is mapped and what will be, on first touch.
///
/// Under a limit that is small the call would either fail or, worse, succeed and then make later
/// mappings and thread stacks fail in the middle of the work. So it is made only where no limit
/// counts.
fn lock_pages() -> Protection {
    let limit = getrlimit(Resource::RLIMIT_MEMLOCK).map(|(soft, hard)| {
        let raised = soft < hard && setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard).is_ok();
        if raised { hard } else { soft }
    });
    let unlimited = limit == Ok(RLIM_INFINITY);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let users = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if !unlimited && !has_ipc_lock(&status, &users) {
        let limit = limit.map_or("unknown".to_owned(), |bytes| format!("{bytes} bytes"));
        return Protection::NotLocked(format!(
            "the limit of locked memory is {limit} (LimitMEMLOCK=infinity would lift it)"
        ));
    }
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    match mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault) {
        Ok(()) => Protection::Locked,
        Err(errno) => Protection::NotLocked(format!("mlockall: {}", errno.desc())),
    }
}

/// Whether the kernel lifts the limit for this process. It asks for the capability in the first
/// user namespace: root of a container has it only there, and would run into the limit.
fn has_ipc_lock(status: &str, uid_map: &str) -> bool {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    let first_namespace = uid_map.split_whitespace().eq(["0", "0", "4294967295"]);
    first_namespace && effective & CAP_IPC_LOCK != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "         0          0 4294967295\n";

    #[test]
    fn the_limit_is_lifted_by_the_capability_in_the_first_user_namespace_only() {
        let root = "Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t000001fffeffffff\n";
        let user = "Name:\tx\nCapPrm:\t000001fffeffffff\nCapEff:\t0000000000000000\n";
        assert!(has_ipc_lock(root, FIRST));
        assert!(!has_ipc_lock(user, FIRST));
        assert!(!has_ipc_lock(root, "0 1000 1\n"));
        assert!(!has_ipc_lock(root, ""));
        assert!(!has_ipc_lock("", FIRST));
    }
}
