//! A process's terminal: a pty of the container's own devpts.

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::termios::{OutputFlags, SetArg, tcgetattr, tcsetattr};
use nix::unistd::{Gid, Uid, fchown};
use oci_spec::runtime::Process;

use crate::error::{Context, Result};
use crate::sys::term::{open_peer, set_size, unlock};

/// Both ends.
pub(crate) struct Console {
    /// For whoever reads the output.
    pub(crate) master: OwnedFd,
    /// For the process.
    pub(crate) slave: OwnedFd,
}

/// Turns a freshly opened multiplexer into a terminal for `process`. With `newlines` it makes `\r\n` of the line ends
/// that the process writes.
pub(crate) fn open(master: OwnedFd, process: &Process, newlines: bool) -> Result<Console> {
    unlock(master.as_fd()).call("unlock terminal")?;
    let slave = open_peer(master.as_fd()).call("open terminal")?;
    let mut settings = tcgetattr(&slave).call("read terminal settings")?;
    settings.output_flags.set(OutputFlags::ONLCR, newlines);
    tcsetattr(&slave, SetArg::TCSANOW, &settings).call("set terminal settings")?;
    if let Some(size) = process.console_size() {
        let clamp = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
        set_size(slave.as_fd(), clamp(size.height()), clamp(size.width())).call("set terminal size")?;
    }
    fchown(&slave, Some(Uid::from_raw(process.user().uid())), None::<Gid>).call("set owner of terminal")?;
    Ok(Console { master, slave })
}
