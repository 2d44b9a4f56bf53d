//! Making a pod's namespaces and pinning them.
//!
//! ```text
//!   caller                       child
//!     setup ── fork ────────────▶ unshares the namespaces (a user namespace first)
//!     │ ◀─ 'm' map me ─────────── waits for its ids          (with a user namespace only)
//!     │ ── go ──────────────────▶ unshares the rest, host name, sysctls
//!     │ ◀─ 'd' done, or 'e'… ──── waits
//!     pins /proc/<child>/ns/*
//!     │ ── end of file ─────────▶ exits
//! ```

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Pid, sethostname};
use oci_spec::runtime::LinuxNamespaceType;

use super::{PINS, init, unpin};
use crate::channel::{Channel, Report};
use crate::error::{Context, Error, Kind, Result};
use crate::namespace::{check_sysctl, write_sysctl};
use crate::protocol::{IdMapping, NamespaceKind, SandboxSetup};
use crate::rootfs::open_path;
use crate::sys::cred::{become_root, set_ids};
use crate::sys::fd::close_all_but;
use crate::sys::mount::{attach, clone_tree};
use crate::sys::process::{Forked, exit_now, fork, pidfd_open, setns, wait};

const MAP: u8 = b'm';
const DONE: u8 = b'd';
const ERROR: u8 = b'e';
/// As [`ERROR`], where the request is at fault.
const INVALID: u8 = b'i';

/// An error text longer than this is cut.
const MAX_TEXT: u64 = 16 * 1024;

/// Makes the namespaces of a pod and pins them at `<dir>/ns/<kind>`; returns the pid of the init of a shared pid
/// namespace, a child of the caller, where one is asked for. A failure leaves nothing behind.
pub fn setup(dir: &Path, setup: &SandboxSetup) -> Result<Option<Pid>> {
    check(setup)?;
    let pins = dir.join(PINS);
    fs::create_dir_all(&pins).path("create folder", &pins)?;
    let done = make_namespaces(&pins, setup).and_then(|()| match setup.shared_pid {
        true => init::start(dir, setup).map(Some),
        false => Ok(None),
    });
    if done.is_err() {
        // the failure itself is what the caller must learn of
        let _ = unpin(dir);
        let _ = fs::remove_dir(&pins);
    }
    done
}

/// As [`setup()`], for a caller of many threads and without a process: the calling thread is in the namespaces thereafter, so
/// it must end soon. Not for sandboxes with a user namespace or a shared pid namespace.
///
/// # Errors
/// As those of [`setup()`].
pub fn setup_by_thread(dir: &Path, setup: &SandboxSetup) -> Result<()> {
    check(setup)?;
    if needs_process(setup) {
        return Err(Error::invalid(
            "sandbox",
            "with a user namespace or a shared pid namespace can't be set up by a thread",
        ));
    }
    let pins = dir.join(PINS);
    fs::create_dir_all(&pins).path("create folder", &pins)?;
    let done = enter(setup).and_then(|()| {
        let kinds = setup.namespaces.iter();
        kinds
            .copied()
            .try_for_each(|kind| pin_from(&pins, "/proc/thread-self", kind))
    });
    if done.is_err() {
        // the failure itself is what the caller must learn of
        let _ = unpin(dir);
        let _ = fs::remove_dir(&pins);
    }
    done
}

/// Whether a sandbox can't be set up by a thread of its caller's.
#[must_use]
pub fn needs_process(setup: &SandboxSetup) -> bool {
    setup.shared_pid || setup.namespaces.contains(&NamespaceKind::User)
}

fn check(setup: &SandboxSetup) -> Result<()> {
    let has = |kind: NamespaceKind| setup.namespaces.contains(&kind);
    let mapped = !setup.uid_mappings.is_empty() && !setup.gid_mappings.is_empty();
    if has(NamespaceKind::User) != mapped {
        return Err(Error::invalid(
            "sandbox.uid_mappings",
            "go with a new user namespace, and the reverse",
        ));
    }
    if setup.hostname.is_some() && !has(NamespaceKind::Uts) {
        return Err(Error::invalid("sandbox.hostname", "needs a uts namespace"));
    }
    if has(NamespaceKind::Pid) {
        return Err(Error::invalid(
            "sandbox.namespaces",
            "pid needs an init: ask for shared_pid",
        ));
    }
    for name in setup.sysctls.keys() {
        check_sysctl(name, |kind| match kind {
            LinuxNamespaceType::Network => has(NamespaceKind::Net),
            LinuxNamespaceType::Ipc => has(NamespaceKind::Ipc),
            LinuxNamespaceType::Uts => has(NamespaceKind::Uts),
            LinuxNamespaceType::User => has(NamespaceKind::User),
            _ => false,
        })?;
    }
    Ok(())
}

