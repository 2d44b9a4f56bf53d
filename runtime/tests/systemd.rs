//! Containers in scopes of systemd's. These need a host whose first process systemd is, and are run there by hand:
//! `cargo test -p pintle-runtime --test systemd -- --ignored`.
#![allow(clippy::unwrap_used)] // in tests a failure may panic where it happens

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use oci_spec::runtime::LinuxResources;
use pintle_runtime::cgroup::{self, Handle, Mode};
use pintle_runtime::container::{Cgroups, Options};
use serde_json::{Value, json};
use support::{Bundle, Running};

/// A bundle whose cgroup is a scope two slices deep.
struct Scoped {
    bundle: Bundle,
    slice: String,
    unit: String,
}

impl Scoped {
    fn new(script: &str) -> Self {
        let mut bundle = Bundle::new(script);
        let name = bundle.cgroup.rsplit('-').next().unwrap().replace('.', "_");
        let slice = format!("pintletest{name}-inner.slice");
        bundle.cgroup = format!("{slice}:unit:{name}");
        let cgroup = bundle.cgroup.clone();
        bundle.set("/linux/cgroupsPath", json!(cgroup));
        let unit = format!("unit-{name}.scope");
        Self { bundle, slice, unit }
    }

    fn start(&self) -> Running {
        let mut running = self.bundle.prepare().unwrap();
        running.start().unwrap();
        assert_eq!(running.line(), "ready");
        running
    }

    fn outer(&self) -> String {
        self.slice.replace("-inner", "")
    }

    fn show(&self, property: &str) -> String {
        systemctl(&["show", "-p", property, "--value", &self.unit])
    }

    fn is_known(&self) -> bool {
        !systemctl(&["list-units", "--all", "--no-legend", &self.unit]).is_empty()
    }
}

impl Drop for Scoped {
    fn drop(&mut self) {
        // and with it all below
        let _ = Command::new("systemctl").args(["stop", &self.outer()]).output();
    }
}

