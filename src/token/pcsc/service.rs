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

/// pcscd's socket.
pub(super) fn socket() -> PathBuf {
    std::env::var_os("PCSCLITE_CSOCK_NAME")
        .map_or_else(|| PathBuf::from("/run/pcscd/pcscd.comm"), PathBuf::from)
}

fn watch(limit: Duration) -> nix::Result<()> {
    let socket = socket();
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
    let holders = clients(|_| true);
    if holders.is_empty() { "another program".into() } else { holders.join(" or ") }
}

/// Who else uses cards, other than this program, whose runs do so in turn.
#[must_use]
pub fn other_clients() -> Vec<String> {
    let own = comm(std::process::id());
    clients(|name| own.as_deref() != Some(name))
}

/// The programs of these names that have libpcsclite loaded, as `name (pid N)`: those that can hold a
/// card.
fn clients(is_meant: impl Fn(&str) -> bool) -> Vec<String> {
    let own = std::process::id();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let named = pids.filter(|&pid| pid != own).filter_map(|pid| Some((pid, client(pid)?)));
    named
        .filter(|(_, name)| is_meant(name))
        .map(|(pid, name)| format!("{name} (pid {pid})"))
        .collect()
}

fn comm(pid: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim().into())
}

/// The name of a process, if it is a client of pcscd.
fn client(pid: u32) -> Option<String> {
    let maps = fs::read(format!("/proc/{pid}/maps")).ok()?;
    let needle = b"libpcsclite.so";
    if !maps.windows(needle.len()).any(|window| window == needle) {
        return None;
    }
    // pcscd itself is no client.
    comm(pid).filter(|name| name != "pcscd")
}
