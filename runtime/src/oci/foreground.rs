//! Waiting for a container's process: signals go on to it, its terminal is copied, orphans are reaped.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::console::Console;
use crate::error::{Context, Result};
use crate::sys::process::pidfd_kill;

/// What is waited for.
pub(super) struct Watched<'a> {
    pub(super) pid: Pid,
    pub(super) pidfd: BorrowedFd<'a>,
    /// The master of its terminal.
    pub(super) console: Option<BorrowedFd<'a>>,
}

/// To be done before the process is made, so that no signal is lost: the set-up of a container's processes puts all
/// signals back.
pub(super) fn prepare(adopts_orphans: bool) -> Result<()> {
    if adopts_orphans {
        set_child_subreaper(true).call("prctl PR_SET_CHILD_SUBREAPER")?;
    }
    mask().thread_block().call("sigprocmask")
}

/// All that can be passed on; a fault of our own is none of them.
fn mask() -> SigSet {
    let mut mask = SigSet::all();
    for fault in [
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGILL,
        Signal::SIGFPE,
        Signal::SIGABRT,
    ] {
        mask.remove(fault);
    }
    mask
}

/// Waits for the end; the exit code.
pub(super) fn wait(watched: &Watched<'_>) -> Result<i32> {
    let signals =
        SignalFd::with_flags(&mask(), SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).call("signalfd")?;
    let mut console = watched.console.map(Console::new).transpose()?;
    // it may have ended before the descriptor was there
    let mut code = reap(watched.pid);
    while code.is_none() {
        {
            let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            if let Some(console) = &console {
                fds.extend(console.poll_for());
            }
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).call("poll"),
            }
        }
        if let Some(console) = &mut console {
            console.copy();
        }
        while let Ok(Some(info)) = signals.read_signal() {
            pass_on(watched, &console, info.ssi_signo.cast_signed());
        }
        code = reap(watched.pid);
    }
    if let Some(console) = &mut console {
        console.drain();
    }
    Ok(code.unwrap_or(0))
}

fn pass_on(watched: &Watched<'_>, console: &Option<Console<'_>>, signal: i32) {
    match signal {
        // SIGURG comes from runtimes of languages, SIGPIPE from our own writing
        nix::libc::SIGCHLD | nix::libc::SIGURG | nix::libc::SIGPIPE => {}
        nix::libc::SIGWINCH if console.is_some() => {
            if let Some(console) = console {
                console.follow_size();
            }
        }
        // it may have ended, which the next look tells
        _ => drop(pidfd_kill(watched.pidfd, signal)),
    }
}

/// Reaps whatever has ended; the exit code if the process is among it.
fn reap(wanted: Pid) -> Option<i32> {
    loop {
        let (pid, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, code),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
            Err(Errno::EINTR) => continue,
            // without any child there is nothing left to wait for
            Err(_) => return Some(0),
            Ok(_) => return None,
        };
        if pid == wanted {
            return Some(code);
        }
    }
}
