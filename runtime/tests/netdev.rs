//! Network devices that are moved into a container: names, addresses, what is refused, and what comes back.
#![allow(clippy::unwrap_used)] // in tests a failure may panic where it happens

mod support;

use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use support::Bundle;

/// Runs a test in a network namespace that is its thread's alone, which the containers' makers inherit.
fn in_own_network(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn ip(line: &str) -> String {
    let output = Command::new("ip")
        .args(line.split(' '))
        .output()
        .expect("needs Debian's iproute2");
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "ip {line}: {err}");
    String::from_utf8(output.stdout).unwrap()
}

/// A pair of devices, of which a container may have one.
fn add_pair(one: &str, other: &str) {
    ip(&format!("link add {one} type veth peer name {other}"));
}

fn bundle(script: &str, devices: Value) -> Bundle {
    let mut bundle = Bundle::new(script);
    bundle.set("/linux/netDevices", devices);
    bundle
}

#[test]
fn a_device_keeps_its_addresses_and_settings_and_is_up() {
    in_own_network(|| {
        add_pair("a0", "b0");
        ip("link set a0 mtu 1400 address 02:00:00:00:00:07");
        ip("address add 10.9.0.2/24 brd 10.9.0.255 dev a0");
        ip("address add 10.9.1.2 peer 10.9.1.3/32 dev a0");
        ip("address add 169.254.3.4/16 dev a0 scope link");
        ip("address add fd00:9::2/64 dev a0 nodad");
        ip("link set b0 up");
        let b = bundle(
            "ip link show dev eth0; ip address show dev eth0",
            json!({"a0": {"name": "eth0"}}),
        );
        let out = b.output();
        for wanted in [
            "mtu 1400",
            "02:00:00:00:00:07",
            "inet 10.9.0.2/24 brd 10.9.0.255 scope global eth0",
            "inet 10.9.1.2 peer 10.9.1.3/32 scope global eth0",
            "inet6 fd00:9::2/64 scope global",
            ",UP",
        ] {
            assert!(out.contains(wanted), "no {wanted:?} in\n{out}");
        }
        assert!(!out.contains("169.254.3.4"), "it held on the link only:\n{out}");
        b.assert_nothing_left();
    });
}

#[test]
fn a_template_takes_the_first_number_that_is_free() {
    in_own_network(|| {
        add_pair("a0", "b0");
        add_pair("a1", "b1");
        let devices = json!({"a0": {"name": "net%d"}, "a1": {"name": "net%d"}, "b0": {}});
        let out = bundle("ls /sys/class/net; cat /sys/class/net/*/flags", devices).output();
        assert!(out.starts_with("b0\nlo\nnet0\nnet1\n"), "{out}");
    });
}

#[test]
fn a_namespace_that_is_joined_keeps_its_devices() {
    in_own_network(|| {
        add_pair("a0", "b0");
        let owner = Bundle::new("sleep 1000");
        let mut holder = owner.prepare().unwrap();
        holder.start().unwrap();
        let path = format!("/proc/{}/ns/net", holder.prepared.pid);
        let mut b = bundle("ls /sys/class/net", json!({"a0": {"name": "eth0"}}));
        b.spec["linux"]["namespaces"][1] = json!({"type": "network", "path": path});
        // with the runtime's hooks, which see the runtime's devices
        let seen = b.path("seen");
        let script = format!("cat /proc/net/dev > {}", seen.display());
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
        b.set("/hooks", json!({"createRuntime": [hook]}));
        assert_eq!(b.output(), "eth0\nlo\n");
        let seen = std::fs::read_to_string(seen).unwrap();
        assert!(seen.contains("b0:") && !seen.contains("eth0:"), "{seen}");
        let mut again = Bundle::new("ls /sys/class/net");
        again.spec["linux"]["namespaces"][1] = json!({"type": "network", "path": path});
        assert_eq!(again.output(), "eth0\nlo\n", "it is its owner's");
    });
}

#[test]
fn a_failure_brings_back_what_was_moved_as_it_was() {
    in_own_network(|| {
        add_pair("a0", "b0");
        add_pair("a1", "b1");
        ip("address add 10.9.0.2/24 dev a0");
        ip("link set a0 up");
        ip("address add 10.9.2.2/24 dev a1");
        let before = ip("-oneline address show scope global");
        // a name that is taken, by the container's own loopback device
        let b = bundle("true", json!({"a0": {"name": "first"}, "a1": {"name": "lo"}}));
        assert_eq!(
            b.error(),
            "linux.netDevices[\"a1\"]: use the name \"lo\" in the container: file exists"
        );
        assert_eq!(ip("-oneline address show scope global"), before);
        // the second can't be moved at all
        let b = bundle("true", json!({"a0": {"name": "first"}, "lo": {"name": "x"}}));
        let e = b.error();
        assert!(
            e.starts_with("linux.netDevices[\"lo\"]: move it into the container's"),
            "{e}"
        );
        assert_eq!(ip("-oneline address show scope global"), before);
        assert!(ip("link show a0").contains(",UP"), "it was up");
        assert!(!ip("link show a1").contains(",UP"), "it was not");
        let e = bundle("true", json!({"a0": {}, "none": {}})).error();
        let wanted =
            "linux.netDevices[\"none\"]: look it up in the runtime's network namespace: no such device";
        assert_eq!(e, wanted);
        assert_eq!(ip("-oneline address show scope global"), before);
    });
}

#[test]
fn a_user_namespace_is_no_hindrance() {
    in_own_network(|| {
        add_pair("a0", "b0");
        ip("address add 10.9.0.2/24 dev a0");
        let mut b = bundle("ip address show dev a0", json!({"a0": {}}));
        b.add("/linux/namespaces", json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        b.set("/linux/uidMappings", map.clone());
        b.set("/linux/gidMappings", map);
        let out = b.output();
        assert!(out.contains("inet 10.9.0.2/24"), "{out}");
    });
}
