//! What the processes that set up a container tell their maker, over one SOCK_SEQPACKET pair.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, accept4, socketpair};
use nix::unistd::Pid;
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Kind, Result};
use crate::process::Machine;
use crate::resctrl::Groups;
use crate::sys::birth::Birth;
use crate::sys::fd::{own, recv_with_fds, retry, send_with_fds};

/// Error texts are cut to this many bytes, so that a message always fits.
const MAX_TEXT: usize = 4 * 1024;

/// A message is never larger, even if JSON escapes every byte of its text.
const MAX_MESSAGE: usize = 32 * 1024;

/// From a set-up process to its maker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The container's cgroup is its alone and is about to be made.
    Begun {
        /// The cgroup, relative to the hierarchies' roots.
        cgroup: String,
        /// `CLONE_NEW*` of the container's namespaces.
        namespaces: i32,
        /// Whether the init is the first process of a pid namespace, with which all others in it end.
        owns_pids: bool,
        /// `linux.resources.memory.limit`, in bytes.
        memory: Option<i64>,
    },
    /// The container has hooks; a file with them comes with this message.
    Hooks {},
    /// What the container's further processes are to have, too.
    Machine(Machine),
    /// The container is in groups of the resctrl file system. Told again whenever another one has been made.
    Resctrl { groups: Groups },
    /// The process exists and is the maker's child.
    Init { pid: i32 },
    /// The process is in its cgroup and limited; the stage ends.
    Limited { warnings: Vec<String> },
    /// The master of the process's terminal comes with this message.
    Console {},
    /// The init waits to be started.
    Ready { warnings: Vec<String> },
    /// It did not work out.
    Failed { kind: Kind, message: String },
}

/// An end of the channel.
#[derive(Debug)]
pub(crate) struct Channel {
    fd: OwnedFd,
    /// Of the process that is set up.
    birth: Option<Arc<Birth>>,
}

impl Channel {
    /// Both ends: the maker's and the set-up processes'.
    pub(crate) fn pair() -> Result<(Self, Self)> {
        let (a, b) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .call("socketpair")?;
        let birth = Some(Arc::new(Birth::new().call("mmap")?));
        let theirs = Self {
            fd: crate::process::above_stdio(b)?,
            birth: birth.clone(),
        };
        Ok((Self { fd: a, birth }, theirs))
    }

    pub(crate) fn from_fd(fd: OwnedFd) -> Self {
        Self { fd, birth: None }
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// To be given to clone3(2) by whoever makes the process.
    pub(crate) fn birth(&self) -> Option<&Birth> {
        self.birth.as_deref()
    }

    /// The process that is set up, if it has been made: also where its maker was killed before he told.
    pub(crate) fn born(&self) -> Option<Pid> {
        self.birth()?.pid()
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Tells the maker something. If it is gone there is nobody left to do this for.
    pub(crate) fn report(&self, report: &Report) -> Result<()> {
        self.report_with(report, &[])
    }

    /// Tells the maker something and gives it descriptors.
    pub(crate) fn report_with(&self, report: &Report, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let data = serde_json::to_vec(report).map_err(|_| Error::sys("encode report", Errno::EINVAL))?;
        let fds: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        send_with_fds(self.fd(), &data, &fds).call("report to maker")?;
        Ok(())
    }

    /// Tells the maker what further processes of the container are to have, if that is anything.
    pub(crate) fn report_machine(&self, spec: &Spec) -> Result<()> {
        Machine::of(spec).map_or(Ok(()), |machine| self.report(&Report::Machine(machine)))
    }

    /// Tells the maker why it did not work out.
    pub(crate) fn report_failure(&self, error: &Error) {
        let mut message = error.to_string();
        if message.len() > MAX_TEXT {
            let end = (0..=MAX_TEXT)
                .rev()
                .find(|i| message.is_char_boundary(*i))
                .unwrap_or(0);
            message.truncate(end);
        }
        // if this fails, too, the maker sees the end of the channel
        let _ = self.report(&Report::Failed {
            kind: error.kind(),
            message,
        });
    }

    /// The next report; None when all set-up processes have closed their ends.
    pub(crate) fn receive(&self) -> Result<Option<(Report, Vec<OwnedFd>)>> {
        self.receive_with(MsgFlags::empty())
    }

    /// The next report, if there is one: the outer None is none yet, the inner one that there will be no more.
    #[expect(clippy::type_complexity, reason = "as it is received, or not yet")]
    pub(crate) fn try_receive(&self) -> Result<Option<Option<(Report, Vec<OwnedFd>)>>> {
        match self.receive_with(MsgFlags::MSG_DONTWAIT) {
            Ok(received) => Ok(Some(received)),
            Err(e) if e.errno() == Some(Errno::EAGAIN) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The pid of the process, if it is among the reports that lie there unread. Whoever clones the process and the
    /// process itself report independently, so that a failure may be heard of first.
    pub(crate) fn pending_init(&self) -> Option<Pid> {
        while let Ok(Some((report, _))) = self.receive_with(MsgFlags::MSG_DONTWAIT) {
            if let Report::Init { pid } = report {
                return Some(Pid::from_raw(pid));
            }
        }
        None
    }

    fn receive_with(&self, flags: MsgFlags) -> Result<Option<(Report, Vec<OwnedFd>)>> {
        let mut buf = vec![0; MAX_MESSAGE];
        let (len, fds) = match recv_with_fds(self.fd(), &mut buf, flags) {
            Ok((0, _)) | Err(Errno::ECONNRESET) => return Ok(None),
            other => other.call("receive report")?,
        };
        let report =
            serde_json::from_slice(&buf[..len]).map_err(|_| Error::sys("decode report", Errno::EPROTO))?;
        Ok(Some((report, fds)))
    }

    /// Waits on a listening socket until somebody connects who lets this process go; the connection to him.
    pub(crate) fn accept_release(listener: &OwnedFd) -> Result<Self> {
        loop {
            let accepted = retry(|| accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC));
            let channel = Self::from_fd(crate::process::above_stdio(own(accepted.call("accept")?))?);
            // one who has gone again may be followed by another
            if channel.wait_for_release() {
                return Ok(channel);
            }
        }
    }

    /// Lets the init go.
    pub(crate) fn release(&self) -> nix::Result<()> {
        send_with_fds(self.fd(), b"!", &[]).map(|_| ())
    }

    /// Waits to be let go; false if the maker has closed its end instead.
    pub(crate) fn wait_for_release(&self) -> bool {
        let mut byte = [0];
        matches!(recv_with_fds(self.fd(), &mut byte, MsgFlags::empty()), Ok((1, _)))
    }
}