fn systemctl(args: &[&str]) -> String {
    let done = Command::new("systemctl").args(args).output().unwrap();
    assert!(
        done.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// A control file, by the v1 controller or in the one tree of v2.
fn file(handle: &Handle, controller: &str, name: &str) -> String {
    let wanted = |h: &&cgroup::Hierarchy| match cgroup::detect() {
        Mode::V1 => h.controllers.iter().any(|c| c == controller),
        Mode::V2 => h.v2,
    };
    let hierarchy = cgroup::hierarchies().iter().find(wanted).unwrap();
    let path: PathBuf = hierarchy.mount.join(handle.path()).join(name);
    fs::read_to_string(path).unwrap().trim().to_owned()
}

/// Memory, quota and processes, as the files have them.
fn limits(handle: &Handle) -> [String; 3] {
    match cgroup::detect() {
        Mode::V1 => [
            file(handle, "memory", "memory.limit_in_bytes"),
            file(handle, "cpu", "cpu.cfs_quota_us"),
            file(handle, "pids", "pids.max"),
        ],
        Mode::V2 => [
            file(handle, "memory", "memory.max"),
            file(handle, "cpu", "cpu.max")
                .split(' ')
                .next()
                .unwrap()
                .to_owned(),
            file(handle, "pids", "pids.max"),
        ],
    }
}

fn resources(value: Value) -> LinuxResources {
    serde_json::from_value(value).unwrap()
}

#[test]
#[ignore = "needs systemd as the first process"]
fn a_container_lies_in_a_scope_whose_limits_outlive_a_reload() {
    let mut s = Scoped::new("echo ready; sleep 1000");
    // a quota that systemd's own steps would round
    let given = json!({"memory": {"limit": 64 << 20}, "cpu": {"quota": 12345, "period": 100_000}, "pids": {"limit": 33},
                       "devices": [{"allow": false, "access": "rwm"}]});
    s.bundle.set("/linux/resources", given);
    let running = s.start();
    let handle = running.prepared.cgroup.clone();
    assert_eq!(handle.path(), Path::new(&s.outer()).join(&s.slice).join(&s.unit));
    assert_eq!(s.show("ActiveState"), "active");
    assert_eq!(s.show("Slice"), s.slice);
    assert_eq!(s.show("Delegate"), "yes");
    assert_eq!(handle.processes().unwrap()[0], running.prepared.pid);
    let exact = ["67108864", "12345", "33"];
    assert_eq!(limits(&handle), exact);
    systemctl(&["daemon-reload"]);
    assert_eq!(limits(&handle)[0], exact[0]);

    let change = handle
        .change(&resources(
            json!({"memory": {"limit": 128 << 20}, "pids": {"limit": 44}}),
        ))
        .unwrap();
    assert_eq!(
        (limits(&handle)[0].as_str(), limits(&handle)[2].as_str()),
        ("134217728", "44")
    );
    systemctl(&["daemon-reload"]);
    assert_eq!(
        (limits(&handle)[0].as_str(), limits(&handle)[2].as_str()),
        ("134217728", "44")
    );
    handle.undo(change).unwrap();
    assert_eq!(
        (limits(&handle)[0].as_str(), limits(&handle)[2].as_str()),
        ("67108864", "33")
    );
    drop(running);
    cgroup::remove(&s.bundle.cgroup).unwrap();
    assert!(!s.is_known());
}

#[test]
#[ignore = "needs systemd as the first process"]
fn its_name_can_be_used_again_once_it_is_removed() {
    let s = Scoped::new("echo ready; sleep 1000");
    for _ in 0..3 {
        let running = s.start();
        let other = s.bundle.prepare().err().unwrap().to_string();
        assert_eq!(other, "linux.cgroupsPath: container's cgroup is not empty");
        drop(running);
        cgroup::remove(&s.bundle.cgroup).unwrap();
        cgroup::remove(&s.bundle.cgroup).unwrap();
        assert!(!s.is_known());
    }
}

#[test]
#[ignore = "needs systemd as the first process"]
fn one_that_ends_by_itself_leaves_no_unit_and_is_known_to_have_lacked_memory() {
    let mut s = Scoped::new("echo ready; exec tail /dev/zero");
    s.bundle.set(
        "/linux/resources/memory",
        json!({"limit": 8 << 20, "swap": 8 << 20}),
    );
    let mut running = s.start();
    let watch = running.prepared.oom_watch.clone();
    assert_eq!(running.wait(), 137);
    assert!(watch.has_killed(true));
    cgroup::remove(&s.bundle.cgroup).unwrap();
    assert!(!s.is_known());
    // as well when nobody was quick enough to ask the group itself
    if cgroup::detect() == Mode::V2 {
        assert!(watch.has_killed(true));
        assert!(!watch.has_killed(false));
    }
}

#[test]
#[ignore = "needs systemd as the first process"]
fn devices_stay_forbidden_when_systemd_is_reloaded() {
    let mut s = Scoped::new(
        "echo ready; mknod /tmp/kmsg c 1 11; while read x; do head -c 1 /tmp/kmsg >/dev/null 2>&1 && echo open || echo shut; done </tmp/go",
    );
    let caps = json!(["CAP_MKNOD"]);
    s.bundle.set(
        "/process/capabilities",
        json!({"bounding": caps, "effective": caps, "permitted": caps}),
    );
    let fifo = s.bundle.rootfs().join("tmp/go");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let running = s.start();
    let mut go = fs::File::options().write(true).open(&fifo).unwrap();
    for _ in 0..2 {
        std::io::Write::write_all(&mut go, b"x\n").unwrap();
        assert_eq!(running.line(), "shut");
        systemctl(&["daemon-reload"]);
    }
}

#[test]
#[ignore = "needs systemd as the first process"]
fn a_container_in_a_user_namespace_has_its_scope_for_itself() {
    let mut s = Scoped::new("echo ready; sleep 1000");
    s.bundle.add("/linux/namespaces", json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    s.bundle.set("/linux/uidMappings", map.clone());
    s.bundle.set("/linux/gidMappings", map);
    let owner = std::os::unix::fs::chown::<&Path>;
    owner(&s.bundle.rootfs(), Some(100_000), Some(100_000)).unwrap();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(s.bundle.dir.path(), permissions).unwrap();
    let running = s.start();
    let handle = running.prepared.cgroup.clone();
    assert_eq!(handle.processes().unwrap()[0], running.prepared.pid);
    if cgroup::detect() == Mode::V2 {
        let folder = Path::new("/sys/fs/cgroup").join(handle.path());
        let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(folder).unwrap());
        assert_eq!(owner, 100_000);
    }
}

#[test]
#[ignore = "needs systemd as the first process"]
fn a_unit_has_the_properties_that_annotations_ask_for() {
    let mut s = Scoped::new("echo ready; sleep 1000");
    let asked = json!({"org.systemd.property.TimeoutStopSec": "7.5", "org.systemd.property.Description": "'by hand'",
                       "org.systemd.property.After": "['a.service', 'b.service']"});
    s.bundle.set("/annotations", asked);
    let options = Options {
        cgroups: Cgroups::Systemd,
        ..s.bundle.options()
    };
    let running = s.bundle.prepare_with(&options).unwrap();
    assert_eq!(s.show("Description"), "by hand");
    // written with more digits or fewer
    let time_out = s.show("TimeoutStopUSec");
    assert!(time_out.starts_with("7.5"), "{time_out}");
    assert!(s.show("After").contains("b.service"));
    drop(running);
    cgroup::remove(&s.bundle.cgroup).unwrap();
    // systemd knows none of that name
    s.bundle
        .set("/annotations", json!({"org.systemd.property.NoSuch": "1"}));
    let options = Options {
        cgroups: Cgroups::Systemd,
        ..s.bundle.options()
    };
    let error = s.bundle.prepare_with(&options).err().unwrap().to_string();
    assert!(error.contains("NoSuch"), "{error}");
    // without being asked for systemd's groups by name, nobody's annotations count
    drop(s.bundle.prepare().unwrap());
    cgroup::remove(&s.bundle.cgroup).unwrap();
    assert!(!s.is_known());
}

#[test]
#[ignore = "needs systemd as the first process"]
fn what_was_not_asked_for_is_refused() {
    let s = Scoped::new("true");
    let options = Options {
        cgroups: Cgroups::Files,
        ..s.bundle.options()
    };
    let error = s.bundle.prepare_with(&options).err().unwrap().to_string();
    assert!(error.contains("which was not asked for"), "{error}");
    let plain = Bundle::new("true");
    let options = Options {
        cgroups: Cgroups::Systemd,
        ..plain.options()
    };
    let error = plain.prepare_with(&options).err().unwrap().to_string();
    assert!(error.contains("\"slice:prefix:name\""), "{error}");
    assert!(!s.is_known());
}
