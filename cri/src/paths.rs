//! Where the daemon keeps what.
//!
//! ```text
//! <state>/                      default /run/pintle, gone at reboot
//!   pintle.sock  pintled.lock
//!   seccomp/                    compiled filters by the hash of their profile
//!   rdt.json                    classes of RDT that we have made
//!   net/                        the built-in network's leases and records
//!   pods/<pod id>/              PodDir
//!     monitor.sock              the pod's monitor listens here
//!     ns/{net,ipc,uts,user,pid} pinned namespaces
//!     shm/  hostname  hosts  resolv.conf
//!     containers/<id>/          the bundle: config.json, rootfs/, exit.json
//!   view/                       pods/ again, without the mounts in it
//! <root>/                       default /var/lib/pintle, kept for good
//!   pods/ containers/           records
//!   volumes/<container id>/     what images declare as VOLUME
//!   mount-points/               the lowest layer of all containers
//!   checkpoints/<container id>/ while one is written or read
//!   images/  cni/               the other rooms' own
//! ```

use std::path::{Path, PathBuf};

/// The folders of one daemon.
#[derive(Debug, Clone)]
pub struct Paths {
    root: PathBuf,
    state: PathBuf,
}

impl Paths {
    /// Folders under these two.
    pub fn new(root: &Path, state: &Path) -> Self {
        Self {
            root: root.to_owned(),
            state: state.to_owned(),
        }
    }

    /// The lock that one daemon holds.
    pub fn lock(&self) -> PathBuf {
        self.state.join("pintled.lock")
    }

    /// Compiled seccomp filters.
    pub fn seccomp_cache(&self) -> PathBuf {
        self.state.join("seccomp")
    }

    /// The names of the classes of RDT that we have made.
    pub fn rdt_record(&self) -> PathBuf {
        self.state.join("rdt.json")
    }

    /// The folder of all pods' run-time state.
    pub fn pods(&self) -> PathBuf {
        self.state.join("pods")
    }

    /// One pod's run-time state.
    pub fn pod(&self, id: &str) -> PodDir {
        PodDir(self.pods().join(id))
    }

    /// The folder of all pods once more, as a mount in which no others lie.
    pub fn view(&self) -> PathBuf {
        self.state.join("view")
    }

    /// One pod's run-time state there: where its containers' mounts come from.
    pub fn pod_in_view(&self, id: &str) -> PodDir {
        PodDir(self.view().join(id))
    }

    /// Records of pods.
    pub fn pod_records(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// Records of containers.
    pub fn container_records(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// The folder of all containers' volumes.
    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// Files of checkpoints that are being written or read; nothing in here outlives a daemon.
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// The lowest layer of all containers.
    pub fn mount_points(&self) -> PathBuf {
        self.root.join("mount-points")
    }

    /// The image store.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// The built-in network's state. No lease outlives a reboot, so that none has to reach a disk.
    pub fn net(&self) -> PathBuf {
        self.state.join("net")
    }

    /// Results of CNI programs.
    pub fn cni(&self) -> PathBuf {
        self.root.join("cni")
    }

    /// The folder that is kept for good.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder that lives until reboot.
    pub fn state(&self) -> &Path {
        &self.state
    }
}

/// The run-time state of one pod.
#[derive(Debug, Clone)]
pub struct PodDir(PathBuf);

impl PodDir {
    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A pinned namespace: `net`, `ipc`, `uts`, `user` or `pid`.
    pub fn namespace(&self, kind: &str) -> PathBuf {
        self.0.join("ns").join(kind)
    }

    /// The pod's /dev/shm.
    pub fn shm(&self) -> PathBuf {
        self.0.join("shm")
    }

    /// The pod's /etc/hostname.
    pub fn hostname(&self) -> PathBuf {
        self.0.join("hostname")
    }

    /// The pod's /etc/resolv.conf.
    pub fn resolv_conf(&self) -> PathBuf {
        self.0.join("resolv.conf")
    }

    /// The pod's /etc/hosts, for containers that bring none.
    pub fn hosts(&self) -> PathBuf {
        self.0.join("hosts")
    }

    /// A container's bundle.
    pub fn bundle(&self, container: &str) -> PathBuf {
        self.0.join("containers").join(container)
    }
}
