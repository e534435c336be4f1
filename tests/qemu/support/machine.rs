//! A machine of QEMU, without KVM: Debian 13 on a drive of its own, a USB reader with the project's
//! virtual card in it, and a TPM.
//!
//! Needs root, and mmdebstrap, e2fsprogs, binutils, qemu-system-x86 and swtpm of Debian.

use std::{
    cell::{Cell, RefCell},
    env,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::Shutdown,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    thread,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};
use serde_json::json;
use virtual_card::PATIENCE;

use super::{
    Card,
    cryptkey::PATIENT,
    process::{Process, Work, that_dies_with_us},
    qmp::Monitor,
    wire::Wire,
};

/// Where the machine has the program under test.
pub const PROGRAM: &str =
    "/nix/store/b6d74151b77ca31a2fabd33f2026925a-nixos-cryptkey/bin/nixos-cryptkey";

/// The file with what the console shows.
const CONSOLE: &str = "console.log";
/// With LA57, QEMU 7.2 shows the kernel addresses that it takes for wrong ones.
const CPU: &str = "max,la57=off,svm=off";
/// At its start the kernel counts ticks of the timer while it computes. On a busy host QEMU owes it some,
/// and it would panic, before there is a console.
const TIMER: &str = "no_timer_check";
/// Devices that cost time at a boot and serve nobody.
const UNUSED: &str = "module_blacklist=ata_piix,ata_generic,floppy,psmouse,pcspkr,i2c_piix4,\
                      qemu_fw_cfg,kvm_amd,evdev,serio_raw,button,efi_pstore,drm";

/// A machine, off at first. What it writes to its drive, and the state of its TPM, last until this is
/// dropped.
pub struct Machine {
    pub(super) on: Option<On>,
    card: Card,
    /// Whether the reader is plugged in at the next boot.
    reader: bool,
    /// Whether Plymouth has the console at the next boot.
    plymouth: bool,
    pub(super) work: Work,
}

/// What there is while a machine is on. The parts end in this order.
pub(super) struct On {
    pub(super) wire: RefCell<Wire>,
    monitor: Monitor,
    /// How much its console showed when something was typed last.
    seen: Cell<usize>,
    qemu: Process,
    _tpm: Process,
}

impl Machine {
    /// A machine with nothing but Debian's packages and the program under test, off; the card is in
    /// the reader, and both are plugged in.
    pub fn new() -> Self {
        let work = Work::new();
        let drive = work.path().join("drive");
        let mut copy = Command::new("cp");
        copy.args(["--reflink=auto", "--sparse=always"]).arg(image().join("drive")).arg(&drive);
        succeed(copy);
        let card = Card::new(work.path(), &work.path().join("ccid"));
        let new = Self { on: None, card, reader: true, plymouth: false, work };
        new.write("/usr/local/bin/agent", 0o755, read_file("qemu/agent"));
        new.write("/etc/systemd/system/agent.service", 0o644, read_file("qemu/agent.service"));
        new.wanted_by("agent.service", "sysinit.target");
        new.write(PATIENT.0, 0o644, PATIENT.1);
        // Its readers would be there before the one that this is about.
        new.write("/etc/reader.conf.d/vpcd", 0o644, "");
        new.write(PROGRAM, 0o755, "");
        let mut strip = Command::new("strip");
        // Of the release binary, where it is named, a test takes two thirds of the time.
        let program = env::var_os("CRYPTKEY_PROGRAM");
        let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_nixos-cryptkey").into());
        strip.arg("-o").arg(new.disk_file(PROGRAM)).arg(program);
        succeed(strip);
        new
    }

    /// The card of the reader.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// Turns it on and waits until its boot is done: nothing is waited for any more, and what failed
    /// has failed.
    pub fn boot(&mut self) {
        self.turn_on();
        self.booted();
    }

