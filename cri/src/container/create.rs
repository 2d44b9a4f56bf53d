//! CreateContainer: image or checkpoint → name → record → snapshot → runtime spec → seccomp filter → an init that waits.
//!
//! There is no undo beside these steps: whatever fails, `teardown.rs` takes down what stands.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::runtime::Spec;
use pintle_images::Image;
use pintle_runtime::protocol::{CreateContainer, LogTarget, Overlay, RestoreContainer};
use pintle_runtime::rootfs::{detached_overlay, read_in_root};
use tokio::runtime::Handle;

use super::origin::{self, FromCheckpoint, Origin};
use super::{
    Container, ContainerRecord, ContainerState, finish, image_volumes, rootfs, seccomp, undo_create,
    unique_name, volumes,
};
use crate::config::{Handler, RuntimeConfig};
use crate::core::{Core, new_id};
use crate::error::{Error, IoContext as _, Result};
use crate::events;
use crate::nri;
use crate::pod::{Pod, PodRecord};
use crate::proto::{
    ContainerConfig, ContainerEventType, CreateContainerRequest, LinuxContainerUser, NamespaceMode,
};
use crate::spec::{
    self, ContainerSpec, ImageFacts, SandboxFacts, SandboxFiles, SpecInput, UserDatabase, gather,
};
use crate::store::Cell;
use crate::task::blocking;

/// passwd(5) and group(5) of an image are read up to this size.
const USERS_LIMIT: u64 = 4 << 20;

/// Creates a container in a ready sandbox. Returns its id.
///
/// # Errors
/// Bad configs, a missing image, a name in use, and whatever fails on the way; nothing is left behind then.
pub async fn create(core: &Arc<Core>, request: CreateContainerRequest) -> Result<String> {
    create_from(core, request, None).await
}

/// As [`create`]; with `from`, the container goes on with what that checkpoint holds, whatever its image is.
///
/// # Errors
/// As [`create`], and a checkpoint that is damaged or doesn't fit.
pub(crate) async fn create_from(
    core: &Arc<Core>,
    request: CreateContainerRequest,
    from: Option<FromCheckpoint>,
) -> Result<String> {
    let pod = core.pod(&request.pod_sandbox_id)?;
    pod.must_be_ready()?;
    let mut config = request
        .config
        .ok_or_else(|| Error::invalid("config", "is missing"))?;
    let metadata = config
        .metadata
        .as_ref()
        .ok_or_else(|| Error::invalid("config.metadata", "is missing"))?;
    let wanted = config
        .image
        .as_ref()
        .map(|image| image.image.as_str())
        .unwrap_or_default();
    let found = match wanted {
        "" => return Err(Error::invalid("config.image.image", "is empty")),
        path if path.starts_with('/') => None,
        key => core.images.get(key)?,
    };
    let id = new_id();
    let origin = origin::find(core, &id, wanted, found, from).await?;
    let image = Arc::clone(&origin.image);
    let log_directory = request.sandbox_config.map(|sandbox| sandbox.log_directory);
    let log_path = log_path(log_directory, &pod.cell.get(), &config)?;
    let image_volumes = image_volumes::ids(core, &config.mounts)?;
    let name = unique_name(metadata, &pod.cell.get().metadata());
    core.container_names.reserve(&name, &id)?;
    if let Some(shown) = config.image.as_mut().filter(|_| origin.is_checkpoint()) {
        // the archive may be gone tomorrow
        shown.image = crate::images::names(&image, &image.id).0;
    }
    let mut record = new_record(id, name.clone(), &pod, &image, config, log_path);
    record.image_volumes = image_volumes;
    let container = match Cell::create(&core.container_records, record) {
        Ok(cell) => Container::new(cell),
        Err(error) => {
            core.container_names.release(
                &name,
                core.container_names.holder(&name).as_deref().unwrap_or_default(),
            );
            return Err(error);
        }
    };
    core.containers.insert(&container.id, Arc::clone(&container));
    let one_at_a_time = container.ops.lock().await;
    if let Err(error) = set_up(core, &pod, &container, origin).await {
        if let Err(undo) = undo_create(core, &container).await {
            tracing::warn!(container = container.id, error = %undo, "a creation that failed is not undone yet");
        }
        return Err(error);
    }
    events::of_container(core, ContainerEventType::ContainerCreatedEvent, &container);
    // Plugins that hear of it now may want to do something with it.
    drop(one_at_a_time);
    nri::post_create(core, &container).await;
    Ok(container.id.clone())
}

