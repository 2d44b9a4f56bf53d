//! CreateContainer: name → record → snapshot → runtime spec → seccomp filter → an init that waits.
//!
//! There is no undo beside these steps: whatever fails, `teardown.rs` takes down what stands.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::runtime::{LinuxSeccomp, Spec};
use pintle_images::Image;
use pintle_runtime::protocol::{CreateContainer, LogTarget, Overlay};
use pintle_runtime::rootfs::{detached_overlay, read_in_root};
use pintle_runtime::seccomp;
use tokio::runtime::Handle;

use super::{Container, ContainerRecord, ContainerState, image_volumes, undo_create, unique_name, volumes};
use crate::core::{Core, new_id};
use crate::error::{Error, IoContext as _, Result};
use crate::events;
use crate::nri;
use crate::pod::{Pod, PodRecord};
use crate::proto::{
    ContainerConfig, ContainerEventType, CreateContainerRequest, LinuxContainerUser, NamespaceMode,
};
use crate::spec::{
    self, ContainerSpec, ImageFacts, SandboxFacts, SandboxFiles, Seccomp, SpecInput, UserDatabase, UserIds,
    gather,
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
    let pod = core.pod(&request.pod_sandbox_id)?;
    pod.must_be_ready()?;
    let config = request
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
    let image = match wanted {
        "" => return Err(Error::invalid("config.image.image", "is empty")),
        key => core
            .images
            .get(key)?
            .ok_or_else(|| Error::ImageNotLocal(key.to_owned()))?,
    };
    let log_directory = request.sandbox_config.map(|sandbox| sandbox.log_directory);
    let log_path = log_path(log_directory, &pod.cell.get(), &config)?;
    let image_volumes = image_volumes::ids(core, &config.mounts)?;
    let name = unique_name(metadata, &pod.cell.get().metadata());
    let id = new_id();
    core.container_names.reserve(&name, &id)?;
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
    if let Err(error) = set_up(core, &pod, &container, &image).await {
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

async fn set_up(
    core: &Arc<Core>,
    pod: &Arc<Pod>,
    container: &Arc<Container>,
    image: &Arc<Image>,
) -> Result<()> {
    let (at, of, what, from) = (
        Arc::clone(core),
        Arc::clone(pod),
        Arc::clone(container),
        Arc::clone(image),
    );
    let create = blocking("preparing a container", move || prepare(&at, &of, &what, &from)).await?;
    let pid = pod.live_monitor()?.create(create).await?;
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
    image: &Image,
) -> Result<CreateContainer> {
    let record = container.cell.get();
    let ids = pod.cell.get().user_ids();
    let mut made = translate(core, &pod.cell.get(), &record, image)?;
    // This thread may wait for plugins: it is one of those that may, and their time is limited.
    let rest = Handle::current().block_on(nri::create_container(core, container, &mut made))?;
    rest.refuse()?;
    let seccomp_filter = seccomp_filter(core, &made)?;
    // The cgroup is known from here on, so that it can be removed whatever happens next.
    container.cell.update(|record| {
        record.cgroup.clone_from(&made.cgroup);
        record.user.clone_from(&made.user);
        record.stop_signal = made.stop_signal;
        record.resources.clone_from(&made.resources);
        record.seccomp_filter.clone_from(&seccomp_filter);
        Ok(())
    })?;
    relabel(&made)?;
    let snapshot = core.images.snapshot(&record.id, &record.image_id)?;
    if ids.are_mapped() {
        shift_owner(&snapshot.upper, ids)?;
    }
    core.layers.refresh(container);
    let bundle = core.paths.pod(&record.pod_id).bundle(&record.id);
    write_bundle(&bundle, &made.spec)?;
    Ok(CreateContainer {
        id: record.id.clone(),
        bundle,
        rootfs: Some(Overlay {
            lower: snapshot.lower,
            upper: Some(snapshot.upper),
            work: Some(snapshot.work),
            options: Vec::new(),
            idmap: ids.are_mapped(),
        }),
        seccomp_filter,
        stdin: record.config.stdin,
        stdin_once: record.config.stdin_once,
        log: log_target(core, &record),
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

/// The writable layer's folder is the root that the container sees: it belongs to whom the image says, as the pod has it.
fn shift_owner(upper: &Path, ids: UserIds) -> Result<()> {
    let is = fs::metadata(upper).io("stat", upper)?;
    let (uid, gid) = ids.on_host(is.uid(), is.gid());
    chown(upper, Some(uid), Some(gid)).io("set owner of", upper)
}

fn log_target(core: &Core, record: &ContainerRecord) -> Option<LogTarget> {
    let settings = core.config.runtime();
    (!record.log_path.is_empty()).then(|| LogTarget {
        path: PathBuf::from(&record.log_path),
        max_line: settings.log_max_line,
        mode: settings.log_mode,
    })
}

fn translate(core: &Core, pod: &PodRecord, record: &ContainerRecord, image: &Image) -> Result<ContainerSpec> {
    let dir = core.paths.pod(&pod.id);
    let layers = core.images.layers_of(&image.id)?;
    let users = core
        .user_dbs
        .get_or_load(&image.id, || read_users(layers.clone()))?;
    let mut host = gather::host_facts(&record.config, &core.node)?;
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
    let made = spec::container_spec(&SpecInput {
        id: &record.id,
        rootfs: &dir.bundle(&record.id).join("rootfs"),
        config: &record.config,
        sandbox: SandboxFacts {
            id: &pod.id,
            config: &pod.config,
            hostname: &hostname,
            cgroup_parent: &pod.cgroup_parent,
            ns_dir: &dir.path().join("ns"),
            files: &SandboxFiles {
                hostname: dir.hostname(),
                resolv_conf: dir.resolv_conf(),
                hosts: Some(dir.hosts()),
                shm: dir.shm(),
            },
            selinux_level: pod.selinux_level.as_deref(),
        },
        image: ImageFacts {
            config: &image.config,
            name: &record.image_name,
        },
        users: &users,
        node: &core.node,
        host: &host,
        settings: core.config.runtime(),
    })?;
    Ok(made)
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

/// The container's compiled filter, if it has one. Compiled once for all containers of the same profile.
fn seccomp_filter(core: &Core, made: &ContainerSpec) -> Result<Option<PathBuf>> {
    // A plugin's goes before that of the configuration.
    let given = made
        .spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.seccomp().as_ref());
    if let Some(profile) = given {
        return Ok(Some(seccomp::compile(profile, &core.paths.seccomp_cache())?));
    }
    let profile = match &made.seccomp {
        Seccomp::Unconfined => return Ok(None),
        Seccomp::RuntimeDefault => {
            let capabilities = made
                .spec
                .process()
                .as_ref()
                .and_then(|p| p.capabilities().as_ref());
            let bounding = capabilities
                .and_then(|c| c.bounding().clone())
                .unwrap_or_default();
            seccomp::default_profile(&bounding.into_iter().collect::<Vec<_>>())
        }
        Seccomp::Localhost(path) => localhost_profile(path)?,
    };
    Ok(Some(seccomp::compile(&profile, &core.paths.seccomp_cache())?))
}

fn localhost_profile(path: &Path) -> Result<LinuxSeccomp> {
    let text = fs::read(path).io("read seccomp profile", path)?;
    serde_json::from_slice(&text).map_err(|e| {
        Error::invalid(
            "seccomp.localhost_ref",
            format!("{} is no seccomp profile: {e}", path.display()),
        )
    })
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
