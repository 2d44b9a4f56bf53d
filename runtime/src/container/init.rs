//! The init: builds the container from inside its namespaces, waits to be started, becomes the program.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{sethostname, setsid};
use oci_spec::runtime::{LinuxNamespaceType, LinuxPersonalityDomain, Process, Spec};

use super::Options;
use crate::cgroup;
use crate::channel::{Channel, Report};
use crate::error::{Context, Error, Result};
use crate::namespace::{self, Plan};
use crate::process::{self, Console, Launch};
use crate::rootfs::{Builder, Sources};
use crate::seccomp::Filter;
use crate::sys::cred::{set_groups, set_ids};
use crate::sys::process::{set_domain_name, set_personality};

/// What the init has from the stage.
pub(super) struct Init<'a> {
    pub(super) options: &'a Options,
    pub(super) spec: &'a Spec,
    pub(super) plan: &'a Plan,
    pub(super) cgroup: &'a cgroup::Handle,
    pub(super) filter: Option<Filter>,
    pub(super) stdio: [OwnedFd; 3],
    /// The host's procfs.
    pub(super) proc: OwnedFd,
    pub(super) channel: &'a Channel,
    /// A byte comes when the init is in its cgroup and its ids are mapped.
    pub(super) gate: File,
}

impl Init<'_> {
    /// Returns only if something failed, which is reported by then.
    pub(super) fn run(self, sources: Option<Sources>) {
        let channel = self.channel;
        let error = match self.build(sources) {
            Ok((root, stdio, warnings)) => match channel.report(&Report::Ready { warnings }) {
                // a maker that is gone has nobody to start this for
                Ok(()) if !channel.wait_for_release() => return,
                Ok(()) => self.launch(root, stdio),
                Err(e) => e,
            },
            Err(e) => e,
        };
        channel.report_failure(&error);
    }

    /// Everything up to the point where the init waits.
    fn build(&self, sources: Option<Sources>) -> Result<(OwnedFd, Option<[OwnedFd; 3]>, Vec<String>)> {
        let process = process_of(self.spec)?;
        let mut gate = Gate::new(self);
        setsid().call("setsid")?;
        umask(Mode::empty());
        let in_userns = self.plan.is_new(LinuxNamespaceType::User);
        if in_userns {
            gate.pass()?;
            set_ids(0, 0).call("become root of the user namespace")?;
            set_groups(&[]).call("setgroups")?;
        }
        let mut warnings = Vec::new();
        if let Some(score) = process.oom_score_adj() {
            warnings.extend(process::set_oom_score(self.proc.as_fd(), score)?);
        }
        let sources = match sources {
            Some(sources) => sources,
            None => Sources::open(self.spec, &self.options.bundle, self.options.strict_propagation)?,
        };
        let mut root = Builder::new(self.spec, sources, self.options.overlay.as_ref(), in_userns)?;
        let own_cgroup = self.plan.is_new(LinuxNamespaceType::Cgroup);
        root.mount_all(Some(self.cgroup.path()), own_cgroup, || gate.pass())?;
        root.make_devices()?;
        let stdio = self.open_console(&root, process)?;
        root.ensure_cwd(process.cwd())?;
        self.name_host()?;
        self.write_sysctls()?;
        gate.pass()?;
        Ok((root.finish()?, stdio, warnings))
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
            namespace::write_sysctl(self.proc.as_fd(), name, value)?;
        }
        Ok(())
    }

    fn launch(self, root: OwnedFd, console: Option<[OwnedFd; 3]>) -> Error {
        let process = match process_of(self.spec).and_then(|p| set_execution_domain(self.spec).map(|()| p)) {
            Ok(process) => process,
            Err(e) => return e,
        };
        let stdio = console.unwrap_or(self.stdio);
        process::run(&Launch {
            process,
            filter: self.filter,
            stdio,
            root,
        })
    }
}

fn process_of(spec: &Spec) -> Result<&Process> {
    spec.process()
        .as_ref()
        .ok_or_else(|| Error::invalid("process", "is missing"))
}

fn set_execution_domain(spec: &Spec) -> Result<()> {
    let Some(personality) = spec.linux().as_ref().and_then(|l| l.personality().as_ref()) else {
        return Ok(());
    };
    if personality.flags().as_ref().is_some_and(|f| !f.is_empty()) {
        return Err(Error::invalid("linux.personality.flags", "none is defined"));
    }
    let domain = match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    };
    set_personality(domain).call("personality")
}

/// Holds the init until it is in its cgroup, at the first step that needs that.
struct Gate<'a> {
    fd: &'a File,
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
        self.fd.read_exact(&mut byte).call("wait for cgroup")?;
        if self.make_namespace {
            unshare(CloneFlags::CLONE_NEWCGROUP).call("unshare cgroup namespace")?;
        }
        self.passed = true;
        Ok(())
    }
}
