//! RAM file systems for tests, mounted below a directory of their own and unmounted when dropped.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use tempfile::TempDir;

/// A directory in place of another one, in the namespace of a [`Ram`] that is mounted already.
pub struct Bound(PathBuf);

impl Bound {
    /// Shows `directory` at `place`.
    pub fn new(directory: &Path, place: &Path) -> Self {
        mount(Some(directory), place, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        Self(place.to_owned())
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

/// A mounted RAM file system. Needs root.
pub struct Ram {
    root: TempDir,
}

impl Ram {
    /// A tmpfs with these options ("size=64k", say).
    pub fn tmpfs(options: &str) -> Self {
        Self::mount("tmpfs", options)
    }

    /// A ramfs.
    pub fn ramfs() -> Self {
        Self::mount("ramfs", "")
    }

    fn mount(kind: &str, options: &str) -> Self {
        // Of this thread and those that it starts: also a test that is killed leaves no mount.
        const NEED: &str = "these tests mount RAM file systems: run them as root";
        unshare(CloneFlags::CLONE_NEWNS).expect(NEED);
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect(NEED);
        let root = TempDir::new().unwrap();
        mount(Some("test"), root.path(), Some(kind), MsFlags::empty(), Some(options)).expect(NEED);
        Self { root }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// A directory in it that does not exist yet.
    pub fn runtime_dir(&self) -> PathBuf {
        self.root.path().join("cryptkey")
    }

    /// Changes its options.
    pub fn remount(&self, flags: MsFlags, options: &str) {
        let flags = flags | MsFlags::MS_REMOUNT;
        mount(None::<&str>, self.root.path(), None::<&str>, flags, Some(options)).unwrap();
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        // Also where a failed test still holds files open.
        umount2(self.root.path(), MntFlags::MNT_DETACH).unwrap();
    }
}
