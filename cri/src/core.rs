//! What every RPC works on: configuration, records, and the three rooms below.

use std::path::Path;
use std::sync::Arc;

use pintle_images::{Store, StoreConfig};
use pintle_runtime::rootfs::{BlankMounts, can_map_ids};
use pintle_runtime::seal::Program;

use crate::cdi::Cdi;
use crate::classes::Rdt;
use crate::config::Config;
use crate::container::{Container, ContainerRecord, DefaultFilters};
use crate::error::{Error, Kind, Result};
use crate::events::Events;
use crate::handlers::ProgramFeatures;
use crate::network::PodNetwork;
use crate::nri::Nri;
use crate::paths::Paths;
use crate::pod::{InFlight, Pod, PodRecord};
use crate::proto::PodSandboxConfig;
use crate::spec::cgroups::Placement;
use crate::spec::{NodeFacts, UserDbCache, cgroups, gather};
use crate::stats::{Kept, LayerCounter};
use crate::store::{Index, Lookup, Names, RecordDir};
use crate::streaming::Streaming;

/// The daemon's state. Everything in it can be used from any task at any time.
pub struct Core {
    /// The validated configuration.
    pub config: Config,
    /// Where things lie.
    pub paths: Paths,
    /// Facts about this machine.
    pub node: NodeFacts,
    /// Devices that vendors describe.
    pub cdi: Cdi,
    /// Classes of cache and memory bandwidth.
    pub rdt: Rdt,
    /// What other runtimes' programs can do.
    pub features: ProgramFeatures,
    /// The monitor program.
    pub monitor: Program,
    /// What containers' mount namespaces start from.
    pub blank: Option<BlankMounts>,
    /// This boot: what another one left has no processes and no namespaces any more.
    pub boot_id: String,
    /// Images and snapshots.
    pub images: Store,
    /// Pods' networks, built in or by CNI.
    pub network: PodNetwork,
    /// All pods, also those in creation.
    pub pods: Index<Pod>,
    /// All containers, also those in creation.
    pub containers: Index<Container>,
    /// Pods' names in use.
    pub pod_names: Names,
    /// Containers' names in use.
    pub container_names: Names,
    /// RunPodSandbox calls under way or unclaimed.
    pub in_flight: InFlight,
    /// Pods' records on disk.
    pub pod_records: RecordDir<PodRecord>,
    /// Containers' records on disk.
    pub container_records: RecordDir<ContainerRecord>,
    /// Which cgroups' files may stay open.
    pub kept: Kept,
    /// What has happened of late.
    pub events: Events,
    /// Counts what containers have written.
    pub layers: LayerCounter,
    /// Users and groups of the images in use.
    pub user_dbs: UserDbCache,
    /// Compiled filters of the default seccomp profile.
    pub default_filters: DefaultFilters,
    /// Plugins that have their say about containers.
    pub nri: Nri,
    /// URLs of exec, attach and port-forward.
    pub streaming: Streaming,
}

impl Core {
    /// Opens everything that the daemon works on. Blocking.
    ///
    /// # Errors
    /// Whatever can't be opened, or a monitor program that isn't there.
    pub fn open(config: Config, paths: Paths) -> Result<Self> {
        let images = Store::open(StoreConfig {
            root: paths.images(),
            insecure_registries: config.images().insecure_registries.clone(),
            certs_dir: config.images().certs_dir.clone(),
            auth_file: config.images().auth_file.clone(),
            signature_policy: config.images().signature_policy.clone(),
            max_concurrent_layers: config.images().max_concurrent_layers,
            pinned: config.images().pinned.clone(),
            snapshot_places: config.snapshot_places(),
            ..StoreConfig::default()
        })?;
        crate::container::mount_points::make(&paths.mount_points())?;
        let mut node = gather::node_facts(config.cgroup_driver())?;
        // The kernel's version promises it, and the file system of the images must keep it.
        node.user_namespaces = node.user_namespaces && can_map_ids(&paths.images())?;
        if node.apparmor
            && let Err(error) = crate::apparmor::load_default()
        {
            // Whoever needs the profile is refused by name; unconfined containers go on.
            tracing::error!(%error, "the default AppArmor profile can't be loaded");
        }
        Ok(Self {
            cdi: Cdi::new(config.runtime().cdi_dirs.clone()),
            rdt: Rdt::open(
                config.runtime().rdt_config_file.as_deref(),
                &config.runtime().resctrl_root,
                &paths.rdt_record(),
            )?,
            features: ProgramFeatures::ask(&config, node.cgroup_driver)?,
            node,
            monitor: Program::hold(config.find_monitor()?)?,
            blank: BlankMounts::make().unwrap_or_else(|error| {
                tracing::warn!(%error, "containers' mount namespaces start from the node's");
                None
            }),
            boot_id: boot_id()?,
            kept: Kept::within_limits(),
            events: Events::default(),
            layers: LayerCounter::start(images.clone())?,
            images,
            network: PodNetwork::open(&config, &paths)?,
            pods: Index::default(),
            containers: Index::default(),
            pod_names: Names::new(Kind::Pod),
            container_names: Names::new(Kind::Container),
            in_flight: InFlight::default(),
            pod_records: RecordDir::open(&paths.pod_records())?,
            container_records: RecordDir::open(&paths.container_records())?,
            user_dbs: UserDbCache::default(),
            default_filters: DefaultFilters::default(),
            nri: Nri::new(config.nri()),
            streaming: Streaming::bind(config.streaming())?,
            config,
            paths,
        })
    }

