//! The log file: appended to, reopened when it was renamed, and never waited for when the disk is full.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use memchr::{memchr_iter, memrchr};
use nix::libc;

use super::Stamp;
use crate::error::{Context, Error, Result};
use crate::protocol::LogTarget;

/// Nanoseconds between two attempts to open a file that couldn't be, and between two notices.
const PAUSE: i64 = 1_000_000_000;

/// An open log file.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    mode: u32,
    file: File,
    /// A record was cut short by a full disk, and couldn't be taken back.
    torn: bool,
    lost: Lost,
}

/// What couldn't be written since the last notice.
#[derive(Debug, Default)]
struct Lost {
    records: u64,
    bytes: u64,
    reason: Option<io::Error>,
    /// No notice before this time (Unix nanoseconds).
    quiet_until: i64,
}

impl LogFile {
    /// Opens the file for appending, or makes it and its folder.
    ///
    /// # Errors
    /// The file or its folder can't be made, or something other than a regular file is there.
    pub fn open(target: &LogTarget) -> Result<Self> {
        let LogTarget { path, mode, .. } = target.clone();
        let file = match open_append(&path, mode) {
            Err(error) if error.errno() == Some(nix::errno::Errno::ENOENT) => {
                if let Some(folder) = path.parent() {
                    std::fs::create_dir_all(folder).path("create folder", folder)?;
                }
                open_append(&path, mode)?
            }
            other => other?,
        };
        Ok(Self {
            path,
            mode,
            file,
            torn: false,
            lost: Lost::default(),
        })
    }

    /// Opens the path anew: the new file exists when this returns, and gets everything from now on.
    ///
    /// # Errors
    /// It can't be opened; the old one stays in use.
    pub fn reopen(&mut self) -> Result<()> {
        let target = LogTarget {
            path: self.path.clone(),
            max_line: 0,
            mode: self.mode,
        };
        self.file = Self::open(&target)?.file;
        self.torn = false;
        Ok(())
    }

    /// Appends whole records. What the disk refuses is dropped and counted; a notice with the count follows when it
    /// takes records again. The first failure of a row is returned.
    pub fn write(&mut self, records: &[u8], now: i64) -> Option<Error> {
        if self.lost.records > 0 && now >= self.lost.quiet_until {
            self.notice(now);
        }
        match self.append(records) {
            Ok(()) => None,
            Err((written, error)) => {
                let failing = self.lost.reason.is_some();
                let returned = Error::io("write", &self.path, &error);
                self.lose(records, written, error);
                (!failing).then_some(returned)
            }
        }
    }

    /// Writes everything, or says how much of it is in the file.
    fn append(&mut self, records: &[u8]) -> std::result::Result<(), (usize, io::Error)> {
        if self.torn {
            self.file.write_all(b"\n").map_err(|error| (0, error))?;
            self.torn = false;
        }
        let mut written = 0;
        while written < records.len() {
            match self.file.write(&records[written..]) {
                Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
                Ok(n) => written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((written, error)),
            }
        }
        Ok(())
    }

    /// Counts what is lost, and takes back the record that was cut short.
    fn lose(&mut self, records: &[u8], written: usize, reason: io::Error) {
        let whole = memrchr(b'\n', &records[..written]).map_or(0, |end| end + 1);
        if whole < written {
            self.torn = self.take_back((written - whole) as u64).is_err();
        }
        self.lost.records += memchr_iter(b'\n', &records[whole..]).count() as u64;
        self.lost.bytes += (records.len() - whole) as u64;
        self.lost.reason = Some(reason);
    }

    fn take_back(&self, bytes: u64) -> io::Result<()> {
        let size = self.file.metadata()?.len();
        self.file.set_len(size.saturating_sub(bytes))
    }

    fn notice(&mut self, now: i64) {
        self.lost.quiet_until = now.saturating_add(PAUSE);
        let Lost {
            records,
            bytes,
            reason: Some(reason),
            ..
        } = &self.lost
        else {
            return;
        };
        let mut stamp = Stamp::default();
        let time = String::from_utf8_lossy(stamp.format(now));
        let text =
            format!("{time} stderr F pintle: {records} log records ({bytes} bytes) were lost: {reason}\n");
        match self.append(text.as_bytes()) {
            Ok(()) => {
                self.lost = Lost {
                    quiet_until: self.lost.quiet_until,
                    ..Lost::default()
                }
            }
            Err((written, _)) => {
                if written > 0 {
                    self.torn = self.take_back(written as u64).is_err();
                }
            }
        }
    }
}

/// Never truncates, never follows a symlink in the last component, never waits for a FIFO's other end.
fn open_append(path: &std::path::Path, mode: u32) -> Result<File> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(mode)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .path("open log file", path)?;
    if !file.metadata().path("stat log file", path)?.is_file() {
        return Err(Error::invalid(
            "log.path",
            format!("{} is not a regular file", path.display()),
        ));
    }
    Ok(file)
}
