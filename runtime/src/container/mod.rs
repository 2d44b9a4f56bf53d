//! Making, starting and entering containers.
//!
//! ```text
//!   caller (single-threaded)       stage                         init
//!     prepare ── fork ────────────▶ config.json, joins namespaces
//!     │                             ├─ clone (sibling) ─────────▶ mount namespace, root, mounts, devices,
//!     │ ◀─ Begun, Init{pid} ─────── │                             … needs its cgroup:
//!     │                             cgroup made, init put in ───▶ gate: cgroup namespace, cgroup mounts
//!     │                             limits                        hostname, sysctls, pivot, masks
//!     │ ◀─ Limited ──────────────── exit                          │
//!     │ ◀─ Ready ──────────────────────────────────────────────── waits
//!     start ─── a byte ─────────────────────────────────────────▶ rlimits, user, capabilities, seccomp,
//!     │ ◀─ end of file: execve succeeded, or Failed ───────────── execve
//! ```
//!
//! A stage that joins a user namespace forks another process first, which does the cgroup's part in its place.
//!
//! Stage and init work side by side. The init is the caller's own child. A failure anywhere travels as `Failed` and
//! undoes everything: the processes are killed and waited for, the cgroup is removed.

mod basis;
mod check;
mod ended;
mod exec;
pub(crate) mod hooks;
mod init;
pub(crate) mod lenient;
mod making;
mod prepare;
mod server;
mod stage;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use oci_spec::runtime::Spec;

pub(crate) use check::read as read_config;
pub use exec::{Entering, exec};
pub use making::Making;
pub use prepare::{
    begin_start, poll_start, prepare, prepare_waiting, prepare_with, remove, start, start_over,
};

pub(crate) use basis::Basis;

use crate::cgroup;
use crate::checkpoint::Restore;
use crate::foreign::Foreign;
use crate::process::Machine;
use crate::protocol::{CreateContainer, ForeignRuntime, Overlay};
use crate::resctrl;
use crate::rootfs::BlankMounts;

/// What becomes the process's standard streams. With a terminal they are not used.
#[derive(Debug)]
pub struct InitStdio {
    /// Read by the process.
    pub stdin: OwnedFd,
    /// Written by the process.
    pub stdout: OwnedFd,
    /// Written by the process.
    pub stderr: OwnedFd,
}

/// What to make a container from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Names the cgroup if the specification doesn't.
    pub id: String,
    /// The folder of config.json.
    pub bundle: PathBuf,
    /// Mounted on `root.path`; without it that folder itself is the root.
    pub overlay: Option<Overlay>,
    /// A compiled filter that takes the place of `linux.seccomp`.
    pub seccomp_filter: Option<PathBuf>,
    /// Refuse mounts that are to propagate from sources that can't.
    pub strict_propagation: bool,
    /// Have the terminal make `\r\n` of line ends, for clients whose own terminal is in raw mode.
    pub terminal_newlines: bool,
    /// How many descriptors from 3 on the process inherits from the caller.
    pub preserve_fds: u32,
    /// Move the root onto the old one instead of pivoting, which a root on a ramdisk doesn't allow.
    pub no_pivot: bool,
    /// Who makes the cgroup.
    pub cgroups: Cgroups,
    /// Its processes are those of a checkpoint, which go on when it is started.
    pub restore: Option<Restore>,
    /// Have another runtime make it.
    pub runtime: Option<ForeignRuntime>,
    /// The root of the resctrl file system; none is where the host has it mounted.
    pub resctrl: Option<PathBuf>,
    /// What its mount namespace starts from where that will do; else, and without it, from a copy of the caller's.
    pub blank: Option<BlankMounts>,
}

/// Who makes a container's cgroup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cgroups {
    /// As `linux.cgroupsPath` says by its form.
    #[default]
    ByName,
    /// Ourselves; a group of systemd's is refused.
    Files,
    /// systemd; a path is refused.
    Systemd,
}

impl Options {
    fn foreign(&self) -> Option<Foreign> {
        self.runtime.clone().map(|runtime| Foreign {
            runtime,
            id: self.id.clone(),
            bundle: self.bundle.clone(),
        })
    }
}

impl From<&CreateContainer> for Options {
    fn from(request: &CreateContainer) -> Self {
        Self {
            id: request.id.clone(),
            bundle: request.bundle.clone(),
            overlay: request.rootfs.clone(),
            seccomp_filter: request.seccomp_filter.clone(),
            strict_propagation: true,
            terminal_newlines: true,
            preserve_fds: 0,
            no_pivot: false,
            cgroups: Cgroups::ByName,
            restore: None,
            runtime: request.runtime.clone(),
            resctrl: None,
            blank: None,
        }
    }
}

