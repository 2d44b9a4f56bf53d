//! A running criu, and the talk with it over a socket (`criu swrk`).

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_no_new_privs;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, socketpair};
use nix::unistd::{AccessFlags, Pid, access};
use prost::Message as _;

use super::refused;
use super::rpc::{Request, Response, kind};
use crate::cgroup::Entry;
use crate::error::{Context, Error, Kind, Result};
use crate::process::{above_stdio, install_streams};
use crate::sys::fd::{inherit, recv_with_fds, retry, send_with_fds};
use crate::sys::process::{
    Forked, clone, execve, exit_now, forbid_writing, fork, reset_signals, survive_size_limit, wait,
};

/// criu's answers are a few hundred bytes.
const MAX_MESSAGE: usize = 64 * 1024;
/// criu runs tar, and programs that lock a network.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The oldest criu with all that is asked of it here.
const OLDEST: (i32, i32) = (3, 16);
/// How much of a log is looked through for the reason of a failure.
const MAX_LOG: u64 = 16 << 20;

/// Where criu is to run.
#[derive(Debug, Default)]
pub(super) struct Place<'a> {
    /// In this cgroup.
    pub(super) cgroup: Option<&'a Entry>,
    /// In a cgroup namespace of its own, of which that cgroup is the root.
    pub(super) cgroup_namespace: bool,
    /// Without the right to gain privileges, which its children haven't then either: criu 3.17 doesn't restore that.
    pub(super) no_new_privileges: bool,
    /// So that it can be told to give up ([`Criu::give_up`]). Not where it restores: its children would have inherited it.
    pub(super) can_give_up: bool,
}

/// A running criu. One that is dropped before [`Criu::end`] is killed.
#[derive(Debug)]
pub(super) struct Criu {
    pid: Option<Pid>,
    socket: OwnedFd,
}

