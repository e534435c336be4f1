//! Locks between runs: one per key, one per card.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{self, AtFlags, OFlag},
    sys::stat::{self, FileStat, Mode, major, minor},
};

use super::{
    Deadline, bounded, notify,
    runtime_dir::{RuntimeDir, io_advice},
    signals::sheltered,
};
use crate::error::{Class, Error, Result};

/// The directory of all locks, below `RUNTIMEDIR`.
const LOCKS: &str = ".locks";

/// Holds a lock until it is dropped, or the process ends in whatever way.
#[derive(Debug)]
pub struct Guard {
    _lock: Locked,
}

/// A file that is locked until this is dropped. Closing it is not enough where the file was opened
/// elsewhere and is open still; and where it can't be unlocked, on a network's file system, it will be
/// when the process ends.
#[derive(Debug)]
pub struct Locked(File);

impl Drop for Locked {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::debug!("a lock lasts until this process ends: {error}");
        }
    }
}

/// Takes the exclusive lock `RUNTIMEDIR/.locks/<name>`, waiting at most `limit` for another run.
/// The file (0600, in a directory of mode 0700) stays: removing it would let two runs each lock a
/// file of that name.
///
/// # Errors
/// `Class::Busy` where another process still holds it, naming the file and, where the kernel tells
/// it, the process. `Class::Publish` where the directory can't be used (see [`RuntimeDir`]) or the
/// file can't be opened.
pub fn lock(runtime_dir: &Path, name: &str, limit: Duration) -> Result<Guard> {
    take(runtime_dir, name, limit, tell)
}

/// Begins to wait for a lock on a thread of its own, as [`lock`] does, and tells nobody. What comes
/// of it comes out of the channel; a lock that comes once nobody listens any more is let go at once.
pub fn begin(runtime_dir: &Path, name: &str, limit: Duration) -> mpsc::Receiver<Result<Guard>> {
    let (runtime_dir, name) = (runtime_dir.to_owned(), name.to_owned());
    let (sender, receiver) = mpsc::channel();
    let wait = move || drop(sender.send(take(&runtime_dir, &name, limit, |_| ())));
    if let Err(error) = sheltered(|| thread::Builder::new().name("lock".into()).spawn(wait)) {
        tracing::error!("no thread to wait for a lock: {error}");
    }
    receiver
}

fn take(runtime_dir: &Path, name: &str, limit: Duration, tell: fn(Duration)) -> Result<Guard> {
    let path = runtime_dir.join(LOCKS).join(name);
    let fault = |errno: Errno| {
        let tried = format!("opening the lock {}", path.display());
        Error::new(Class::Publish, tried, errno.desc(), io_advice(errno, &path))
    };
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        return Err(fault(Errno::EINVAL));
    }
    let deadline = Deadline::after(limit);
    loop {
        let locks = RuntimeDir::open_or_create(runtime_dir)?.subdir(LOCKS, Mode::S_IRWXU)?;
        let file = open(&locks, name).map_err(fault)?;
        let held = stat::fstat(&file).map_err(fault)?;
        let guard = exclusive(file, deadline, tell).map_err(|waited| match waited {
            Some(error) => fault(Errno::try_from(error).unwrap_or(Errno::EIO)),
            None => busy(&path, limit, &held),
        })?;
        // Somebody who removed RUNTIMEDIR while we waited (systemd does when a service stops) left
        // us the lock of a file that nobody else will find.
        if is_at(&held, &locks, runtime_dir, name) {
            return Ok(Guard { _lock: guard });
        }
    }
}

fn open(locks: &OwnedFd, name: &str) -> nix::Result<File> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    fcntl::openat(locks, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map(File::from)
}

/// Says that another run is waited for, and for how long.
pub fn tell(limit: Duration) {
    tracing::info!("waiting for another run, up to {} s", limit.as_secs());
    notify::status("waiting for another run");
    notify::extend_timeout(limit.saturating_add(limit / 2));
}

/// Locks `file`; `Err(None)` where the deadline passed first. flock(2) knows no deadline, so where
/// it must wait it does so on a thread that is left behind; a lock that comes late is dropped there.
/// Before it waits, it calls `tell` with what is left.
pub fn exclusive(
    file: File,
    deadline: Deadline,
    tell: fn(Duration),
) -> std::result::Result<Locked, Option<io::Error>> {
    match file.try_lock() {
        Ok(()) => return Ok(Locked(file)),
        // A thread that waits without end would hold the lock for a moment when it comes.
        Err(TryLockError::WouldBlock) if deadline.passed() => return Err(None),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(Some(error)),
    }
    let lock = move || {
        loop {
            match file.lock() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Some(error)),
                Ok(()) => return Ok(Locked(file)),
            }
        }
    };
    let limit = deadline.remaining();
    tell(limit);
    bounded(limit, lock).unwrap_or(Err(None))
}

/// Whether the file of `held` is what a new run would find by the path.
fn is_at(held: &FileStat, locks: &OwnedFd, runtime_dir: &Path, name: &str) -> bool {
    let same = |found: nix::Result<FileStat>, than: &FileStat| {
        found.is_ok_and(|found| (found.st_dev, found.st_ino) == (than.st_dev, than.st_ino))
    };
    let at = AtFlags::AT_SYMLINK_NOFOLLOW;
    let Ok(directory) = stat::fstat(locks) else {
        return false;
    };
    same(stat::fstatat(locks, name, at), held)
        && same(stat::lstat(&runtime_dir.join(LOCKS)), &directory)
}

fn busy(path: &Path, limit: Duration, held: &FileStat) -> Error {
    let table = fs::read_to_string("/proc/locks").unwrap_or_default();
    let holder = match holder(&table, held) {
        Some(pid) => format!("process {pid}{} holds it", program(pid)),
        None => "another process holds it".to_owned(),
    };
    let tried = format!("waiting {} s for the lock {}", limit.as_secs(), path.display());
    let advice = "Let the other run end (systemctl status, ps), then run again.";
    Error::new(Class::Busy, tried, holder, advice)
}

/// The process that holds the lock on the file of `held`, from a /proc/locks table. The kernel
/// gives 0 or less where it can't be named from here.
fn holder(table: &str, held: &FileStat) -> Option<i32> {
    let file = format!("{:02x}:{:02x}:{}", major(held.st_dev), minor(held.st_dev), held.st_ino);
    table.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        // "1: FLOCK ADVISORY WRITE 7458 fe:00:10011210 0 EOF"; a waiter has "->" second.
        match fields[..] {
            [_, "FLOCK", _, _, pid, found, ..] if found == file => pid.parse().ok(),
            _ => None,
        }
        .filter(|pid| *pid > 0)
    })
}

/// The process's name in brackets, where it can be read.
fn program(pid: i32) -> String {
    let path: PathBuf = format!("/proc/{pid}/comm").into();
    fs::read_to_string(path).map_or_else(|_| String::new(), |name| format!(" ({})", name.trim()))
}
