//! Real file systems that are full by a byte, a block or an inode, read-only, gone or not mounted.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use crate::{
    bench::Bench,
    extent::{amount, tell},
    flows::{ABANDON, ATTESTED, ENROLL, Flow, OVERWRITE, RESEAL},
    outcome::{Outcome, judge},
    support::{Machine, TestCard, Yubikey, published::generations, ram::Ram},
};

/// An ext4 of its own on a loop device, in the mount namespace of this thread.
struct Disk {
    image: PathBuf,
    path: PathBuf,
    _namespace: Ram,
}

impl Disk {
    /// One of so many KiB, in blocks of 1 KiB, with these options of `mkfs.ext4`.
    fn new(kib: u32, options: &[&str]) -> Self {
        // On a disk of the test's own, which is forgotten with the thread's mounts.
        let namespace = Ram::tmpfs("size=32m,mode=0755");
        let image = namespace.path().join("image");
        File::create(&image).unwrap().set_len(u64::from(kib) * 1024).unwrap();
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-F", "-b", "1024", "-m", "0", "-O", "^has_journal"])
            .args(options)
            .arg(&image)
            .output()
            .expect("apt-get install e2fsprogs");
        assert!(made.status.success(), "{made:?}");
        let path = namespace.path().join("disk");
        fs::create_dir(&path).unwrap();
        let disk = Self { image, path, _namespace: namespace };
        disk.mount("loop");
        disk
    }