    /// Turns it on and waits until it carries out commands, early in its boot.
    pub fn turn_on(&mut self) {
        assert!(self.on.is_none(), "it is on");
        let tpm = self.start_tpm();
        let (mut wire, stdin, stdout) = Wire::new();
        let mut qemu = self.qemu();
        qemu.stdin(stdin).stdout(stdout);
        qemu.stderr(self.log("qemu.log"));
        let qemu = Process::start(qemu, "apt-get install qemu-system-x86");
        if let Err(e) = wire.await_ready() {
            panic!("{e}\n{}", self.console());
        }
        self.take_up();
        let monitor = Monitor::connect(&self.work.path().join("qmp"));
        self.on =
            Some(On { wire: RefCell::new(wire), monitor, seen: Cell::default(), qemu, _tpm: tpm });
    }

    /// Waits for the end of the boot.
    pub fn booted(&self) {
        // The exit code tells whether something failed.
        self.run(&["systemctl", "is-system-running", "--wait"]);
    }

    /// Shuts it down in good order and turns it off.
    pub fn power_off(&mut self) {
        self.run(&["systemctl", "--no-block", "poweroff"]).exits(0);
        let mut on = self.on.take().unwrap();
        on.monitor.await_end();
        on.qemu.wait();
    }

    /// Shuts it down in good order and boots it again.
    pub fn reboot(&mut self) {
        self.power_off();
        self.boot();
    }

    /// Takes its power away.
    pub fn cut_power(&mut self) {
        drop(self.on.take().expect("it is on"));
    }

    /// Plugs the reader in.
    pub fn plug_reader(&mut self) {
        self.reader = true;
        if let Some(on) = &mut self.on {
            on.monitor.execute("device_add", json!({ "driver": "usb-ccid", "id": "reader" }));
            let card = json!({ "driver": "ccid-card-passthru", "chardev": "ccid" });
            on.monitor.execute("device_add", card);
        }
    }

    /// Unplugs it, with whatever is in it.
    pub fn unplug_reader(&mut self) {
        self.reader = false;
        if let Some(on) = &mut self.on {
            on.monitor.execute("device_del", json!({ "id": "reader" }));
            on.monitor.await_event("DEVICE_DELETED", Some("reader"));
        }
    }

    /// Gives the console to Plymouth, from the next boot on.
    pub fn show_plymouth(&mut self) {
        self.plymouth = true;
    }

