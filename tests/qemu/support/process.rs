//! Programs beside the test that end with it, whatever becomes of it.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A command that the kernel kills when the thread that started it ends.
pub fn that_dies_with_us(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// A program that is ended when this is dropped.
pub struct Process(Child);

impl Process {
    /// Starts it. `install` says which package to install where it is missing.
    pub fn start(mut command: Command, install: &str) -> Self {
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e} ({install})"));
        Self(child)
    }

    /// Waits for its end.
    pub fn wait(&mut self) {
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A directory for one machine. It goes when this is dropped, and also when the test is killed.
pub struct Work {
    path: PathBuf,
    /// A shell that removes it when its standard input ends.
    broom: Child,
}

impl Work {
    pub fn new() -> Self {
        let path = tempfile::Builder::new().prefix("cryptkey-qemu.").tempdir().unwrap().keep();
        // The signals of a terminal are for the test. What is killed with it may write a last file.
        let sweep = "trap '' HUP INT TERM; read -r _; rm -rf \"$0\" || rm -rf \"$0\"";
        let mut broom = Command::new("sh");
        broom.args(["-c", sweep]).arg(&path).stdin(Stdio::piped()).stdout(Stdio::null());
        Self { path, broom: broom.spawn().unwrap() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        drop(self.broom.stdin.take());
        drop(self.broom.wait());
    }
}
