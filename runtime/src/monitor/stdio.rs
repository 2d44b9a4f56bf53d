//! The monitor's ends of a container's standard streams.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{pipe2, read};

use super::outbox::Outbox;
use crate::container::InitStdio;
use crate::error::{Context, Result};

/// The monitor's ends.
#[derive(Debug)]
pub(crate) struct OurStdio {
    /// Kept open so that somebody can attach; dropping it is the end of the container's input.
    pub(crate) stdin: Option<Outbox>,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
}

/// Makes pipes for stdout and stderr, and for stdin if it is wanted; otherwise stdin is `/dev/null`.
pub(crate) fn pipes(with_stdin: bool) -> Result<(InitStdio, OurStdio)> {
    let (stdin, our_stdin) = if with_stdin {
        let (read_end, write_end) = pipe2(OFlag::O_CLOEXEC).call("pipe2")?;
        (read_end, Some(Outbox::new(write_end)?))
    } else {
        (File::open("/dev/null").path("open", "/dev/null")?.into(), None)
    };
    let (our_stdout, stdout) = pipe2(OFlag::O_CLOEXEC).call("pipe2")?;
    let (our_stderr, stderr) = pipe2(OFlag::O_CLOEXEC).call("pipe2")?;
    let ours = OurStdio {
        stdin: our_stdin,
        stdout: Output::new(our_stdout)?,
        stderr: Output::new(our_stderr)?,
    };
    Ok((
        InitStdio {
            stdin,
            stdout,
            stderr,
        },
        ours,
    ))
}

/// Makes reading and writing return at once. That holds for whoever shares the open file description, too.
pub(crate) fn make_nonblocking(fd: impl AsFd) -> Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL).call("fcntl F_GETFL")?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).call("fcntl F_SETFL")?;
    Ok(())
}

/// `/dev/null` for a process whose stream nobody wants.
pub(crate) fn null() -> Result<OwnedFd> {
    Ok(OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .path("open", "/dev/null")?
        .into())
}

/// What reading brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// So many bytes.
    Data(usize),
    /// Nothing for now.
    Empty,
    /// All writers have closed it.
    End,
}

/// Consecutive full reads after which a pipe is made bigger.
const BUSY: u8 = 8;

/// Capacity of a busy pipe in bytes; the default is 64 KiB. Bigger ones would soon use up the pages that the kernel
/// grants a user for pipes (pipe-user-pages-soft).
const BUSY_CAPACITY: i32 = 256 * 1024;

/// The reading end of a container's output: a pipe, or the master of its terminal.
#[derive(Debug)]
pub(crate) struct Output {
    fd: OwnedFd,
    full_reads: u8,
}

impl Output {
    /// Takes over a descriptor and makes it non-blocking.
    pub(crate) fn new(fd: OwnedFd) -> Result<Self> {
        make_nonblocking(&fd)?;
        Ok(Self { fd, full_reads: 0 })
    }

    /// Reads once.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Read {
        loop {
            return match read(&self.fd, buffer) {
                Ok(0) => Read::End,
                Ok(n) => {
                    self.grow_if_busy(n == buffer.len());
                    Read::Data(n)
                }
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => Read::Empty,
                // EIO is how a terminal's master says that the other side is closed; any other error is the end too.
                Err(_) => Read::End,
            };
        }
    }

    fn grow_if_busy(&mut self, full: bool) {
        match (full, self.full_reads) {
            (_, BUSY) => {}
            (true, n) => {
                self.full_reads = n + 1;
                if self.full_reads == BUSY {
                    // Refused beyond the user's limit, and on a terminal: it stays as it is.
                    let _ = fcntl(&self.fd, FcntlArg::F_SETPIPE_SZ(BUSY_CAPACITY));
                }
            }
            (false, _) => self.full_reads = 0,
        }
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