fn flag(kind: NamespaceKind) -> CloneFlags {
    match kind {
        NamespaceKind::Net => CloneFlags::CLONE_NEWNET,
        NamespaceKind::Ipc => CloneFlags::CLONE_NEWIPC,
        NamespaceKind::Uts => CloneFlags::CLONE_NEWUTS,
        NamespaceKind::User => CloneFlags::CLONE_NEWUSER,
        NamespaceKind::Pid => CloneFlags::CLONE_NEWPID,
    }
}

fn make_namespaces(pins: &Path, setup: &SandboxSetup) -> Result<()> {
    if setup.namespaces.is_empty() {
        return Ok(());
    }
    let (ours, theirs) = UnixStream::pair().call("socketpair")?;
    let child = match fork().call("fork")? {
        Forked::Parent(pid) => pid,
        Forked::Child(_child) => {
            let code = match in_child(setup, &theirs) {
                Ok(()) => 0,
                Err(e) => {
                    let failed = if e.kind() == Kind::InvalidArgument {
                        INVALID
                    } else {
                        ERROR
                    };
                    let _ = (&theirs).write_all(format!("{}{e}", char::from(failed)).as_bytes());
                    1
                }
            };
            exit_now(code);
        }
    };
    drop(theirs);
    let done = serve(pins, setup, child, &ours);
    drop(ours); // lets the child end
    wait(child).call("wait for namespaces")?;
    done
}

fn serve(pins: &Path, setup: &SandboxSetup, child: Pid, socket: &UnixStream) -> Result<()> {
    let mut word = [0];
    loop {
        (&mut &*socket).read_exact(&mut word).map_err(|_| Error::Ended {
            what: "sandbox set-up",
            status: "without a word".to_owned(),
        })?;
        match word[0] {
            MAP => {
                write_map(child, "uid_map", &setup.uid_mappings)?;
                write_map(child, "gid_map", &setup.gid_mappings)?;
                (&mut &*socket).write_all(b"!").call("release sandbox set-up")?;
            }
            DONE => break,
            word => {
                let mut message = String::new();
                let _ = (&mut &*socket).take(MAX_TEXT).read_to_string(&mut message);
                return Err(Error::Remote {
                    kind: if word == INVALID {
                        Kind::InvalidArgument
                    } else {
                        Kind::Kernel
                    },
                    message,
                });
            }
        }
    }
    if setup.sysctls.keys().any(|name| is_hosts_to_write(setup, name)) {
        write_sysctls_as_host(setup, child)?;
    }
    setup
        .namespaces
        .iter()
        .try_for_each(|kind| pin(pins, child, *kind))
}

/// Parameters of the network the root of a user namespace may write, and must: they may hold ids. Those of ipc are on some
/// kernels the host's root's to write.
fn is_hosts_to_write(setup: &SandboxSetup, name: &str) -> bool {
    setup.namespaces.contains(&NamespaceKind::User) && !name.starts_with("net")
}

fn write_sysctls(setup: &SandboxSetup, mine: impl Fn(&str) -> bool) -> Result<()> {
    if setup.sysctls.is_empty() {
        return Ok(());
    }
    let proc = crate::rootfs::open_proc()?;
    for (name, value) in setup.sysctls.iter().filter(|(name, _)| mine(name)) {
        write_sysctl(proc.as_fd(), name, value)?;
    }
    Ok(())
}

