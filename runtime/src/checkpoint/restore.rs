//! The keeper: a process that has criu restore a container, holds what was restored until it is started, and ends.
//!
//! It is forked by the container's stage, whose child it then no longer is: the restored init becomes the child of whoever
//! adopts the keeper's children (the monitor, a subreaper).

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxNamespaceType, LinuxResources, Process};

use super::child::in_child;
use super::dump::bound_cgroups;
use super::group::Group;
use super::rpc::{
    CGROUPS_IGNORED, InheritFd, JoinNamespace, Options as Asked, Pair, Request, Response, kind,
};
use super::session::{Criu, Place, failure};
use super::{DESCRIPTORS, NET_KEY, NULL, Restore, check_spec, explained, is_external, refused, text, verify};
use crate::cgroup;
use crate::channel::{Channel, Report};
use crate::container::hooks::{self, Kind as HookKind};
use crate::container::{Basis, Options};
use crate::error::{Context, Error, Kind, Result};
use crate::namespace::IdMaps;
use crate::process;
use crate::rootfs::{Shown, Sources, isolate_mounts, open_proc};
use crate::sys::process::{Forked, exit_now, fork, pidfd_open};

const LOG: &str = "restore.log";
/// `descriptors.json` is three short strings.
const MAX_DESCRIPTORS: u64 = 64 << 10;

/// Runs in a container's stage, in the place of making an init: leaves a keeper behind.
pub(crate) fn run(
    options: &Options,
    restore: &Restore,
    stdio: [OwnedFd; 3],
    channel: &Channel,
) -> Result<()> {
    match fork().call("fork")? {
        // the keeper reports for itself from here on
        Forked::Parent(_) => Ok(()),
        Forked::Child(_child) => {
            if let Err(error) = keep(options, restore, stdio, channel) {
                channel.report_failure(&error);
            }
            exit_now(0)
        }
    }
}

fn keep(options: &Options, restore: &Restore, stdio: [OwnedFd; 3], channel: &Channel) -> Result<()> {
    let basis = Basis::read(options)?;
    check_spec(&basis.spec, &basis.plan)?;
    let proc = open_proc()?;
    let score = basis.spec.process().as_ref().and_then(Process::oom_score_adj);
    // criu lowers no score below its own, and has the keeper's
    let warning = score.and_then(|score| process::set_oom_score(proc.as_fd(), score).transpose());
    let warnings: Vec<String> = warning.transpose()?.into_iter().collect();
    basis.cgroup.check_unused()?;
    let hooks = hooks::Plan::read(&basis.spec, &options.id, &options.bundle)?;
    if let Some(hooks) = &hooks {
        channel.report_with(&Report::Hooks {}, &[hooks.to_file()?.as_fd()])?;
    }
    channel.report(&Report::Begun {
        cgroup: basis.cgroup.name().to_string_lossy().into_owned(),
        namespaces: basis.plan.all(),
        // criu traces them until they are started: an init whose children nobody else can reap would never end
        owns_pids: false,
        memory: None,
    })?;
    channel.report_machine(&basis.spec)?;
    let keeper = Keeper {
        options,
        restore,
        basis: &basis,
        hooks,
        stdio,
        channel,
        warnings,
    };
    keeper.work().inspect_err(|_| {
        // whoever asked may be gone and undo nothing any more
        let _ = cgroup::remove(&basis.cgroup.name().to_string_lossy());
    })
}

struct Keeper<'a> {
    options: &'a Options,
    restore: &'a Restore,
    basis: &'a Basis,
    hooks: Option<hooks::Plan>,
    stdio: [OwnedFd; 3],
    channel: &'a Channel,
    warnings: Vec<String>,
}

