//! A machine that boots: Debian 13 with its own systemd, polkit, pcscd, network and file system.
//!
//! Needs root, and mmdebstrap, systemd-container and iproute2 of Debian. `tests/vm/container.sh`
//! holds all of it, and removes all of it also when the test is killed.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Write},
    net::Shutdown,
    os::{fd::AsFd, unix::net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        inotify::{AddWatchFlags, InitFlags, Inotify},
        signal::{Signal, kill},
    },
    unistd::Pid,
};
use virtual_card::PATIENCE;

use super::cryptkey::PATIENT;

/// Where the machine has the program under test.
pub const PROGRAM: &str =
    "/nix/store/b6d74151b77ca31a2fabd33f2026925a-nixos-cryptkey/bin/nixos-cryptkey";

/// A machine, off at first. What it writes to its disk lasts until this is dropped.
pub struct Container {
    /// `tests/vm/container.sh`; it ends with its standard input.
    holder: Child,
    told: Receiver<Told>,
    /// Where its systemd tells of itself.
    notify: UnixDatagram,
    pub(super) work: PathBuf,
    /// The first process of the namespaces that outlast reboots.
    pub(super) inside: i32,
    /// The machine's systemd, as this process sees it; none while it is off.
    pub(super) leader: Option<i32>,
}

/// What is told of a machine.
enum Told {
    /// Its systemd runs.
    Starts,
    /// All that belongs to its boot has ended, in whatever way.
    Booted,
    /// It is off.
    Down,
}

impl Container {
    /// A machine with nothing but Debian's packages, off.
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// The same with these packages on top.
    pub fn with(packages: &[&str]) -> Self {
        let work = tempfile::Builder::new().prefix("cryptkey-vm.").tempdir().unwrap().keep();
        let notify = UnixDatagram::bind(work.join("notify")).unwrap();
        let mut holder = Command::new(tests_file("vm/container.sh"))
            .arg(root(packages))
            .arg(&work)
            .arg(format!("--bind-ro={}:{PROGRAM}", env!("CARGO_BIN_EXE_nixos-cryptkey")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(holder.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "apt-get install systemd-container iproute2; and run as root");
        // unshare(1), and its child in the namespaces.
        let inside = child_of(child_of(holder.id().cast_signed()));
        let (tell, told) = channel();
        let (listener, tell_too) = (notify.try_clone().unwrap(), tell.clone());
        thread::spawn(move || listen(&listener, &tell_too));
        thread::spawn(move || {
            said.lines().map_while(Result::ok).all(|_| tell.send(Told::Down).is_ok())
        });
        let new = Self { holder, told, notify, work, inside, leader: None };
        new.write(PATIENT.0, 0o644, PATIENT.1);
        new
    }

    /// Turns it on and waits until its boot is done: nothing is waited for any more, and what
    /// failed has failed.
    pub fn boot(&mut self) {
        self.turn_on();
        self.booted();
    }

    /// Turns it on and waits until its systemd takes orders; the boot goes on.
    pub fn turn_on(&mut self) {
        assert!(self.leader.is_none(), "it is on");
        writeln!(self.holder.stdin.as_ref().unwrap(), "boot").unwrap();
        self.starts();
    }

    /// Waits for the end of the boot.
    pub fn booted(&mut self) {
        self.wait_until(|told| matches!(told, Told::Booted));
    }

    /// Shuts it down in good order and turns it off.
    pub fn power_off(&mut self) {
        self.run(&["systemctl", "poweroff"]).exits(0);
        self.down();
    }

    /// Shuts it down in good order and boots it again.
    pub fn reboot(&mut self) {
        self.run(&["systemctl", "reboot"]).exits(0);
        self.down();
        self.boot();
    }

    /// Takes its power away: every process ends where it is.
    pub fn cut_power(&mut self) {
        kill(Pid::from_raw(self.leader.unwrap()), Signal::SIGKILL).unwrap();
        self.down();
    }

    fn starts(&mut self) {
        self.wait_until(|told| matches!(told, Told::Starts));
        self.leader = Some(self.find_leader());
        await_path(&self.path("/run/systemd/private"));
    }

    fn down(&mut self) {
        self.wait_until(|told| matches!(told, Told::Down));
        self.leader = None;
    }

    /// The machine's init, which is PID 1 of its namespace and shares the network made for it.
    fn find_leader(&self) -> i32 {
        let network = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let ours = network(self.inside);
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_leader = |&pid: &i32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            let numbers: Vec<_> = numbers.unwrap_or_default().split_whitespace().collect();
            // Here, in the namespace of container.sh, and in that of the machine.
            let depth = numbers.len();
            depth >= 3 && numbers[depth - 1] == "1" && network(pid) == ours
        };
        pids.find(is_leader).expect("the machine's init")
    }

    /// Waits for one thing to be told.
    fn wait_until(&mut self, is_it: impl Fn(&Told) -> bool) {
        loop {
            let told = self.told.recv_timeout(PATIENCE);
            let told =
                told.unwrap_or_else(|e| panic!("nothing happens ({e}):\n{}", self.console()));
            if is_it(&told) {
                return;
            }
            assert!(!matches!(told, Told::Down), "the machine is off:\n{}", self.console());
        }
    }

    /// What its console showed.
    pub fn console(&self) -> String {
        let shown = fs::read(self.work.join("console.log")).unwrap_or_default();
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// A process of the host in the machine's network.
    pub fn beside(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--pid", "--target", &self.inside.to_string()]).arg(program);
        command
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if thread::panicking() && self.leader.is_some() {
            let journal = self.run(&["journalctl", "--boot", "--lines=200", "--no-hostname"]);
            eprintln!("--- the machine's journal\n{}", journal.stdout);
        }
        drop(self.holder.stdin.take());
        // It may have ended by itself.
        drop(self.holder.wait());
        self.notify.shutdown(Shutdown::Both).unwrap();
    }
}

/// A file of `tests/`.
pub fn tests_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// The file system that machines with these packages begin with; made the first time.
fn root(packages: &[&str]) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let output = Command::new(tests_file("vm/root.sh"))
        .args(packages)
        .env("CARGO_TARGET_DIR", target)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "apt-get install mmdebstrap; and run as root");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// Passes on what a systemd tells of itself, until nobody listens. It waits for each message to be
/// taken: with none taken for a while it would stand still.
fn listen(notify: &UnixDatagram, tell: &Sender<Told>) {
    let mut message = [0; 4096];
    while let Ok(length @ 1..) = notify.recv(&mut message) {
        let message = String::from_utf8_lossy(&message[..length]);
        let is = |part: &str| message.lines().any(|line| line.starts_with(part));
        let told = match () {
            () if is("X_NSPAWN_LEADER_PID=") => Told::Starts,
            () if is("READY=1") => Told::Booted,
            () => continue,
        };
        if tell.send(told).is_err() {
            return;
        }
    }
}

/// The only child of a process.
fn child_of(pid: i32) -> i32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().next().expect("a child").parse().unwrap()
}

/// Waits until there is something by that name.
fn await_path(path: &Path) {
    let parent = path.parent().unwrap();
    if !parent.exists() {
        await_path(parent);
    }
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC).unwrap();
    let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
    inotify.add_watch(parent, flags).unwrap();
    while fs::symlink_metadata(path).is_err_and(|e| e.kind() == ErrorKind::NotFound) {
        let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, PollTimeout::try_from(PATIENCE).unwrap()).unwrap();
        assert!(ready > 0, "{} did not come", path.display());
        inotify.read_events().unwrap();
    }
}
