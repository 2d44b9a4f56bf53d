//! One group's folder in one hierarchy, opened once for all of its files.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::unistd::read;

use crate::error::{Context, Result};

/// The largest file (`memory.stat`) has about 2 KiB.
const CHUNK: usize = 8 * 1024;

/// No control file that is read here is longer; a list of very many devices is cut.
const LONGEST: usize = 1 << 20;

/// A group's folder.
pub(in crate::cgroup) struct Folder {
    fd: OwnedFd,
    path: PathBuf,
    text: Vec<u8>,
}

impl Folder {
    /// Opens it.
    ///
    /// # Errors
    /// ENOENT where there is no such group.
    pub(in crate::cgroup) fn open(path: PathBuf) -> Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = open(&path, flags, Mode::empty()).path("open cgroup", &path)?;
        Ok(Self {
            fd,
            path,
            text: Vec::with_capacity(CHUNK),
        })
    }

    /// A file's text; None where there is no such file, or the kernel doesn't keep what it would say.
    ///
    /// # Errors
    /// ENODEV where the group has been removed meanwhile.
    pub(in crate::cgroup) fn read(&mut self, name: &str) -> Result<Option<&str>> {
        match self.fill(name) {
            Ok(()) => Ok(std::str::from_utf8(&self.text).ok()),
            Err(Errno::ENOENT | Errno::EOPNOTSUPP) => Ok(None),
            Err(errno) => Err(errno).path("read", self.path.join(name)),
        }
    }

    /// A file that holds a number, or `max` for none.
    ///
    /// # Errors
    /// As [`Folder::read`].
    pub(in crate::cgroup) fn number(&mut self, name: &str) -> Result<Option<u64>> {
        Ok(self.read(name)?.and_then(super::number))
    }

    /// The sizes of huge pages, as `2MB`, of which there is a file `hugetlb.<size><suffix>`.
    pub(in crate::cgroup) fn page_sizes(&self, suffix: &str) -> Vec<String> {
        let names = std::fs::read_dir(&self.path).into_iter().flatten().flatten();
        let size = |name: &str| {
            let size = name.strip_prefix("hugetlb.")?.strip_suffix(suffix)?;
            // those with a dot are of reservations
            (!size.contains('.')).then(|| size.to_owned())
        };
        names
            .filter_map(|entry| entry.file_name().to_str().and_then(size))
            .collect()
    }

    fn fill(&mut self, name: &str) -> nix::Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let file = openat(&self.fd, name, flags, Mode::empty())?;
        self.text.clear();
        while self.text.len() < LONGEST {
            let filled = self.text.len();
            self.text.resize(filled + CHUNK, 0);
            let got = match read(&file, &mut self.text[filled..]) {
                Err(Errno::EINTR) => 0,
                other => other?,
            };
            self.text.truncate(filled + got);
            if got == 0 {
                break;
            }
        }
        Ok(())
    }
}
