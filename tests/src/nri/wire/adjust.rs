//! What a plugin may want to be different about a container.

use std::collections::BTreeMap;

use prost::Message;

/// `ContainerAdjustment`.
#[derive(Clone, PartialEq, Message)]
pub struct Adjustment {
    /// Annotations.
    #[prost(btree_map = "string, string", tag = "2")]
    pub annotations: BTreeMap<String, String>,
    /// Mounts.
    #[prost(message, repeated, tag = "3")]
    pub mounts: Vec<Mount>,
    /// Variables.
    #[prost(message, repeated, tag = "4")]
    pub env: Vec<KeyValue>,
    /// Hooks.
    #[prost(message, optional, tag = "5")]
    pub hooks: Option<Hooks>,
    /// Linux.
    #[prost(message, optional, tag = "6")]
    pub linux: Option<LinuxAdjustment>,
    /// Limits of the process.
    #[prost(message, repeated, tag = "7")]
    pub rlimits: Vec<Rlimit>,
    /// CDI devices.
    #[prost(message, repeated, tag = "8")]
    pub cdi: Vec<CdiDevice>,
    /// Arguments.
    #[prost(string, repeated, tag = "9")]
    pub args: Vec<String>,
}

/// `Mount`.
#[derive(Clone, PartialEq, Message)]
pub struct Mount {
    /// Where.
    #[prost(string, tag = "1")]
    pub destination: String,
    /// Kind.
    #[prost(string, tag = "2")]
    pub kind: String,
    /// What.
    #[prost(string, tag = "3")]
    pub source: String,
    /// How.
    #[prost(string, repeated, tag = "4")]
    pub options: Vec<String>,
}

/// `KeyValue`.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    /// The key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `CDIDevice`.
#[derive(Clone, PartialEq, Message)]
pub struct CdiDevice {
    /// The full name.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// `Hooks`.
#[derive(Clone, PartialEq, Message)]
pub struct Hooks {
    /// Before the root is changed, in the host's namespaces.
    #[prost(message, repeated, tag = "2")]
    pub create_runtime: Vec<Hook>,
}

/// `Hook`.
#[derive(Clone, PartialEq, Message)]
pub struct Hook {
    /// The program.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Its arguments, its name first.
    #[prost(string, repeated, tag = "2")]
    pub args: Vec<String>,
}

/// `POSIXRlimit`.
#[derive(Clone, PartialEq, Message)]
pub struct Rlimit {
    /// As `RLIMIT_CORE`.
    #[prost(string, tag = "1")]
    pub kind: String,
    /// The hard limit.
    #[prost(uint64, tag = "2")]
    pub hard: u64,
    /// The soft limit.
    #[prost(uint64, tag = "3")]
    pub soft: u64,
}

/// `LinuxContainerAdjustment`.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxAdjustment {
    /// Devices.
    #[prost(message, repeated, tag = "1")]
    pub devices: Vec<Device>,
    /// Limits.
    #[prost(message, optional, tag = "2")]
    pub resources: Option<Resources>,
    /// `OptionalInt`.
    #[prost(message, optional, tag = "4")]
    pub oom_score_adj: Option<Number>,
    /// The seccomp policy.
    #[prost(message, optional, tag = "6")]
    pub seccomp: Option<Seccomp>,
}

/// `LinuxDevice`.
#[derive(Clone, PartialEq, Message)]
pub struct Device {
    /// Where.
    #[prost(string, tag = "1")]
    pub path: String,
    /// b or c.
    #[prost(string, tag = "2")]
    pub kind: String,
    /// Major number.
    #[prost(int64, tag = "3")]
    pub major: i64,
    /// Minor number.
    #[prost(int64, tag = "4")]
    pub minor: i64,
}

/// `LinuxSeccomp`.
#[derive(Clone, PartialEq, Message)]
pub struct Seccomp {
    /// For all other calls.
    #[prost(string, tag = "1")]
    pub default_action: String,
    /// Rules.
    #[prost(message, repeated, tag = "7")]
    pub syscalls: Vec<Syscall>,
}

/// `LinuxSyscall`.
#[derive(Clone, PartialEq, Message)]
pub struct Syscall {
    /// Calls.
    #[prost(string, repeated, tag = "1")]
    pub names: Vec<String>,
    /// What is done.
    #[prost(string, tag = "2")]
    pub action: String,
}

/// An `Optional…` of a whole number.
#[derive(Clone, PartialEq, Message)]
pub struct Number {
    /// The number.
    #[prost(int64, tag = "1")]
    pub value: i64,
}

/// `LinuxResources`.
#[derive(Clone, PartialEq, Message)]
pub struct Resources {
    /// Memory.
    #[prost(message, optional, tag = "1")]
    pub memory: Option<Memory>,
    /// CPU.
    #[prost(message, optional, tag = "2")]
    pub cpu: Option<Cpu>,
    /// Processes.
    #[prost(message, optional, tag = "8")]
    pub pids: Option<Number>,
}

/// `LinuxMemory`.
#[derive(Clone, PartialEq, Message)]
pub struct Memory {
    /// Bytes.
    #[prost(message, optional, tag = "1")]
    pub limit: Option<Number>,
}

/// `LinuxCPU`.
#[derive(Clone, PartialEq, Message)]
pub struct Cpu {
    /// Relative weight.
    #[prost(message, optional, tag = "1")]
    pub shares: Option<Number>,
}
