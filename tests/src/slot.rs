//! A numbered share of the machine that one test owns: folders, bridge, subnet and cgroup derived from the number.
//!
//! The number is held by a lock on a file, so that tests, test runs and users side by side never meet, and so
//! that a run killed half-way blocks nothing: the kernel frees its lock, and the next owner of the number
//! clears what was left (see [`crate::sweep`]).

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::Uid;

use crate::{host, sweep};

/// How many tests can run at once on one machine; bounded by the second byte of the subnet.
pub const SLOTS: u8 = 200;

/// Where the locks lie, and the folders of all slots unless they are told otherwise. Bridges, cgroups and state folders are
/// the machine's, so that those whose folders lie elsewhere must meet here too.
const LOCKS: &str = "/var/tmp/pintle-test";

/// One share of the machine; swept and freed when dropped.
pub struct Slot {
    number: u8,
    // Held for its lock only.
    _lock: Flock<File>,
}

impl Slot {
    /// Takes the first free slot, cleared of what an earlier owner may have left. Fails without root.
    pub fn acquire() -> Result<Slot> {
        if !Uid::effective().is_root() {
            bail!("the end-to-end tests make namespaces, mounts and cgroups: run them as root");
        }
        for number in 0..SLOTS {
            if let Some(slot) = Slot::try_take(number)? {
                sweep::sweep(&slot);
                fs::create_dir_all(slot.root())?;
                host::create_cgroups(&slot.cgroup())?;
                return Ok(slot);
            }
        }
        bail!("all {SLOTS} test slots are in use")
    }

    /// Takes the slot with this number unless somebody holds it; does not clear it.
    pub fn try_take(number: u8) -> Result<Option<Slot>> {
        let path = lock_file(number);
        fs::create_dir_all(LOCKS).with_context(|| format!("create {LOCKS}"))?;
        let file = match File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&path)
        {
            Ok(file) => file,
            // Somebody who found the folder empty has just removed it.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("open {}", path.display())),
        };
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            // An owner who ends removes the file; whoever had opened it before that holds a lock on nothing.
            Ok(lock) if !is_still_at(&lock, &path) => Ok(None),
            Ok(lock) => Ok(Some(Slot { number, _lock: lock })),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno).with_context(|| format!("lock {}", path.display())),
        }
    }

    /// The slots that somebody has taken and not given back: running, or killed.
    pub fn numbers_in_use() -> Vec<u8> {
        (0..SLOTS).filter(|number| lock_file(*number).exists()).collect()
    }

    /// The slot's number.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Everything on disk: the daemon's root, the registry's storage, logs.
    pub fn root(&self) -> PathBuf {
        base().join(self.number.to_string())
    }

    /// The daemon's state folder: short, because a socket's path holds no more than 107 bytes.
    pub fn state(&self) -> PathBuf {
        Path::new("/run").join(format!("pintle-t{}", self.number))
    }

    /// The bridge of the built-in network.
    pub fn bridge(&self) -> String {
        format!("ptest{}", self.number)
    }

    /// The pods' addresses: a /22, room for a thousand pods.
    pub fn subnet(&self) -> String {
        format!("{}0.0/22", self.subnet_prefix())
    }

    /// The text every address of the subnet begins with.
    pub fn subnet_prefix(&self) -> String {
        format!("10.{}.", u8::MAX - self.number)
    }

    /// The cgroup above everything that the test starts; made by the slot as a kubelet makes a pod's.
    pub fn cgroup(&self) -> String {
        format!("/pintle-t{}", self.number)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        sweep::sweep(self);
        // The file goes before the lock on it does.
        let _ = fs::remove_file(lock_file(self.number));
        let _ = fs::remove_dir(base());
        let _ = fs::remove_dir(LOCKS);
    }
}

fn is_still_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(there)) => (held.dev(), held.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn lock_file(number: u8) -> PathBuf {
    Path::new(LOCKS).join(format!("{number}.lock"))
}

fn base() -> PathBuf {
    std::env::var_os("PINTLE_TEST_ROOT").map_or_else(|| PathBuf::from(LOCKS), PathBuf::from)
}
