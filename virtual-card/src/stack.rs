//! A private pcscd with virtual readers, and virtual cards in them: for integration tests.
//!
//! A client finds the private pcscd through the environment variable `PCSCLITE_CSOCK_NAME`; so
//! clients are child processes, made with [`Pcscd::command`].

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, process, thread};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType};

use crate::vpcd::{Link, Reader};
use crate::{Card, Event, PATIENCE, control};

/// The packages of Debian that this needs.
const INSTALL: &str = "apt-get install pcscd vsmartcard-vpcd";
const DRIVER: &str = "/usr/lib/pcsc/drivers/serial/libifdvpcd.so";
/// pcscd has 16 readers, and each entry of its configuration makes two.
const MAX_READERS: usize = 8;
/// Below the ports that Linux hands out by itself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A pcscd of one's own. Dropping it ends the daemon and removes its directory.
#[derive(Debug)]
pub struct Pcscd {
    dir: PathBuf,
    daemon: Option<Child>,
    ports: Vec<Arc<Port>>,
    cards: Vec<Link>,
}

/// A pair of TCP ports that no other test has; the lock on the file says so.
#[derive(Debug)]
struct Port {
    number: u16,
    _lock: File,
}

impl Pcscd {
    /// Starts a pcscd with this many readers, at most eight. Each has a second slot that stays empty.
    pub fn start(readers: usize) -> io::Result<Self> {
        if readers > MAX_READERS {
            return Err(io::Error::other(format!("pcscd has at most {MAX_READERS} such readers")));
        }
        let ports = (0..readers).map(|_| Port::take().map(Arc::new)).collect::<io::Result<_>>()?;
        let mut pcscd = Self { dir: make_dir()?, daemon: None, ports, cards: Vec::new() };
        pcscd.configure()?;
        pcscd.restart()?;
        Ok(pcscd)
    }

    /// The directory of the daemon; tests may put theirs into it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The socket that clients connect to.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("pcscd.comm")
    }

    /// The TCP port at which a reader waits for its card.
    pub fn port(&self, reader: usize) -> u16 {
        self.ports[reader].number
    }

    /// The name of a reader, as clients see it.
    pub fn reader_name(reader: usize) -> String {
        format!("{} 00 00", friendly_name(reader))
    }

    /// A command that talks to this pcscd.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("PCSCLITE_CSOCK_NAME", self.socket());
        command
    }

    /// Serves a card of this process in a reader, from a thread, for as long as `self` lives; returns
    /// once pcscd has seen it. No program `virtual-card` is needed for this, but the card shares the
    /// fate of the test.
    pub fn put(&mut self, mut card: Card, reader: usize) -> io::Result<Link> {
        let link = Link::new(card.controls());
        let patience = PATIENCE;
        let reader = Reader { host: "127.0.0.1".to_owned(), port: self.port(reader), patience };
        let served = link.clone();
        thread::spawn(move || served.serve(&mut card, &reader, || {}));
        self.cards.push(link.clone());
        if !link.controls().wait(Event::Seen, PATIENCE) {
            return Err(io::Error::other("pcscd did not see the card"));
        }
        Ok(link)
    }

    /// The daemon's process, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Child::id)
    }

    /// Ends the daemon; its socket is gone too.
    pub fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            // It may have ended by itself.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        let _ = fs::remove_file(self.socket());
    }

    /// Ends the daemon, if it runs, and starts it again. Cards find it by themselves.
    pub fn restart(&mut self) -> io::Result<()> {
        self.stop();
        let listener = UnixListener::bind(self.socket())?;
        fs::set_permissions(self.socket(), Permissions::from_mode(0o666))?;
        let log = File::create(self.dir.join("pcscd.log"))?;
        // The socket goes over as file descriptor 3, as systemd would hand it over; the shell puts
        // it there and says whose it is.
        let script = "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"";
        let config = self.dir.join("readers");
        let daemon = Command::new("/bin/sh")
            .args(["-c", script, "sh", "pcscd", "--foreground", "--config"])
            .arg(config)
            .env("PATH", search_path())
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Writes one file of pcscd's configuration. Every reader needs its own copy of the driver,
    /// which keeps global state.
    fn configure(&self) -> io::Result<()> {
        let missing = |what: &str| io::Error::other(format!("{what} is missing: {INSTALL}"));
        let in_path = |dir: PathBuf| dir.join("pcscd").exists();
        if !env::split_paths(&search_path()).any(in_path) {
            return Err(missing("pcscd"));
        }
        if !Path::new(DRIVER).exists() {
            return Err(missing(DRIVER));
        }
        let mut entries = Vec::new();
        for (reader, port) in self.ports.iter().enumerate() {
            let number = port.number;
            let driver = self.dir.join(format!("vpcd-{reader}.so"));
            fs::copy(DRIVER, &driver)?;
            let (name, driver) = (friendly_name(reader), driver.display());
            entries.push(format!(
                "FRIENDLYNAME \"{name}\"\nDEVICENAME /dev/null:{number:#06X}\nLIBPATH {driver}\n\
                 CHANNELID {number:#06X}\n\n"
            ));
        }
        let config = self.dir.join("readers");
        fs::create_dir(&config)?;
        fs::write(config.join("virtual"), entries.concat())
    }
}

