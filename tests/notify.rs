//! What systemd hears, at a socket of our own; in a process of its own for its environment.

#![allow(clippy::unwrap_used)]

use std::{env, os::unix::net::UnixDatagram, process::Command, time::Duration};

use cryptkey::system::notify;
use tempfile::TempDir;

#[test]
fn systemd_hears_whole_messages() {
    if env::var_os("NOTIFY_TEST_SPEAKER").is_some() {
        notify::status("waiting for card 12345678\nMAINPID=1");
        notify::extend_timeout(Duration::from_secs(30));
        notify::extend_timeout(Duration::MAX);
        notify::ready();
        return;
    }
    let speak = |socket: Option<&std::path::Path>| {
        let mut command = Command::new(env::current_exe().unwrap());
        command.env("NOTIFY_TEST_SPEAKER", "1").env_remove("NOTIFY_SOCKET");
        if let Some(socket) = socket {
            command.env("NOTIFY_SOCKET", socket);
        }
        assert!(command.output().unwrap().status.success());
    };
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    speak(Some(&path));
    let mut buffer = [0; 4096];
    let mut heard = || {
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    assert_eq!(heard(), "STATUS=waiting for card 12345678 MAINPID=1\n");
    assert_eq!(heard(), "EXTEND_TIMEOUT_USEC=30000000\n");
    assert_eq!(heard(), "EXTEND_TIMEOUT_USEC=4294967295\n");
    assert_eq!(heard(), "READY=1\n");
    // Nobody listening, or nobody there, is no fault.
    speak(None);
    speak(Some(&dir.path().join("absent")));
}
