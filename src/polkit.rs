//! The polkit rule of those who may reach cards and readers: what it says, and its file.
//!
//! pcscd asks polkit about everybody who wants to use it. The first rule that answers wins, in the
//! order of the files' names; this one answers yes for those who are listed, and nothing otherwise.

use std::{
    fs::{DirBuilder, File},
    io::{self, Read as _, Write as _},
    os::{fd::OwnedFd, unix::fs::DirBuilderExt as _},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{self, AtFlags, OFlag},
    sys::stat::{self, Mode, SFlag},
    unistd::{self, Gid, Uid, UnlinkatFlags},
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    error::{Class, Error, Result},
    spec::{Pcsc, SubjectName},
    system::runtime_dir::{is, names},
};

/// Where polkitd, since version 126, looks for rules that live until the machine is switched off.
pub const DIRECTORY: &str = "/run/polkit-1/rules.d";
/// The rule's file. NixOS's own, `10-nixos.rules`, comes after it.
pub const FILE: &str = "05-nixos-cryptkey.rules";
/// What a file is called until it takes the rule's place, with random digits in between. polkitd
/// reads only names that end in `.rules`.
const UNFINISHED: (&str, &str) = (".05-nixos-cryptkey.", ".new");
/// Another run may take our unfinished file for one that a killed run left. Each run looks for
/// such files once, so that this ends.
const ATTEMPTS: usize = 100;
/// polkitd is a user of its own and has to read the rule; it holds no secret.
const READABLE: Mode = Mode::from_bits_truncate(0o644);

const TEMPLATE: &str = include_str!("../polkit/nixos-cryptkey.rules");

/// What became of the rule's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was made, or made anew.
    Installed,
    /// It was as it should be, or not there and not wanted.
    Unchanged,
    /// It is gone.
    Removed,
}

/// The rule, as a script in ECMAScript 5: polkitd comes with Duktape or with `SpiderMonkey`.
#[must_use]
pub fn render(pcsc: &Pcsc) -> String {
    let part = |part| match part {
        "USERS" => array(&pcsc.users),
        "GROUPS" => array(&pcsc.groups),
        text => text.to_owned(),
    };
    TEMPLATE.split('@').map(part).collect()
}