impl Drop for Pcscd {
    fn drop(&mut self) {
        // Their threads stay, but they must not look for this reader any more: its port may soon be
        // another test's.
        for card in &self.cards {
            card.remove();
        }
        self.stop();
        for card in &self.cards {
            card.controls().wait(Event::Unlinked, PATIENCE);
        }

        // What is left over is in the temporary directory.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Third-party clients look for this name.
fn friendly_name(reader: usize) -> String {
    format!("Yubico YubiKey CCID {reader}")
}

/// pcscd is in `/usr/sbin`, which the path of an ordinary user lacks.
fn search_path() -> String {
    format!("{}:/usr/sbin:/sbin", env::var("PATH").unwrap_or_default())
}

/// A directory with a short name (a socket's path has 107 bytes) that is nobody else's.
fn make_dir() -> io::Result<PathBuf> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    loop {
        let name = format!("vcard-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = env::temp_dir().join(name);
        match fs::create_dir(&dir) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other.map(|()| dir),
        }
    }
}

impl Port {
    /// Finds a pair of ports (vpcd takes the given one and the next) that are free and that no
    /// other process of this user has reserved.
    fn take() -> io::Result<Self> {
        let user = fs::metadata("/proc/self")?.uid();
        let dir = env::temp_dir().join(format!("vcard-ports-{user}"));
        fs::create_dir_all(&dir)?;
        // Users do not share locks (a file of one is not the other's to open), so they begin apart.
        let pairs = PORTS.step_by(2);
        let begin = usize::try_from(user % 7).unwrap_or(0) * (pairs.len() / 7);
        for number in pairs.clone().cycle().skip(begin).take(pairs.len()) {
            let lock =
                File::options().create(true).append(true).open(dir.join(number.to_string()))?;
            if lock.try_lock().is_ok() && hold(number).is_ok() && hold(number + 1).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        Err(io::Error::other("no free port for vpcd"))
    }
}

/// Binds a port for a moment: an error where somebody listens there.
///
/// Not a listener, though it would tell the same: a process that another thread just forked has a
/// copy of it until it becomes what it is to be, and on a busy machine that is longer than pcscd
/// takes to its own listener, which it would then be refused, and the reader with it.
fn hold(port: u16) -> io::Result<OwnedFd> {
    let socket =
        net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    net::sockopt::set_socket_reuseaddr(&socket, true)?;
    net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
    Ok(socket)
}

/// A running `virtual-card`. Dropping it ends the program; its state directory stays.
#[derive(Debug)]
pub struct Server {
    child: Child,
    state: PathBuf,
    /// Reserved for as long as this may look for its reader there. None for one that was launched.
    port: Option<Arc<Port>>,
}

impl Server {
    /// Starts the program `virtual-card` with its card in a reader, and waits until pcscd has seen
    /// the card (with `--absent` in `args`: until the program listens to its control socket).
    /// `state` is the directory of the card.
    pub fn start(
        binary: &Path,
        pcscd: &Pcscd,
        reader: usize,
        state: &Path,
        args: &[&str],
    ) -> io::Result<Self> {
        let mut command = Command::new(binary);
        command.args(["--port", &pcscd.port(reader).to_string()]).args(args);
        // What pcscd has against the reader is in its log only.
        let explain = |error: io::Error| {
            let log = fs::read_to_string(pcscd.dir.join("pcscd.log")).unwrap_or_default();
            let error = format!("{error} (port {}); pcscd said: {log}", pcscd.port(reader));
            io::Error::other(error)
        };
        let server =
            Self::spawn(command, state, Some(Arc::clone(&pcscd.ports[reader]))).map_err(explain)?;
        if !args.contains(&"--absent") {
            server.expect_ok("wait seen").map_err(explain)?;
        }
        Ok(server)
    }