impl Keeper<'_> {
    fn work(mut self) -> Result<()> {
        let mut group = Group::make(&self.basis.cgroup, &self.limits())?;
        unshare(CloneFlags::CLONE_NEWNS).call("unshare mount namespace")?;
        isolate_mounts(false)?;
        let root = self.restore.work.join("root");
        let mounts = self.show_mounts(&root)?;
        let images = File::open(&self.restore.images).path("open", &self.restore.images)?;
        let work = File::open(&self.restore.work).path("open", &self.restore.work)?;
        let net = self.network()?;
        let mut passed: Vec<BorrowedFd<'_>> = self.stdio.iter().map(AsFd::as_fd).collect();
        passed.extend(net.as_ref().map(AsFd::as_fd));
        let place = Place {
            cgroup: Some(group.entry()),
            cgroup_namespace: self.basis.plan.is_new(LinuxNamespaceType::Cgroup),
            no_new_privileges: self
                .basis
                .spec
                .process()
                .as_ref()
                .is_some_and(|process| process.no_new_privileges() == Some(true)),
            can_give_up: false,
        };
        let criu = Criu::start(&self.restore.criu, &passed, &place)?;
        criu.version()?;
        // It has answered, so it is inside.
        group.is_held();
        let asked = Asked {
            images_dir_fd: images.as_raw_fd(),
            work_dir_fd: Some(work.as_raw_fd()),
            root: Some(text(&root)?),
            ext_mnt: mounts,
            inherit_fd: self.inherited(net.as_ref())?,
            join_ns: self.joined()?,
            lsm_profile: self.lsm_profile(),
            ..self.fixed()
        };
        criu.send(&Request {
            kind: kind::RESTORE,
            options: Some(asked),
            ..Request::default()
        })?;
        let outcome = self.follow(&criu);
        criu.end();
        outcome
    }

    fn limits(&self) -> LinuxResources {
        let linux = self.basis.spec.linux().as_ref();
        linux
            .and_then(|linux| linux.resources().clone())
            .unwrap_or_default()
    }

    fn fixed(&self) -> Asked {
        let connections = &self.restore.connections;
        Asked {
            log_level: Some(4),
            log_file: Some(LOG.to_owned()),
            evasive_devices: Some(true),
            rst_sibling: Some(true),
            manage_cgroups_mode: Some(CGROUPS_IGNORED),
            notify_scripts: Some(true),
            orphan_pts_master: Some(true),
            ext_unix_sk: Some(connections.ext_unix_sk),
            tcp_established: Some(connections.tcp_established),
            tcp_close: Some(!connections.tcp_established),
            file_locks: Some(connections.file_locks),
            shell_job: Some(connections.shell_job),
            mntns_compat_mode: Some(self.restore.foreign),
            skip_file_rwx_check: Some(self.restore.foreign),
            ..Asked::default()
        }
    }

    /// Listens to criu up to the end. Before anything runs, all is held until the container is started.
    fn follow(&mut self, criu: &Criu) -> Result<()> {
        let mut init = None;
        loop {
            let (response, fds) = criu.receive().map_err(|_| self.failed(None))?;
            if response.kind != kind::NOTIFY {
                return match response.success {
                    true => Ok(()),
                    false => Err(self.failed(Some(&response))),
                };
            }
            let notify = response.notify.unwrap_or_default();
            init = notify.pid.filter(|pid| *pid > 0).or(init);
            match (notify.script.as_deref(), init) {
                (Some("orphan-pts-master"), _) => {
                    let master = fds.first().map(AsFd::as_fd).into_iter().collect::<Vec<_>>();
                    self.channel.report_with(&Report::Console {}, &master)?;
                }
                (Some("pre-resume"), Some(init)) => {
                    self.ready(criu.pid(), Pid::from_raw(init))?;
                    self.hold(Pid::from_raw(init))?;
                }
                (Some("pre-resume"), None) => {
                    return Err(refused(Kind::Kernel, "criu does not tell what it has restored"));
                }
                _ => {}
            }
            criu.go_on()?;
        }
    }

    /// Waits for the start. An init that is killed before ends that: it is a child of this process, whose own end has whoever
    /// adopts it hear of it.
    fn hold(&self, init: Pid) -> Result<()> {
        let given_up = || {
            refused(
                Kind::InvalidState,
                "the container was given up before it was started",
            )
        };
        let init = pidfd_open(init).call("pidfd_open")?;
        loop {
            let mut fds = [
                PollFd::new(self.channel.fd(), PollFlags::POLLIN),
                PollFd::new(init.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).call("poll"),
            }
            let [start, end] = fds.map(|fd| fd.any().unwrap_or(true));
            if end {
                return Err(given_up());
            }
            if start {
                return match self.channel.wait_for_release() {
                    true => Ok(()),
                    false => Err(given_up()),
                };
            }
        }
    }

    fn failed(&self, response: Option<&Response>) -> Error {
        let work = &self.restore.work;
        let error = failure("restore this container", response, work, LOG);
        explained(error, &self.restore.criu, work)
    }

    /// Everything is there, and nothing of it has run.
    fn ready(&mut self, criu: Pid, init: Pid) -> Result<()> {
        let spec = &self.basis.spec;
        let has_profile = spec.linux().as_ref().is_some_and(|l| l.seccomp().is_some());
        let expected = verify::Expected {
            spec,
            plan: &self.basis.plan,
            group: &self.basis.cgroup,
            filtered: has_profile || self.options.seccomp_filter.is_some(),
            criu,
        };
        verify::processes(&expected, init)?;
        verify::mounts(spec, init)?;
        if let Some(hooks) = self.hooks.as_ref().filter(|hooks| hooks.has_any_of_runtime()) {
            hooks.run(HookKind::Prestart, init.as_raw(), &[])?;
            hooks.run(HookKind::CreateRuntime, init.as_raw(), &[])?;
        }
        let resources = self.limits();
        self.basis.cgroup.limit_devices(&resources)?;
        let warnings = self.basis.cgroup.update(&resources)?;
        self.channel.report(&Report::Init { pid: init.as_raw() })?;
        self.channel.report(&Report::Limited { warnings })?;
        self.channel.report(&Report::Ready {
            warnings: std::mem::take(&mut self.warnings),
        })
    }

    /// Mounts the root on `root`, makes the places of all mounts in it, and shows what comes from outside beside it; what
    /// criu is to bind where.
    fn show_mounts(&self, root: &Path) -> Result<Vec<Pair>> {
        let spec = &self.basis.spec;
        let beside = self.restore.work.join("mounts");
        for folder in [root, &beside] {
            fs::create_dir(folder).path("create folder", folder)?;
        }
        let open = || Sources::open(spec, &self.options.bundle, false, &mut IdMaps::new(spec));
        let overlay = self.basis.overlay.as_ref();
        let shown = Shown::new(open()?, overlay, root)?;
        in_child(|| shown.make_places(spec, open()?))?;
        // Roots of other runtimes hear of mounts outside, and criu wants the same of this one; it hears of nobody's.
        mount(None::<&str>, root, None::<&str>, MsFlags::MS_SHARED, None::<&str>)
            .path("share mount", root)?;
        let mut pairs = Vec::new();
        let list = spec.mounts().as_deref().unwrap_or_default();
        for (mount, path) in list.iter().zip(shown.show_beside(&beside)?) {
            let destination = mount.destination();
            match path {
                Some(path) => pairs.push(Pair {
                    key: text(&shown.resolved(destination)?)?,
                    value: text(&path)?,
                }),
                None if is_external(mount) => {}
                None if mount.typ().as_deref() == Some("cgroup") && bound_cgroups(&self.basis.plan) => {
                    pairs.extend(self.cgroup_mounts(destination)?);
                }
                None => {}
            }
        }
        pairs.push(Pair {
            key: NULL.to_owned(),
            value: NULL.to_owned(),
        });
        Ok(pairs)
    }

    fn cgroup_mounts(&self, destination: &Path) -> Result<Vec<Pair>> {
        let mut pairs = Vec::new();
        for hierarchy in cgroup::hierarchies() {
            if let Some(name) = hierarchy.mount.file_name() {
                pairs.push(Pair {
                    key: text(&destination.join(name))?,
                    value: text(&hierarchy.mount.join(self.basis.cgroup.path()))?,
                });
            }
        }
        Ok(pairs)
    }

    /// The network namespace to be restored in; none for a new one, or the host's.
    fn network(&self) -> Result<Option<File>> {
        let path = self.basis.plan.path(LinuxNamespaceType::Network);
        path.map(|path| File::open(path).path("open namespace", path))
            .transpose()
    }

    fn inherited(&self, net: Option<&File>) -> Result<Vec<InheritFd>> {
        let mut list = Vec::new();
        let former = read_descriptors(&self.restore.images.join(DESCRIPTORS))?;
        let mut seen: Vec<&str> = Vec::new();
        for (name, fd) in former.iter().zip(&self.stdio) {
            // stdout and stderr may have been one
            if name.starts_with("pipe:[") && !seen.contains(&name.as_str()) {
                seen.push(name);
                list.push(InheritFd {
                    key: name.clone(),
                    fd: fd.as_raw_fd(),
                });
            }
        }
        if let Some(net) = net {
            list.push(InheritFd {
                key: NET_KEY.to_owned(),
                fd: net.as_raw_fd(),
            });
        }
        Ok(list)
    }

    /// Other namespaces that exist already.
    fn joined(&self) -> Result<Vec<JoinNamespace>> {
        let kinds = [
            (LinuxNamespaceType::Ipc, "ipc"),
            (LinuxNamespaceType::Uts, "uts"),
            (LinuxNamespaceType::Time, "time"),
        ];
        let mut list = Vec::new();
        for (kind, name) in kinds {
            if let Some(path) = self.basis.plan.path(kind) {
                list.push(JoinNamespace {
                    kind: name.to_owned(),
                    file: text(path)?,
                });
            }
        }
        Ok(list)
    }

    /// The specification's profile, whatever the processes had.
    fn lsm_profile(&self) -> Option<String> {
        let process = self.basis.spec.process().as_ref()?;
        let named = |kind: &str, name: &Option<String>| {
            name.as_ref()
                .filter(|name| !name.is_empty())
                .map(|name| format!("{kind}:{name}"))
        };
        named("apparmor", process.apparmor_profile()).or_else(|| named("selinux", process.selinux_label()))
    }
}

fn read_descriptors(path: &PathBuf) -> Result<Vec<String>> {
    use std::io::Read as _;
    let mut text = Vec::new();
    let file = File::open(path).path("open", path)?;
    file.take(MAX_DESCRIPTORS)
        .read_to_end(&mut text)
        .path("read", path)?;
    serde_json::from_slice(&text).map_err(|source| Error::Parse {
        path: path.clone(),
        source,
    })
}
