//! A stand-in for systemctl, where no systemd runs: it writes down what it is told.

use std::{
    env,
    ffi::OsString,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
};

use tempfile::TempDir;

/// The orders that a machine's systemd was given.
pub struct Systemd {
    dir: TempDir,
}

impl Systemd {
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let at = dir.path().display();
        let script = format!(
            "#!/bin/sh\nif [ -e {at}/deaf ]; then echo no answer >&2; exit 1; fi\n\
             if [ \"$1\" = show ]; then exit 0; fi\necho \"$*\" >>{at}/told\n\
             if [ -e {at}/refuses ]; then echo not found >&2; exit 5; fi\n"
        );
        let program = dir.path().join("systemctl");
        fs::write(&program, script).unwrap();
        fs::set_permissions(program, Permissions::from_mode(0o755)).unwrap();
        Self { dir }
    }

    /// Where programs are found, this one first.
    pub fn search_path(&self) -> OsString {
        let others = env::var_os("PATH").unwrap_or_default();
        let dirs: Vec<PathBuf> =
            [self.dir.path().to_owned()].into_iter().chain(env::split_paths(&others)).collect();
        env::join_paths(dirs).unwrap()
    }

    /// The orders since the last call, with what they are about.
    pub fn told(&self) -> Vec<String> {
        let path = self.dir.path().join("told");
        let lines = fs::read_to_string(&path).unwrap_or_default();
        drop(fs::remove_file(path));
        lines.lines().map(str::to_owned).collect()
    }

    /// Whether it gives no answer at all.
    pub fn is_deaf(&self, deaf: bool) {
        self.set("deaf", deaf);
    }

    /// Whether it refuses what it is told.
    pub fn refuses(&self, refuses: bool) {
        self.set("refuses", refuses);
    }

    fn set(&self, what: &str, on: bool) {
        let path = self.dir.path().join(what);
        drop(if on { fs::write(path, "") } else { fs::remove_file(path) });
    }
}
