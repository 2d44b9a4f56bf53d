//! A disk that power cuts can happen to: a file served by FUSE, below a loop device and a file system.
//!
//! It remembers what was written in which order, and what it was told to flush. So what a real disk would hold after
//! a cut at any instant can be made afterwards: all that was flushed by then, and of what was written since, any part
//! in blocks, for a disk's own cache is written in no order.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyWrite, Request, WriteFlags,
};

/// What a disk writes at once, or not at all.
const BLOCK: usize = 4096;
/// Nothing changes but by the kernel that asks.
const FOREVER: Duration = Duration::from_secs(1 << 20);
const NAME: &str = "disk";
const FILE: INodeNo = INodeNo(2);

#[derive(Debug)]
enum Event {
    Write(usize, Vec<u8>),
    Flush,
}

struct State {
    now: Vec<u8>,
    events: Vec<Event>,
}

/// See the module's text.
pub struct Disk {
    folder: tempfile::TempDir,
    state: Arc<Mutex<State>>,
    session: Option<BackgroundSession>,
}

impl Disk {
    /// A disk of `megabytes` with a new file system, made by the command `mkfs`.
    pub fn new(mkfs: &[&str], megabytes: usize) -> Disk {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("base");
        File::create(&base)
            .unwrap()
            .set_len((megabytes as u64) << 20)
            .unwrap();
        run(mkfs, &[base.as_os_str()]);
        let state = Arc::new(Mutex::new(State {
            now: read_sparse(&base, megabytes << 20),
            events: Vec::new(),
        }));
        let served = folder.path().join("served");
        std::fs::create_dir(&served).unwrap();
        let session = fuser::spawn_mount(Server(Arc::clone(&state)), &served, &Config::default()).unwrap();
        Disk {
            folder,
            state,
            session: Some(session),
        }
    }

    /// Mounts the disk's file system.
    pub fn mount(&self) -> Mounted {
        Mounted::new(
            &self.folder.path().join("served").join(NAME),
            self.folder.path().join("mounted"),
        )
    }

    /// How much has happened so far.
    pub fn instant(&self) -> usize {
        self.state.lock().unwrap().events.len()
    }

    /// The instants right before and after each flush.
    pub fn flushes(&self) -> Vec<usize> {
        let state = self.state.lock().unwrap();
        let flushes = state.events.iter().enumerate();
        let flushes = flushes.filter(|(_, event)| matches!(event, Event::Flush));
        flushes.flat_map(|(number, _)| [number, number + 1]).collect()
    }

    /// What would be found after a cut at an instant, as another disk with its file system mounted. `seed` decides
    /// what of the unflushed has got through.
    pub fn cut(&self, instant: usize, seed: u64) -> Mounted {
        let path = self.folder.path().join("cut");
        run(
            &["cp", "--sparse=always"],
            &[self.folder.path().join("base").as_os_str(), path.as_os_str()],
        );
        let file = File::options().write(true).open(&path).unwrap();
        let state = self.state.lock().unwrap();
        let events = &state.events[..instant];
        let is_flush = |event: &Event| matches!(event, Event::Flush);
        let flushed = events.iter().rposition(is_flush).unwrap_or(0);
        let mut random = Random(seed.wrapping_mul(2).wrapping_add(1));
        for (number, event) in events.iter().enumerate() {
            let Event::Write(at, bytes) = event else { continue };
            for (block, part) in bytes.chunks(BLOCK).enumerate() {
                if number < flushed || random.coin() {
                    file.write_all_at(part, (at + block * BLOCK) as u64).unwrap();
                }
            }
        }
        drop(state);
        Mounted::new(&path, self.folder.path().join("after"))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let _ = session.umount_and_join();
        }
    }
}

/// Marsaglia's xorshift64: the same cuts in each run.
struct Random(u64);

impl Random {
    fn coin(&mut self) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 & (1 << 32) != 0
    }
}

/// A file system on a loop device, as long as this lives.
pub struct Mounted {
    device: String,
    path: PathBuf,
}

impl Mounted {
    fn new(file: &Path, path: PathBuf) -> Mounted {
        std::fs::create_dir_all(&path).unwrap();
        let device = run(&["losetup", "--find", "--show"], &[file.as_os_str()]);
        let mounted = Mounted {
            device: device.trim().to_owned(),
            path,
        };
        run(&["mount", &mounted.device], &[mounted.path.as_os_str()]);
        mounted
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Both in any case: the mount may have failed.
        let _ = Command::new("umount").arg(&self.path).status();
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}

/// Runs a command that must succeed; gives back what it says.
fn run(command: &[&str], further: &[&OsStr]) -> String {
    let (program, arguments) = command.split_first().unwrap();
    let output = Command::new(program)
        .args(arguments)
        .args(further)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} {further:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Reads a file of mostly zeros without touching the memory for these.
fn read_sparse(path: &Path, size: usize) -> Vec<u8> {
    let mut whole = vec![0; size];
    let mut file = File::open(path).unwrap();
    let mut block = vec![0; BLOCK];
    for place in whole.chunks_mut(BLOCK) {
        file.read_exact(&mut block[..place.len()]).unwrap();
        if block.iter().any(|&byte| byte != 0) {
            place.copy_from_slice(&block[..place.len()]);
        }
    }
    whole
}

struct Server(Arc<Mutex<State>>);

impl Server {
    fn attributes(&self, inode: INodeNo) -> FileAttr {
        let is_file = inode == FILE;
        let size = self.0.lock().unwrap().now.len() as u64;
        FileAttr {
            ino: inode,
            size: if is_file { size } else { 0 },
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if is_file {
                FileType::RegularFile
            } else {
                FileType::Directory
            },
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Server {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == NAME {
            reply.entry(&FOREVER, &self.attributes(FILE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.attributes(inode));
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let state = self.0.lock().unwrap();
        let begin = state.now.len().min(usize::try_from(offset).unwrap());
        let end = state.now.len().min(begin + size as usize);
        reply.data(&state.now[begin..end]);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.0.lock().unwrap();
        let begin = usize::try_from(offset).unwrap();
        state.now[begin..begin + data.len()].copy_from_slice(data);
        state.events.push(Event::Write(begin, data.to_vec()));
        reply.written(u32::try_from(data.len()).unwrap());
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.0.lock().unwrap().events.push(Event::Flush);
        reply.ok();
    }
}
