//! A disk that remembers every write and every flush, so that what it holds after a power cut can be
//! worked out: all that was flushed, and of what came later any part.
//!
//! It is a file that this process serves through FUSE (linux/fuse.h), under a loop device with ext4.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use nix::{
    libc,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

/// Large enough for ext4 with a journal.
const SIZE: usize = 16 << 20;
/// What the disk writes whole or not at all.
pub const BLOCK: usize = 4096;

/// What happened to a disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A block was written at this offset.
    Write(usize, Vec<u8>),
    /// All that was written before is on the disk for good.
    Flush,
    /// What the test noted.
    Mark(&'static str),
}

/// The content of a disk.
pub type Image = Vec<u8>;

/// An empty ext4 file system.
pub fn formatted(dir: &Path) -> Image {
    let file = dir.join("empty.img");
    File::create(&file).unwrap().set_len(SIZE as u64).unwrap();
    let options = ["-q", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
    let made = Command::new("/sbin/mkfs.ext4").args(options).arg(&file).status();
    assert!(made.expect("apt-get install e2fsprogs").success());
    let image = fs::read(&file).unwrap();
    fs::remove_file(file).unwrap();
    image
}

/// A mounted file system, unmounted when dropped.
pub struct Mounted(PathBuf);

impl Mounted {
    /// Mounts the ext4 in a file or what serves as one, on a thread that has had a [`Disk`]; the
    /// kernel frees the loop device.
    pub fn new(file: &Path, at: &Path) -> Self {
        let mounted =
            Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(file).arg(at).status();
        assert!(mounted.unwrap().success());
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The loop device is free when this returns, unless a failed test holds a file open.
        if umount2(&self.0, MntFlags::empty()).is_err() {
            let _ = umount2(&self.0, MntFlags::MNT_DETACH);
        }
    }
}

/// Gives the thread, and what it starts, mounts of its own: also a test that is killed leaves none.
fn alone() {
    unshare(CloneFlags::CLONE_NEWNS).expect("run these tests as root");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
}

/// A disk in use.
pub struct Disk {
    mounted: Option<Mounted>,
    file: PathBuf,
    content: Arc<Mutex<Content>>,
    server: Option<JoinHandle<()>>,
}

struct Content {
    image: Image,
    events: Vec<Event>,
}

impl Disk {
    /// Serves the image as `dir/disk.img`, and mounts its file system at `at`.
    pub fn new(image: Image, dir: &Path, at: &Path) -> Self {
        // Once: the thread that serves would keep the mounts of a second time.
        alone();
        let file = dir.join("disk.img");
        File::create(&file).unwrap();
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let device = device.expect("/dev/fuse (modprobe fuse)");
        let options = format!("fd={},rootmode=100600,user_id=0,group_id=0", device.as_raw_fd());
        mount(Some("disk"), &file, Some("fuse"), MsFlags::empty(), Some(&*options)).unwrap();
        let content = Arc::new(Mutex::new(Content { image, events: Vec::new() }));
        let shared = Arc::clone(&content);
        let server = Some(thread::spawn(move || serve(device, &shared)));
        let mounted = Some(Mounted::new(&file, at));
        Self { mounted, file, content, server }
    }

    /// Notes something among the writes.
    pub fn marker(&self) -> impl Fn(&'static str) + Send + use<> {
        let content = Arc::clone(&self.content);
        move |what| content.lock().unwrap().events.push(Event::Mark(what))
    }

    /// The content now, all of it flushed; events are counted from here.
    pub fn begin(&self) -> Image {
        nix::unistd::sync();
        let mut content = self.content.lock().unwrap();
        content.events.clear();
        content.image.clone()
    }

    /// What has happened since [`Self::begin`].
    pub fn events(&self) -> Vec<Event> {
        self.content.lock().unwrap().events.clone()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.mounted.take());
        // Ends the server: its device tells that nobody is there any more.
        if umount2(&self.file, MntFlags::MNT_DETACH).is_ok() {
            drop(self.server.take().map(JoinHandle::join));
        }
    }
}