/// JSON that is ECMAScript 5, too, which takes two characters of JSON's strings for line ends.
fn array(names: &[SubjectName]) -> String {
    let names = names.iter().map(SubjectName::as_str).collect::<Vec<_>>();
    let json = Value::from(names).to_string();
    json.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// Makes the rule in `directory` (root's, mode 0644) that of `pcsc`; nobody listed, no rule. It is
/// the old one or the new one, whole, whenever the run is killed. Nothing is written where it is
/// right already.
///
/// # Errors
/// `Class::Permission` where `directory` is a symlink, is not root's alone to write to, or the
/// operating system refuses something.
pub fn install(directory: &Path, pcsc: &Pcsc) -> Result<Outcome> {
    if pcsc.users.is_empty() && pcsc.groups.is_empty() {
        return remove(directory);
    }
    let dir = match open(directory)? {
        Some(dir) => dir,
        None => create(directory)?,
    };
    clean_up(&dir);
    let rule = render(pcsc);
    let replaced = is_there(&dir, rule.as_bytes()).and_then(|is_there| {
        if is_there { Ok(Outcome::Unchanged) } else { replace(&dir, rule.as_bytes()) }
    });
    replaced.map_err(|errno| failed(format!("installing {}", file(directory)), errno))
}

/// Removes the rule from `directory`, which need not be there.
///
/// # Errors
/// As [`install`].
pub fn remove(directory: &Path) -> Result<Outcome> {
    let Some(dir) = open(directory)? else {
        return Ok(Outcome::Unchanged);
    };
    clean_up(&dir);
    match unistd::unlinkat(&dir, FILE, UnlinkatFlags::NoRemoveDir) {
        Ok(()) => Ok(Outcome::Removed),
        Err(Errno::ENOENT) => Ok(Outcome::Unchanged),
        Err(errno) => Err(failed(format!("removing {}", file(directory)), errno)),
    }
}

/// Whether the file is there with this content, owner and mode. What stands there otherwise, a
/// symlink too, is not followed and not read.
fn is_there(dir: &OwnedFd, rule: &[u8]) -> nix::Result<bool> {
    let found = match stat::fstatat(dir, FILE, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(found) => found,
        Err(Errno::ENOENT) => return Ok(false),
        Err(errno) => return Err(errno),
    };
    let mode = Mode::from_bits_truncate(found.st_mode);
    if !is(&found, SFlag::S_IFREG) || (found.st_uid, found.st_gid) != (0, 0) || mode != READABLE {
        return Ok(false);
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = File::from(fcntl::openat(dir, FILE, flags, Mode::empty())?);
    let mut content = Vec::new();
    file.take(rule.len() as u64 + 1).read_to_end(&mut content).map_err(errno)?;
    Ok(content == rule)
}

/// Puts a new file in the place of whatever is there.
fn replace(dir: &OwnedFd, rule: &[u8]) -> nix::Result<Outcome> {
    for _ in 0..ATTEMPTS {
        let random = getrandom::u64().map_err(|_| Errno::EIO)?;
        let name = format!("{}{random:016x}{}", UNFINISHED.0, UNFINISHED.1);
        let renamed =
            write(dir, &name, rule).and_then(|()| fcntl::renameat(dir, name.as_str(), dir, FILE));
        match renamed {
            Ok(()) => return Ok(Outcome::Installed),
            Err(Errno::ENOENT) => {}
            Err(errno) => {
                unlink(dir, name.as_ref());
                return Err(errno);
            }
        }
    }
    Err(Errno::ENOENT)
}

/// Nothing is synced: the directory is in RAM.
fn write(dir: &OwnedFd, name: &str, rule: &[u8]) -> nix::Result<()> {
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = fcntl::openat(dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let mut file = File::from(fd);
    file.write_all(rule).map_err(errno)?;
    let found = stat::fstat(&file)?;
    // The directory may give its group to what is made in it.
    if (found.st_uid, found.st_gid) != (0, 0) {
        unistd::fchown(&file, Some(Uid::from_raw(0)), Some(Gid::from_raw(0)))?;
    }
    // The umask may have taken bits away.
    stat::fchmod(&file, READABLE)
}

/// Removes what killed runs left.
fn clean_up(dir: &OwnedFd) {
    for name in names(dir).unwrap_or_default() {
        let text = name.to_string_lossy();
        if text.starts_with(UNFINISHED.0) && text.ends_with(UNFINISHED.1) {
            unlink(dir, &name);
        }
    }
}

/// polkitd does not read what is left, and the next run tries again.
fn unlink(dir: &OwnedFd, name: &std::ffi::OsStr) {
    if let Err(errno) = unistd::unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        tracing::debug!("{} is left to the next run: {errno}", name.display());
    }
}

/// Opens the directory, if it is there and root's alone to write to: who can write to it decides
/// what everybody may do on this machine.
fn open(directory: &Path) -> Result<Option<OwnedFd>> {
    let path = directory.display();
    let refuse = |found: String, advice: String| {
        Error::new(Class::Permission, format!("using {path} for polkit's rules"), found, advice)
    };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let dir = match fcntl::open(directory, flags, Mode::empty()) {
        Ok(dir) => dir,
        Err(Errno::ENOENT) => return Ok(None),
        Err(Errno::ELOOP | Errno::ENOTDIR) => {
            return Err(refuse(
                "it is a symlink or no directory".into(),
                "See who made it, and move it away.".into(),
            ));
        }
        Err(errno) => return Err(failed(format!("opening {path}"), errno)),
    };
    let found = stat::fstat(&dir).map_err(|errno| failed(format!("looking at {path}"), errno))?;
    if found.st_uid != 0 {
        return Err(refuse(
            format!("it belongs to user {}, not to root", found.st_uid),
            format!("See what is in it, then: chown root {path}."),
        ));
    }
    if found.st_mode & 0o022 != 0 {
        return Err(refuse(
            format!("its mode {:04o} lets others write to it", found.st_mode & 0o7777),
            format!("See what is in it, then: chmod go-w {path}."),
        ));
    }
    Ok(Some(dir))
}

/// Makes the directory with its parents. polkitd watches what was there when it started, so the
/// NixOS module makes the directory at boot and this is for other machines.
fn create(directory: &Path) -> Result<OwnedFd> {
    let tried = || format!("creating {}", directory.display());
    // polkitd must be able to read it, also if the run is killed right after this.
    let umask = stat::umask(Mode::S_IWGRP | Mode::S_IWOTH);
    let made = DirBuilder::new().recursive(true).mode(0o755).create(directory);
    stat::umask(umask);
    made.map_err(|error| failed(tried(), errno(error)))?;
    tracing::warn!(
        "{} was not there and was made: a polkitd that is running notices it only after \
         `systemctl reload polkit`",
        directory.display()
    );
    open(directory)?.ok_or_else(|| failed(tried(), Errno::ENOENT))
}

fn failed(tried: String, errno: Errno) -> Error {
    let advice = match errno {
        Errno::EACCES | Errno::EPERM | Errno::EROFS => {
            "Run as root; a sandboxed unit needs the directory in ReadWritePaths=."
        }
        Errno::EISDIR | Errno::ENOTDIR | Errno::ELOOP => {
            "See who made it, move it away, then run again."
        }
        Errno::ENOSPC | Errno::EDQUOT => "Make room there, then run again.",
        _ => "See what the kernel says (journalctl -k), then run again.",
    };
    Error::new(Class::Permission, tried, errno.desc(), advice)
}

fn file(directory: &Path) -> String {
    directory.join(FILE).display().to_string()
}

#[allow(clippy::needless_pass_by_value)]
fn errno(error: io::Error) -> Errno {
    Errno::try_from(error).unwrap_or(Errno::EIO)
}
