//! The files of a machine, and its users, while it is on or off.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        ffi::OsStringExt,
        fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::PathBuf,
};

use super::Container;

impl Container {
    /// Where this process finds a file of the machine; while it is on, also those in its RAM. An
    /// absolute symlink on the way would lead to this process's own files.
    pub fn path(&self, path: &str) -> PathBuf {
        assert!(path.starts_with('/'), "{path}");
        let root = match self.leader {
            Some(leader) => format!("/proc/{leader}/root"),
            None => format!("/proc/{}/root{}/root", self.inside, self.work.display()),
        };
        PathBuf::from(root + path)
    }

    /// What the machine wrote to its disk, as a directory.
    pub fn disk(&self) -> PathBuf {
        self.work.join("upper")
    }

    /// Every file that the machine wrote to its disk, but for those below `without`: path, and
    /// content, or the target of a symlink, or nothing for what is neither.
    pub fn files_on_disk(&self, without: &[&str]) -> BTreeMap<String, Vec<u8>> {
        let root = self.disk();
        let mut files = BTreeMap::new();
        let mut directories = vec![root.clone()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let name = format!("/{}", path.strip_prefix(&root).unwrap().display());
                let kind = path.symlink_metadata().unwrap().file_type();
                if kind.is_dir() {
                    directories.push(path);
                } else if !without.iter().any(|start| name.starts_with(start)) {
                    let content = match kind {
                        _ if kind.is_file() => fs::read(&path).unwrap(),
                        _ if kind.is_symlink() => {
                            fs::read_link(&path).unwrap().into_os_string().into_vec()
                        }
                        _ => Vec::new(),
                    };
                    files.insert(name, content);
                }
            }
        }
        files
    }

    /// A directory for whatever a test needs, which goes with the machine.
    pub fn scratch(&self, name: &str) -> PathBuf {
        let path = self.work.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Puts a file of root's into it, whether it is on or off.
    pub fn write(&self, path: &str, mode: u32, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Puts a symlink into it, in the place of one that is there.
    pub fn link(&self, path: &str, target: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if path.is_symlink() {
            fs::remove_file(&path).unwrap();
        }
        symlink(target, path).unwrap();
    }

    /// Has a unit started with another one, which it does not need.
    pub fn wanted_by(&self, unit: &str, by: &str) {
        self.link(&format!("/etc/systemd/system/{by}.wants/{unit}"), &format!("../{unit}"));
    }

    /// Has a unit started with another one, which fails with it.
    pub fn required_by(&self, unit: &str, by: &str) {
        self.link(&format!("/etc/systemd/system/{by}.requires/{unit}"), &format!("../{unit}"));
    }

    /// Adds a user and a group of that name.
    pub fn user(&self, name: &str, id: u32) {
        let add = |file: &str, line: String| {
            let file = self.path(file);
            let text = fs::read_to_string(&file).unwrap();
            fs::write(&file, text + &line).unwrap();
        };
        add("/etc/passwd", format!("{name}:x:{id}:{id}::/:/bin/sh\n"));
        add("/etc/group", format!("{name}:x:{id}:\n"));
    }

    /// Adds a group.
    pub fn group(&self, name: &str, id: u32, members: &[&str]) {
        let file = self.path("/etc/group");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{text}{name}:x:{id}:{}\n", members.join(","))).unwrap();
    }

    /// What a file of it holds.
    #[track_caller]
    pub fn read(&self, path: &str) -> Vec<u8> {
        let real = self.path(path);
        fs::read(real).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// The permissions and the owner of a file of it.
    #[track_caller]
    pub fn mode_and_owner(&self, path: &str) -> (u32, u32) {
        let real = self.path(path);
        let about = fs::metadata(real).unwrap_or_else(|e| panic!("{path}: {e}"));
        (about.mode() & 0o7777, about.uid())
    }

    pub fn exists(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }
}
