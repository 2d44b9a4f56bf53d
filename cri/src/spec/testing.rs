//! Facts for tests: a plain node and images of a given config.

use std::collections::BTreeMap;

use oci_spec::image::ImageConfiguration;

use super::{CgroupVersion, NodeFacts, caps};
use crate::proto::CgroupDriver;

/// A node with cgroup v1 that is able to do everything but AppArmor and SELinux.
pub(super) fn node() -> NodeFacts {
    NodeFacts {
        hostname: "node-1".to_owned(),
        cgroup_version: CgroupVersion::V1,
        cgroup_driver: CgroupDriver::Cgroupfs,
        swap_limit: true,
        hugepage_sizes: Vec::new(),
        cgroup2_options: Vec::new(),
        capabilities: caps::ALL.to_vec(),
        oom_score_adj_floor: None,
        rlimit_ceilings: BTreeMap::new(),
        recursive_read_only: true,
        user_namespaces: true,
        apparmor: false,
        selinux: false,
    }
}

/// An image with this `config`.
pub(super) fn image(config: &serde_json::Value) -> ImageConfiguration {
    serde_json::from_value(serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": []},
    }))
    .unwrap()
}
