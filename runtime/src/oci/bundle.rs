//! A bundle, and what `create` and `run` take from their flags and their caller.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use oci_spec::runtime::{Process, Spec};

use super::args::Given;
use super::{refused, wrong_flag};
use crate::container::lenient;
use crate::error::{Context, Error, Kind, Result};
use crate::process::above_stdio;
use crate::sys::fd::{is_open, send_with_fds};

/// A configuration of more than this many bytes is a mistake or an attack.
const MAX_CONFIG: u64 = 16 << 20;

/// The folder of config.json, and that file.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) path: PathBuf,
    pub(super) text: Vec<u8>,
    pub(super) spec: Spec,
}

impl Bundle {
    pub(super) fn load(given: &Given) -> Result<Self> {
        let asked = Path::new(given.get("bundle").unwrap_or("."));
        let path = fs::canonicalize(asked).path("chdir", asked)?;
        let config = path.join("config.json");
        let text = match fs::metadata(&config) {
            Ok(about) if about.len() > MAX_CONFIG => {
                return Err(Error::invalid(
                    "config.json",
                    format!("is larger than {MAX_CONFIG} bytes"),
                ));
            }
            Ok(_) => fs::read(&config).path("read", &config)?,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(refused(
                    Kind::InvalidArgument,
                    "JSON specification file config.json not found",
                ));
            }
            Err(e) => return Err(e).path("stat", &config),
        };
        // whoever makes the container tells what was passed over
        let spec = lenient::read(&text, lenient::Holds::Configuration)
            .map_err(|source| Error::Parse { path: config, source })?
            .value;
        Ok(Self { path, text, spec })
    }

    /// Where the container's root lies.
    pub(super) fn rootfs(&self) -> PathBuf {
        match self.spec.root() {
            Some(root) => self.path.join(root.path()),
            None => self.path.clone(),
        }
    }

    pub(super) fn has_terminal(&self) -> bool {
        self.spec
            .process()
            .as_ref()
            .and_then(Process::terminal)
            .unwrap_or(false)
    }
}

/// How many descriptors from 3 on the process inherits: `--preserve-fds` and those of socket activation
/// (sd_listen_fds(3)). Each must be there.
pub(super) fn preserved_fds(given: &Given) -> Result<u32> {
    let asked: u32 = given.number("preserve-fds").map_err(wrong_flag)?.unwrap_or(0);
    let activated: u32 = std::env::var("LISTEN_FDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    let count = asked.saturating_add(activated);
    for fd in 3..3_u32.saturating_add(count) {
        if !i32::try_from(fd).is_ok_and(is_open) {
            return Err(refused(
                Kind::InvalidArgument,
                format!(
                    "please check that preserved-fd {} (of {count}) is present",
                    fd - 3
                ),
            ));
        }
    }
    Ok(count)
}

/// Terminal and console socket must go together with whether the caller stays.
pub(super) fn check_terminal(given: &Given, terminal: bool, detached: bool) -> Result<()> {
    let has_socket = given.get("console-socket").is_some_and(|path| !path.is_empty());
    let wrong = |text: &str| Err(refused(Kind::InvalidArgument, text));
    match (terminal, detached, has_socket) {
        (true, true, false) => {
            wrong("cannot allocate tty if runc will detach without setting console socket")
        }
        (false, _, true) | (true, false, true) => {
            wrong("cannot use console socket if runc will not detach or allocate tty")
        }
        _ => Ok(()),
    }
}

/// Gives a terminal's master away.
pub(super) fn send_console(path: &str, master: &OwnedFd) -> Result<()> {
    send_to(path, b"/dev/ptmx", master)
}

/// Gives a pidfd away.
pub(super) fn send_pidfd(given: &Given, pidfd: &OwnedFd) -> Result<()> {
    match given.get("pidfd-socket").filter(|path| !path.is_empty()) {
        Some(path) => send_to(path, b"pidfd", pidfd),
        None => Ok(()),
    }
}

fn send_to(path: &str, name: &[u8], fd: &OwnedFd) -> Result<()> {
    let socket = UnixStream::connect(path).path("connect to", path)?;
    send_with_fds(socket.as_fd(), name, &[fd.as_raw_fd()]).path("send descriptor to", path)?;
    Ok(())
}

/// Writes the pid so that it appears whole.
pub(super) fn write_pid_file(given: &Given, pid: i32) -> Result<()> {
    let Some(path) = given
        .get("pid-file")
        .filter(|path| !path.is_empty())
        .map(Path::new)
    else {
        return Ok(());
    };
    let name = path
        .file_name()
        .ok_or_else(|| Error::invalid("pid-file", "names no file"))?;
    let new = path.with_file_name(format!(".{}", name.display()));
    fs::write(&new, pid.to_string()).path("write", &new)?;
    fs::rename(&new, path).path("rename to", path)
}

/// The socket by which the container is started. The way leads through the folder's descriptor, for the whole path may
/// be longer than a socket's address can hold.
pub(super) fn start_listener(folder: &Path) -> Result<OwnedFd> {
    let listener = seqpacket()?;
    let (_folder, address) = address(folder)?;
    bind(listener.as_raw_fd(), &address).path("bind socket in", folder)?;
    listen(&listener, Backlog::new(8).unwrap_or(Backlog::MAXCONN)).path("listen on socket in", folder)?;
    above_stdio(listener)
}

/// Connects to it.
pub(super) fn start_connection(folder: &Path) -> Result<OwnedFd> {
    let stream = seqpacket()?;
    let (_folder, address) = address(folder)?;
    connect(stream.as_raw_fd(), &address).path("connect to socket in", folder)?;
    Ok(stream)
}

fn seqpacket() -> Result<OwnedFd> {
    socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .call("socket")
}

fn address(folder: &Path) -> Result<(fs::File, UnixAddr)> {
    let opened = fs::File::open(folder).path("open folder", folder)?;
    let short = format!("/proc/self/fd/{}/{}", opened.as_raw_fd(), super::state::SOCKET);
    let address = UnixAddr::new(short.as_str()).call("address of socket")?;
    Ok((opened, address))
}
