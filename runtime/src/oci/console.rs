//! The caller's terminal, or whatever its standard streams are, copied to and from a container's terminal.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{read, write};

use crate::error::{Context, Result};
use crate::sys::term::{set_size, size};

/// Bytes copied at once.
const COPY: usize = 16 * 1024;

/// Gives a container's terminal the size of the caller's, if that has one. To be done before a process looks at it.
pub(super) fn copy_size(master: BorrowedFd<'_>) {
    if let Ok((width, height)) = size(io::stdin().as_fd()) {
        // one that has gone needs no size
        let _ = set_size(master, height, width);
    }
}

/// Puts the caller's terminal back when it is dropped.
#[derive(Debug)]
pub(super) struct Console<'a> {
    master: BorrowedFd<'a>,
    stdin: io::Stdin,
    stdout: io::Stdout,
    before: Option<Termios>,
    /// Read from standard input, and not yet taken by the terminal.
    waiting: Vec<u8>,
    has_input: bool,
    has_output: bool,
}

impl<'a> Console<'a> {
    pub(super) fn new(master: BorrowedFd<'a>) -> Result<Self> {
        let mut console = Self {
            master,
            stdin: io::stdin(),
            stdout: io::stdout(),
            before: None,
            waiting: Vec::new(),
            has_input: true,
            has_output: true,
        };
        if let Ok(before) = tcgetattr(&console.stdin) {
            let mut raw = before.clone();
            cfmakeraw(&mut raw);
            // the container's terminal leaves line ends to this one
            raw.output_flags.insert(OutputFlags::OPOST);
            tcsetattr(&console.stdin, SetArg::TCSANOW, &raw).call("set terminal settings")?;
            console.before = Some(before);
        }
        // it may have changed since the process was made
        console.follow_size();
        Ok(console)
    }

    /// The caller's terminal has another size now.
    pub(super) fn follow_size(&self) {
        copy_size(self.master);
    }

    /// What there is to wait for.
    pub(super) fn poll_for(&self) -> Vec<PollFd<'_>> {
        let mut fds = Vec::new();
        let mut of_master = PollFlags::empty();
        if self.has_output {
            of_master |= PollFlags::POLLIN;
        }
        if !self.waiting.is_empty() {
            of_master |= PollFlags::POLLOUT;
        } else if self.has_input {
            fds.push(PollFd::new(self.stdin.as_fd(), PollFlags::POLLIN));
        }
        if !of_master.is_empty() {
            fds.push(PollFd::new(self.master, of_master));
        }
        fds
    }

    /// Copies what is there, in both directions.
    pub(super) fn copy(&mut self) {
        if self.has_output && is_ready(self.master, PollFlags::POLLIN) {
            self.copy_output();
        }
        if self.waiting.is_empty() && self.has_input && is_ready(self.stdin.as_fd(), PollFlags::POLLIN) {
            self.read_input();
        }
        if !self.waiting.is_empty() && is_ready(self.master, PollFlags::POLLOUT) {
            match write(self.master, &self.waiting) {
                Ok(n) => drop(self.waiting.drain(..n)),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(_) => {
                    self.waiting.clear();
                    self.has_input = false;
                }
            }
        }
    }

    /// The process has ended: copies what it left behind.
    pub(super) fn drain(&mut self) {
        while self.has_output && is_ready(self.master, PollFlags::POLLIN) {
            self.copy_output();
        }
    }

    fn read_input(&mut self) {
        let mut buffer = [0; COPY];
        match read(&self.stdin, &mut buffer) {
            Ok(0) => self.has_input = false,
            Ok(n) => self.waiting.extend_from_slice(&buffer[..n]),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => self.has_input = false,
        }
    }

    fn copy_output(&mut self) {
        let mut buffer = [0; COPY];
        match read(self.master, &mut buffer) {
            Ok(n @ 1..) => self.has_output = write_all(self.stdout.as_fd(), &buffer[..n]),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            // EIO is the end of a terminal
            Ok(0) | Err(_) => self.has_output = false,
        }
    }
}

impl Drop for Console<'_> {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // nothing is left to tell that this failed
            let _ = tcsetattr(&self.stdin, SetArg::TCSANOW, before);
        }
    }
}

fn is_ready(fd: BorrowedFd<'_>, what: PollFlags) -> bool {
    let mut fds = [PollFd::new(fd, what)];
    let ready = poll(&mut fds, PollTimeout::ZERO);
    ready.is_ok_and(|n| n > 0)
}

fn write_all(fd: BorrowedFd<'_>, mut data: &[u8]) -> bool {
    while !data.is_empty() {
        match write(fd, data) {
            Ok(n) => data = &data[n..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
                let _ = poll(&mut fds, PollTimeout::NONE);
            }
            Err(_) => return false,
        }
    }
    true
}