impl Criu {
    /// Starts it; `passed` are the descriptors that it is to inherit, by the numbers that they have here. The caller has
    /// one thread.
    pub(super) fn start(program: &Path, passed: &[BorrowedFd<'_>], place: &Place<'_>) -> Result<Self> {
        let name = CString::new(program.as_os_str().as_bytes())
            .map_err(|_| Error::invalid("criu", "its path holds a NUL"))?;
        if access(program, AccessFlags::X_OK).is_err() {
            let message = format!("CRIU binary not found or too old: {}", program.display());
            return Err(refused(Kind::Unsupported, message));
        }
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .call("socketpair")?;
        let theirs = above_stdio(theirs)?;
        let tree = place.cgroup.and_then(Entry::tree);
        let forked = match tree {
            Some(tree) => clone(0, false, Some(tree), None),
            None => fork(),
        };
        match forked.call("fork")? {
            Forked::Parent(pid) => Ok(Self {
                pid: Some(pid),
                socket: ours,
            }),
            Forked::Child(_child) => {
                // whoever listens sees the end of the socket
                let _ = become_criu(&name, &theirs, passed, place);
                exit_now(127)
            }
        }
    }

    /// Its process.
    pub(super) fn pid(&self) -> Pid {
        self.pid.unwrap_or(Pid::from_raw(0))
    }

    /// Asks for something.
    pub(super) fn send(&self, request: &Request) -> Result<()> {
        match send_with_fds(self.socket.as_fd(), &request.encode_to_vec(), &[]) {
            Err(Errno::EPIPE | Errno::ECONNRESET) => Err(ended()),
            other => other.call("send to criu").map(drop),
        }
    }

    /// The next answer or notification, and the descriptors that came with it.
    pub(super) fn receive(&self) -> Result<(Response, Vec<OwnedFd>)> {
        let mut buf = vec![0; MAX_MESSAGE];
        let (length, fds) = match recv_with_fds(self.socket.as_fd(), &mut buf, MsgFlags::empty()) {
            Ok((0, _)) | Err(Errno::ECONNRESET) => {
                return Err(ended());
            }
            other => other.call("receive from criu")?,
        };
        let response = Response::decode(&buf[..length])
            .map_err(|_| Error::sys("decode criu's answer", Errno::EPROTO))?;
        Ok((response, fds))
    }

    /// The next answer. When the other end of the pipe `caller` is closed before, criu is made to give up.
    pub(super) fn receive_for(&self, caller: BorrowedFd<'_>) -> Result<Response> {
        let mut fds = [
            PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            // its end alone is waited for
            PollFd::new(caller, PollFlags::empty()),
        ];
        retry(|| poll(&mut fds, PollTimeout::NONE)).call("wait for criu")?;
        if !fds[0].any().unwrap_or(true) {
            self.give_up();
        }
        self.receive().map(|(response, _)| response)
    }

    /// Has it fail soon, in its own way: killed it would leave processes that it works in half changed. What it can't
    /// write down it gives up, and puts everything back.
    fn give_up(&self) {
        let children = format!("/proc/{0}/task/{0}/children", self.pid());
        // a tar that it waits for
        let children = fs::read_to_string(children).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        for pid in std::iter::once(self.pid()).chain(children.map(Pid::from_raw)) {
            // one that has ended needs no telling
            let _ = forbid_writing(pid);
        }
    }

    /// Has a notification's cause go on.
    pub(super) fn go_on(&self) -> Result<()> {
        self.send(&Request {
            kind: kind::NOTIFY,
            notify_success: Some(true),
            ..Request::default()
        })
    }

    /// Its version, and that it is one that will do.
    pub(super) fn version(&self) -> Result<(i32, i32)> {
        self.send(&Request {
            kind: kind::VERSION,
            keep_open: Some(true),
            ..Request::default()
        })?;
        let version = match self.receive()? {
            (
                Response {
                    success: true,
                    version: Some(version),
                    ..
                },
                _,
            ) => (version.major, version.minor),
            _ => return Err(refused(Kind::Unsupported, "criu does not tell its version")),
        };
        if version < OLDEST {
            let message = format!(
                "CRIU binary not found or too old: {}.{}, and {}.{} is needed",
                version.0, version.1, OLDEST.0, OLDEST.1
            );
            return Err(refused(Kind::Unsupported, message));
        }
        Ok(version)
    }

    /// Closes the connection and waits for its end.
    pub(super) fn end(mut self) {
        if let Some(pid) = self.pid.take() {
            // it ends by itself when nobody listens any more
            let _ = nix::sys::socket::shutdown(self.socket.as_raw_fd(), nix::sys::socket::Shutdown::Both);
            let _ = wait(pid);
        }
    }
}

impl Drop for Criu {
    fn drop(&mut self) {
        if let Some(pid) = self.pid.take() {
            // our own child, which nobody has waited for
            let _ = kill(pid, Signal::SIGKILL);
            let _ = wait(pid);
        }
    }
}

fn ended() -> Error {
    refused(Kind::Kernel, "criu ended before it had answered")
}

/// Returns only if it fails.
fn become_criu(name: &CString, socket: &OwnedFd, passed: &[BorrowedFd<'_>], place: &Place<'_>) -> Result<()> {
    if let Some(entry) = place.cgroup {
        entry.enter()?;
    }
    if place.cgroup_namespace {
        unshare(CloneFlags::CLONE_NEWCGROUP).call("unshare cgroup namespace")?;
    }
    if place.no_new_privileges {
        set_no_new_privs().call("prctl no_new_privs")?;
    }
    let null = || {
        fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map(OwnedFd::from)
    };
    let null = || null().path("open", "/dev/null").and_then(above_stdio);
    install_streams(&[null()?, null()?, null()?])?;
    for fd in passed.iter().map(AsRawFd::as_raw_fd).chain([socket.as_raw_fd()]) {
        inherit(fd, 1).call("pass descriptor to criu")?;
    }
    reset_signals();
    if place.can_give_up {
        survive_size_limit();
    }
    let word = |text: String| CString::new(text).map_err(|_| Error::sys("execute criu", Errno::EINVAL));
    let args = [
        word("criu".to_owned())?,
        word("swrk".to_owned())?,
        word(socket.as_raw_fd().to_string())?,
    ];
    Err(Error::sys(
        "execute criu",
        execve(name, &args, &[word(PATH.to_owned())?]),
    ))
}

/// Why criu failed: its own words from the log, else what it answered.
pub(super) fn failure(what: &'static str, response: Option<&Response>, work: &Path, log: &str) -> Error {
    let told = last_errors(&work.join(log));
    let answered = response.map(|response| match (&response.message, response.errno) {
        (Some(message), _) if !message.trim().is_empty() => message.trim().to_owned(),
        (_, Some(errno)) if errno != 0 => Errno::from_raw(errno.abs()).desc().to_owned(),
        _ => "no reason given".to_owned(),
    });
    let reason = told
        .or(answered)
        .unwrap_or_else(|| "it ended without an answer".to_owned());
    refused(Kind::Kernel, format!("criu cannot {what}: {reason}"))
}

/// The last lines of a log that tell of an error, without times and pids, which differ from one attempt to the next.
/// What comes first may be something that criu can do without.
fn last_errors(log: &Path) -> Option<String> {
    use std::io::Read as _;
    const MOST: usize = 3;
    let mut text = Vec::new();
    fs::File::open(log)
        .ok()?
        .take(MAX_LOG)
        .read_to_end(&mut text)
        .ok()?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text
        .lines()
        .filter_map(|line| line.find("Error (").map(|at| &line[at..]))
        .map(|line| line.split_once("): ").map_or(line, |(_, told)| told).trim())
        .filter(|told| !told.ends_with("FAILED."))
        .collect();
    let last = &lines[lines.len().saturating_sub(MOST)..];
    (!last.is_empty()).then(|| last.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_criu_s_own_without_times() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("dump.log"),
            "(00.000123) Version: 3.17\n(00.000124) Error (a.c:1): 1\n(00.000124) Error (a.c:1): 2\n\
             (00.000124) Error (a.c:1): 3\n(00.010203)   42: Error (criu/sk-inet.c:189): inet: Connected TCP socket\n\
             (00.020304) Error (criu/cr-dump.c:1781): Dumping FAILED.\n",
        )
        .unwrap();
        let error = failure("dump this container", None, folder.path(), "dump.log");
        assert_eq!(
            error.to_string(),
            "criu cannot dump this container: 2; 3; inet: Connected TCP socket"
        );
        let error = failure("dump this container", None, folder.path(), "none.log");
        assert!(
            error.to_string().ends_with("it ended without an answer"),
            "{error}"
        );
    }

    #[test]
    fn a_program_that_is_not_there_is_told() {
        let error = Criu::start(Path::new("/nowhere/criu"), &[], &Place::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(
            error.to_string().contains("CRIU binary not found or too old"),
            "{error}"
        );
    }

    #[test]
    fn one_that_says_nothing_is_told_and_waited_for() {
        let criu = Criu::start(Path::new("/bin/true"), &[], &Place::default()).unwrap();
        let error = criu.version().unwrap_err();
        assert_eq!(error.to_string(), "criu ended before it had answered");
        criu.end();
    }
}
