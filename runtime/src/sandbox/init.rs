//! Process 1 of a shared pid namespace: reaps, and otherwise does nothing at all, with no right to do anything.
//!
//! It ends on SIGTERM from outside its namespace (signals of the containers it holds don't count) and with the
//! process that made it; the kernel then kills all others of the namespace. It sees an empty file system and is in
//! the pod's namespaces, so that a container with the right to trace it finds nothing of the host in it.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::prctl::{set_dumpable, set_name, set_no_new_privs};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, setsid};
use oci_spec::runtime::LinuxResources;

use super::PINS;
use super::setup::pin;
use crate::cgroup;
use crate::channel::{Channel, Report};
use crate::error::{Context, Error, Result};
use crate::process::{Sets, set_oom_score};
use crate::protocol::{NamespaceKind, SandboxSetup};
use crate::rootfs::{enter_blank_root, open_proc};
use crate::sys::cred::become_root;
use crate::sys::fd::{close_all_but, close_number};
use crate::sys::process::{Forked, clone, exit_now, fork, set_parent_death_signal, setns, wait};

/// The kubelet's score for what holds a pod together.
const OOM_SCORE: i32 = -998;

/// The pod's other namespaces; of those the user namespace must come first.
const OTHERS: [NamespaceKind; 4] = [
    NamespaceKind::User,
    NamespaceKind::Net,
    NamespaceKind::Ipc,
    NamespaceKind::Uts,
];

/// Starts it and pins its pid namespace. It ends with the thread that calls this.
pub(super) fn start(dir: &Path, setup: &SandboxSetup) -> Result<Pid> {
    let pins = dir.join(PINS);
    let group = setup
        .init_cgroup
        .as_deref()
        .map(cgroup::Handle::new)
        .transpose()?;
    if let Some(group) = group.as_ref().filter(|group| !group.is_systemds()) {
        group.create()?;
    }
    let (ours, theirs) = Channel::pair()?;
    let stage = match fork().call("fork")? {
        Forked::Parent(pid) => pid,
        Forked::Child(_child) => {
            in_stage(&pins, setup, theirs);
            exit_now(0);
        }
    };
    drop(theirs);
    let mut init = None;
    let listened = listen(&ours, &mut init);
    let done = wait(stage)
        .call("wait for sandbox init")
        .map(|_| init = init.or_else(|| ours.pending_init()))
        .and(listened)
        .and_then(|()| init.ok_or(Error::sys("sandbox init was not reported", Errno::EPROTO)))
        .and_then(|pid| {
            if let Some(group) = group.as_ref().filter(|group| !enters(group, setup)) {
                group.admit(pid, &LinuxResources::default())?;
            }
            pin(&pins, pid, NamespaceKind::Pid)?;
            Ok(pid)
        });
    if done.is_err() {
        if let Some(pid) = init {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = wait(pid);
        }
        if let Some(group) = group {
            let _ = group.remove();
        }
    }
    done
}

/// Whether the init gets into its group by itself: a stage in a user namespace may not have its child born where only
/// the host's root may enter, and a group of systemd's is made for a process that is there.
fn enters(group: &cgroup::Handle, setup: &SandboxSetup) -> bool {
    !group.is_systemds() && !setup.namespaces.contains(&NamespaceKind::User)
}

fn listen(channel: &Channel, init: &mut Option<Pid>) -> Result<()> {
    loop {
        match channel.receive()? {
            Some((Report::Init { pid }, _)) => *init = Some(Pid::from_raw(pid)),
            Some((Report::Ready { .. }, _)) => return Ok(()),
            Some((Report::Failed { kind, message }, _)) => return Err(Error::Remote { kind, message }),
            Some(_) => return Err(Error::sys("sandbox init: unexpected report", Errno::EPROTO)),
            None => {
                return Err(Error::Ended {
                    what: "sandbox init",
                    status: "while starting".to_owned(),
                });
            }
        }
    }
}

fn in_stage(pins: &Path, setup: &SandboxSetup, channel: Channel) {
    match make_init(pins, setup, &channel) {
        Ok(Forked::Parent(pid)) => {
            // a maker that is gone sees to it by PR_SET_PDEATHSIG
            let _ = channel.report(&Report::Init { pid: pid.as_raw() });
        }
        Ok(Forked::Child(_child)) => match confine(setup) {
            Ok(signals) => {
                let told = channel.report(&Report::Ready { warnings: Vec::new() });
                drop(channel);
                if told.is_ok() {
                    reap(&signals);
                }
            }
            Err(e) => channel.report_failure(&e),
        },
        Err(e) => channel.report_failure(&e),
    }
}

/// Enters the pod's other namespaces and clones the init.
fn make_init(pins: &Path, setup: &SandboxSetup, channel: &Channel) -> Result<Forked> {
    close_all_but(&[channel.fd()]).call("close_range")?;
    // of standard streams it has no use, either
    (0..3).for_each(close_number);
    set_dumpable(false).call("prctl PR_SET_DUMPABLE")?;
    let group = setup
        .init_cgroup
        .as_deref()
        .map(cgroup::Handle::new)
        .transpose()?;
    let group = group.filter(|group| enters(group, setup));
    let entry = group.as_ref().map(cgroup::Handle::entry).transpose()?;
    if let Some(entry) = &entry {
        entry.enter()?; // the init inherits it
    }
    // where the score can't be lowered the init is as likely a victim as its maker
    let _ = set_oom_score(open_proc()?.as_fd(), OOM_SCORE)?;
    let mut joined = Vec::new();
    // all are opened before the first is joined, after which the host's paths may be out of reach
    for kind in OTHERS.iter().filter(|kind| setup.namespaces.contains(kind)) {
        let path = pins.join(kind.as_str());
        joined.push(File::open(&path).path("open namespace", &path)?);
    }
    for namespace in &joined {
        setns(namespace.as_fd(), 0).call("join namespace of the sandbox")?;
    }
    drop(joined);
    let tree = entry.as_ref().and_then(cgroup::Entry::tree);
    clone(CloneFlags::CLONE_NEWPID.bits() as u64, true, tree, None).call("clone sandbox init")
}

/// Takes everything away that a process which only reaps does not need.
fn confine(setup: &SandboxSetup) -> Result<SignalFd> {
    if setup.namespaces.contains(&NamespaceKind::User) {
        become_root().call("become root of the user namespace")?;
    }
    // after the change of ids, which takes it away
    set_parent_death_signal(libc::SIGKILL).call("prctl PR_SET_PDEATHSIG")?;
    setsid().call("setsid")?;
    let all = SigSet::all();
    all.thread_block().call("block signals")?;
    let signals = SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC).call("signalfd")?;
    // a name for ps; without it, it is called like its maker
    let _ = set_name(c"pintle-init");
    enter_blank_root()?;
    let mut none = Sets::default();
    none.prepare()?;
    none.apply()?;
    set_no_new_privs().call("set no_new_privs")?;
    Ok(signals)
}

/// Ends on a SIGTERM that comes from outside, whose sender has no pid in here.
fn reap(signals: &SignalFd) {
    loop {
        match signals.read_signal() {
            Ok(Some(info)) if info.ssi_signo == libc::SIGTERM as u32 && info.ssi_pid == 0 => exit_now(0),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
        // signals of one kind merge, so each may stand for many children
        while let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) =
            waitpid(None, Some(WaitPidFlag::WNOHANG))
        {}
    }
}
