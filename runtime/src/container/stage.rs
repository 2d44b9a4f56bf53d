//! The stage: reads the configuration, makes the init, and gives it its cgroup while it builds its root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::prctl::set_dumpable;
use oci_spec::runtime::{LinuxNamespaceType, LinuxResources, Process, Spec};

use super::init::Init;
use super::lenient::Read;
use super::server::{Remote, Server};
use super::{Options, check, hooks};
use crate::cgroup;
use crate::channel::{Channel, Report};
use crate::checkpoint;
use crate::error::{Context, Result};
use crate::namespace::{IdMaps, Plan};
use crate::netdev;
use crate::process;
use crate::resctrl;
use crate::rootfs::{BlankMounts, Sources, has_idmaps, mount_label, open_proc};
#[cfg(feature = "seccomp-compile")]
use crate::seccomp;
use crate::seccomp::Filter;
use crate::sys::fd::close_but_preserved;
use crate::sys::process::{Forked, clone, exit_now};

/// Runs in a forked child, which ends when this returns.
pub(super) fn run(options: &Options, stdio: [OwnedFd; 3], listener: Option<OwnedFd>, channel: &Channel) {
    let outcome =
        isolate(options, &stdio, listener.as_ref(), channel).and_then(|()| match &options.restore {
            Some(restore) => checkpoint::run_restore(options, restore, stdio, channel),
            None => try_run(options, stdio, listener, channel),
        });
    if let Err(e) = outcome {
        channel.report_failure(&e);
    }
}

/// Lets go of what is its caller's, and keeps others off what is its own.
fn isolate(
    options: &Options,
    stdio: &[OwnedFd; 3],
    listener: Option<&OwnedFd>,
    channel: &Channel,
) -> Result<()> {
    let mut keep = vec![stdio[0].as_fd(), stdio[1].as_fd(), stdio[2].as_fd(), channel.fd()];
    keep.extend(listener.map(AsFd::as_fd));
    keep.extend(options.blank.as_ref().map(AsFd::as_fd));
    close_but_preserved(&keep, options.preserve_fds).call("close_range")?;
    // nobody may trace or read what still holds the host's privileges; execve undoes this
    set_dumpable(false).call("prctl PR_SET_DUMPABLE")
}

fn try_run(
    options: &Options,
    stdio: [OwnedFd; 3],
    listener: Option<OwnedFd>,
    channel: &Channel,
) -> Result<()> {
    let Read {
        value: spec,
        mut warnings,
    } = check::load(options)?;
    let plan = Plan::read(&spec)?;
    let options = &labelled(&spec, options);
    let cgroup = check::cgroup(&spec, options)?;
    let proc = open_proc()?;
    // a process in a user namespace could not reach what only the host's root can
    let mapped = plan.has(LinuxNamespaceType::User);
    let early = mapped || has_idmaps(&spec);
    let sources = early.then(|| open_sources(&spec, options, mapped)).transpose()?;
    warnings.extend(set_score(&spec, proc.as_fd())?);
    cgroup.check_unused()?;
    let resctrl = resctrl::Plan::read(&spec, &options.id, options.resctrl.as_deref())?;
    let devices = netdev::Plan::read(&spec, &plan)?;
    let hooks = report_hooks(&spec, options, channel)?;
    let none = LinuxResources::default();
    let resources = spec.linux().as_ref().and_then(|l| l.resources().as_ref());
    let resources = resources.unwrap_or(&none);
    report_begun(&cgroup, &plan, &spec, channel)?;
    // who is in a user namespace may not have a child born where only the host's root may enter
    let entry = make_group(&cgroup, resources)?
        .filter(|entry| entry.tree().is_none() || !plan.joins(LinuxNamespaceType::User));
    let (gate, opener) = UnixStream::pair().call("socketpair")?;
    let server = Server {
        spec: &spec,
        plan: &plan,
        cgroup: &cgroup,
        enters: entry.is_some(),
        resources,
        opener,
        resctrl: resctrl.as_ref(),
        devices: devices.as_ref(),
        hooks: hooks.as_ref(),
        channel,
    };
    let server = match server.needs_hosts_namespaces() {
        true => Serving::Remote(server.begin()?),
        false => Serving::Here(server),
    };
    plan.prepare_time(spec.linux().as_ref().and_then(|l| l.time_offsets().as_ref()))?;
    plan.join()?;
    let tree = entry.as_ref().and_then(cgroup::Entry::tree);
    let blank = blank_of(options, &spec, mapped, hooks.as_ref());
    let new = flags(&plan, blank);
    match clone(new, true, tree, channel.birth()).call("clone container init")? {
        Forked::Child(_child) => {
            drop(server);
            let filter = filter_of(&spec, options, proc.as_fd()).unwrap_or_else(|e| {
                channel.report_failure(&e);
                exit_now(1)
            });
            let init = Init {
                options,
                spec: &spec,
                plan: &plan,
                blank,
                cgroup: &cgroup,
                entry,
                filter,
                stdio,
                listener,
                proc,
                channel,
                gate,
                hooks: hooks.as_ref(),
                warnings,
            };
            init.run(sources);
            exit_now(1);
        }
        Forked::Parent(pid) => {
            channel.report(&Report::Init { pid: pid.as_raw() })?;
            drop((gate, stdio, listener, entry));
            match server {
                Serving::Here(server) => server.serve(pid),
                Serving::Remote(server) => server.serve(pid)?,
            }
            Ok(())
        }
    }
}

