//! A pseudo-terminal: what programs show at it is read here, and what a person types is written.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::Command,
    sync::mpsc::{Receiver, channel},
    thread,
};

use nix::{
    fcntl::{OFlag, open},
    pty::{grantpt, posix_openpt, ptsname_r, unlockpt},
    sys::{
        stat::Mode,
        termios::{LocalFlags, tcgetattr},
    },
};

/// The person's end.
pub struct Pty {
    master: File,
    /// What is shown, until nobody has the other end any more.
    pub pieces: Receiver<Vec<u8>>,
}

impl Pty {
    /// A new one, and the programs' end of it. No child inherits either: as long as one had it, nobody
    /// would hear that the terminal is gone.
    pub fn open() -> (Self, OwnedFd) {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let pty = posix_openpt(flags).unwrap();
        grantpt(&pty).unwrap();
        unlockpt(&pty).unwrap();
        let slave = open(&*ptsname_r(&pty).unwrap(), flags, Mode::empty()).unwrap();
        let master = File::from(OwnedFd::from(pty));
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
        (Self { master, pieces }, slave)
    }

    /// Presses keys: `\x03` is ^C.
    pub fn press(&mut self, keys: &[u8]) {
        self.master.write_all(keys).unwrap();
    }

    /// Types a line, with Enter.
    pub fn type_line(&mut self, line: &str) {
        self.press(format!("{line}\n").as_bytes());
    }

    /// Whether what is typed is shown.
    pub fn shows_what_is_typed(&self) -> bool {
        tcgetattr(&self.master).unwrap().local_flags.contains(LocalFlags::ECHO)
    }
}

/// The command as the leader of a session. Its terminal is what gets to be its standard input.
pub fn session(command: &Command) -> Command {
    // Who starts the tests in the background may have ^C ignored, which is inherited.
    let mut session = Command::new("env");
    session.args(["--default-signal=INT", "setsid", "--ctty"]);
    session.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => session.env(name, value),
            None => session.env_remove(name),
        };
    }
    session.env("TERM", "xterm");
    session
}
