//! The stage: reads the configuration, makes the init, and gives it its cgroup while it builds its root.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::prctl::set_dumpable;
use nix::unistd::{Pid, pipe2};
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, LinuxResources, Spec};

use super::init::Init;
use super::{Options, check};
use crate::cgroup;
use crate::channel::{Channel, Report};
use crate::error::{Context, Result};
use crate::namespace::Plan;
use crate::rootfs::{Sources, open_proc};
use crate::seccomp::Filter;
use crate::sys::fd::close_all_but;
use crate::sys::process::{Forked, clone, exit_now};

/// Runs in a forked child, which ends when this returns.
pub(super) fn run(options: &Options, stdio: [OwnedFd; 3], channel: &Channel) {
    if let Err(e) = try_run(options, stdio, channel) {
        channel.report_failure(&e);
    }
}

fn try_run(options: &Options, stdio: [OwnedFd; 3], channel: &Channel) -> Result<()> {
    close_all_but(&[stdio[0].as_fd(), stdio[1].as_fd(), stdio[2].as_fd(), channel.fd()])
        .call("close_range")?;
    // nobody may trace or read what still holds the host's privileges; execve undoes this
    set_dumpable(false).call("prctl PR_SET_DUMPABLE")?;
    let spec = check::load(options)?;
    let plan = Plan::read(&spec)?;
    let path = check::cgroup_path(&spec, &options.id)?;
    let cgroup = cgroup::Handle::new(&path)?;
    let filter = options.seccomp_filter.as_deref().map(Filter::read).transpose()?;
    let proc = open_proc()?;
    // a process in a user namespace could not reach what only the host's root can
    let sources = match plan.is_new(LinuxNamespaceType::User) {
        true => Some(Sources::open(&spec, &options.bundle, options.strict_propagation)?),
        false => None,
    };
    plan.prepare_time(spec.linux().as_ref().and_then(|l| l.time_offsets().as_ref()))?;
    plan.join()?;
    cgroup.check_unused()?;
    channel.report(&Report::Begun {
        cgroup: path,
        namespaces: plan.all(),
    })?;
    let (gate, opener) = pipe2(OFlag::O_CLOEXEC).call("pipe")?;
    match clone(plan.clone_flags(), true, None).call("clone container init")? {
        Forked::Child(_child) => {
            drop(opener);
            let gate = File::from(gate);
            let init = Init {
                options,
                spec: &spec,
                plan: &plan,
                cgroup: &cgroup,
                filter,
                stdio,
                proc,
                channel,
                gate,
            };
            init.run(sources);
            exit_now(1);
        }
        Forked::Parent(pid) => {
            channel.report(&Report::Init { pid: pid.as_raw() })?;
            drop((gate, stdio));
            serve(&spec, &plan, &cgroup, pid, opener, channel)
        }
    }
}

/// What the init can't do itself, side by side with what it does.
fn serve(
    spec: &Spec,
    plan: &Plan,
    cgroup: &cgroup::Handle,
    pid: Pid,
    opener: OwnedFd,
    channel: &Channel,
) -> Result<()> {
    let linux = spec.linux().as_ref();
    if plan.is_new(LinuxNamespaceType::User) {
        write_map(
            pid,
            "uid_map",
            linux
                .and_then(|l| l.uid_mappings().as_deref())
                .unwrap_or_default(),
        )?;
        write_map(
            pid,
            "gid_map",
            linux
                .and_then(|l| l.gid_mappings().as_deref())
                .unwrap_or_default(),
        )?;
    }
    let none = LinuxResources::default();
    let resources = linux.and_then(|l| l.resources().as_ref()).unwrap_or(&none);
    cgroup.create()?;
    cgroup.limit_devices(resources)?;
    cgroup.join(pid)?;
    File::from(opener)
        .write_all(b"!")
        .path("open gate", Path::new("of init"))?;
    // last, so that a small CPU quota doesn't slow the set-up down
    let warnings = cgroup.update(resources)?;
    channel.report(&Report::Limited { warnings })
}

fn write_map(pid: Pid, name: &str, mappings: &[LinuxIdMapping]) -> Result<()> {
    let path = format!("/proc/{pid}/{name}");
    let text: String = mappings
        .iter()
        .map(|m| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size()))
        .collect();
    // one write(2): the kernel takes a map only as a whole
    std::fs::write(&path, text).path("write", &path)
}
