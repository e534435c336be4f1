//! Sets of secrets to publish, and readers of what is published that share no code with src.

#![allow(dead_code, clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use cryptkey::{
    error::{Class, Error, Result},
    publish::{Changes, Entry, Outcome},
};
use zeroize::Zeroizing;

/// A set, and one that adds, changes and removes.
pub const OLD: [(&str, &str); 2] = [("a", "old a"), ("b", "old b")];
/// See [`OLD`].
pub const NEW: [(&str, &str); 2] = [("b", "new b"), ("c", "new c")];

/// Publishes a set, as at a boot; there is nothing to do before.
pub fn publish(dir: &Path, key: &str, set: &[Entry]) -> Result<Outcome> {
    cryptkey::publish::publish(dir, key, set, false, || Ok(()))
}

/// The error of publishing, which must be of its class.
pub fn refused(result: Result<Outcome>) -> Error {
    let error = result.unwrap_err();
    assert_eq!(error.class, Class::Publish, "{error}");
    error
}

/// Whether the old set stands, whole and alone.
pub fn assert_old_stands(dir: &Path) {
    assert_eq!(contents(&dir.join("vault")), expected(&OLD));
    assert_eq!(generations(dir), 1);
}

/// The outcome that adds, changes and removes secrets of these names.
pub fn changed(added: &[&str], changed: &[&str], removed: &[&str]) -> Outcome {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Outcome::Changed(Changes {
        added: names(added),
        changed: names(changed),
        removed: names(removed),
    })
}

/// A secret of root, mode 0400.
pub fn entry(name: &str, bytes: &[u8]) -> Entry {
    Entry {
        name: name.to_owned(),
        bytes: Zeroizing::new(bytes.to_vec()),
        uid: 0,
        gid: 0,
        mode: 0o400,
    }
}

/// A set of secrets of root, from pairs of name and content.
pub fn set(pairs: &[(&str, &str)]) -> Vec<Entry> {
    let of = |(name, text): &(&str, &str)| entry(name, text.as_bytes());
    pairs.iter().map(of).collect()
}

/// Name and content of every file in the directory `path`, following symlinks to it.
pub fn contents(path: &Path) -> BTreeMap<String, String> {
    let file = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read_to_string(entry.path()).unwrap())
    };
    fs::read_dir(path).unwrap().map(|entry| file(entry.unwrap())).collect()
}

/// The same as [`contents`] gives, from pairs.
pub fn expected(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// Every path below `root` (without what symlinks lead to), sorted.
pub fn tree(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    let mut next = 0;
    while next < found.len() {
        if fs::symlink_metadata(&found[next]).unwrap().is_dir() {
            found.extend(fs::read_dir(&found[next]).unwrap().map(|entry| entry.unwrap().path()));
        }
        next += 1;
    }
    found.sort();
    found
}

/// All that would tell of a write below `root`: of each path the inode, its links, size, owner,
/// mode, and the times of the last change of content and of anything.
pub fn traces(root: &Path) -> Vec<String> {
    let trace = |path: PathBuf| {
        let m = fs::symlink_metadata(&path).unwrap();
        format!(
            "{} inode {} links {} size {} owner {}:{} mode {:o} mtime {}.{} ctime {}.{}",
            path.display(),
            m.ino(),
            m.nlink(),
            m.size(),
            m.uid(),
            m.gid(),
            m.mode(),
            m.mtime(),
            m.mtime_nsec(),
            m.ctime(),
            m.ctime_nsec()
        )
    };
    tree(root).into_iter().map(trace).collect()
}

/// How many generations (and leftovers of any) there are below `runtime_dir`. The mark of one that is
/// there, and what is pending with it, are parts of it.
pub fn generations(runtime_dir: &Path) -> usize {
    let entries = fs::read_dir(runtime_dir.join(".generations")).into_iter().flatten();
    let is_part = |path: &Path| {
        let ends = path.extension().is_some_and(|end| end == "pending" || end == "mark");
        ends && path.with_extension("").is_dir()
    };
    entries.filter(|entry| !is_part(&entry.as_ref().unwrap().path())).count()
}