/// A container whose init waits to be started.
#[derive(Debug)]
pub struct Prepared {
    /// The init, a child of the caller.
    pub pid: Pid,
    /// Refers to the init.
    pub pidfd: OwnedFd,
    /// The caller's end of the socket to the init; closing it before [`start`] ends the init.
    pub start: OwnedFd,
    /// The master of the container's terminal, if it has one.
    pub console: Option<OwnedFd>,
    /// Its cgroup.
    pub cgroup: cgroup::Handle,
    /// Tells whether the kernel has killed its processes for lack of memory.
    pub oom_watch: cgroup::OomWatch,
    /// `CLONE_NEW*` of the namespaces that an exec has to join.
    pub namespaces: i32,
    /// Whether its init is the first process of a pid namespace: the kernel ends all others in it with that one, and
    /// before that is waited for. Nobody else traces them.
    pub owns_pids: bool,
    /// As [`Options::terminal_newlines`].
    pub terminal_newlines: bool,
    /// What could not be done but may be done without, for the log.
    pub warnings: Vec<String>,
    /// Who has made it, if that was another runtime.
    pub foreign: Option<Foreign>,
    /// What its further processes have, too.
    machine: Option<Box<Machine>>,
    /// Its groups of the resctrl file system.
    pub(crate) resctrl: Option<resctrl::Groups>,
    /// Those that are still to run.
    hooks: Option<hooks::Plan>,
}

impl Prepared {
    /// What [`exec`] needs to know of this container.
    pub fn exec_target(&self) -> ExecTarget<'_> {
        use std::os::fd::AsFd;
        ExecTarget {
            init_pidfd: self.pidfd.as_fd(),
            cgroup: &self.cgroup,
            namespaces: self.namespaces,
            terminal_newlines: self.terminal_newlines,
            adopts_orphans: false,
            preserve_fds: 0,
            foreign: self.foreign.as_ref(),
            resctrl: self.resctrl.as_ref(),
            below: &[],
            machine: self.machine.as_deref(),
            told: None,
        }
    }
}

/// A container as a process of it is told of: by its configuration, and by what a seccomp listener hears.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    not(feature = "seccomp-compile"),
    expect(dead_code, reason = "listeners hear of it where filters are compiled")
)]
pub(crate) struct Told<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) id: &'a str,
    pub(crate) bundle: &'a Path,
}

/// A running container that a further process is to enter.
#[derive(Debug, Clone, Copy)]
pub struct ExecTarget<'a> {
    /// Refers to its init.
    pub init_pidfd: BorrowedFd<'a>,
    /// Its cgroup.
    pub cgroup: &'a cgroup::Handle,
    /// `CLONE_NEW*` of its namespaces.
    pub namespaces: i32,
    /// As [`Options::terminal_newlines`].
    pub terminal_newlines: bool,
    /// Have the process adopt those of its descendants that lose their parent, in place of the container's init, as long
    /// as it lives: so that they can be told from the container's other processes.
    pub adopts_orphans: bool,
    /// As [`Options::preserve_fds`].
    pub preserve_fds: u32,
    /// Who has made it, if that was another runtime.
    pub foreign: Option<&'a Foreign>,
    /// Its groups of the resctrl file system.
    pub(crate) resctrl: Option<&'a resctrl::Groups>,
    /// Groups below its cgroup, to be in there instead.
    pub(crate) below: &'a [cgroup::Below],
    /// What the process has in common with its init.
    pub(crate) machine: Option<&'a Machine>,
    /// How it is named to the listener of its seccomp profile, if the filter is to be compiled for it.
    #[cfg_attr(
        not(feature = "seccomp-compile"),
        expect(dead_code, reason = "filters are compiled elsewhere")
    )]
    pub(crate) told: Option<&'a Told<'a>>,
}

/// A process that has entered a container, and may have ended since.
#[derive(Debug)]
pub struct Entered {
    /// A child of the caller.
    pub pid: Pid,
    /// The master of its terminal, if it has one.
    pub console: Option<OwnedFd>,
    /// What could not be done but may be done without, for the log.
    pub warnings: Vec<String>,
}

/// A process that has entered a container.
#[derive(Debug)]
pub struct ExecStarted {
    /// A child of the caller.
    pub pid: Pid,
    /// Refers to it.
    pub pidfd: OwnedFd,
    /// The master of its terminal, if it has one.
    pub console: Option<OwnedFd>,
    /// What could not be done but may be done without, for the log.
    pub warnings: Vec<String>,
}
