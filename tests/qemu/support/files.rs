//! The files of a machine, and its users, while it is on or off.

use std::{
    fs::{self, File, Permissions},
    io::Write,
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
    process::Command,
};

use base64ct::{Base64, Encoding};

use super::{
    Machine,
    machine::{image, succeed},
};

impl Machine {
    /// A directory for whatever a test needs, which goes with the machine.
    pub fn scratch(&self, name: &str) -> PathBuf {
        let path = self.work.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Puts a file of root's into it, whether it is on or off.
    pub fn write(&self, path: &str, mode: u32, content: impl AsRef<[u8]>) {
        if self.on.is_some() {
            let install =
                "mkdir -p \"${0%/*}\"; base64 --decode >\"$0\" <<<\"$2\"; chmod \"$1\" \"$0\"";
            let text = Base64::encode_string(content.as_ref());
            self.run(&["bash", "-ec", install, path, &format!("{mode:o}"), &text]).exits(0);
            return;
        }
        let file = self.disk_file(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    }

    /// Puts a symlink on its drive, while it is off.
    pub fn link(&self, path: &str, target: &str) {
        let file = self.disk_file(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        symlink(target, file).unwrap();
    }

    /// Has a unit started with another one, which it does not need.
    pub fn wanted_by(&self, unit: &str, by: &str) {
        self.link(&format!("/etc/systemd/system/{by}.wants/{unit}"), &format!("../{unit}"));
    }

    /// Has a unit started with another one, which fails with it.
    pub fn required_by(&self, unit: &str, by: &str) {
        self.link(&format!("/etc/systemd/system/{by}.requires/{unit}"), &format!("../{unit}"));
    }

    /// Adds a user and a group of that name, while it is off.
    pub fn user(&self, name: &str, id: u32) {
        let add = |to: &str, line: String| {
            let file = self.scratch("files/accounts").join(to);
            let mut file = File::options().create(true).append(true).open(file).unwrap();
            file.write_all(line.as_bytes()).unwrap();
        };
        add("passwd", format!("{name}:x:{id}:{id}::/:/bin/sh\n"));
        add("group", format!("{name}:x:{id}:\n"));
    }

    /// What a file of it holds.
    #[track_caller]
    pub fn read(&self, path: &str) -> Vec<u8> {
        let (output, bytes) = self.ask(&["cat", path]);
        output.exits(0);
        bytes
    }

    /// Where this process finds a copy of a file of it.
    #[track_caller]
    pub fn path(&self, path: &str) -> PathBuf {
        let copy = self.scratch("copies").join(path.replace('/', "+"));
        fs::write(&copy, self.read(path)).unwrap();
        copy
    }

    /// Where a file waits for the next boot, which puts it on the drive.
    pub(super) fn disk_file(&self, path: &str) -> PathBuf {
        assert!(path.starts_with('/'), "{path}");
        assert!(self.on.is_none(), "its drive is in use");
        self.work.path().join("files/machine").join(&path[1..])
    }

    /// The files that wait are on the drive.
    pub(super) fn take_up(&self) {
        // There may have been none.
        let _ = fs::remove_dir_all(self.work.path().join("files"));
    }

    /// The initial RAM disk, with the files that wait.
    pub(super) fn initrd(&self) -> PathBuf {
        let path = self.work.path().join("initrd");
        fs::copy(image().join("initrd"), &path).unwrap();
        let mut archive = Command::new("sh");
        // Directories are everybody's to enter, whatever the umask of the test.
        let script =
            "find . -type d -exec chmod 755 {} +; find . | \"$0\" cpio -o -H newc 2>/dev/null";
        archive.args(["-ec", script]);
        archive.arg(image().join("busybox")).current_dir(self.scratch("files"));
        archive.stdout(File::options().append(true).open(&path).unwrap());
        succeed(archive);
        path
    }
}
