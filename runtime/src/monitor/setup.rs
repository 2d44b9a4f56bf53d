//! What a process does to become a monitor.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::prctl::{set_child_subreaper, set_name};
use nix::sys::signal::Signal;
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::sys::stat::{Mode, umask};
use nix::unistd::setsid;

use super::{Options, stdio};
use crate::error::{Context, Error, Result};
use crate::protocol::{PID_FILE, SOCKET_NAME};
use crate::rootfs::BlankMounts;
use crate::sys;

/// Less likely than any container to be killed for lack of memory, but not exempt.
const OOM_SCORE_ADJ: &str = "-998";

/// What the process holds once it is a monitor.
pub(super) struct Process {
    pub(super) dir: PathBuf,
    pub(super) listener: UnixListener,
    /// The connection that standard input was.
    pub(super) first: Option<UnixStream>,
    /// What the containers' mount namespaces start from: what standard output was.
    pub(super) blank: Option<BlankMounts>,
    /// Held for life: a second monitor in the same folder would take the first one's socket.
    pub(super) lock: Flock<File>,
}

/// Makes the calling process a monitor.
pub(super) fn become_monitor(options: &Options) -> Result<Process> {
    let dir = std::path::absolute(&options.dir).path("resolve", &options.dir)?;
    sys::fd::close_from(3).call("close_range")?;
    let first = take_stdin()?;
    let blank = take_stdout()?;
    // what is executed by its descriptor is named after a number
    let _ = set_name(c"pintle-monitor");
    // Fails for the leader of a process group, which has a session of its own if it was started by hand.
    let _ = setsid();
    set_child_subreaper(true).call("prctl PR_SET_CHILD_SUBREAPER")?;
    for signal in [
        Signal::SIGPIPE,
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGXFSZ,
    ] {
        sys::daemon::ignore(signal).call("sigaction")?;
    }
    // Refused without CAP_SYS_RESOURCE; a monitor with an ordinary score is better than none.
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ);
    std::env::set_current_dir(&dir).path("change to folder", &dir)?;
    let lock = lock_pid_file(&dir)?;
    let listener = listen(&dir)?;
    umask(Mode::from_bits_truncate(0o022));
    std::env::set_current_dir("/").path("change to folder", "/")?;
    Ok(Process {
        dir,
        listener,
        first,
        blank,
        lock,
    })
}

/// Removes the socket and the pid file.
pub(super) fn leave(dir: &Path) {
    for name in [SOCKET_NAME, PID_FILE] {
        // The daemon may have removed the whole folder already.
        let _ = fs::remove_file(dir.join(name));
    }
}

fn take_stdin() -> Result<Option<UnixStream>> {
    let stdin = io::stdin();
    let is_socket = getsockopt(&stdin, sockopt::SockType).is_ok_and(|kind| kind == SockType::Stream);
    let first = if is_socket {
        let copy = stdin.as_fd().try_clone_to_owned().call("dup standard input")?;
        Some(UnixStream::from(copy))
    } else {
        None
    };
    sys::fd::install(stdio::null()?.as_fd(), stdin.as_raw_fd()).call("replace standard input")?;
    Ok(first)
}

fn take_stdout() -> Result<Option<BlankMounts>> {
    let stdout = io::stdout();
    let copy = stdout.as_fd().try_clone_to_owned().call("dup standard output")?;
    let blank = BlankMounts::take(copy);
    if blank.is_some() {
        sys::fd::install(stdio::null()?.as_fd(), stdout.as_raw_fd()).call("replace standard output")?;
    }
    Ok(blank)
}

fn lock_pid_file(dir: &Path) -> Result<Flock<File>> {
    let path = dir.join(PID_FILE);
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    let file = options.open(PID_FILE).path("open", &path)?;
    let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, errno)| Error::io("lock (another monitor runs?)", &path, errno))?;
    lock.set_len(0).path("truncate", &path)?;
    lock.write_all(format!("{}\n", std::process::id()).as_bytes())
        .path("write", &path)?;
    Ok(lock)
}

/// Binds by a relative name, for the whole path may be longer than a socket's address can hold.
fn listen(dir: &Path) -> Result<UnixListener> {
    let path = dir.join(SOCKET_NAME);
    match fs::remove_file(SOCKET_NAME) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("remove", &path, error));
        }
        _ => {}
    }
    umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(SOCKET_NAME).path("listen on", &path)?;
    listener.set_nonblocking(true).path("make non-blocking", &path)?;
    Ok(listener)
}
