//! `spec`: a configuration to start from.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::args::Given;
use super::{Context, refused};
use crate::cgroup;
use crate::error::{Context as _, Error, Kind, Result};

pub(super) fn write(_context: &mut Context, given: &Given) -> Result<i32> {
    let path = Path::new(given.get("bundle").unwrap_or(".")).join("config.json");
    let mut spec = example();
    if given.is_on("rootless") {
        make_rootless(&mut spec);
    }
    if cgroup::detect() == cgroup::Mode::V2 {
        add_cgroup_namespace(&mut spec);
    }
    let text = serde_json::to_string_pretty(&spec).map_err(|source| Error::Parse {
        path: path.clone(),
        source,
    })?;
    match OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(mut file) => file.write_all(text.as_bytes()).path("write", &path)?,
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            let text = "File config.json exists. Remove it first";
            return Err(refused(Kind::AlreadyExists, text));
        }
        Err(e) => return Err(e).path("create", path),
    }
    Ok(0)
}

fn example() -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": super::features::NEWEST_SPEC,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "pintle",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}

/// As other runtimes write it, where containers see their part of the one tree.
fn add_cgroup_namespace(spec: &mut Value) {
    if let Some(list) = spec["linux"]["namespaces"].as_array_mut() {
        list.push(json!({"type": "cgroup"}));
    }
}

/// The caller becomes root of a user namespace, and nothing needs more than that.
fn make_rootless(spec: &mut Value) {
    let linux = &mut spec["linux"];
    linux["namespaces"] = json!([
        {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "user"}
    ]);
    let map = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
    linux["uidMappings"] = map(nix::unistd::geteuid().as_raw());
    linux["gidMappings"] = map(nix::unistd::getegid().as_raw());
    linux["resources"] = json!({});
    if let Some(mounts) = spec["mounts"].as_array_mut() {
        mounts.retain(|mount| mount["destination"] != "/sys" && mount["destination"] != "/sys/fs/cgroup");
        mounts.push(json!({"destination": "/sys", "type": "none", "source": "/sys",
            "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]}));
        for mount in mounts {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|option| !option.as_str().is_some_and(|o| o.starts_with("gid=")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_a_specification() {
        for rootless in [false, true] {
            let mut spec = example();
            if rootless {
                make_rootless(&mut spec);
                add_cgroup_namespace(&mut spec);
            }
            let _: oci_spec::runtime::Spec = serde_json::from_value(spec).unwrap();
        }
    }
}
