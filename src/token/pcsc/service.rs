//! pcscd from outside: whether it is there yet, and who else uses it.

use std::{
    fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};

use crate::error::{Class, Error};

/// No event tells that a socket began to be listened on: look again after this long.
const LISTEN_RETRY: Duration = Duration::from_secs(1);

/// Waits until something happens where pcscd's socket is or will be, at most for `limit`.
pub fn wait(limit: Duration) {
    // What ends the wait early is seen by the next look.
    let _ = watch(limit);
}

fn watch(limit: Duration) -> nix::Result<()> {
    let socket = std::env::var_os("PCSCLITE_CSOCK_NAME")
        .map_or_else(|| PathBuf::from("/run/pcscd/pcscd.comm"), PathBuf::from);
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    // The closest directory that there is: pcscd's own may be missing too.
    let watched = socket.ancestors().skip(1).find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ATTRIB;
    inotify.add_watch(watched, flags)?;
    let timeout = PollTimeout::try_from(limit.min(LISTEN_RETRY)).unwrap_or(PollTimeout::ZERO);
    let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, timeout).map(drop)
}

/// The error where there is no pcscd, or none that answers.
pub fn no_service(tried: impl Into<String>, found: impl Into<String>) -> Error {
    // pcscd hangs up on those whom polkit refuses, which may look like this.
    let advice = "See `systemctl status pcscd`: on NixOS, services.pcscd.enable = true starts it, and \
                  security.cryptkey.pcsc.users names those who may reach it.";
    Error::new(Class::NoCard, tried, found, advice)
}

/// Who likely holds a card, for an error message.
pub fn likely_holder() -> String {
    let holders = holders();
    if holders.is_empty() { "another program".into() } else { holders.join(" or ") }
}

/// The programs that have libpcsclite loaded, as `name (pid N)`: those that can hold a card.
fn holders() -> Vec<String> {
    let own = std::process::id();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|&pid| pid != own).filter_map(holder).collect()
}

fn holder(pid: u32) -> Option<String> {
    let maps = fs::read(format!("/proc/{pid}/maps")).ok()?;
    let needle = b"libpcsclite.so";
    if !maps.windows(needle.len()).any(|window| window == needle) {
        return None;
    }
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let name = name.trim();
    // pcscd itself is no client.
    (name != "pcscd").then(|| format!("{name} (pid {pid})"))
}
