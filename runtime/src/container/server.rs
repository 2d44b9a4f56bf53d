//! What the init can't do itself and has done for it, side by side with what it does: its ids, its cgroup, its limits,
//! and the hooks of the runtime's namespaces.
//!
//! This takes the host's privileges. A stage that joins a user namespace has none left, so that it has a child do this
//! that was forked before.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::unistd::{Pid, pipe2};
use oci_spec::runtime::{LinuxNamespaceType, LinuxResources, Spec};

use super::hooks::{self, Kind};
use crate::cgroup::{self, Mode};
use crate::channel::{Channel, Report};
use crate::error::{Context, Result};
use crate::namespace::{Plan, root_outside, write_map};
use crate::netdev;
use crate::resctrl;
use crate::sys::process::{Forked, exit_now, fork, set_parent_death_signal, wait};

/// Names the files of a cgroup that come with the right to divide it up (cgroups(7)).
const DELEGATE: &str = "/sys/kernel/cgroup/delegate";

/// What it works on.
pub(super) struct Server<'a> {
    pub(super) spec: &'a Spec,
    pub(super) plan: &'a Plan,
    pub(super) cgroup: &'a cgroup::Handle,
    /// Whether the init enters its cgroup by itself.
    pub(super) enters: bool,
    pub(super) resources: &'a LinuxResources,
    /// A byte in here lets the init go on, twice if there are hooks.
    pub(super) opener: UnixStream,
    pub(super) resctrl: Option<&'a resctrl::Plan>,
    pub(super) devices: Option<&'a netdev::Plan>,
    pub(super) hooks: Option<&'a hooks::Plan>,
    pub(super) channel: &'a Channel,
}

impl Server<'_> {
    /// Whether a stage that joins the container's namespaces can't do this any more: in a user namespace it has not the
    /// host's privileges, in another's mount namespace it doesn't find the host's cgroups, devices are moved from the
    /// runtime's network namespace, and hooks run in all of the runtime's.
    pub(super) fn needs_hosts_namespaces(&self) -> bool {
        let joins = |kind| self.plan.joins(kind);
        let has_hooks = self.hooks.is_some_and(hooks::Plan::has_any_of_runtime);
        joins(LinuxNamespaceType::User)
            || joins(LinuxNamespaceType::Mount)
            || (joins(LinuxNamespaceType::Network) && self.devices.is_some())
            || (has_hooks && self.plan.joins_any())
    }

    /// Does it in this process, and reports what fails: before the init hears of it, which would only know that nobody
    /// opens its gate any more.
    pub(super) fn serve(self, pid: Pid) {
        if let Err(e) = self.try_serve(pid) {
            self.channel.report_failure(&e);
        }
    }

    fn try_serve(&self, pid: Pid) -> Result<()> {
        let linux = self.spec.linux().as_ref();
        if self.plan.is_new(LinuxNamespaceType::User) {
            let uids = linux.and_then(|l| l.uid_mappings().as_deref());
            let gids = linux.and_then(|l| l.gid_mappings().as_deref());
            write_map(pid, "uid_map", uids.unwrap_or_default())?;
            write_map(pid, "gid_map", gids.unwrap_or_default())?;
        }
        if !self.enters {
            self.cgroup.admit(pid, self.resources)?;
        }
        if self.plan.has(LinuxNamespaceType::User) && self.plan.is_new(LinuxNamespaceType::Cgroup) {
            delegate(self.cgroup, pid)?;
        }
        if let Some(resctrl) = self.resctrl {
            resctrl.apply(pid.as_raw(), |groups| {
                let groups = groups.clone();
                self.channel.report(&Report::Resctrl { groups })
            })?;
        }
        if let Some(devices) = self.devices {
            devices.apply(&Path::new("/proc").join(pid.to_string()).join("ns/net"))?;
        }
        self.open_gate()?;
        if !self.run_hooks(pid)? {
            return Ok(());
        }
        // last, so that a small CPU quota doesn't slow the set-up down
        let warnings = self.cgroup.limit(self.resources)?;
        self.channel.report(&Report::Limited { warnings })
    }

    fn open_gate(&self) -> Result<()> {
        (&self.opener)
            .write_all(b"!")
            .path("open gate", Path::new("of init"))
    }

    /// Hooks of the runtime's namespaces, when the init has mounted everything; false if it never has.
    fn run_hooks(&self, pid: Pid) -> Result<bool> {
        let Some(hooks) = self.hooks.filter(|hooks| hooks.has_any_of_runtime()) else {
            return Ok(true);
        };
        if (&self.opener).read_exact(&mut [0]).is_err() {
            return Ok(false);
        }
        hooks.run(Kind::Prestart, pid.as_raw(), &[])?;
        hooks.run(Kind::CreateRuntime, pid.as_raw(), &[])?;
        self.open_gate()?;
        Ok(true)
    }

    /// Begins a process that does it once the init's pid is known.
    pub(super) fn begin(self) -> Result<Remote> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC).call("pipe")?;
        match fork().call("fork")? {
            Forked::Child(_child) => {
                drop(write);
                // what a stage that is killed was about to make nobody would undo
                if set_parent_death_signal(nix::libc::SIGKILL).is_err() {
                    exit_now(1);
                }
                let mut pid = [0; size_of::<i32>()];
                // without a pid there is no init to do this for
                if File::from(read).read_exact(&mut pid).is_ok() {
                    self.serve(Pid::from_raw(i32::from_ne_bytes(pid)));
                }
                exit_now(0);
            }
            Forked::Parent(child) => Ok(Remote {
                child,
                pid: File::from(write),
            }),
        }
    }
}

/// A server that is another process.
pub(super) struct Remote {
    child: Pid,
    pid: File,
}

impl Remote {
    /// Has it done for this init; failures it reports itself.
    pub(super) fn serve(mut self, pid: Pid) -> Result<()> {
        self.pid
            .write_all(&pid.as_raw().to_ne_bytes())
            .call("tell the init's pid")?;
        drop(self.pid);
        wait(self.child).call("wait for container set-up")?;
        Ok(())
    }
}

/// Gives the group to the root of the container's user namespace, who may then divide it up further.
fn delegate(cgroup: &cgroup::Handle, pid: Pid) -> Result<()> {
    let (Mode::V2, Some((uid, gid))) = (cgroup::detect(), root_outside(pid)?) else {
        return Ok(());
    };
    let give = |path: &Path| chown(path, Some(uid), Some(gid)).path("set owner of", path);
    let files =
        fs::read_to_string(DELEGATE).unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\n".to_owned());
    for folder in cgroup::manager().folders(cgroup.path()) {
        give(&folder)?;
        for file in files
            .lines()
            .map(|name| folder.join(name))
            .filter(|file| file.exists())
        {
            give(&file)?;
        }
    }
    Ok(())
}
