//! Whose bytes are new since their readers were last told: a list of names beside each generation.
//!
//! The list is written before the generation is published and becomes true with it, in one rename: a
//! run that is killed before has changed nothing, and one that is killed after has left the list.
//! A generation that takes another one's place takes over what was pending with that one.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
};

use nix::{
    errno::Errno,
    fcntl::{self, OFlag},
    sys::stat::{self, Mode, SFlag},
};

use crate::system::runtime_dir::is;

/// What the list is called, after its generation.
pub(super) const SUFFIX: &str = ".pending";
/// What is longer was not written here.
const MOST_BYTES: u64 = 1 << 20;

/// The name of a generation's list.
pub(super) fn file_of(generation: &str) -> String {
    format!("{generation}{SUFFIX}")
}

/// Writes the list of a new generation. Where nothing is pending there is none.
pub(super) fn write(dir: &OwnedFd, generation: &str, secrets: &[String]) -> nix::Result<()> {
    if secrets.is_empty() {
        return Ok(());
    }
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    let mut file = File::from(fcntl::openat(dir, &*file_of(generation), flags, mode)?);
    let lines = secrets.join("\n") + "\n";
    file.write_all(lines.as_bytes()).map_err(|error| Errno::try_from(error).unwrap_or(Errno::EIO))
}

/// Reads the list of a generation. Whoever reads it with more rights than its writer had need not
/// trust it: nothing is followed or waited for, and what the names mean is the reader's to say.
pub(super) fn read(dir: &OwnedFd, generation: &str) -> nix::Result<Vec<String>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match fcntl::openat(dir, &*file_of(generation), flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::ENOENT) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    if !is(&stat::fstat(&file)?, SFlag::S_IFREG) {
        return Err(Errno::EINVAL);
    }
    let mut text = Vec::new();
    file.take(MOST_BYTES)
        .read_to_end(&mut text)
        .map_err(|error| Errno::try_from(error).unwrap_or(Errno::EIO))?;
    Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
}