fn new_record(
    id: String,
    name: String,
    pod: &Pod,
    image: &Image,
    config: ContainerConfig,
    log_path: String,
) -> ContainerRecord {
    let asked_for = config
        .image
        .as_ref()
        .map(|image| image.image.as_str())
        .unwrap_or_default();
    let (image_name, image_ref) = crate::images::names(image, asked_for);
    ContainerRecord {
        id,
        pod_id: pod.id.clone(),
        name,
        image_id: image.id.clone(),
        image_ref,
        image_name,
        state: ContainerState::Creating,
        created_at: crate::time::now(),
        started_at: 0,
        exit: None,
        pid: 0,
        cgroup: String::new(),
        log_path,
        user: LinuxContainerUser::default(),
        stop_signal: 0,
        runtime: None,
        seccomp_filter: None,
        image_volumes: BTreeMap::new(),
        resources: config
            .linux
            .as_ref()
            .and_then(|linux| linux.resources.clone())
            .unwrap_or_default(),
        config,
    }
}

/// The log's absolute path; empty where either part is, for then there is no log.
fn log_path(directory: Option<String>, pod: &PodRecord, config: &ContainerConfig) -> Result<String> {
    let directory = directory
        .filter(|d| !d.is_empty())
        .unwrap_or_else(|| pod.config.log_directory.clone());
    if directory.is_empty() || config.log_path.is_empty() {
        return Ok(String::new());
    }
    let path = Path::new(&directory).join(&config.log_path);
    let outside = path
        .components()
        .any(|part| part == std::path::Component::ParentDir);
    if !path.is_absolute() || outside {
        return Err(Error::invalid(
            "config.log_path",
            format!(
                "{} is not an absolute path below the log directory",
                path.display()
            ),
        ));
    }
    Ok(path.display().to_string())
}

async fn set_up(core: &Arc<Core>, pod: &Arc<Pod>, container: &Arc<Container>, origin: Origin) -> Result<()> {
    let (at, of, what) = (Arc::clone(core), Arc::clone(pod), Arc::clone(container));
    let origin = Arc::new(origin);
    let from = Arc::clone(&origin);
    let create = blocking("preparing a container", move || prepare(&at, &of, &what, &from)).await?;
    let monitor = pod.live_monitor()?;
    let pid = match origin.restore(core, &create)? {
        None => monitor.create(create).await?,
        Some(_) if create.runtime.is_some() => {
            return Err(Error::invalid(
                "image",
                "is a checkpoint, which can't be restored with this runtime handler",
            ));
        }
        Some(from) => monitor.restore(RestoreContainer { create, from }).await?,
    };
    container.cell.update(|record| {
        record.pid = pid;
        // A sandbox that is being stopped has counted its containers already.
        pod.must_be_ready()?;
        record.enter(ContainerState::Created, "being created")
    })
}

/// Everything up to the monitor: files, spec and filter. Blocking.
fn prepare(
    core: &Arc<Core>,
    pod: &Pod,
    container: &Arc<Container>,
    origin: &Origin,
) -> Result<CreateContainer> {
    let record = container.cell.get();
    let ids = pod.cell.get().user_ids();
    let pod = pod.cell.get();
    let handler = core.handler_of(&pod)?;
    let mut made = translate(core, handler, &pod, &record, &origin.image)?;
    finish::finish(core, handler, &pod, &record, &mut made)?;
    // This thread may wait for plugins: it is one of those that may, and their time is limited.
    let rest = Handle::current().block_on(nri::create_container(core, container, &mut made))?;
    finish::finish_adjusted(core, handler, &rest, &mut made)?;
    let bundle = core.paths.pod(&record.pod_id).bundle(&record.id);
    origin.check(&mut made.spec, &bundle)?;
    let runtime = core.foreign_runtime(handler, &made.cgroup);
    let seccomp_filter = seccomp::filter(core, &mut made, runtime.is_some())?;
    // The cgroup is known from here on, so that it can be removed whatever happens next.
    container.cell.update(|record| {
        record.cgroup.clone_from(&made.cgroup);
        record.user.clone_from(&made.user);
        record.stop_signal = made.stop_signal;
        record.resources.clone_from(&made.resources);
        record.seccomp_filter.clone_from(&seccomp_filter);
        record.runtime.clone_from(&runtime);
        Ok(())
    })?;
    relabel(&made)?;
    let rootfs = rootfs::make(core, handler, container, ids, origin)?;
    write_bundle(&bundle, &made.spec)?;
    Ok(CreateContainer {
        id: record.id.clone(),
        bundle,
        rootfs: Some(rootfs),
        seccomp_filter,
        stdin: record.config.stdin,
        stdin_once: record.config.stdin_once,
        log: log_target(&handler.settings, &record),
        runtime,
    })
}

