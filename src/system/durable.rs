//! Small files that a power cut leaves either as they were or as they became: written beside, synced,
//! put in place, and the directory synced.

use std::{
    ffi::OsStr,
    fs::{File, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, openat, renameat},
    sys::stat::Mode,
    unistd::{UnlinkatFlags, unlinkat},
};

/// Creates the file `name` (0600), which must not be there, and puts the bytes on the disk. Its name
/// is there for good once the directory is synced. No half of it is left behind.
pub fn create(dir: &File, name: impl AsRef<OsStr>, bytes: &[u8]) -> io::Result<()> {
    let name = name.as_ref();
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    let mut file = File::from(openat(dir, name, flags, mode)?);
    // The umask may have taken bits away.
    file.set_permissions(Permissions::from_mode(0o600))
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| file.sync_all())
        .inspect_err(|_| drop(unlink(dir, name)))
}

/// Puts a file of these bytes where none is. It is on the disk when this returns, or not there at all.
pub fn add(dir: &File, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
    create(dir, name, bytes)?;
    dir.sync_all().inspect_err(|_| drop(unlink(dir, name)))
}

/// Puts a file of these bytes in the place of the file `name`, if there is one. It is on the disk when
/// this returns. Nobody else may write that file meanwhile.
pub fn replace(dir: &File, name: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = format!(".{name}.new");
    // One that a killed run left.
    unlink(dir, &beside)?;
    let written =
        create(dir, &beside, bytes).and_then(|()| Ok(renameat(dir, beside.as_str(), dir, name)?));
    if let Err(error) = written {
        let _ = unlink(dir, &beside);
        return Err(error);
    }
    dir.sync_all()
}

/// Removes the file `name`, if it is there, for good.
pub fn remove(dir: &File, name: &str) -> io::Result<()> {
    if unlink(dir, name)? { dir.sync_all() } else { Ok(()) }
}

/// Whether there was one.
fn unlink(dir: &File, name: impl AsRef<OsStr>) -> io::Result<bool> {
    match unlinkat(dir, name.as_ref(), UnlinkatFlags::NoRemoveDir) {
        Ok(()) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_replaced_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (at, open) = (|name: &str| dir.path().join(name), File::open(dir.path()).unwrap());
        // What a killed run left is no obstacle.
        fs::write(at(".a.new"), "half").unwrap();
        replace(&open, "a", b"one").unwrap();
        replace(&open, "a", b"two").unwrap();
        assert_eq!(fs::read(at("a")).unwrap(), b"two");
        assert_eq!(fs::metadata(at("a")).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(create(&open, "a", b"three").is_err());
        assert!(add(&open, "a".as_ref(), b"three").is_err());
        assert_eq!(fs::read(at("a")).unwrap(), b"two");
        remove(&open, "a").unwrap();
        remove(&open, "a").unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
