//! The terminal at which a command was started: for what is shown or typed nowhere else.

use std::{
    fs::File,
    io::{self, ErrorKind, Read as _, Write as _},
    ops::Deref,
    os::fd::AsFd as _,
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr},
};
use zeroize::Zeroizing;

use super::Deadline;
use crate::error::{Class, Error, Result};

/// How long a person may take for an answer: to write a code down, say.
const PATIENCE: Duration = Duration::from_secs(600);
/// What ^C types.
const INTERRUPT: u8 = 3;
/// The longest line that the kernel hands over, in bytes.
const LONGEST: usize = 4096;

/// The terminal.
pub struct Terminal {
    tty: File,
    /// What it is for, for the errors.
    tried: String,
}

impl Terminal {
    /// Opens the terminal of this process, for what is being `tried` ("key vault: adding a passphrase").
    ///
    /// # Errors
    /// `no-answer` where there is none.
    pub fn open(tried: impl Into<String>) -> Result<Self> {
        let tried = tried.into();
        match File::options().read(true).write(true).open("/dev/tty") {
            Ok(tty) => Ok(Self { tty, tried }),
            Err(error) => Err(Error::new(
                Class::NoAnswer,
                tried,
                format!("there is no terminal to ask at: {error}"),
                "Run it at a terminal (with `ssh -t` from elsewhere): what it shows and what is typed \
                 goes nowhere else.",
            )),
        }
    }

    /// Shows a text as it is.
    ///
    /// # Errors
    /// `no-answer` where the terminal takes nothing (^S) for 10 minutes.
    pub fn say(&self, text: &str) -> Result<()> {
        let said = self.wait_for(PollFlags::POLLOUT, Deadline::after(PATIENCE));
        said.and_then(|()| (&self.tty).write_all(text.as_bytes()))
            .map_err(|error| self.failed(&error))
    }

    /// Shows a question and reads a line, which is shown as it is typed; without its line ending.
    ///
    /// # Errors
    /// `no-answer` for ^C, and where nobody answers within 10 minutes.
    pub fn ask(&self, question: &str) -> Result<Zeroizing<Vec<u8>>> {
        self.read(question, true)
    }

    /// The same for what is not to be shown.
    pub fn ask_hidden(&self, question: &str) -> Result<Zeroizing<Vec<u8>>> {
        self.read(question, false)
    }

    /// An empty page, for what is not to stay on the screen.
    pub fn page(&self) -> Result<Page<'_>> {
        let mode = self.mode(true).map_err(|error| self.failed(&error))?;
        // The other screen of the terminal has no history that could be scrolled back.
        self.say("\x1b[?1049h")?;
        let page = Page { terminal: self, _mode: mode };
        page.clear()?;
        Ok(page)
    }

    fn read(&self, question: &str, echo: bool) -> Result<Zeroizing<Vec<u8>>> {
        let _mode = self.mode(echo).map_err(|error| self.failed(&error))?;
        self.say(question)?;
        let mut line = Zeroizing::new(vec![0; LONGEST]);
        let length = self.read_line(&mut line).map_err(|error| self.failed(&error))?;
        line.truncate(length);
        match line.last() {
            None => Err(self.refused("nothing was typed")),
            Some(&INTERRUPT) => {
                self.say("\n")?;
                Err(self.refused("it was interrupted"))
            }
            Some(b'\n') => {
                line.pop();
                Ok(line)
            }
            Some(_) => Ok(line),
        }
    }

    fn read_line(&self, line: &mut [u8]) -> io::Result<usize> {
        let deadline = Deadline::after(PATIENCE);
        loop {
            self.wait_for(PollFlags::POLLIN, deadline)?;
            match (&self.tty).read(line) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// Waits until there is something to read, or room for what is shown.
    fn wait_for(&self, what: PollFlags, deadline: Deadline) -> io::Result<()> {
        loop {
            let left = deadline.remaining().as_millis().saturating_add(1);
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.tty.as_fd(), what)], timeout) {
                Ok(0) => return Err(ErrorKind::TimedOut.into()),
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Has ^C end the line instead of the process, which could not clear up any more; what was typed
    /// before is no answer.
    fn mode(&self, echo: bool) -> io::Result<Mode<'_>> {
        let before = tcgetattr(&self.tty)?;
        let mut mode = before.clone();
        mode.local_flags.remove(LocalFlags::ISIG);
        mode.local_flags.insert(LocalFlags::ICANON);
        mode.local_flags.set(LocalFlags::ECHO, echo);
        mode.local_flags.set(LocalFlags::ECHONL, !echo);
        mode.control_chars[SpecialCharacterIndices::VEOL as usize] = INTERRUPT;
        tcsetattr(&self.tty, SetArg::TCSAFLUSH, &mode)?;
        Ok(Mode { tty: &self.tty, before })
    }

    fn failed(&self, error: &io::Error) -> Error {
        match error.kind() {
            ErrorKind::TimedOut => {
                self.refused(&format!("no answer within {} s", PATIENCE.as_secs()))
            }
            _ => self.refused(&format!("the terminal failed: {error}")),
        }
    }

    fn refused(&self, found: &str) -> Error {
        let advice = "Nothing was changed. Start the command again.";
        Error::new(Class::NoAnswer, &*self.tried, found, advice)
    }
}

/// How the terminal reads, until this is dropped.
struct Mode<'a> {
    tty: &'a File,
    before: Termios,
}

impl Drop for Mode<'_> {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = tcsetattr(self.tty, SetArg::TCSADRAIN, &self.before);
    }
}

/// What is shown on it is erased when it is dropped, and what was on the screen before is there again,
/// where the terminal has two screens.
pub struct Page<'a> {
    terminal: &'a Terminal,
    /// ^C must not leave the page as it is.
    _mode: Mode<'a>,
}

impl Page<'_> {
    /// Erases it.
    pub fn clear(&self) -> Result<()> {
        self.say("\x1b[H\x1b[2J")
    }
}

impl Deref for Page<'_> {
    type Target = Terminal;

    fn deref(&self) -> &Terminal {
        self.terminal
    }
}

impl Drop for Page<'_> {
    fn drop(&mut self) {
        // The terminal may be gone.
        drop(self.clear().and_then(|()| self.say("\x1b[?1049l")));
    }
}