/// Makes the cgroup. Without an entry, which systemd's have none of yet, the init is moved into it later.
fn make_group(cgroup: &cgroup::Handle, resources: &LinuxResources) -> Result<Option<cgroup::Entry>> {
    if cgroup.is_systemds() {
        return Ok(None);
    }
    cgroup.create()?;
    cgroup.limit_devices(resources)?;
    cgroup.entry().map(Some)
}

/// Inherited by the init, which in a user namespace could not set it. What could not be done is told as a warning.
fn set_score(spec: &Spec, proc: BorrowedFd<'_>) -> Result<Vec<String>> {
    let score = spec.process().as_ref().and_then(Process::oom_score_adj);
    let warning = score.and_then(|score| process::set_oom_score(proc, score).transpose());
    Ok(warning.transpose()?.into_iter().collect())
}

/// The blank mount namespace, where that will do: a user namespace's root may not enter it, hooks are promised the
/// host's paths, and a folder of the host's that is the root is to go on hearing of the host's mounts, if the configuration
/// asks for that.
fn blank_of<'a>(
    options: &'a Options,
    spec: &Spec,
    mapped: bool,
    hooks: Option<&hooks::Plan>,
) -> Option<&'a BlankMounts> {
    let propagation = spec
        .linux()
        .as_ref()
        .and_then(|l| l.rootfs_propagation().as_deref());
    let hears = options.overlay.is_none()
        && propagation.is_some_and(|name| ["shared", "rshared", "slave", "rslave"].contains(&name));
    let will_do = !mapped && hooks.is_none() && !options.no_pivot && !hears;
    options.blank.as_ref().filter(|_| will_do)
}

/// What clone3 is to make; a copy of the blank mount namespace the init makes itself.
fn flags(plan: &Plan, blank: Option<&BlankMounts>) -> u64 {
    match blank {
        Some(_) => plan.clone_flags() & !(LinuxNamespaceType::Mount as u64),
        None => plan.clone_flags(),
    }
}

/// From here on something is made that is to be undone.
fn report_begun(cgroup: &cgroup::Handle, plan: &Plan, spec: &Spec, channel: &Channel) -> Result<()> {
    let resources = spec.linux().as_ref().and_then(|l| l.resources().as_ref());
    channel.report(&Report::Begun {
        cgroup: cgroup.name().to_string_lossy().into_owned(),
        namespaces: plan.all(),
        owns_pids: plan.is_new(LinuxNamespaceType::Pid),
        memory: resources.and_then(|r| r.memory().as_ref()?.limit()),
    })?;
    channel.report_machine(spec)
}

/// The container's hooks, of which the maker is to know.
fn report_hooks(spec: &Spec, options: &Options, channel: &Channel) -> Result<Option<hooks::Plan>> {
    let hooks = hooks::Plan::read(spec, &options.id, &options.bundle)?;
    if let Some(hooks) = &hooks {
        channel.report_with(&Report::Hooks {}, &[hooks.to_file()?.as_fd()])?;
    }
    Ok(hooks)
}

/// The filter given, or that of the configuration where this build can compile it.
fn filter_of(spec: &Spec, options: &Options, proc: BorrowedFd<'_>) -> Result<Option<Filter>> {
    if let Some(path) = &options.seccomp_filter {
        return Filter::read(path).map(Some);
    }
    #[cfg(feature = "seccomp-compile")]
    {
        let pid = process::pid_seen_by(proc)?;
        let told = seccomp::Told {
            id: &options.id,
            bundle: &options.bundle,
            pid,
            status: "creating",
            init: pid,
        };
        seccomp::of_spec(spec, &told)
    }
    #[cfg(not(feature = "seccomp-compile"))]
    {
        let _ = (spec, proc);
        Ok(None)
    }
}

/// The root's files have the label of the container's mounts.
pub(super) fn labelled(spec: &Spec, options: &Options) -> Options {
    let mut options = options.clone();
    if let (Some(label), Some(overlay)) = (mount_label(spec), &mut options.overlay) {
        overlay.options.push(format!("context={label}"));
    }
    options
}

fn open_sources(spec: &Spec, options: &Options, with_root: bool) -> Result<Sources> {
    let mut maps = IdMaps::new(spec);
    let mut sources = Sources::open(spec, &options.bundle, options.strict_propagation, &mut maps)?;
    if with_root {
        sources.mount_root(options.overlay.as_ref(), &mut maps)?;
    }
    Ok(sources)
}

/// Where the server is.
enum Serving<'a> {
    Here(Server<'a>),
    Remote(Remote),
}
