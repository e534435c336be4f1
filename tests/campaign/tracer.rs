//! Runs a program with all its threads traced: it stops before and after every system call, and
//! whoever looks on decides there whether it goes on, is killed or gets a signal.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{Read, Seek},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    thread,
};

use nix::{
    libc,
    sys::{
        ptrace::{self, Options},
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// A stop of one thread at a system call; the others run on.
pub struct Stop {
    /// The process.
    pub process: Pid,
    /// The number of the system call.
    pub call: libc::c_long,
    /// Its arguments.
    pub arguments: [u64; 6],
    /// The thread's stack pointer.
    pub stack: u64,
    /// Whether it is over.
    pub done: bool,
}

/// What becomes of the process at a stop.
pub enum Then {
    GoOn,
    /// SIGKILL. A call that was not done is never done.
    Kill,
    /// A signal to the process, which goes on.
    Send(Signal),
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    pub status: WaitStatus,
    /// What it said on standard output and error.
    pub said: String,
}

impl Ended {
    /// Its exit code; none where a signal ended it.
    pub fn code(&self) -> Option<i32> {
        match self.status {
            WaitStatus::Exited(_, code) => Some(code),
            _ => None,
        }
    }
}

impl Stop {
    /// Reads memory of the process.
    pub fn read(&self, address: u64, length: usize) -> Vec<u8> {
        let mut memory = File::open(format!("/proc/{}/mem", self.process)).unwrap();
        memory.seek(std::io::SeekFrom::Start(address)).unwrap();
        let mut bytes = vec![0; length];
        memory.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// The text that an argument points to; it may go on in the next page.
    pub fn text(&self, argument: usize) -> String {
        let address = self.arguments[argument];
        let in_page = 4096 - address % 4096;
        let mut bytes = self.read(address, usize::try_from(in_page).unwrap());
        if !bytes.contains(&0) {
            bytes.extend(self.read(address + in_page, 4096));
        }
        let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    }

    /// Whether the call renames a file; the new name is the argument number 3.
    pub fn renames(&self) -> bool {
        [libc::SYS_renameat, libc::SYS_renameat2].contains(&self.call)
    }

    /// Whether the call is about to send or write something with these bytes in it.
    pub fn sends(&self, bytes: &[u8]) -> bool {
        let sends = [libc::SYS_write, libc::SYS_sendto].contains(&self.call) && !self.done;
        let length = usize::try_from(self.arguments[2]).unwrap_or(usize::MAX).min(4096);
        sends && self.read(self.arguments[1], length).windows(bytes.len()).any(|at| at == bytes)
    }

    /// Whether the call writes: to a file system, or to a socket or pipe.
    pub fn writes(&self) -> bool {
        #[cfg(target_arch = "x86_64")]
        const OLD: [libc::c_long; 11] = [
            libc::SYS_creat,
            libc::SYS_rename,
            libc::SYS_link,
            libc::SYS_unlink,
            libc::SYS_symlink,
            libc::SYS_mkdir,
            libc::SYS_rmdir,
            libc::SYS_chmod,
            libc::SYS_chown,
            libc::SYS_lchown,
            libc::SYS_mknod,
        ];
        #[cfg(not(target_arch = "x86_64"))]
        const OLD: [libc::c_long; 0] = [];
        const CALLS: [libc::c_long; 28] = [
            libc::SYS_write,
            libc::SYS_writev,
            libc::SYS_pwrite64,
            libc::SYS_pwritev,
            libc::SYS_pwritev2,
            libc::SYS_sendto,
            libc::SYS_sendmsg,
            libc::SYS_sendfile,
            libc::SYS_copy_file_range,
            libc::SYS_renameat,
            libc::SYS_renameat2,
            libc::SYS_linkat,
            libc::SYS_unlinkat,
            libc::SYS_symlinkat,
            libc::SYS_mkdirat,
            libc::SYS_mknodat,
            libc::SYS_fchmod,
            libc::SYS_fchmodat,
            libc::SYS_fchown,
            libc::SYS_fchownat,
            libc::SYS_truncate,
            libc::SYS_ftruncate,
            libc::SYS_fallocate,
            libc::SYS_fsync,
            libc::SYS_fdatasync,
            libc::SYS_sync,
            libc::SYS_syncfs,
            libc::SYS_utimensat,
        ];
        let creates = |flags: u64| flags & libc::O_CREAT as u64 != 0;
        #[cfg(target_arch = "x86_64")]
        if self.call == libc::SYS_open {
            return creates(self.arguments[1]);
        }
        match self.call {
            libc::SYS_openat => creates(self.arguments[2]),
            call => CALLS.contains(&call) || OLD.contains(&call),
        }
    }
}

/// Runs `command` to its end, and asks `see` at every stop at a system call. The stops of the shell
/// that becomes the program are left out; it sets no limit on core dumps.
pub fn trace(command: &Command, mut see: impl FnMut(&Stop) -> Then + Send) -> Ended {
    // A thread waits for the children of its own only, and the tests have many.
    thread::scope(|scope| scope.spawn(|| follow(command, &mut see)).join().unwrap())
}

fn follow(command: &Command, see: &mut dyn FnMut(&Stop) -> Then) -> Ended {
    let mut output = tempfile::tempfile().unwrap();
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", "ulimit -c unlimited; kill -STOP $$; exec \"$@\"", "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output.try_clone().unwrap())
        // Not to be stopped, killed or dumped with the tests.
        .process_group(0);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        shell.current_dir(directory);
    }
    // Whoever traces it waits for it, too.
    #[allow(clippy::zombie_processes)]
    let child = shell.spawn().unwrap();
    let process = Pid::from_raw(child.id().try_into().unwrap());
    waitpid(process, Some(WaitPidFlag::WUNTRACED)).unwrap();
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(process, options).unwrap();
    kill(process, Signal::SIGCONT).unwrap();
    let status = attend(process, see);
    let mut said = Vec::new();
    output.rewind().unwrap();
    output.read_to_end(&mut said).unwrap();
    Ended { status, said: String::from_utf8_lossy(&said).into_owned() }
}

/// Lets every thread go from stop to stop until the process has ended.
fn attend(process: Pid, see: &mut dyn FnMut(&Stop) -> Then) -> WaitStatus {
    let mut inside = HashSet::new();
    let mut is_program = false;
    loop {
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        let status = waitpid(None, Some(flags)).unwrap();
        let thread = status.pid().unwrap();
        let mut signal = None;
        match status {
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {
                if thread == process {
                    return status;
                }
                continue;
            }
            WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_EXEC) => is_program = true,
            WaitStatus::PtraceSyscall(_) => {
                let done = !inside.insert(thread);
                if done {
                    inside.remove(&thread);
                }
                if is_program && let Some(stop) = stop(process, thread, done) {
                    match see(&stop) {
                        Then::GoOn => {}
                        Then::Kill => kill(process, Signal::SIGKILL).unwrap(),
                        Then::Send(signal) => kill(process, signal).unwrap(),
                    }
                }
            }
            WaitStatus::Stopped(_, sent) => signal = Some(sent),
            _ => {}
        }
        // It may be killed by now.
        let _ = ptrace::syscall(thread, signal);
    }
}

/// What a stopped thread is at; none where it has been killed by now.
fn stop(process: Pid, thread: Pid, done: bool) -> Option<Stop> {
    let text = fs::read_to_string(format!("/proc/{process}/task/{thread}/syscall")).ok()?;
    let mut words = text.split_whitespace();
    let call = words.next()?.parse().ok()?;
    let mut number = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    let mut arguments = [0; 6];
    for argument in &mut arguments {
        *argument = number()?;
    }
    Some(Stop { process, call, arguments, stack: number()?, done })
}
