//! Asks a person, through systemd-ask-password: at the terminal where there is one, else through
//! whichever agent answers (the console, Plymouth, a desktop).

use std::{
    env,
    io::{self, ErrorKind, Read},
    os::fd::AsFd,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use zeroize::Zeroizing;

use super::Deadline;
use crate::error::{Class, Error, Result};

const PROGRAM: &str = "systemd-ask-password";
/// The longest answer in bytes.
pub const MAX_ANSWER: usize = 1024;
/// How much longer than its own limit the program may take to end.
const GRACE: Duration = Duration::from_secs(2);

/// Shows `prompt` and waits at most `timeout` (in whole seconds, at least one) for the answer, of
/// at most 1024 bytes. `id` names what is asked for to the agents ("cryptkey:12345678"). Neither
/// holds a secret: both can be seen by every user of the machine. Nothing is kept in the kernel's
/// keyring, and nothing is taken from there.
///
/// # Errors
/// `Class::NoAnswer` where nobody answered in time, or declined. `Class::Internal` where the
/// program is not there or its answer is too long.
pub fn ask(prompt: &str, id: &str, timeout: Duration) -> Result<Zeroizing<Vec<u8>>> {
    ask_through(Command::new(PROGRAM), prompt, id, timeout)
}

fn ask_through(
    mut program: Command,
    prompt: &str,
    id: &str,
    timeout: Duration,
) -> Result<Zeroizing<Vec<u8>>> {
    let tried = format!("asking “{prompt}”");
    let seconds = timeout.as_secs().max(1);
    let mut child = program
        .arg("-n")
        .arg(format!("--id={id}"))
        .arg(format!("--timeout={seconds}"))
        .args(["--", prompt])
        // Of a credential that happens to be called "password" it would make an answer.
        .env_remove("CREDENTIALS_DIRECTORY")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            let path = env::var("PATH").unwrap_or_default();
            let found = format!("{PROGRAM} can't be started: {error} (PATH={path})");
            let advice = "Install systemd, or put its programs into the PATH of the unit; or name \
                          a file or a credential for the PIN.";
            Error::new(Class::Internal, &*tried, found, advice)
        })?;
    let deadline = Deadline::after(Duration::from_secs(seconds) + GRACE);
    let heard = listen(&mut child, deadline);
    if heard.is_err() {
        drop(child.kill());
    }
    let status = end(&mut child, deadline);
    let (answer, complaint) = heard.map_err(|error| {
        let advice = "Run again; if it happens again, report it.";
        Error::new(Class::Internal, &*tried, error.to_string(), advice)
    })?;
    match status {
        Ok(status) if status.success() && answer.len() <= MAX_ANSWER => Ok(answer),
        Ok(status) if status.success() => Err(Error::new(
            Class::Internal,
            tried,
            format!("an answer of more than {MAX_ANSWER} bytes"),
            "Run again and give the PIN alone.",
        )),
        status => Err(Error::new(
            Class::NoAnswer,
            tried,
            no_answer(status, &complaint, seconds),
            "Be there to answer at the console (or: systemd-tty-ask-password-agent), or name a \
             file or a credential for the PIN.",
        )),
    }
}

/// How the program ended. It may have closed its outputs a moment before, so only who is late is killed.
fn end(child: &mut Child, deadline: Deadline) -> io::Result<ExitStatus> {
    while !deadline.passed() {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(1));
    }
    child.kill()?;
    child.wait()
}

/// What the program says on its standard output, and the start of its complaints, until it closes
/// both or the deadline has passed. Nothing is copied on the way.
fn listen(child: &mut Child, deadline: Deadline) -> io::Result<(Zeroizing<Vec<u8>>, String)> {
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    // One byte more than allowed, to see that there is one.
    let mut answer = Buffer::of(MAX_ANSWER + 1);
    let mut complaint = Buffer::of(MAX_ANSWER);
    while stdout.is_some() || stderr.is_some() {
        let (of_answer, of_complaint) = readable(stdout.as_ref(), stderr.as_ref(), deadline)?;
        if !of_answer && !of_complaint {
            break;
        }
        if of_answer {
            answer.fill(&mut stdout)?;
        }
        if of_complaint {
            complaint.fill(&mut stderr)?;
        }
    }
    let complaint = String::from_utf8_lossy(complaint.content()).into_owned();
    Ok((answer.into_content(), complaint))
}

