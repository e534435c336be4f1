//! A directory as polkit's is, and what is in it.

#![allow(dead_code, clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use cryptkey::{
    polkit::{FILE, render},
    spec::{Pcsc, Spec, read},
};
use tempfile::TempDir;

pub fn users(users: &str) -> Pcsc {
    let text = format!(r#"{{"version": 1, "keys": {{}}, "pcsc": {{"users": {users}}}}}"#);
    let Spec { pcsc, .. } = read(&text).unwrap();
    pcsc
}

pub fn alice() -> Pcsc {
    users(r#"["alice"]"#)
}

pub fn bob() -> Pcsc {
    users(r#"["bob"]"#)
}

/// A directory as polkit's is, and the place of the rule in it.
pub fn rules() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let file = dir.path().join(FILE);
    (dir, file)
}

pub fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// The rule is there, as it should be, and nothing else is.
#[track_caller]
pub fn stands(dir: &Path, pcsc: &Pcsc) {
    assert_eq!(names(dir), [FILE]);
    let file = dir.join(FILE);
    let found = fs::symlink_metadata(&file).unwrap();
    assert!(found.is_file());
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (0, 0, 0o644));
    assert_eq!(fs::read_to_string(&file).unwrap(), render(pcsc));
}
