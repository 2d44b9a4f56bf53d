//! What requests and replies carry: the set-up of a sandbox, of a container and of an exec, and the states.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::runtime::Process;
use serde::{Deserialize, Serialize};

use crate::checkpoint::Restore;

/// A kind of namespace that a sandbox can own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NamespaceKind {
    /// Network.
    Net,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name.
    Uts,
    /// Users; the others of the sandbox are then owned by it.
    User,
    /// Process ids, held by the sandbox's init.
    Pid,
}

impl NamespaceKind {
    /// Its name under `/proc/<pid>/ns` and under the pod's `ns` folder.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Net => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::User => "user",
            Self::Pid => "pid",
        }
    }
}

/// A range of a user namespace's uid or gid map (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// First id inside.
    pub container_id: u32,
    /// First id outside.
    pub host_id: u32,
    /// Number of ids.
    pub size: u32,
}

/// The namespaces that a pod's containers share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxSetup {
    /// Which are new; each is pinned by a bind mount at `<dir>/ns/<kind>`.
    pub namespaces: Vec<NamespaceKind>,
    /// The user namespace's uid map.
    pub uid_mappings: Vec<IdMapping>,
    /// The user namespace's gid map.
    pub gid_mappings: Vec<IdMapping>,
    /// Set in the new UTS namespace.
    pub hostname: Option<String>,
    /// Dotted names and their values, written inside the new namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Keep a tiny init as process 1 of a pid namespace pinned at `<dir>/ns/pid`.
    pub shared_pid: bool,
    /// The cgroup of that init, relative to each hierarchy's root.
    pub init_cgroup: Option<String>,
}

/// A container to be made; its process waits for [`super::Request::Start`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CreateContainer {
    /// Unique in the pod.
    pub id: String,
    /// The folder of `config.json`, an OCI runtime spec; `root.path` is where the root file system is mounted.
    pub bundle: PathBuf,
    /// Mounted on `root.path` in the container's own mount namespace only.
    pub rootfs: Option<Overlay>,
    /// A compiled seccomp program; takes the place of `linux.seccomp` of the spec.
    pub seccomp_filter: Option<PathBuf>,
    /// Keep standard input open for attaching; otherwise it is `/dev/null`. With a terminal (`process.terminal`): let
    /// attachments write to it.
    pub stdin: bool,
    /// With `stdin`: close the container's standard input when the first attachment that brought stdin ends. A
    /// terminal stays open.
    pub stdin_once: bool,
    /// Where the output goes; without it the output is discarded.
    pub log: Option<LogTarget>,
    /// Who makes it; without one this runtime does.
    pub runtime: Option<ForeignRuntime>,
}

/// Another OCI runtime: a program with runc's command line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ForeignRuntime {
    /// The program.
    pub program: PathBuf,
    /// Options that stand before its commands.
    pub options: Vec<String>,
    /// Where it keeps what it has to know of containers (`--root`).
    pub root: PathBuf,
    /// The container's cgroup, relative to the hierarchies' roots: where `linux.cgroupsPath` leads.
    pub cgroup: String,
}

/// A container to be made of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestoreContainer {
    /// The container itself. Its root holds the files of the checkpoint by now.
    pub create: CreateContainer,
    /// Where its processes come from.
    pub from: Restore,
}

/// A CRI log file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogTarget {
    /// The file; its folder is made if it is missing.
    pub path: PathBuf,
    /// The most bytes of content in a record; a longer line becomes several `P` records and a last `F` one.
    #[serde(default = "default_max_line")]
    pub max_line: usize,
    /// Permissions of a new file.
    #[serde(default = "default_mode")]
    pub mode: u32,
}

fn default_max_line() -> usize {
    crate::log::DEFAULT_MAX_LINE
}

fn default_mode() -> u32 {
    0o640
}

impl LogTarget {
    /// A log at `path` with the usual line length (16 KiB) and permissions (0640).
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            max_line: default_max_line(),
            mode: default_mode(),
        }
    }
}

/// An overlay mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overlay {
    /// Lower layers, the topmost first.
    pub lower: Vec<PathBuf>,
    /// The writable layer; read-only without it.
    pub upper: Option<PathBuf>,
    /// The work folder of the writable layer.
    pub work: Option<PathBuf>,
    /// Further mount options, such as `index=off`.
    pub options: Vec<String>,
    /// Show the ids of the lower layers through the container's user namespace. The writable layer must lie on disk as
    /// that namespace has it: its folder belongs to the id that 0 stands for.
    pub idmap: bool,
}

impl Overlay {
    /// The option by which overlayfs never syncs the writable layer, neither when a process asks for it nor when it is
    /// unmounted: after a crash of the node the layer must not be used again.
    pub const VOLATILE: &str = "volatile";
}

/// A further process in a running container. Three file descriptors come with it: stdin, stdout and stderr; or, with
/// `process.terminal`, a single one: a socket (unix(7)) by which the terminal's master goes to the caller before the reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// The container's id.
    pub container: String,
    /// Unique in the pod while the process runs.
    pub exec_id: String,
    /// What to run, and as whom.
    pub process: Process,
    /// A compiled seccomp program.
    #[serde(default)]
    pub seccomp_filter: Option<PathBuf>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code; 128 + signal for a process that a signal ended.
    pub code: i32,
    /// The signal that ended it.
    #[serde(default)]
    pub signal: Option<i32>,
    /// The kernel killed a process of the container for lack of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// Unix time in nanoseconds.
    pub finished_at: i64,
}

/// What a container is doing, as the daemon sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerStatus {
    /// Its init waits to be started.
    Created,
    /// Its process runs, or has ended and its last output is still being written.
    Running,
    /// Its exit is known and its log complete.
    Exited,
}

/// One container of a [`MonitorState`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    /// Its id.
    pub id: String,
    /// Its init's pid in the monitor's pid namespace; meaningless once it has exited.
    pub pid: i32,
    /// What it is doing.
    pub status: ContainerStatus,
    /// Unix time in nanoseconds.
    #[serde(default)]
    pub started_at: Option<i64>,
    /// Present when it has exited.
    #[serde(default)]
    pub exit: Option<Exit>,
    /// Whether it has a terminal.
    #[serde(default)]
    pub terminal: bool,
    /// Whether its standard input is open for attaching.
    #[serde(default)]
    pub stdin: bool,
}

/// All that a new daemon has to learn from a monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitorState {
    /// The protocol version it speaks.
    pub version: u32,
    /// The monitor's pid.
    pub pid: i32,
    /// The sandbox's init, where there is one and it lives.
    #[serde(default)]
    pub init_pid: Option<i32>,
    /// Every container that hasn't been deleted.
    #[serde(default)]
    pub containers: Vec<ContainerState>,
}
