//! The cgroup that a container is restored in.
//!
//! One of systemd's is made for a process that is to be in it, and gone again once none is. criu can be born in a group, but
//! not move into one that comes later; so a process that does nothing holds it until criu is inside.

use std::io::Read as _;
use std::os::unix::net::UnixStream;

use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;

use crate::cgroup::{Entry, Handle};
use crate::error::{Context, Result};
use crate::sys::process::{Forked, exit_now, fork, wait};

/// The group, made, and its doors.
#[derive(Debug)]
pub(super) struct Group {
    entry: Entry,
    holder: Option<Holder>,
}

/// A process that ends with the other end of its socket.
#[derive(Debug)]
struct Holder {
    pid: Pid,
    gate: Option<UnixStream>,
}

impl Group {
    /// Makes it. The caller has one thread.
    pub(super) fn make(handle: &Handle, resources: &LinuxResources) -> Result<Self> {
        let holder = match handle.is_systemds() {
            true => {
                let holder = Holder::start()?;
                handle.admit(holder.pid, resources)?;
                Some(holder)
            }
            false => {
                handle.create()?;
                None
            }
        };
        Ok(Self {
            entry: handle.entry()?,
            holder,
        })
    }

    /// The ways into it.
    pub(super) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Somebody else is inside.
    pub(super) fn is_held(&mut self) {
        self.holder = None;
    }
}

impl Holder {
    fn start() -> Result<Self> {
        let (ours, mut theirs) = UnixStream::pair().call("socketpair")?;
        match fork().call("fork")? {
            Forked::Parent(pid) => Ok(Self {
                pid,
                gate: Some(ours),
            }),
            Forked::Child(_child) => {
                drop(ours);
                // Nothing ever comes but the end, also that of whoever waits.
                let _ = theirs.read(&mut [0]);
                exit_now(0)
            }
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.gate = None;
        // Our own child, which ends now; it may also have been killed with its group.
        let _ = wait(self.pid);
    }
}
