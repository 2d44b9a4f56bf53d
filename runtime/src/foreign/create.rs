//! The stage: has the other runtime make a container, and leaves behind whoever will start it.

use std::fs::{self, File};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::MsgFlags;
use oci_spec::runtime::{Process, Spec};

use super::call::Streams;
use super::{Foreign, LONG, SHORT, mount, read_pid};
use crate::cgroup;
use crate::channel::{Channel, Report};
use crate::container::{Options, read_config};
use crate::error::{Context, Error, Kind, Result};
use crate::rootfs::mount_label;
use crate::sys::fd::{close_all_but, recv_with_fds};
use crate::sys::process::{Forked, exit_now, fork};

/// Where the runtime writes the init's pid, in the bundle.
const PID_FILE: &str = "init.pid";
/// Where it sends the terminal's master, in the bundle.
const CONSOLE: &str = "console.sock";

/// Runs in a forked child, which ends when this returns.
pub(crate) fn run(foreign: &Foreign, options: &Options, stdio: [OwnedFd; 3], channel: &Channel) {
    if let Err(e) = try_run(foreign, options, stdio, channel) {
        channel.report_failure(&e);
    }
}

fn try_run(foreign: &Foreign, options: &Options, stdio: [OwnedFd; 3], channel: &Channel) -> Result<()> {
    let keep = [stdio[0].as_fd(), stdio[1].as_fd(), stdio[2].as_fd(), channel.fd()];
    close_all_but(&keep).call("close_range")?;
    let spec = read_config(options)?;
    let cgroup = cgroup::Handle::new(&foreign.runtime.cgroup)?;
    cgroup.check_unused()?;
    channel.report(&Report::Begun {
        cgroup: foreign.runtime.cgroup.clone(),
        namespaces: 0,
        owns_pids: false,
        memory: None,
    })?;
    if let Some(overlay) = &options.overlay {
        if overlay.idmap {
            return Err(Error::invalid(
                "rootfs",
                "layers for a user namespace can't be had with another runtime",
            ));
        }
        let mut overlay = overlay.clone();
        overlay
            .options
            .extend(mount_label(&spec).map(|label| format!("context={label}")));
        mount::mount_root(&overlay, &root_of(&spec, &foreign.bundle)?)?;
    }
    let made = create(foreign, &spec, stdio);
    let made = made.and_then(|console| Ok((read_pid(&foreign.bundle.join(PID_FILE))?, console)));
    let (pid, console) = made.inspect_err(|_| undo(foreign))?;
    // before the maker hears that all is done: then somebody must be there to start it
    begin_starter(foreign, channel).inspect_err(|_| undo(foreign))?;
    channel.report(&Report::Init { pid: pid.as_raw() })?;
    if let Some(console) = console {
        channel.report_with(&Report::Console {}, &[console.as_fd()])?;
    }
    channel.report(&Report::Limited { warnings: Vec::new() })?;
    channel.report(&Report::Ready { warnings: Vec::new() })
}

fn root_of(spec: &Spec, bundle: &Path) -> Result<std::path::PathBuf> {
    let root = spec.root().as_ref();
    let root = root.ok_or_else(|| Error::invalid("root", "is missing"))?;
    Ok(bundle.join(root.path()))
}

/// Has the container made; the master of its terminal.
fn create(foreign: &Foreign, spec: &Spec, stdio: [OwnedFd; 3]) -> Result<Option<OwnedFd>> {
    let terminal = spec.process().as_ref().and_then(Process::terminal) == Some(true);
    let console = match terminal {
        true => Some(Console::listen(&foreign.bundle, CONSOLE)?),
        false => None,
    };
    let bundle = foreign.bundle.as_os_str();
    let mut args = vec![
        "create".as_ref(),
        "--bundle".as_ref(),
        bundle,
        "--pid-file".as_ref(),
        PID_FILE.as_ref(),
    ];
    if terminal {
        args.extend(["--console-socket".as_ref(), std::ffi::OsStr::new(CONSOLE)]);
    }
    args.push(foreign.id.as_ref());
    drop(fs::remove_file(foreign.bundle.join(PID_FILE)));
    foreign.call(LONG, Streams::Given(stdio)).run(&args)?;
    console.map(Console::receive).transpose()
}

/// Nothing is to be left of a creation that failed. What fails here the daemon tries again.
fn undo(foreign: &Foreign) {
    let call = foreign.call(SHORT, Streams::Captured);
    let _ = call.run(&["delete".as_ref(), "--force".as_ref(), foreign.id.as_ref()]);
}

/// A process that waits until the maker wants the container started, or is gone.
fn begin_starter(foreign: &Foreign, channel: &Channel) -> Result<()> {
    match fork().call("fork")? {
        Forked::Parent(_) => Ok(()),
        Forked::Child(_child) => {
            if close_all_but(&[channel.fd()]).is_ok() && channel.wait_for_release() {
                let call = foreign.call(LONG, Streams::Captured);
                if let Err(e) = call.run(&["start".as_ref(), foreign.id.as_ref()]) {
                    channel.report_failure(&Error::Remote {
                        kind: Kind::Exec,
                        message: e.to_string(),
                    });
                }
            }
            exit_now(0);
        }
    }
}

/// Where a runtime sends the master of a terminal.
pub(super) struct Console {
    listener: UnixListener,
    path: std::path::PathBuf,
}

impl Console {
    /// Listens at `name` in `folder`, whose path may be longer than a socket's address can hold.
    pub(super) fn listen(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(name);
        drop(fs::remove_file(&path));
        let open = File::open(folder).path("open", folder)?;
        let short = format!("/proc/self/fd/{}/{name}", open.as_raw_fd());
        let listener = UnixListener::bind(short).path("listen on", &path)?;
        Ok(Self { listener, path })
    }

    /// The master, which has been sent when the runtime's command has ended.
    pub(super) fn receive(self) -> Result<OwnedFd> {
        let missing = || Error::invalid("process.terminal", "the runtime has sent no terminal");
        let is_there = |fd: std::os::fd::BorrowedFd<'_>| {
            let timeout = PollTimeout::try_from(SHORT.as_millis()).unwrap_or(PollTimeout::MAX);
            matches!(poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout), Ok(1..))
        };
        if !is_there(self.listener.as_fd()) {
            return Err(missing());
        }
        let (stream, _) = self.listener.accept().path("accept on", &self.path)?;
        if !is_there(stream.as_fd()) {
            return Err(missing());
        }
        let mut name = [0; 4096];
        let received = recv_with_fds(stream.as_fd(), &mut name, MsgFlags::empty());
        let (_, fds) =
            received.map_err(|errno: Errno| Error::io("receive terminal on", &self.path, errno))?;
        fds.into_iter().next().ok_or_else(missing)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}