/// Answers requests until the file is unmounted.
fn serve(mut device: File, content: &Mutex<Content>) {
    let mut request = vec![0; 1 << 20];
    loop {
        let length = match device.read(&mut request) {
            Ok(length) => length,
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return,
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::NotFound) => {
                continue;
            }
            Err(error) => panic!("/dev/fuse: {error}"),
        };
        let (header, body) = request[..length].split_at(40);
        let opcode = u32::from_ne_bytes(header[4..8].try_into().unwrap());
        let Some(answer) = answer(opcode, body, &mut content.lock().unwrap()) else { continue };
        let (error, data) = match answer {
            Ok(data) => (0, data),
            Err(errno) => (-errno, Vec::new()),
        };
        let mut reply = u32::try_from(16 + data.len()).unwrap().to_ne_bytes().to_vec();
        reply.extend(error.to_ne_bytes());
        reply.extend(&header[8..16]);
        reply.extend(data);
        // Whoever asked may have been killed.
        let _ = device.write_all(&reply);
    }
}

/// The answer to a request, or its errno; none where none is wanted.
fn answer(opcode: u32, body: &[u8], content: &mut Content) -> Option<Result<Vec<u8>, i32>> {
    let number = |at: usize| u64::from_ne_bytes(body[at..at + 8].try_into().unwrap());
    let place = || (usize::try_from(number(8)).unwrap(), (number(16) & 0xffff_ffff) as usize);
    Some(Ok(match opcode {
        // FORGET, INTERRUPT, BATCH_FORGET
        2 | 36 | 42 => return None,
        // GETATTR: valid for no time; inode 1, size, blocks, times, mode, one link, block size
        3 => {
            let size = content.image.len() as u64;
            let long = [0, 0, 1, size, size / 512, 0, 0, 0];
            let short = [0, 0, 0, libc::S_IFREG | 0o600, 1, 0, 0, 0, 4096, 0];
            let long = long.into_iter().flat_map(u64::to_ne_bytes);
            long.chain(short.into_iter().flat_map(u32::to_ne_bytes)).collect()
        }
        // OPEN: past the page cache
        14 => [0_u32, 0, 1, 0].into_iter().flat_map(u32::to_ne_bytes).collect(),
        // READ
        15 => {
            let (offset, size) = place();
            let end = (offset + size).min(content.image.len());
            content.image[offset.min(end)..end].to_vec()
        }
        // WRITE
        16 => {
            let (offset, size) = place();
            for (at, block) in (offset..).step_by(BLOCK).zip(body[40..40 + size].chunks(BLOCK)) {
                content.image[at..at + block.len()].copy_from_slice(block);
                content.events.push(Event::Write(at, block.to_vec()));
            }
            (size as u64).to_ne_bytes().to_vec()
        }
        // STATFS
        17 => vec![0; 80],
        // FSYNC
        20 => {
            content.events.push(Event::Flush);
            Vec::new()
        }
        // RELEASE, FLUSH, DESTROY
        18 | 25 | 38 => Vec::new(),
        // INIT: version 7.31, big writes of up to 128 KiB
        26 => {
            let short = [7_u32, 31, 0, 1 << 5, 0, 128 << 10, 1, 0];
            short.into_iter().chain([0; 8]).flat_map(u32::to_ne_bytes).collect()
        }
        _ => return Some(Err(libc::ENOSYS)),
    }))
}

/// What the disk holds after a power cut once these events had happened: of what was not flushed, the
/// writes that `keeps` says by their number.
pub fn after_cut(base: &Image, events: &[Event], mut keeps: impl FnMut(usize) -> bool) -> Image {
    let flushed = events.iter().rposition(|event| *event == Event::Flush).unwrap_or(0);
    let mut image = base.clone();
    for (number, event) in events.iter().enumerate() {
        if let Event::Write(at, block) = event
            && (number < flushed || keeps(number - flushed))
        {
            image[*at..at + block.len()].copy_from_slice(block);
        }
    }
    image
}
