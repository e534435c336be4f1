//! A person at a terminal of a machine.

use std::{
    fs::File,
    io::{Read, Write},
    process::{Command, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use nix::{
    pty::openpty,
    sys::termios::{LocalFlags, tcgetattr},
};

use super::{Container, container::PATIENCE};

/// Types a command of bash at a terminal of the machine; what that shows. `person` looks at what is
/// shown since the last answer, and says what to type, if anything.
pub fn at_terminal(
    machine: &Container,
    command: &str,
    mut person: impl FnMut(&str) -> Option<String>,
) -> String {
    let pair = openpty(None, None).unwrap();
    let mut master = File::from(pair.master);
    let inside =
        machine.command(&["bash", "-c", &format!("export HOME=/root LANG=C.UTF-8; {command}")]);
    // The outermost of it is a limit in time, which would take the command off the terminal.
    let args = inside.get_args().skip(1);
    let slave = &pair.slave;
    let end = || Stdio::from(slave.try_clone().unwrap());
    let mut process = Command::new("setsid");
    process.args(["--ctty", "--wait"]).args(args).env("TERM", "xterm");
    process.stdin(end()).stdout(end()).stderr(end());
    let started = process.spawn().unwrap();
    // It ends when nobody has the other end any more.
    drop((process, pair.slave));
    let mut process = started;

    let (sender, pieces) = channel();
    let mut screen = master.try_clone().unwrap();
    thread::spawn(move || {
        let mut piece = [0; 4096];
        // It is an error to read once nobody has the other end any more.
        while let Ok(length @ 1..) = screen.read(&mut piece) {
            if sender.send(piece[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    let (mut shown, mut seen) = (Vec::new(), 0);
    loop {
        match pieces.recv_timeout(PATIENCE) {
            Ok(piece) => shown.extend(piece),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                drop(process.kill());
                panic!("{command}: nothing happens after {}", String::from_utf8_lossy(&shown));
            }
        }
        let new = String::from_utf8_lossy(&shown[seen..]).into_owned();
        let Some(answer) = person(&new) else { continue };
        seen = shown.len();
        // What systemd asks is not to be shown, and it says so to the terminal after it asked.
        while new.contains("no echo)")
            && tcgetattr(&master).unwrap().local_flags.contains(LocalFlags::ECHO)
        {
            thread::sleep(Duration::from_millis(1));
        }
        writeln!(master, "{answer}").unwrap();
    }
    process.wait().unwrap();
    String::from_utf8_lossy(&shown).into_owned()
}
