//! Reads a PIN or a management key from a file.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use nix::libc;
use zeroize::Zeroizing;

use crate::error::{Class, Error, Result};

/// Reads the file at `path`, of at most `max` bytes and one line end (LF or CRLF) after them, which
/// is taken off. The bytes go from the kernel to the one buffer that is returned.
///
/// A file that others may read is warned of.
///
/// # Errors
/// Of class `class`: where it can't be read, is no regular file, is empty, or is longer. `Class::Spec` where
/// it lies in the Nix store, which everybody may read.
pub fn read_private(path: &Path, max: usize, class: Class) -> Result<Zeroizing<Vec<u8>>> {
    let tried = format!("reading {}", path.display());
    let fault = |found: String, advice: &str| Error::new(class, &*tried, found, advice);
    let failed = |error: io::Error| {
        let advice = match error.kind() {
            io::ErrorKind::NotFound => "Create it, or correct its path in the spec.",
            io::ErrorKind::PermissionDenied => "Run as a user that may read it (root, say).",
            _ => "See what the kernel says of its file system (journalctl -k).",
        };
        fault(error.to_string(), advice)
    };
    let real = fs::canonicalize(path).map_err(failed)?;
    refuse_in_store(&real, Path::new("/nix/store"), &tried)?;
    // A pipe or a terminal of that name must not make us wait, nor become ours.
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(&real)
        .map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() {
        return Err(fault(
            "it is no regular file".into(),
            "Name a regular file or a systemd credential in the spec.",
        ));
    }
    if about.mode() & 0o077 != 0 && !is_credential(&real) {
        tracing::warn!(
            "{} has mode {:04o}, so others than its owner may read it; chmod 600 it",
            path.display(),
            about.mode() & 0o7777
        );
    }
    let mut bytes = read_at_most(&mut file, max.saturating_add(3)).map_err(failed)?;
    let is_nothing = bytes.is_empty();
    let content = without_line_end(&bytes);
    bytes.truncate(content);
    if content > max {
        return Err(fault(
            format!("it holds more than {max} bytes"),
            "Put nothing but the secret itself into it, on one line.",
        ));
    }
    if content == 0 {
        let advice = match (is_credential(&real), is_nothing) {
            (false, _) => "Put the secret into it.",
            // In the NixOS module's units it comes from a socket, at which decrypting it has failed.
            (true, true) => {
                "If it is encrypted (pin.credential), systemd could not decrypt it, and \
                 `journalctl -b -u 'cryptkey-*-pin*'` says why: encrypt it again. If not \
                 (pin.file), the file is empty."
            }
            // The units of the NixOS module say SetCredential= for this case.
            (true, false) => {
                "Is the file there that the unit loads it from? security.cryptkey names it \
                 (pin.file or pin.credential); `systemctl cat` shows LoadCredential=."
            }
        };
        return Err(fault("it is empty".into(), advice));
    }
    Ok(bytes)
}

/// Refuses a file in the Nix store; `real` is its path without symbolic links.
fn refuse_in_store(real: &Path, store: &Path, tried: &str) -> Result<()> {
    let real_store = store.canonicalize();
    if !real.starts_with(store) && !real_store.is_ok_and(|store| real.starts_with(store)) {
        return Ok(());
    }
    Err(Error::new(
        Class::Spec,
        tried,
        format!("it is in the Nix store ({}), which everybody may read", real.display()),
        "Keep it outside the store: in a systemd credential, or in a file of mode 0600. Take its \
         content for known: change it.",
    ))
}

/// Whether systemd made the file for this unit. Its group bits are then the mask of an access list
/// that lets just the unit's user in, and say nothing of others.
fn is_credential(real: &Path) -> bool {
    env::var_os("CREDENTIALS_DIRECTORY")
        .and_then(|directory| fs::canonicalize(directory).ok())
        .is_some_and(|directory| real.starts_with(directory))
}

