//! Podman, whose network by CNI this plugin is.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use common::cni::NETPLUG;
use common::{Node, Ns, cable, ip};
use serde_json::{Value, json};

/// A podman with folders of its own, on a node.
struct Podman<'a> {
    node: &'a Node,
    cgroup: String,
}

impl Podman<'_> {
    fn new(node: &Node) -> Podman<'_> {
        let folder = node.state.path();
        for name in ["cni", "plugins", "rootfs/bin"] {
            fs::create_dir_all(folder.join(name)).expect("create");
        }
        symlink(NETPLUG, folder.join("plugins/netplug")).expect("link");
        fs::copy("/bin/busybox", folder.join("rootfs/bin/busybox")).expect("busybox-static is needed");
        let list = json!({
            "cniVersion": "1.0.0", "name": "net",
            "plugins": [{
                "type": "netplug", "bridge": "cni0", "ranges": ["10.68.0.0/24", "fd68::/64"], "stateDir": folder,
                "capabilities": {"portMappings": true, "ips": true, "mac": true},
            }],
        });
        fs::write(folder.join("cni/10-pods.conflist"), list.to_string()).expect("write");
        let conf = format!(
            "[containers]\ndefault_ulimits = []\n[engine]\nevents_logger = \"none\"\n[network]\nnetwork_backend = \"cni\"\n\
             cni_plugin_dirs = [\"{0}/plugins\"]\nnetwork_config_dir = \"{0}/cni\"\ndefault_network = \"net\"\n",
            folder.display()
        );
        fs::write(folder.join("containers.conf"), conf).expect("write");
        Podman {
            node,
            cgroup: format!("netplug-test-{}", std::process::id()),
        }
    }

    fn try_run(&self, arguments: &str) -> Result<String, String> {
        let folder = self.node.state.path();
        let global = format!(
            "--root {0}/root --runroot {0}/run --tmpdir {0}/tmp --storage-driver vfs --runtime runc --cgroup-manager cgroupfs",
            folder.display()
        );
        let output = self.node.ns.run(|| {
            Command::new("podman")
                .args(global.split(' ').chain(arguments.split_whitespace()))
                .env("CONTAINERS_CONF", folder.join("containers.conf"))
                .output()
                .expect("podman is needed: apt-get install podman")
        });
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }

    fn run(&self, arguments: &str) -> String {
        self.try_run(arguments)
            .unwrap_or_else(|error| panic!("podman {arguments}: {error}"))
    }

    /// Starts a container that sleeps.
    fn start(&self, name: &str, options: &str) -> Result<Ns, String> {
        let rootfs = self.node.state.path().join("rootfs");
        self.try_run(&format!(
            "run -d --cgroups no-conmon --cgroup-parent /{} --name {name} {options} --rootfs {} /bin/busybox sleep 1000",
            self.cgroup,
            rootfs.display()
        ))?;
        let inspected: Value = serde_json::from_str(&self.run(&format!("inspect {name}"))).expect("JSON");
        let path = inspected[0]["NetworkSettings"]["SandboxKey"]
            .as_str()
            .expect("path");
        Ok(Ns::open(Path::new(path)))
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        let _ = self.try_run("rm -f -t 0 -a");
        // Where a hierarchy isn't mounted, its groups are ordinary folders. Processes may be there for a moment yet.
        let script = format!(
            "find /sys/fs/cgroup -depth -type d -path '*/{0}*' -delete 2>/dev/null
             test -z \"$(find /sys/fs/cgroup -type d -name {0})\"",
            self.cgroup
        );
        for _ in 0..100 {
            let removed = Command::new("sh").args(["-c", &script]).status();
            if removed.is_ok_and(|status| status.success()) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

#[test]
fn containers_of_podman() {
    let (node, world) = (Node::new(), Ns::new());
    cable(&node.ns, "192.0.2.1/24", &world, "192.0.2.9/24", "up0");
    let podman = Podman::new(&node);
    let one = podman
        .start(
            "one",
            "-p 8080:80 --ip 10.68.0.77 --mac-address 02:00:00:00:00:07",
        )
        .expect("one");
    let two = podman.start("two", "").expect("two");
    let interface = one.ip("addr show eth0");
    assert!(
        interface.contains("10.68.0.77/24") && interface.contains("02:00:00:00:00:07"),
        "{interface}"
    );
    let _server = one.serve_tcp((ip("::"), 80));
    let _outside = world.serve_tcp((ip("0.0.0.0"), 81));
    let works = || {
        assert!(
            two.ask_tcp((ip("10.68.0.77"), 80)).is_some(),
            "container to container"
        );
        assert_eq!(
            two.ask_tcp((ip("192.0.2.9"), 81)),
            Some(ip("192.0.2.1")),
            "outside"
        );
        assert_eq!(
            world.ask_tcp((ip("192.0.2.1"), 8080)),
            Some(ip("192.0.2.9")),
            "port"
        );
        assert!(node.ns.ask_tcp((ip("127.0.0.1"), 8080)).is_some());
    };
    works();
    // After a firewall's flush this is what podman's users call; it is DEL and ADD.
    node.ns.nft("flush ruleset");
    podman.run("network reload one");
    works();
    let error = podman
        .start("three", "-p 8080:80")
        .expect_err("the port is taken");
    assert!(error.contains("8080"), "{error}");
    podman.run("rm -f three");
    podman.run("network disconnect net two");
    assert!(two.cannot_reach((ip("10.68.0.77"), 80)));
    podman.run("network connect net two");
    assert!(two.ask_tcp((ip("10.68.0.77"), 80)).is_some());
    podman.run("rm -f -t 0 one two");
    let gone = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        node.traces().is_empty()
    });
    assert!(gone, "{:?}", node.traces());
}
