//! The init: builds the container from inside its namespaces, waits to be started, becomes the program.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{fchdir, getpid, sethostname, setsid};
use oci_spec::runtime::{LinuxNamespaceType, Process, Spec};

use super::Options;
use super::hooks::{self, Kind};
use crate::cgroup;
use crate::channel::{Channel, Report};
use crate::error::{Context, Error, Result};
use crate::namespace::{self, IdMaps, Plan};
use crate::netdev;
use crate::process::{self, Console, Launch, Machine};
use crate::rootfs::{BlankMounts, Builder, Sources, View};
use crate::seccomp::Filter;
use crate::sys::cred::become_root;
use crate::sys::fd::cloexec_from;
use crate::sys::process::{end_on_signals, set_domain_name};

/// What the init has from the stage.
pub(super) struct Init<'a> {
    pub(super) options: &'a Options,
    pub(super) spec: &'a Spec,
    pub(super) plan: &'a Plan,
    /// To be copied for its mount namespace; without it, it has one already.
    pub(super) blank: Option<&'a BlankMounts>,
    pub(super) cgroup: &'a cgroup::Handle,
    /// The doors of the cgroup; without them the init is moved into it.
    pub(super) entry: Option<cgroup::Entry>,
    pub(super) filter: Option<Filter>,
    pub(super) stdio: [OwnedFd; 3],
    /// Where it is let go, by somebody who comes later; without it by its maker.
    pub(super) listener: Option<OwnedFd>,
    /// The host's procfs.
    pub(super) proc: OwnedFd,
    pub(super) channel: &'a Channel,
    /// A byte comes when the init is in its cgroup and its ids are mapped, and another one when the hooks of the runtime
    /// have run.
    pub(super) gate: UnixStream,
    pub(super) hooks: Option<&'a hooks::Plan>,
    /// What could not be done so far but may be done without.
    pub(super) warnings: Vec<String>,
}