    /// Runs `command`, which is the program `virtual-card` or becomes it, with a card whose state
    /// is in `state`, and waits until it says that it is ready.
    pub fn launch(command: Command, state: &Path) -> io::Result<Self> {
        Self::spawn(command, state, None)
    }

    fn spawn(mut command: Command, state: &Path, port: Option<Arc<Port>>) -> io::Result<Self> {
        let mut child = command
            .arg("--state")
            .arg(state)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take();
        let server = Self { child, state: state.to_owned(), port };
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        if line != "ready\n" {
            return Err(io::Error::other("virtual-card ended before it was ready"));
        }
        Ok(server)
    }

    /// The directory of the card.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Sends a line to the control socket; the line that comes back.
    pub fn control(&self, line: &str) -> io::Result<String> {
        let mut stream = UnixStream::connect(self.state.join(control::FILE))?;
        stream.write_all(format!("{line}\n").as_bytes())?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        Ok(answer.trim_end().to_owned())
    }

    /// As [`Server::control`], where anything but "ok" is an error.
    pub fn expect_ok(&self, line: &str) -> io::Result<()> {
        match self.control(line)?.as_str() {
            "ok" => Ok(()),
            other => Err(io::Error::other(format!("{line}: {other}"))),
        }
    }

    /// The APDUs since the last `count reset`.
    pub fn counts(&self) -> io::Result<crate::Counts> {
        Ok(serde_json::from_str(&self.control("count")?)?)
    }

    /// Pulls the card.
    pub fn remove(&self) -> io::Result<()> {
        self.expect_ok("remove")
    }

    /// Puts the card back, and waits for nothing: there may be no reader yet.
    pub fn put_in(&self) -> io::Result<()> {
        UnixStream::connect(self.state.join(control::FILE))?.write_all(b"insert\n")
    }

    /// Puts the card back and waits until pcscd has seen it.
    pub fn insert(&self) -> io::Result<()> {
        self.expect_ok("insert")?;
        self.expect_ok("wait seen")
    }

    /// The APDU log so far.
    pub fn log(&self) -> io::Result<String> {
        fs::read_to_string(self.state.join(crate::log::FILE))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.port.is_none() {
            // It may be the child of what was launched. (With a port it is our own child; and by now
            // the socket may be that of another one with the same card.)
            let _ = self.control("quit");
        }
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_port_that_is_held_is_still_free_and_one_with_a_listener_is_not() {
        let port = Port::take().unwrap().number;
        let held = hold(port).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
        assert!(hold(port).is_err());
        drop((held, listener));
        assert!(hold(port).is_ok());
    }
}
