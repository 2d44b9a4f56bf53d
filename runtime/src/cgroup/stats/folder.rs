//! One group's folder in one hierarchy. Files that are read each time stay open: opening one costs several times
//! what reading it does.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::uio::pread;

use crate::error::{Context, Result};

/// The largest file (`memory.stat`) has about 2 KiB.
const CHUNK: usize = 8 * 1024;

/// No control file that is read here is longer; a list of very many devices is cut.
const LONGEST: usize = 1 << 20;

/// A group's folder.
#[derive(Debug)]
pub(in crate::cgroup) struct Folder {
    path: PathBuf,
    open: Vec<(&'static str, OwnedFd)>,
    text: Vec<u8>,
}

impl Folder {
    /// A folder that may be there or not.
    pub(in crate::cgroup) fn new(path: PathBuf) -> Self {
        Self {
            path,
            open: Vec::new(),
            text: Vec::new(),
        }
    }

    /// The text of a file that every group has.
    ///
    /// # Errors
    /// ENOENT or ENODEV where there is no such group, or no longer.
    pub(in crate::cgroup) fn must_read(&mut self, name: &'static str) -> Result<&str> {
        self.fill_kept(name).path("read", self.path.join(name))?;
        Ok(self.text())
    }

    /// A file's text; None where there is no such file, or the kernel doesn't keep what it would say.
    ///
    /// # Errors
    /// ENODEV where the group has been removed meanwhile.
    pub(in crate::cgroup) fn read(&mut self, name: &'static str) -> Result<Option<&str>> {
        let filled = self.fill_kept(name);
        self.text_if(filled, name)
    }

    /// As [`Folder::read`], of a file that is wanted seldom.
    ///
    /// # Errors
    /// As [`Folder::read`].
    pub(in crate::cgroup) fn glance(&mut self, name: &str) -> Result<Option<&str>> {
        let filled = open_file(&self.path, name).and_then(|file| fill(&file, &mut self.text));
        self.text_if(filled, name)
    }

    /// A file that holds a number, or `max` for none.
    ///
    /// # Errors
    /// As [`Folder::read`].
    pub(in crate::cgroup) fn number(&mut self, name: &'static str) -> Result<Option<u64>> {
        Ok(self.read(name)?.and_then(super::number))
    }

    /// As [`Folder::number`], of a file that is wanted seldom.
    ///
    /// # Errors
    /// As [`Folder::read`].
    pub(in crate::cgroup) fn glance_number(&mut self, name: &str) -> Result<Option<u64>> {
        Ok(self.glance(name)?.and_then(super::number))
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

    fn fill_kept(&mut self, name: &'static str) -> nix::Result<()> {
        if let Some(at) = self.open.iter().position(|(open, _)| *open == name) {
            match fill(&self.open[at].1, &mut self.text) {
                // the group was removed, and may have been made anew
                Err(Errno::ENODEV) => drop(self.open.swap_remove(at)),
                other => return other,
            }
        }
        let file = open_file(&self.path, name)?;
        fill(&file, &mut self.text)?;
        self.open.push((name, file));
        Ok(())
    }

    fn text_if(&self, filled: nix::Result<()>, name: &str) -> Result<Option<&str>> {
        match filled {
            Ok(()) => Ok(Some(self.text())),
            Err(Errno::ENOENT | Errno::EOPNOTSUPP) => Ok(None),
            Err(errno) => Err(errno).path("read", self.path.join(name)),
        }
    }

    /// Control files are plain ASCII; one that isn't says nothing.
    fn text(&self) -> &str {
        std::str::from_utf8(&self.text).unwrap_or_default()
    }
}

fn open_file(folder: &Path, name: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    open(&folder.join(name), flags, Mode::empty())
}

/// Reads a file from its beginning; the kernel makes its content anew for that, as one record of a seq_file: what doesn't
/// fill the buffer is all.
fn fill(file: &OwnedFd, text: &mut Vec<u8>) -> nix::Result<()> {
    text.clear();
    while text.len() < LONGEST {
        let filled = text.len();
        text.resize(filled + CHUNK, 0);
        let offset = i64::try_from(filled).unwrap_or(i64::MAX);
        let got = match pread(file, &mut text[filled..], offset) {
            Err(Errno::EINTR) => {
                text.truncate(filled);
                continue;
            }
            other => other.inspect_err(|_| text.clear())?,
        };
        text.truncate(filled + got);
        if got < CHUNK {
            break;
        }
    }
    Ok(())
}