    /// Waits until its console asks this, after what was there when something was typed last, and until
    /// it does not show what is typed; types it there, with Enter.
    pub fn type_at_console(&self, shown: &str, typed: &str) {
        let seen = &self.on.as_ref().expect("it is off").seen;
        let path = self.work.path().join(CONSOLE);
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC).unwrap();
        inotify.add_watch(&path, AddWatchFlags::IN_MODIFY).unwrap();
        let screen = || String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        while !screen()[seen.get()..].contains(shown) {
            let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut fds, PollTimeout::try_from(PATIENCE).unwrap()).unwrap();
            assert!(ready > 0, "the console does not show {shown:?}:\n{}", self.console());
            inotify.read_events().unwrap();
        }
        // Nothing tells when that changes.
        while !self.run(&["stty", "--all", "--file=/dev/hvc0"]).exits(0).stdout.contains("-echo ") {
        }
        seen.set(screen().len());
        let mut keyboard = UnixStream::connect(self.work.path().join("console")).unwrap();
        write!(keyboard, "{typed}\r").unwrap();
        // Until it has read all of it.
        keyboard.shutdown(Shutdown::Write).unwrap();
        keyboard.set_read_timeout(Some(PATIENCE)).unwrap();
        drop(keyboard.read_to_end(&mut Vec::new()));
    }

    /// What its console showed in this boot or the last one.
    pub fn console(&self) -> String {
        let shown = |name| fs::read(self.work.path().join(name)).unwrap_or_default();
        let shown = ["qemu.log", "swtpm.log", CONSOLE].map(shown).concat();
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// What the programs beside it have to say goes there.
    fn log(&self, name: &str) -> File {
        File::options().create(true).append(true).open(self.work.path().join(name)).unwrap()
    }

    fn qemu(&self) -> Command {
        let file = |name: &str| self.work.path().join(name).to_str().unwrap().to_owned();
        let mut qemu = that_dies_with_us("qemu-system-x86_64");
        qemu.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
        qemu.args([
            "-accel",
            "tcg,thread=multi,tb-size=128",
            "-cpu",
            CPU,
            // With two, the kernel's patching of its own code sometimes hits QEMU's: int3, and a panic.
            "-smp",
            "1",
            // A try of a recovery code takes 256.
            "-m",
            "640",
        ]);
        qemu.arg("-kernel").arg(image().join("kernel")).arg("-initrd").arg(self.initrd());
        let plymouth = u8::from(self.plymouth);
        let options = format!(
            "console=hvc0 quiet panic=-1 mitigations=off nokaslr plymouth.enable={plymouth} {TIMER} {UNUSED}"
        );
        qemu.args(["-append", &options]);
        let drive = format!("if=virtio,format=raw,cache=unsafe,file={}", file("drive"));
        qemu.args(["-drive", &drive, "-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]);
        // What is typed comes through the socket; what is shown is in the file, from each boot on anew.
        let console = format!(
            "socket,id=console,path={},server=on,wait=off,logfile={},logappend=off",
            file("console"),
            file(CONSOLE)
        );
        qemu.args(["-chardev", &console]);
        qemu.args(["-device", "virtconsole,chardev=console"]);
        qemu.args(["-chardev", "stdio,id=test,signal=off"]);
        qemu.args(["-device", "virtserialport,chardev=test,name=test"]);
        qemu.args(["-qmp", &format!("unix:{},server=on,wait=off", file("qmp"))]);
        qemu.args(["-chardev", &format!("socket,id=tpm,path={}", file("tpm"))]);
        qemu.args(["-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-tis,tpmdev=tpm"]);
        qemu.args(["-chardev", &format!("socket,id=ccid,path={}", file("ccid"))]);
        qemu.args(["-device", "qemu-xhci"]);
        if self.reader {
            qemu.args([
                "-device",
                "usb-ccid,id=reader",
                "-device",
                "ccid-card-passthru,chardev=ccid",
            ]);
        }
        qemu
    }

    /// The TPM, whose state outlasts it. It listens when this returns.
    fn start_tpm(&self) -> Process {
        let socket = self.work.path().join("tpm");
        // There is none before the first boot.
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let state = format!("dir={}", self.scratch("tpm-state").display());
        let mut swtpm = that_dies_with_us("swtpm");
        swtpm.args(["socket", "--tpm2", "--terminate", "--ctrl", "type=unixio,fd=0"]);
        swtpm.args(["--tpmstate", &state]).stdin(OwnedFd::from(listener));
        swtpm.stdout(self.log("swtpm.log")).stderr(self.log("swtpm.log"));
        Process::start(swtpm, "apt-get install swtpm")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        eprintln!("--- the machine's console\n{}", self.console());
        if let Some(on) = &self.on {
            let journal = ["journalctl", "--boot", "--lines=200", "--no-hostname"];
            if let Ok((journal, _)) = on.wire.borrow_mut().run(&journal) {
                eprintln!("--- the machine's journal\n{}", journal.stdout);
            }
        }
    }
}

/// A file of `tests/`.
pub fn tests_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn read_file(name: &str) -> String {
    fs::read_to_string(tests_file(name)).unwrap()
}

/// What all machines boot from; made the first time.
pub fn image() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let mut recipe = Command::new(tests_file("qemu/image.sh"));
        let output = recipe.env("CARGO_TARGET_DIR", target).stderr(Stdio::inherit()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "apt-get install mmdebstrap e2fsprogs; and run as root");
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    })
}

pub fn succeed(mut command: Command) {
    let status = command.status().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(status.success(), "{command:?}: {status}");
}