/// Until Linux 6.10 the host's root alone may write parameters of ipc, since then whoever is root in the user namespace.
fn write_by_either_root(setup: &SandboxSetup) -> Result<()> {
    let write = || write_sysctls(setup, |name| is_hosts_to_write(setup, name));
    match write() {
        Err(e) if matches!(e.errno(), Some(Errno::EACCES | Errno::EPERM)) => {
            let root =
                |mappings: &[IdMapping]| mappings.iter().find(|m| m.container_id == 0).map(|m| m.host_id);
            match (root(&setup.uid_mappings), root(&setup.gid_mappings)) {
                (Some(uid), Some(gid)) => set_ids(uid, gid)
                    .call("become root of the pod")
                    .and_then(|()| write()),
                _ => Err(e),
            }
        }
        other => other,
    }
}

/// With the host's privileges, but in the namespaces of `holder`: a process that joins all of them but the user
/// namespace.
fn write_sysctls_as_host(setup: &SandboxSetup, holder: Pid) -> Result<()> {
    let target = pidfd_open(holder).call("pidfd_open")?;
    let flags = setup
        .namespaces
        .iter()
        .fold(CloneFlags::empty(), |all, kind| all | flag(*kind));
    let (ours, theirs) = Channel::pair()?;
    match fork().call("fork")? {
        Forked::Child(_child) => {
            let done = setns(target.as_fd(), (flags & !CloneFlags::CLONE_NEWUSER).bits())
                .call("join namespaces of the sandbox")
                .and_then(|()| write_by_either_root(setup));
            if let Err(e) = done {
                theirs.report_failure(&e);
            }
            exit_now(0);
        }
        Forked::Parent(pid) => {
            drop(theirs);
            let report = ours.receive();
            wait(pid).call("wait for sysctls")?;
            match report? {
                Some((Report::Failed { kind, message }, _)) => Err(Error::Remote { kind, message }),
                _ => Ok(()),
            }
        }
    }
}

pub(super) fn write_map(pid: Pid, name: &str, mappings: &[IdMapping]) -> Result<()> {
    let path = format!("/proc/{pid}/{name}");
    let text: String = mappings
        .iter()
        .map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size))
        .collect();
    // one write(2): the kernel takes a map only as a whole
    fs::write(&path, text).path("write", &path)
}

/// Mounts a process's namespace on a file, where it outlives the process.
pub(super) fn pin(pins: &Path, pid: Pid, kind: NamespaceKind) -> Result<()> {
    pin_from(pins, &format!("/proc/{pid}"), kind)
}

fn pin_from(pins: &Path, process: &str, kind: NamespaceKind) -> Result<()> {
    let target = pins.join(kind.as_str());
    File::create(&target).path("create", &target)?;
    let source = format!("{process}/ns/{}", kind.as_str());
    let mount = clone_tree(AT_FDCWD, Path::new(&source), false).path("pin", &source)?;
    attach(mount.as_fd(), open_path(&target)?.as_fd()).path("pin namespace at", &target)
}

fn in_child(setup: &SandboxSetup, socket: &UnixStream) -> Result<()> {
    close_all_but(&[socket.as_fd()]).call("close_range")?;
    let mut word = [0];
    if setup.namespaces.contains(&NamespaceKind::User) {
        unshare(CloneFlags::CLONE_NEWUSER).call("unshare user namespace")?;
        (&mut &*socket).write_all(&[MAP]).call("ask for ids")?;
        (&mut &*socket).read_exact(&mut word).call("wait for ids")?;
        become_root().call("become root of the user namespace")?;
    }
    enter(setup)?;
    (&mut &*socket).write_all(&[DONE]).call("report namespaces")?;
    // until they are pinned; end of file
    let _ = (&mut &*socket).read(&mut word);
    Ok(())
}

/// Gives the calling thread the sandbox's namespaces but for a user namespace, with what is set in them.
fn enter(setup: &SandboxSetup) -> Result<()> {
    let flags = setup
        .namespaces
        .iter()
        .fold(CloneFlags::empty(), |all, kind| all | flag(*kind));
    unshare(flags & !CloneFlags::CLONE_NEWUSER).call("unshare namespaces of the sandbox")?;
    if let Some(name) = &setup.hostname {
        sethostname(name).call("sethostname")?;
    }
    write_sysctls(setup, |name| !is_hosts_to_write(setup, name))
}
