//! A state directory of a test.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use cryptkey::{error::Error, profile::store::Store};
use tempfile::TempDir;

/// A state directory in a directory of its own.
pub struct State {
    _parent: TempDir,
    pub path: PathBuf,
}

impl State {
    pub fn absent() -> Self {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("state");
        Self { _parent: parent, path }
    }

    pub fn new() -> Self {
        let state = Self::absent();
        fs::create_dir(&state.path).unwrap();
        set_mode(&state.path, 0o700);
        state
    }

    pub fn put(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.path.join(name);
        fs::write(&path, text).unwrap();
        set_mode(&path, mode);
        path
    }

    pub fn open(&self) -> Store {
        Store::open(&self.path).unwrap()
    }

    pub fn load_error(&self, name: &str) -> Error {
        self.open().load(name).unwrap_err()
    }

    /// The names of the files, without the lock's.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.path).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != ".lock");
        names.sort();
        names
    }

    /// The error's text with the directory's random name taken out.
    pub fn told(&self, error: &Error) -> String {
        error.to_string().replace(self.path.to_str().unwrap(), "STATE")
    }
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}