/// Reads up to `limit` bytes. The buffer has its full size from the start: one that grew would
/// leave copies behind.
fn read_at_most(file: &mut File, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; limit]);
    let mut length = 0;
    while length < limit {
        match file.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// The length of `bytes` without one LF or CRLF at their end.
fn without_line_end(bytes: &[u8]) -> usize {
    let line = bytes.strip_suffix(b"\n");
    line.map_or(bytes, |line| line.strip_suffix(b"\r").unwrap_or(line)).len()
}

#[cfg(test)]
mod tests {
    use std::{
        fs::Permissions,
        os::unix::fs::{PermissionsExt, symlink},
        path::PathBuf,
    };

    use nix::{sys::stat::Mode, unistd::mkfifo};
    use tempfile::TempDir;

    use super::*;

    fn file(dir: &TempDir, content: &[u8]) -> PathBuf {
        let path = dir.path().join("pin");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    #[test]
    fn takes_just_one_line_end_off() {
        let dir = TempDir::new().unwrap();
        let cases: [(&[u8], &[u8]); 5] = [
            (b"123456", b"123456"),
            (b"123456\n", b"123456"),
            (b"123456\r\n", b"123456"),
            (b"123456\n\n", b"123456\n"),
            (b"123456\r", b"123456\r"),
        ];
        for (content, expected) in cases {
            let path = file(&dir, content);
            let bytes = read_private(&path, 8, Class::PinRefused).unwrap();
            assert_eq!(&bytes[..], expected);
        }
    }

    #[test]
    fn refuses_nothing_at_all() {
        let dir = TempDir::new().unwrap();
        for content in [&b""[..], b"\n", b"\r\n"] {
            let error = read_private(&file(&dir, content), 8, Class::PinRefused).unwrap_err();
            assert_eq!(error.class, Class::PinRefused);
            assert_eq!((&*error.found, &*error.advice), ("it is empty", "Put the secret into it."));
        }
    }

    #[test]
    fn refuses_more_than_allowed() {
        let dir = TempDir::new().unwrap();
        for content in ["12345678", "12345678\n", "12345678\r\n"] {
            let path = file(&dir, content.as_bytes());
            assert!(read_private(&path, 8, Class::PinRefused).is_ok());
            let error = read_private(&path, 7, Class::PinRefused).unwrap_err();
            assert_eq!(error.class, Class::PinRefused);
            assert_eq!(error.found, "it holds more than 7 bytes");
            assert!(!error.to_string().contains("1234"));
        }
        let long = file(&dir, &[b'1'; 10_000]);
        assert!(read_private(&long, 8, Class::PinRefused).is_err());
    }

    #[test]
    fn waits_for_nobody_at_a_pipe() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("pipe");
        mkfifo(&path, Mode::S_IRUSR).unwrap();
        let error = read_private(&path, 8, Class::PinRefused).unwrap_err();
        assert_eq!(error.found, "it is no regular file");
        let error = read_private(dir.path(), 8, Class::PinRefused).unwrap_err();
        assert_eq!(error.found, "it is no regular file");
    }

    #[test]
    fn a_lost_file_has_the_class_that_was_asked_for() {
        let missing = Path::new("/nonexistent/pin");
        let error = read_private(missing, 8, Class::PinRefused).unwrap_err();
        expect_test::expect![[
            r"reading /nonexistent/pin: No such file or directory (os error 2). Create it, or correct its path in the spec."
        ]]
        .assert_eq(&error.to_string());
        assert_eq!(error.class, Class::PinRefused);
    }

    #[test]
    fn a_file_of_the_store_is_refused_also_behind_links() {
        let dir = TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("real/store")).unwrap();
        fs::create_dir(at("outside")).unwrap();
        fs::write(at("real/store/pin"), "").unwrap();
        fs::write(at("outside/pin"), "").unwrap();
        symlink(at("real"), at("nix")).unwrap();
        symlink(at("nix/store/pin"), at("outside/link")).unwrap();
        symlink(at("outside/link"), at("outside/link-to-link")).unwrap();
        symlink(at("outside/pin"), at("real/store/way-out")).unwrap();
        let refused = |name: &str| {
            refuse_in_store(&at(name).canonicalize().unwrap(), &at("nix/store"), "reading it")
        };
        for bad in ["nix/store/pin", "real/store/pin", "outside/link", "outside/link-to-link"] {
            let error = refused(bad).unwrap_err();
            assert_eq!(error.class, Class::Spec, "{bad}");
            assert!(error.found.contains("real/store/pin"), "{error}");
        }
        for good in ["outside/pin", "nix/store/way-out"] {
            assert_eq!(refused(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn the_buffer_is_the_only_one() {
        let dir = TempDir::new().unwrap();
        let bytes = read_private(&file(&dir, b"123456\n"), 8, Class::PinRefused).unwrap();
        assert_eq!(bytes.capacity(), 8 + 3);
    }
}
