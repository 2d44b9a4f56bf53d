//! Starting a monitor, and finding one that runs.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::net::UnixStream;
use tokio::process::Command;

use crate::error::{Context, Result};
use crate::protocol::SOCKET_NAME;
use crate::rootfs::BlankMounts;
use crate::seal::Program;

/// How to start a monitor.
#[derive(Debug, Clone)]
pub struct SpawnOptions {
    /// The program, `pintle-monitor`.
    pub program: Program,
    /// What the containers' mount namespaces start from; without it, from a copy of the caller's.
    pub blank: Option<BlankMounts>,
    /// The pod's folder, which exists.
    pub dir: PathBuf,
    /// The pod's id.
    pub id: String,
}

/// Starts the program with one end of a socket pair as its standard input, and a blank mount namespace in the place of its
/// standard output. Nothing runs between fork and exec, so
/// that the standard library takes the fast way (posix_spawn).
pub(super) fn spawn(options: &SpawnOptions) -> Result<(UnixStream, i32)> {
    let (ours, theirs) = StdStream::pair().call("socketpair")?;
    ours.set_nonblocking(true).call("make socket non-blocking")?;
    let stream = UnixStream::from_std(ours).call("register socket")?;
    let mut child = Command::new(options.program.executable())
        .arg0(options.program.path())
        .arg("--dir")
        .arg(&options.dir)
        .arg("--id")
        .arg(&options.id)
        .env_clear()
        .stdin(OwnedFd::from(theirs))
        .stdout(match &options.blank {
            Some(blank) => blank.as_fd().try_clone_to_owned().call("dup")?.into(),
            None => Stdio::null(),
        })
        .spawn()
        .path("execute", options.program.path())?;
    let pid = child.id().map_or(0, u32::cast_signed);
    // So that none is left as a zombie while this daemon lives. Its status concerns nobody.
    tokio::spawn(async move { child.wait().await });
    Ok((stream, pid))
}

/// Connects to the socket in a pod's folder. The way leads through the folder's descriptor, for the whole path may
/// be longer than a socket's address can hold.
pub(super) async fn connect(dir: &Path) -> Result<UnixStream> {
    let folder: File = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_PATH | nix::libc::O_DIRECTORY)
        .open(dir)
        .path("open", dir)?;
    let short = format!("/proc/self/fd/{}/{SOCKET_NAME}", folder.as_fd().as_raw_fd());
    UnixStream::connect(short)
        .await
        .path("connect to", dir.join(SOCKET_NAME))
}
