//! Notes for the operator on standard error, which is the daemon's log or nothing at all.

use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The longest note in bytes: what a pipe that polls writable takes without blocking (PIPE_BUF).
const LONGEST: usize = 4096;

/// Writes a line, unless nobody would take it at once: a daemon that is dead or stuck must not stop a monitor.
pub(crate) fn note(text: fmt::Arguments<'_>) {
    let stderr = io::stderr();
    let mut poll_for = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    let ready = poll(&mut poll_for, PollTimeout::ZERO).is_ok_and(|n| n == 1);
    if !ready
        || poll_for[0]
            .revents()
            .is_none_or(|events| events != PollFlags::POLLOUT)
    {
        return;
    }
    let mut line = format!("pintle-monitor[{}]: {text}", std::process::id());
    let end = (0..LONGEST.min(line.len() + 1))
        .rev()
        .find(|end| line.is_char_boundary(*end));
    line.truncate(end.unwrap_or(0));
    line.push('\n');
    // Nothing is left to tell that this failed.
    let _ = stderr.lock().write_all(line.as_bytes());
}