impl Init<'_> {
    /// Returns only if something failed, which is reported by then.
    pub(super) fn run(mut self, sources: Option<Sources>) {
        let maker = self.channel;
        let entered = self.entry.take().map_or(Ok(()), |entry| entry.enter());
        let built = entered.and_then(|()| self.build(sources));
        let ready = built.and_then(|(root, console, warnings)| {
            if let Some(console) = console {
                // whoever waits for the end of the streams given must not wait for this process
                process::install_streams(&console)?;
                self.stdio = console;
            }
            maker.report(&Report::Ready { warnings })?;
            Ok(root)
        });
        let root = match ready {
            Ok(ready) => ready,
            Err(e) => return maker.report_failure(&e),
        };
        if let Err(e) = end_on_signals().call("handle signals") {
            return maker.report_failure(&e);
        }
        match &self.listener {
            // a maker that is gone has nobody to start this for
            None if !maker.wait_for_release() => {}
            None => maker.report_failure(&self.launch(root)),
            Some(listener) => {
                // if that fails nobody is left to tell
                if let Ok(starter) = Channel::accept_release(listener) {
                    starter.report_failure(&self.launch(root));
                }
            }
        }
    }

    /// Everything up to the point where the init waits.
    fn build(&self, sources: Option<Sources>) -> Result<(OwnedFd, Option<[OwnedFd; 3]>, Vec<String>)> {
        let process = process_of(self.spec)?;
        let mut gate = Gate::new(self);
        setsid().call("setsid")?;
        umask(Mode::empty());
        let in_userns = self.plan.has(LinuxNamespaceType::User);
        if self.plan.is_new(LinuxNamespaceType::User) {
            gate.pass()?;
        }
        if in_userns {
            become_root().call("become root of the user namespace")?;
        }
        let view = View {
            path: self.cgroup.path(),
            own_namespace: self.plan.is_new(LinuxNamespaceType::Cgroup),
        };
        let sources = self.open_sources(sources, &view, &mut gate)?;
        if let Some(blank) = self.blank {
            blank.enter_copy()?;
        }
        let mut root = Builder::new(self.spec, sources, self.options.overlay.as_ref(), in_userns)?;
        root.mount_all(Some(&view), || gate.pass())?;
        // v1's limits on devices forbid to make any while they are being set
        gate.pass()?;
        process::reset_affinity();
        root.make_devices()?;
        let stdio = self.open_console(&root, process)?;
        root.ensure_cwd(process.cwd())?;
        self.name_host()?;
        if self.plan.is_new(LinuxNamespaceType::Network) {
            netdev::raise_loopback()?;
        }
        self.write_sysctls()?;
        if let Some(hooks) = self.hooks {
            // nothing of ours is theirs
            cloexec_from(3).call("close_range")?;
            gate.await_hooks(hooks)?;
            // these find themselves in the container's root, which they see as the host does
            fchdir(root.root()).call("enter root file system")?;
            hooks.run(Kind::CreateContainer, getpid().as_raw(), &[])?;
        }
        let root = root.finish(self.options.no_pivot)?;
        if self.listener.is_some() {
            // whoever makes the container is to hear of it, not whoever starts it
            process::check_program(process)?;
        }
        let mut warnings = self.warnings.clone();
        warnings.extend(process::not_ambient(process.capabilities().as_ref()));
        Ok((root, stdio, warnings))
    }

    /// What the stage did not open. From a blank mount namespace nothing of the host's can be reached, so that what is else
    /// opened when its turn comes is opened here.
    fn open_sources(&self, opened: Option<Sources>, view: &View<'_>, gate: &mut Gate<'_>) -> Result<Sources> {
        let mut maps = IdMaps::new(self.spec);
        let mut sources = match opened {
            Some(sources) => sources,
            None => {
                let strict = self.options.strict_propagation;
                Sources::open(self.spec, &self.options.bundle, strict, &mut maps)?
            }
        };
        if self.blank.is_some() {
            sources.mount_root(self.options.overlay.as_ref(), &mut maps)?;
            if self.cgroup.is_systemds() {
                // which makes it for a process that is there
                gate.pass()?;
            }
            sources.open_cgroups(self.spec, view)?;
        }
        Ok(sources)
    }

    fn open_console(&self, root: &Builder<'_>, process: &Process) -> Result<Option<[OwnedFd; 3]>> {
        if !process.terminal().unwrap_or(false) {
            return Ok(None);
        }
        let Console { master, slave } =
            process::open_terminal(root.open_ptmx()?, process, self.options.terminal_newlines)?;
        root.bind_console(slave.as_fd())?;
        self.channel.report_with(&Report::Console {}, &[master.as_fd()])?;
        let copy = || slave.try_clone().path("dup", Path::new("/dev/console"));
        Ok(Some([copy()?, copy()?, copy()?]))
    }

    fn name_host(&self) -> Result<()> {
        if let Some(name) = self.spec.hostname().as_deref().filter(|n| !n.is_empty()) {
            sethostname(name).call("sethostname")?;
        }
        match self.spec.domainname().as_deref().filter(|n| !n.is_empty()) {
            Some(name) => set_domain_name(name).call("setdomainname"),
            None => Ok(()),
        }
    }

    fn write_sysctls(&self) -> Result<()> {
        let has = |kind| self.plan.has(kind);
        for (name, value) in self
            .spec
            .linux()
            .as_ref()
            .and_then(|l| l.sysctl().as_ref())
            .into_iter()
            .flatten()
        {
            namespace::check_sysctl(name, has)?;
            self.check_domain(name, value)?;
            namespace::write_sysctl(self.proc.as_fd(), name, value)?;
        }
        Ok(())
    }

    /// Two that say something else of one thing.
    fn check_domain(&self, sysctl: &str, value: &str) -> Result<()> {
        let given = self.spec.domainname().as_deref().filter(|name| !name.is_empty());
        match given {
            Some(given) if sysctl.replace('/', ".") == "kernel.domainname" && given != value => {
                let reason = format!("{given:?} is not what sysctl \"kernel.domainname\" says");
                Err(Error::invalid("domainname", reason))
            }
            _ => Ok(()),
        }
    }

    fn launch(self, root: OwnedFd) -> Error {
        let process = match process_of(self.spec) {
            Ok(process) => process,
            Err(e) => return e,
        };
        let set_up = || -> Result<()> {
            if let Some(machine) = Machine::of(self.spec) {
                machine.apply()?;
            }
            process::set_labels_for_exec(self.proc.as_fd(), "process", process)
        };
        if let Err(e) = set_up() {
            return e;
        }
        drop(self.proc);
        let hooks = self.hooks.filter(|hooks| hooks.has(Kind::StartContainer));
        let run_hooks = |env: &[String]| match hooks {
            Some(hooks) => hooks.run(Kind::StartContainer, getpid().as_raw(), env),
            None => Ok(()),
        };
        process::run(&Launch {
            process,
            filter: self.filter,
            stdio: self.stdio,
            root,
            preserve_fds: self.options.preserve_fds,
            before: Some(&run_hooks),
        })
    }
}

fn process_of(spec: &Spec) -> Result<&Process> {
    spec.process()
        .as_ref()
        .ok_or_else(|| Error::invalid("process", "is missing"))
}

/// Holds the init until it is in its cgroup, at the first step that needs that.
struct Gate<'a> {
    fd: &'a UnixStream,
    make_namespace: bool,
    passed: bool,
}

impl<'a> Gate<'a> {
    fn new(init: &'a Init<'_>) -> Self {
        Self {
            fd: &init.gate,
            make_namespace: init.plan.is_new(LinuxNamespaceType::Cgroup),
            passed: false,
        }
    }

    fn pass(&mut self) -> Result<()> {
        if self.passed {
            return Ok(());
        }
        let mut byte = [0];
        (&mut &*self.fd).read_exact(&mut byte).call("wait for cgroup")?;
        if self.make_namespace {
            unshare(CloneFlags::CLONE_NEWCGROUP).call("unshare cgroup namespace")?;
        }
        self.passed = true;
        Ok(())
    }

    /// Waits until the hooks of the runtime have run, which see everything mounted.
    fn await_hooks(&self, hooks: &hooks::Plan) -> Result<()> {
        if !hooks.has_any_of_runtime() {
            return Ok(());
        }
        (&mut &*self.fd).write_all(b"m").call("ask for hooks")?;
        (&mut &*self.fd).read_exact(&mut [0]).call("wait for hooks")
    }
}