/// Which of the two has something to read or has ended; neither once the deadline has passed.
fn readable(
    first: Option<&impl AsFd>,
    second: Option<&impl AsFd>,
    deadline: Deadline,
) -> io::Result<(bool, bool)> {
    let of = |fd| PollFd::new(fd, PollFlags::POLLIN);
    let firsts = first.map(|fd| of(fd.as_fd()));
    let seconds = second.map(|fd| of(fd.as_fd()));
    let mut fds: Vec<_> = firsts.into_iter().chain(seconds).collect();
    loop {
        // Rounded up: a wait of zero would spin until the deadline.
        let left = deadline.remaining().as_millis().saturating_add(1);
        if deadline.passed() {
            return Ok((false, false));
        }
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(false));
        let of_first = first.is_some() && ready.next().unwrap_or(false);
        let of_second = second.is_some() && ready.next().unwrap_or(false);
        if of_first || of_second {
            return Ok((of_first, of_second));
        }
    }
}

/// Bytes read so far, in memory that never moves.
struct Buffer {
    bytes: Zeroizing<Vec<u8>>,
    length: usize,
}

impl Buffer {
    fn of(size: usize) -> Self {
        let bytes = Zeroizing::new(vec![0; size]);
        Self { bytes, length: 0 }
    }

    /// Reads once. A source that has ended is taken away; of a full buffer the last byte is
    /// overwritten, so that a talkative program never waits for us.
    fn fill(&mut self, source: &mut Option<impl Read>) -> io::Result<()> {
        let start = self.length.min(self.bytes.len() - 1);
        let Some(reader) = source else { return Ok(()) };
        match reader.read(&mut self.bytes[start..]) {
            Ok(0) => *source = None,
            Ok(read) => self.length = start + read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn content(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn into_content(mut self) -> Zeroizing<Vec<u8>> {
        self.bytes.truncate(self.length);
        self.bytes
    }
}

/// Why there is no answer, in the program's own words where it has some.
fn no_answer(status: io::Result<ExitStatus>, complaint: &str, seconds: u64) -> String {
    let words = complaint.lines().last().unwrap_or_default().trim();
    let words = words.trim_start_matches("Failed to query password: ");
    let reason = match status {
        Ok(status) if words.is_empty() => status.to_string(),
        Err(error) if words.is_empty() => error.to_string(),
        _ => words.to_owned(),
    };
    format!("no answer (limit {seconds} s): {reason}")
}

#[cfg(test)]
mod tests {
    use virtual_card::PATIENCE;

    use super::*;

    /// Asks through these shell commands.
    fn through(commands: &str, timeout: Duration) -> Result<Zeroizing<Vec<u8>>> {
        let mut shell = Command::new("sh");
        shell.args(["-c", commands]);
        ask_through(shell, "PIN", "cryptkey:1", timeout)
    }

    #[test]
    fn an_answer_may_have_1024_bytes() {
        let answer = through("head -c 1024 /dev/zero", PATIENCE).unwrap();
        assert_eq!(answer.len(), 1024);
        let error = through("head -c 1025 /dev/zero", PATIENCE).unwrap_err();
        assert_eq!(error.class, Class::Internal);
        let error = through("head -c 1000000 /dev/zero; exit 0", PATIENCE).unwrap_err();
        assert_eq!(error.found, "an answer of more than 1024 bytes");
    }

    #[test]
    fn an_answer_counts_once_the_program_has_ended() {
        let answer = through("printf 123456; exec >&- 2>&-; sleep 0.1", PATIENCE).unwrap();
        assert_eq!(*answer, b"123456");
        let error =
            through("printf 123456; exec >&- 2>&-; sleep 0.1; exit 1", PATIENCE).unwrap_err();
        assert_eq!(error.class, Class::NoAnswer);
    }

    #[test]
    fn neither_a_talkative_nor_a_failing_program_gives_an_answer() {
        let error = through("head -c 1000000 /dev/zero >&2; exit 1", PATIENCE).unwrap_err();
        assert_eq!(error.class, Class::NoAnswer);
        let error = through("printf 123456; exit 1", PATIENCE).unwrap_err();
        assert_eq!(error.found, "no answer (limit 600 s): exit status: 1");
        assert!(!error.to_string().contains("123456"));
    }

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        // Its own limit, one second at least, and the time of grace on top.
        let error = through("exec sleep 1000", Duration::ZERO).unwrap_err();
        assert_eq!(error.class, Class::NoAnswer);
    }

    #[test]
    fn a_credential_called_password_is_no_answer() {
        let answer = through("printf '%s' \"${CREDENTIALS_DIRECTORY-none}\"", PATIENCE).unwrap();
        assert_eq!(&answer[..], b"none");
    }

    #[test]
    fn a_missing_program_says_where_it_was_sought() {
        let missing = Command::new("/nonexistent/ask");
        let error = ask_through(missing, "PIN", "cryptkey:1", PATIENCE).unwrap_err();
        assert_eq!(error.class, Class::Internal);
        assert!(error.found.contains("can't be started: No such file"), "{error}");
        assert!(error.found.contains("PATH="), "{error}");
    }
}