    fn mount(&self, options: &str) {
        // The kernel frees the loop device with the mount.
        let done =
            Command::new("mount").args(["-o", options]).arg(&self.image).arg(&self.path).output();
        let done = done.unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    fn unmount(&self) {
        umount2(&self.path, MntFlags::empty()).unwrap();
    }

    fn remount(&self, options: &str) {
        let done = Command::new("mount").args(["-o", options]).arg(&self.path).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    /// Leaves room for so many blocks.
    fn fill(&self, blocks: u64) {
        let mut filler = File::create(self.path.join("filler")).unwrap();
        while filler.write_all(&[0; 1024]).is_ok() {}
        let length = filler.metadata().unwrap().len();
        filler.set_len(length.saturating_sub(blocks * 1024)).unwrap();
        filler.sync_all().unwrap();
    }

    /// Leaves so many inodes.
    fn use_inodes(&self, left: usize) {
        let dir = self.path.join("inodes");
        fs::create_dir(&dir).unwrap();
        let count = (0..1000).take_while(|n| File::create(dir.join(n.to_string())).is_ok()).count();
        for n in 0..left {
            fs::remove_file(dir.join((count - 1 - n).to_string())).unwrap();
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Also where a failed test still holds files open; it may be unmounted already.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}

fn make_state(path: &Path) {
    fs::DirBuilder::new().mode(0o700).create(path).unwrap();
}

/// A machine whose state is on the disk, and its card, which has a key.
fn on(disk: &Disk) -> (Machine, Yubikey) {
    let mut machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &["--slot-key", "9d=generate"]);
    machine.state = disk.path.join("state");
    machine.vault(&card, json!({}));
    (machine, card)
}

/// Runs the flow on a disk that `hinder` leaves no room, and once more after `repair`. Whether the
/// first run failed: by a named error, and with nothing half written.
fn fails_at_most(
    bench: &mut Bench,
    flow: &Flow,
    shape: &[String],
    case: &str,
    hinder: impl FnOnce(),
    repair: impl FnOnce(),
) -> bool {
    (flow.prepare)(bench);
    let (before, presented) = (Outcome::of(bench), bench.presented());
    hinder();
    let output = bench.machine.run(flow.args);
    let failed = output.code != Some(0);
    if failed {
        assert!([14, 18].contains(&output.code.unwrap()), "{case}: {output}");
        assert_eq!(bench.published(), before.published, "{case}: {output}");
        let half = bench.shape().into_iter().find(|line| line.contains(".new "));
        assert_eq!(half, None, "{case}: {output}");
    }
    if output.code == Some(14) {
        let told = bench.presented() - presented < bench.cards().count();
        assert!(told, "refused, and yet presented: {case}: {output}");
    }
    judge(bench, flow, &before, shape, case, |_| repair());
    failed
}

#[test]
fn a_disk_that_is_full_by_a_block_or_an_inode_or_read_only() {
    const BLOCKS: u64 = 6;
    const INODES: usize = 7;
    for flow in [ENROLL, ATTESTED, OVERWRITE, RESEAL, ABANDON] {
        let disk = Disk::new(256, &["-N", "32"]);
        let mut bench = Bench::new();
        bench.machine.state = disk.path.join("state");
        make_state(&bench.machine.state);
        (flow.prepare)(&mut bench);
        bench.machine.run(flow.args).exits(0);
        let shape = bench.shape();
        let (filler, files) = (disk.path.join("filler"), disk.path.join("inodes"));
        let full = (0..BLOCKS).filter(|&blocks| {
            let case = format!("{} with {blocks} blocks left", flow.name);
            let repair = || fs::remove_file(&filler).unwrap();
            fails_at_most(&mut bench, &flow, &shape, &case, || disk.fill(blocks), repair)
        });
        let full = full.count();
        assert!((1..6).contains(&full), "{}: {full} disks were full", flow.name);
        let without = (0..INODES).filter(|&left| {
            let case = format!("{} with {left} inodes left", flow.name);
            let repair = || fs::remove_dir_all(&files).unwrap();
            fails_at_most(&mut bench, &flow, &shape, &case, || disk.use_inodes(left), repair)
        });
        let without = without.count();
        assert!((1..INODES).contains(&without), "{}: {without} had no inodes", flow.name);
        let case = format!("{} on a read-only disk", flow.name);
        let refused = fails_at_most(
            &mut bench,
            &flow,
            &shape,
            &case,
            || disk.remount("remount,ro"),
            || disk.remount("remount,rw"),
        );
        assert!(refused, "{case}");
        tell(&format!(
            "disk, full, {}: an ext4 with 0 to {} blocks of 1 KiB left, with 0 to {} inodes left, and \
             read-only: {full}, {without} and 1 of the runs refused by name, and nothing was half written",
            flow.name,
            BLOCKS - 1,
            INODES - 1
        ));
    }
}

#[test]
fn a_disk_that_is_read_only_or_gone() {
    let disk = Disk::new(512, &[]);
    let (machine, card) = on(&disk);
    make_state(&machine.state);
    disk.remount("remount,ro");
    let output = machine.apply().exits(18);
    assert_eq!(card.presented(), 0, "{output}");
    // A machine that is enrolled needs no disk to write to.
    disk.remount("remount,rw");
    machine.apply().exits(0);
    disk.remount("remount,ro");
    assert!(machine.apply().exits(0).unchanged("vault"));
    fs::remove_dir_all(&machine.runtime).unwrap();
    machine.apply().exits(0);
    let before = machine.published();
    // But what it never proved is not presented.
    let wrong = machine.secret_file("wrong.pin", "111111");
    let presented = card.presented();
    machine.vault(&card, json!({ "pin": wrong }));
    machine.apply().exits(14).says(&["Read-only"]);
    assert_eq!((card.presented(), card.tries()), (presented, 3));
    assert_eq!(machine.published(), before);
    machine.vault(&card, json!({}));

    // Not mounted: the profile is lost, and with its id declared nothing is made in its place.
    let profile = fs::read_to_string(machine.profile("vault")).unwrap();
    let id = machine.run(&["status", "--json"]).json()["keys"]["vault"]["profile"]["id"].clone();
    assert!(profile.len() > 500 && id.is_string(), "{id}");
    machine.vault(&card, json!({ "profileId": id }));
    disk.unmount();
    machine.apply().exits(17);
    assert_eq!(machine.published(), before);
    assert!(fs::read_dir(&disk.path).unwrap().next().is_none(), "something was made in its place");
    // Nor without: the directory below is on a RAM file system here, as that of an initrd would be.
    machine.vault(&card, json!({}));
    machine.apply().exits(17);
    assert!(fs::read_dir(&disk.path).unwrap().next().is_none(), "something was made in its place");
    assert_eq!((card.tries(), machine.published()), (3, before.clone()));

    // Its end is cut off: what the kernel can't read is an error, not an absence.
    File::options().write(true).open(&disk.image).unwrap().set_len(24 * 1024).unwrap();
    let mounted =
        Command::new("mount").args(["-o", "loop"]).arg(&disk.image).arg(&disk.path).output();
    if mounted.unwrap().status.success() {
        let output = machine.apply();
        assert!([17, 18].contains(&output.code.unwrap()), "{output}");
        assert_eq!((card.tries(), machine.published()), (3, before));
    }
}

/// With `left` things of a kind more than what stands, does a new set find room.
fn a_full_runtime_directory(
    option: &str,
    unit: u64,
    most: u64,
    used: impl Fn(&Path) -> u64,
) -> usize {
    let mut failed = 0;
    for left in 0..most {
        let ram = Ram::tmpfs("size=1m,nr_inodes=100,mode=0755");
        let mut machine = Machine::new(1);
        let card = Yubikey::with(&machine, 0, &["--slot-key", "9d=generate"]);
        machine.runtime = ram.runtime_dir();
        machine.vault(&card, json!({ "secrets": { "a": { "use": "a" }, "b": { "use": "b" } } }));
        machine.apply().exits(0);
        let mut before = machine.published();
        before.sort();
        // Room for the old set and a part of the new one.
        ram.remount(MsFlags::empty(), &format!("{option}={}", (used(ram.path()) + left) * unit));
        machine.vault(&card, json!({ "secrets": { "a": { "use": "c" }, "c": { "use": "d" } } }));
        let output = machine.apply();
        if output.code != Some(0) {
            failed += 1;
            let mut after = machine.published();
            after.sort();
            assert_eq!(after, before, "{output}");
            let output = output.exits(20);
            assert!(output.stderr.contains("No space left"), "{output}");
        }
        // Scrubbing and looking need no room.
        machine.run(&["status"]).exits(0);
        assert_eq!(generations(&machine.runtime), 1, "with {left} left");
        if left % 2 == 0 {
            ram.remount(MsFlags::empty(), "size=1m,nr_inodes=100");
            machine.apply().exits(0);
            assert_eq!(machine.published().len(), 2);
        }
        machine.run(&["scrub"]).exits(0);
        assert_eq!(machine.published(), []);
        assert_eq!(card.tries(), 3);
    }
    failed
}

#[test]
fn a_runtime_directory_that_is_full_by_a_page_or_an_inode() {
    let blocks = |path: &Path| {
        let stat = nix::sys::statvfs::statvfs(path).unwrap();
        stat.blocks() - stat.blocks_free()
    };
    let inodes = |path: &Path| {
        let stat = nix::sys::statvfs::statvfs(path).unwrap();
        stat.files() - stat.files_free()
    };
    let most = amount(4, 6) as u64;
    let pages = a_full_runtime_directory("size", 4096, most, blocks);
    let files = a_full_runtime_directory("nr_inodes", 1, most, inodes);
    assert!(pages > 1 && files > 1, "{pages} and {files} had no room");
    tell(&format!(
        "disk, full: a tmpfs with 0 to {} pages or inodes more than the old set needs: {pages} and \
         {files} refused the new set by name, and the old one stood, whole",
        most - 1
    ));
}

#[test]
fn a_read_only_runtime_directory() {
    let ram = Ram::tmpfs("size=1m,mode=0755");
    let mut machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &["--slot-key", "9d=generate"]);
    machine.runtime = ram.runtime_dir();
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    let before = machine.published();
    ram.remount(MsFlags::MS_RDONLY, "");
    machine.apply().exits(20).says(&["Remount"]);
    machine.run(&["scrub"]).exits(20);
    machine.run(&["status"]).exits(0);
    assert_eq!(machine.published(), before);
    ram.remount(MsFlags::empty(), "");
    assert!(machine.apply().exits(0).unchanged("vault"));
}

/// What stands where the state directory should be.
#[test]
fn a_state_directory_that_is_not_ours_alone() {
    let machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &["--slot-key", "9d=generate"]);
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    let before = machine.published();
    let state = &machine.state;
    let set_mode = |mode| fs::set_permissions(state, fs::Permissions::from_mode(mode)).unwrap();
    let refused = |code: i32| {
        let presented = card.presented();
        machine.apply().exits(code);
        machine.run(&["status"]);
        assert_eq!((card.presented(), card.tries()), (presented, 3), "a PIN was presented");
        assert_eq!(machine.published(), before);
    };
    for mode in [0o770, 0o702, 0o777, 0o1777, 0o2770] {
        set_mode(mode);
        refused(18);
    }
    set_mode(0o700);
    std::os::unix::fs::chown(state, Some(1000), None).unwrap();
    refused(18);
    std::os::unix::fs::chown(state, Some(0), None).unwrap();

    // Another file system over it, as a mount that is late leaves it: empty. The profile is lost.
    let aside = state.with_file_name("aside");
    fs::rename(state, &aside).unwrap();
    fs::write(state, "a file").unwrap();
    refused(18);
    fs::remove_file(state).unwrap();
    symlink("/nowhere/state", state).unwrap();
    refused(17);
    // A symlink to the directory is what an admin may have made.
    fs::remove_file(state).unwrap();
    symlink(&aside, state).unwrap();
    assert!(machine.apply().exits(0).unchanged("vault"));
    // One to a directory of somebody else is refused as that is.
    std::os::unix::fs::chown(&aside, Some(1000), None).unwrap();
    refused(18);
    std::os::unix::fs::chown(&aside, Some(0), None).unwrap();
    fs::remove_file(state).unwrap();
    fs::rename(&aside, state).unwrap();
    assert!(machine.apply().exits(0).unchanged("vault"));
}

/// Over a mount point: a directory that nothing is mounted on yet.
#[test]
fn a_state_directory_that_is_mounted_late() {
    let _namespace = Ram::tmpfs("size=64k");
    let machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &["--slot-key", "9d=generate"]);
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    let before = machine.published();
    let id = machine.run(&["status", "--json"]).json()["keys"]["vault"]["profile"]["id"].clone();
    machine.vault(&card, json!({ "profileId": id }));
    let flags = MsFlags::empty();
    mount(Some("late"), &machine.state, Some("tmpfs"), flags, Some("mode=0700")).unwrap();
    machine.apply().exits(17);
    assert_eq!(fs::read_dir(&machine.state).unwrap().count(), 0);
    assert_eq!((card.tries(), machine.published()), (3, before));
    umount2(&machine.state, MntFlags::MNT_DETACH).unwrap();
    assert!(machine.apply().exits(0).unchanged("vault"));
}