    /// The sandbox with this id or unambiguous prefix of one.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty id, [`Error::NotFound`], [`Error::Ambiguous`].
    pub fn pod(&self, id: &str) -> Result<Arc<Pod>> {
        found(self.pods.find(id, Pod::visible), Kind::Pod, "pod_sandbox_id", id)
    }

    /// The container with this id or unambiguous prefix of one.
    ///
    /// # Errors
    /// As [`Core::pod`].
    pub fn container(&self, id: &str) -> Result<Arc<Container>> {
        found(
            self.containers.find(id, Container::visible),
            Kind::Container,
            "container_id",
            id,
        )
    }

    /// A sandbox's containers, also those in creation.
    pub fn containers_of(&self, pod: &str) -> Vec<Arc<Container>> {
        self.containers.owned_by(pod)
    }

    /// The cgroup under which a pod's containers lie: the caller's, or one of our own for this pod.
    ///
    /// # Errors
    /// [`Error::Spec`] for one that leads elsewhere.
    pub fn cgroup_parent(&self, config: &PodSandboxConfig, pod: &str) -> Result<String> {
        let asked = config
            .linux
            .as_ref()
            .map(|linux| linux.cgroup_parent.as_str())
            .unwrap_or_default();
        let default = self.config.default_cgroup_parent();
        Ok(cgroups::sandbox_parent(
            asked,
            default,
            pod,
            self.node.cgroup_driver,
        )?)
    }

    /// The cgroup of a pod's own init, where it has one, and by which cAdvisor finds the pod.
    ///
    /// # Errors
    /// [`Error::Spec`] for a parent that leads elsewhere, which RunPodSandbox refuses.
    pub fn sandbox_cgroup(&self, pod: &PodRecord) -> Result<Placement> {
        Ok(cgroups::place(&pod.cgroup_parent, &pod.id, &pod.cgroup_prefix)?)
    }

    /// Removes a pod's own cgroups, and all that is left in them. A parent that the caller named is the caller's.
    ///
    /// # Errors
    /// What can't be removed.
    pub fn remove_cgroups(&self, pod: &PodRecord) -> Result<()> {
        pintle_runtime::cgroup::remove(&self.sandbox_cgroup(pod)?.oci)?;
        let asked = pod
            .config
            .linux
            .as_ref()
            .map(|linux| linux.cgroup_parent.as_str());
        match asked.unwrap_or_default() {
            "" => self.remove_own_parent(&pod.cgroup_parent),
            _ => Ok(()),
        }
    }

    /// Removes the cgroup of our own that the containers of a pod without a parent lie in.
    ///
    /// # Errors
    /// What can't be removed.
    pub fn remove_own_parent(&self, parent: &str) -> Result<()> {
        match cgroups::is_systemds(parent) {
            true => pintle_runtime::cgroup::remove_slice(parent)?,
            false => pintle_runtime::cgroup::remove(parent)?,
        }
        Ok(())
    }
}

/// A new object's id: 64 lower-case hexadecimal digits, by the kernel's random numbers.
pub fn new_id() -> String {
    let mut bytes = [0_u8; 32];
    // getrandom(2) can't fail for a few bytes on the kernels that have what containers need.
    getrandom::fill(&mut bytes).expect("the kernel has random numbers");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The kernel's name for this boot, in `/proc/sys/kernel/random/boot_id`.
///
/// # Errors
/// [`Error::Io`].
pub fn boot_id() -> Result<String> {
    use crate::error::IoContext as _;
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    Ok(std::fs::read_to_string(path).io("read", path)?.trim().to_owned())
}

fn found<T>(lookup: Lookup<T>, kind: Kind, field: &str, id: &str) -> Result<Arc<T>> {
    if id.is_empty() {
        return Err(Error::invalid(field, "is empty"));
    }
    match lookup {
        Lookup::Found(object) => Ok(object),
        Lookup::Unknown => Err(Error::NotFound {
            kind,
            id: id.to_owned(),
        }),
        Lookup::Ambiguous => Err(Error::Ambiguous {
            kind,
            prefix: id.to_owned(),
        }),
    }
}
