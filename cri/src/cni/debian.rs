//! Tests with real plugins: those of Debian's package containernetworking-plugins.
//!
//! Each test works in a network namespace of its own that plays the host. Without root or the package they fail.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use super::*;

const PLUGINS: &str = "/usr/lib/cni";

/// A pod's namespace; a path to it works as long as this value lives.
struct Netns(File);

impl Netns {
    fn new() -> Netns {
        let thread = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
            File::open("/proc/thread-self/ns/net").expect("own namespace")
        });
        Netns(thread.join().expect("namespace thread"))
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    fn addresses(&self) -> String {
        let namespace = format!("--net={}", self.path().display());
        shell("nsenter", &[&namespace, "ip", "-o", "addr", "show", "eth0"])
    }
}

fn shell(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a test on a thread with a "host" namespace of its own; plugins inherit it.
fn on_a_host(test: impl AsyncFnOnce(&Path) + Send) {
    assert!(
        Path::new(PLUGINS).join("bridge").exists(),
        "apt-get install containernetworking-plugins"
    );
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
            shell("ip", &["link", "set", "lo", "up"]);
            let dir = tempfile::tempdir().expect("folder");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("runtime");
            runtime.block_on(test(dir.path()));
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn client(dir: &Path, plugins: &Value) -> Cni {
    let conf = dir.join("net.d");
    fs::create_dir_all(&conf).expect("create");
    let list = json!({"cniVersion": "1.0.0", "name": "debian", "plugins": plugins});
    fs::write(conf.join("10-test.conflist"), list.to_string()).expect("write");
    Cni::new(conf, vec![PLUGINS.into()], dir.join("cache"))
}

fn pod(id: &str, netns: &Netns) -> Pod {
    Pod {
        id: id.into(),
        netns: Some(netns.path()),
        name: id.into(),
        namespace: "default".into(),
        ..Pod::default()
    }
}

fn ipam(dir: &Path) -> Value {
    json!({
        "type": "host-local", "dataDir": dir.join("ipam"), "ranges": [[{"subnet": "10.68.0.0/24"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    })
}

/// Files in host-local's folder that stand for addresses.
fn allocated(dir: &Path) -> usize {
    let entries = fs::read_dir(dir.join("ipam/debian")).expect("host-local's folder");
    entries
        .filter(|entry| {
            entry
                .as_ref()
                .expect("entry")
                .file_name()
                .to_string_lossy()
                .contains("10.68")
        })
        .count()
}

#[test]
fn a_chain_of_bridge_portmap_bandwidth_tuning_and_firewall() {
    on_a_host(async |dir: &Path| {
        let plugins = json!([
            {"type": "bridge", "bridge": "deb0", "isGateway": true, "ipMasq": true, "ipam": ipam(dir)},
            {"type": "portmap", "capabilities": {"portMappings": true}},
            {"type": "bandwidth", "capabilities": {"bandwidth": true}},
            {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}},
            {"type": "firewall", "backend": "iptables"},
        ]);
        let cni = client(dir, &plugins);
        cni.status().await.expect("ready");
        let netns = Netns::new();
        let mut pod = pod("a", &netns);
        pod.ports = vec![Port {
            host_port: 8080,
            container_port: 80,
            protocol: "TCP".into(),
            host_ip: None,
        }];
        pod.bandwidth = Limits {
            ingress: Some(10_000_000),
            egress: Some(5_000_000),
        };
        let result = cni.add(&pod).await.expect("add");
        assert_eq!(result.ips[0].to_string(), "10.68.0.2");
        assert!(netns.addresses().contains("10.68.0.2/24"));
        let rules = shell("iptables-save", &["-t", "nat"]);
        assert!(
            rules.contains("--dport 8080") && rules.contains("10.68.0.2:80"),
            "{rules}"
        );
        assert!(shell("tc", &["qdisc"]).contains("rate 10Mbit"));
        assert_eq!(cni.cached("a", "eth0").expect("cache"), Some(result));
        // The namespace is gone, as after a reboot: what lies elsewhere is freed all the same.
        drop(netns);
        pod.netns = Some("/nonexistent".into());
        cni.del(&pod).await.expect("del");
        assert_eq!(allocated(dir), 0);
        assert!(!shell("iptables-save", &["-t", "nat"]).contains("--dport 8080"));
        cni.del(&pod).await.expect("deleting twice");
    });
}

#[test]
fn ptp_and_garbage_collection() {
    on_a_host(async |dir: &Path| {
        let cni = client(dir, &json!([{"type": "ptp", "ipam": ipam(dir)}]));
        let (a, b) = (Netns::new(), Netns::new());
        let (first, second) = (pod("a", &a), pod("b", &b));
        let (one, two) = tokio::join!(cni.add(&first), cni.add(&second));
        assert_ne!(one.expect("add").ips, two.expect("add").ips);
        cni.check(&first).await.expect("check");
        assert_eq!(allocated(dir), 2);
        assert_eq!(cni.gc(&["b".into()]).await.expect("gc"), ["a"]);
        assert_eq!(allocated(dir), 1);
        cni.del(&second).await.expect("del");
        assert_eq!(allocated(dir), 0);
    });
}

#[test]
fn macvlan_on_an_uplink() {
    on_a_host(async |dir: &Path| {
        shell(
            "ip",
            &["link", "add", "up0", "type", "veth", "peer", "name", "up1"],
        );
        shell("ip", &["link", "set", "up0", "up"]);
        let cni = client(
            dir,
            &json!([{"type": "macvlan", "master": "up0", "ipam": ipam(dir)}]),
        );
        let netns = Netns::new();
        let pod = pod("a", &netns);
        cni.add(&pod).await.expect("add");
        assert!(netns.addresses().contains("10.68.0."));
        cni.del(&pod).await.expect("del");
        assert_eq!(netns.addresses(), "");
    });
}

#[test]
fn a_plugin_that_fails_late_leaves_nothing() {
    on_a_host(async |dir: &Path| {
        let plugins = json!([
            {"type": "bridge", "bridge": "deb0", "ipam": ipam(dir)},
            {"type": "tuning", "sysctl": {"net.nonsense": "1"}},
        ]);
        let cni = client(dir, &plugins);
        let netns = Netns::new();
        let error = cni
            .add(&pod("a", &netns))
            .await
            .expect_err("no such setting")
            .to_string();
        assert!(error.contains("tuning"), "{error}");
        assert_eq!(allocated(dir), 0);
        assert_eq!(netns.addresses(), "");
        assert_eq!(cni.cached("a", "eth0").expect("cache"), None);
    });
}
