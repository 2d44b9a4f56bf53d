//! `features`: what this runtime can do (features.md of the specification).

use serde_json::{Value, json};

use super::Context;
use super::args::Given;
use super::list::put;
use crate::error::{Error, Result};

/// The oldest and the newest version of the specification that a configuration may name.
const OLDEST_SPEC: &str = "1.0.0";
pub(super) const NEWEST_SPEC: &str = "1.3.0";

/// `linux.seccomp.flags` that this runtime knows; the kernels that it needs have them all.
const FILTER_FLAGS: [&str; 3] = [
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
];

/// `linux.seccomp.architectures` that the profiles' compiler knows.
const ARCHITECTURES: &[&str] = &[
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];

pub(super) fn print(_context: &mut Context, _given: &Given) -> Result<i32> {
    let text = serde_json::to_string_pretty(&features()).map_err(|source| Error::Parse {
        path: "features".into(),
        source,
    })?;
    put(&format!("{text}\n"))?;
    Ok(0)
}

/// Options that are no file system's own.
const MOUNT_OPTIONS: &[&str] = &[
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

fn features() -> Value {
    json!({
        "ociVersionMin": OLDEST_SPEC,
        "ociVersionMax": NEWEST_SPEC,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": MOUNT_OPTIONS,
        "linux": linux(),
        "annotations": {
            "io.github.seccomp.libseccomp.version": crate::seccomp::library_version(),
            "org.opencontainers.runc.checkpoint.enabled": "true"
        }
    })
}

fn linux() -> Value {
    json!({
        "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
        "capabilities": capabilities(),
        "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": false, "rdma": true},
        "seccomp": {
            "enabled": true,
            "actions": [
                "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
                "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"
            ],
            "operators": [
                "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
                "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"
            ],
            "archs": ARCHITECTURES,
            "knownFlags": FILTER_FLAGS,
            "supportedFlags": FILTER_FLAGS
        },
        "apparmor": {"enabled": true},
        "selinux": {"enabled": true},
        "intelRdt": {"enabled": true, "schemata": true, "monitoring": true},
        "memoryPolicy": {
            "modes": [
                "MPOL_BIND", "MPOL_DEFAULT", "MPOL_INTERLEAVE", "MPOL_LOCAL", "MPOL_PREFERRED",
                "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE"
            ],
            "flags": ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"]
        },
        "mountExtensions": {"idmap": {"enabled": true}},
        "netDevices": {"enabled": true}
    })
}

/// All that this runtime knows, whether the kernel has them or not.
fn capabilities() -> Vec<String> {
    crate::process::capability_names()
        .map(|name| format!("CAP_{name}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{
        LinuxMemoryPolicy, LinuxNamespaceType, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg,
    };

    use super::*;
    use crate::rootfs::MountOptions;

    fn words(pointer: &str) -> Vec<String> {
        serde_json::from_value(features().pointer(pointer).unwrap().clone()).unwrap()
    }

    /// What is claimed must be taken in a configuration.
    fn taken<T: serde::de::DeserializeOwned>(pointer: &str, around: impl Fn(&str) -> Value) {
        let words = words(pointer);
        assert!(!words.is_empty() && words.is_sorted(), "{pointer}");
        for word in words {
            serde_json::from_value::<T>(around(&word)).unwrap_or_else(|e| panic!("{pointer}: {word}: {e}"));
        }
    }

    #[test]
    fn what_is_claimed_is_known_in_configurations() {
        taken::<LinuxNamespaceType>("/linux/namespaces", |word| json!(word));
        taken::<LinuxSeccompAction>("/linux/seccomp/actions", |word| json!(word));
        taken::<LinuxSeccompArg>(
            "/linux/seccomp/operators",
            |word| json!({"index": 0, "value": 0, "op": word}),
        );
        let profile = |field: &str, word: &str| json!({"defaultAction": "SCMP_ACT_ALLOW", field: [word]});
        taken::<LinuxSeccomp>("/linux/seccomp/archs", |word| profile("architectures", word));
        taken::<LinuxSeccomp>("/linux/seccomp/supportedFlags", |word| profile("flags", word));
        taken::<LinuxMemoryPolicy>(
            "/linux/memoryPolicy/modes",
            |word| json!({"mode": word, "nodes": "0"}),
        );
        let policy = |word: &str| json!({"mode": "MPOL_BIND", "nodes": "0", "flags": [word]});
        taken::<LinuxMemoryPolicy>("/linux/memoryPolicy/flags", policy);
    }

    #[test]
    fn mount_options_are_ours_or_the_kernels_for_all_file_systems() {
        // fsconfig(2) takes these for any file system
        let common = [
            "async",
            "dirsync",
            "lazytime",
            "mand",
            "nolazytime",
            "nomand",
            "sync",
        ];
        for option in words("/mountOptions") {
            let options = MountOptions::parse(0, std::slice::from_ref(&option)).unwrap();
            assert!(options.data.is_empty() || common.contains(&&*option), "{option}");
        }
    }
}