/// Volumes that the container is to reach get its label.
fn relabel(made: &ContainerSpec) -> Result<()> {
    let linux = made.spec.linux().as_ref();
    let Some(label) = linux.and_then(|linux| linux.mount_label().as_deref()) else {
        return Ok(());
    };
    for path in &made.relabel {
        pintle_runtime::rootfs::relabel(path, label)?;
    }
    Ok(())
}

fn log_target(settings: &RuntimeConfig, record: &ContainerRecord) -> Option<LogTarget> {
    (!record.log_path.is_empty()).then(|| LogTarget {
        path: PathBuf::from(&record.log_path),
        max_line: settings.log_max_line,
        mode: settings.log_mode,
    })
}

fn translate(
    core: &Core,
    handler: &Handler,
    pod: &PodRecord,
    record: &ContainerRecord,
    image: &Image,
) -> Result<ContainerSpec> {
    let node = core.node_for(handler);
    let mut config = record.config.clone();
    config.devices.extend(handler.devices.iter().cloned());
    let (dir, view) = (core.paths.pod(&pod.id), core.paths.pod_in_view(&pod.id));
    let layers = core.images.layers_of(&image.id)?;
    let users = core
        .user_dbs
        .get_or_load(&image.id, || read_users(layers.clone()))?;
    let mut host = gather::host_facts(&config, &node)?;
    host.target_pid = target_pid(core, record)?;
    host.image_mounts = image_volumes::prepare(core, record)?;
    let declared = spec::image_volumes(&record.config, &image.config);
    host.volumes = volumes::make(
        &core.paths.volumes().join(&record.id),
        &declared,
        &layers,
        pod.user_ids(),
    )?;
    let hostname = spec::sandbox::hostname(&pod.config, &pod.id, &core.node.hostname);
    Ok(spec::container_spec(&SpecInput {
        id: &record.id,
        rootfs: &dir.bundle(&record.id).join("rootfs"),
        config: &config,
        sandbox: SandboxFacts {
            id: &pod.id,
            config: &pod.config,
            hostname: &hostname,
            cgroup_parent: &pod.cgroup_parent,
            ns_dir: &dir.path().join("ns"),
            files: &SandboxFiles {
                hostname: view.hostname(),
                resolv_conf: view.resolv_conf(),
                hosts: Some(view.hosts()),
                shm: dir.shm(),
            },
            selinux_level: pod.selinux_level.as_deref(),
        },
        image: ImageFacts {
            config: &image.config,
            name: &record.image_name,
        },
        users: &users,
        node: &node,
        host: &host,
        settings: &handler.settings,
    })?)
}

/// The first process of the container whose PID namespace is to be joined, which must run in the same sandbox.
fn target_pid(core: &Core, record: &ContainerRecord) -> Result<Option<i32>> {
    let security = record
        .config
        .linux
        .as_ref()
        .and_then(|linux| linux.security_context.as_ref());
    let Some(options) = security.and_then(|security| security.namespace_options.as_ref()) else {
        return Ok(None);
    };
    if options.pid() != NamespaceMode::Target {
        return Ok(None);
    }
    let target = core.container(&options.target_id)?;
    target.must_run()?;
    if target.pod_id != record.pod_id {
        return Err(Error::invalid(
            "namespace_options.target_id",
            format!("{:?} is in another sandbox", options.target_id),
        ));
    }
    Ok(Some(target.cell.get().pid))
}

/// The image's own users, from a mount of its layers that is attached nowhere.
fn read_users(lower: Vec<PathBuf>) -> Result<UserDatabase> {
    use std::os::fd::AsFd as _;
    let root = detached_overlay(&Overlay {
        lower,
        ..Overlay::default()
    })?;
    let read = |path: &str| match read_in_root(root.as_fd(), Path::new(path), USERS_LIMIT) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(error) if error.errno().is_some_and(is_absent) => Ok(String::new()),
        Err(error) => Err(Error::from(error)),
    };
    Ok(UserDatabase::parse(&read("/etc/passwd")?, &read("/etc/group")?))
}

fn is_absent(errno: nix::errno::Errno) -> bool {
    matches!(errno, nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR)
}

fn write_bundle(bundle: &Path, spec: &Spec) -> Result<()> {
    let rootfs = bundle.join("rootfs");
    fs::create_dir_all(&rootfs).io("create folder", &rootfs)?;
    let path = bundle.join("config.json");
    let text = serde_json::to_vec(spec).map_err(|e| Error::Io {
        verb: "encode",
        path: path.clone(),
        source: e.into(),
    })?;
    fs::write(&path, text).io("write", &path)
}
