//! Beside others' rules: kube-proxy's, Docker's, firewalld's.

mod common;

use std::process::{Child, Command, Stdio};

use common::{Node, Ns, Pod, cable, ip, request};
use netplug::{Network, PortMap, Protocol};

/// What Docker does to a host, in short.
const DOCKER: &str = include_str!("rules/docker.iptables");

/// kube-proxy's chains: the service 10.96.0.10:80 (node port 30080) of one pod, and a service without pods.
const KUBE_PROXY: &str = include_str!("rules/kube-proxy.iptables");

/// The same services as kube-proxy writes them in its nftables mode.
const KUBE_PROXY_NFT: &str = include_str!("rules/kube-proxy.nft");

struct Setup {
    node: Node,
    world: Ns,
    network: Network,
}

impl Setup {
    fn new() -> Setup {
        let (node, world) = (Node::new(), Ns::new());
        cable(
            &node.ns,
            "192.0.2.1/24,fd02::1/64",
            &world,
            "192.0.2.9/24,fd02::9/64",
            "up0",
        );
        // As on every node, there is a way to the services' addresses before they are translated.
        node.ns.ip("route add default via 192.0.2.9");
        let network = node.network(&["10.66.0.0/24", "fd66::/64"]);
        Setup { node, world, network }
    }

    /// The service's pod, with host port 8080, and another.
    fn pods(&self) -> [Pod; 2] {
        let mut server = request("a");
        server.ports = vec![PortMap {
            protocol: Protocol::Tcp,
            host_port: 8080,
            container_port: 80,
            host_ip: None,
        }];
        let server = self.node.attach(&self.network, server);
        assert_eq!(server.ip(), ip("10.66.0.2"));
        [server, self.node.pod(&self.network, "b")]
    }

    fn load(&self, program: &str, rules: &str) {
        let file = self.node.state.path().join("rules");
        std::fs::write(&file, rules).expect("write");
        let path = file.to_str().expect("path");
        match program {
            "nft" => self.node.ns.command("nft", &["-f", path]),
            other => self.node.ns.command(other, &["--noflush", path]),
        };
    }

    /// What must work whoever else has rules: pods and outside, host ports.
    fn pods_are_served(&self, [server, other]: &[Pod; 2]) {
        let _pod = server.ns.serve_tcp((ip("::"), 80));
        let _outside = self.world.serve_tcp((ip("::"), 81));
        for (outside, node) in [("192.0.2.9", "192.0.2.1"), ("fd02::9", "fd02::1")] {
            assert_eq!(other.ns.ask_tcp((ip(outside), 81)), Some(ip(node)), "masqueraded");
            assert!(
                self.world.ask_tcp((ip(node), 8080)).is_some(),
                "host port by {node}"
            );
        }
        assert!(other.ns.ask_tcp((server.ip(), 80)).is_some(), "pod to pod");
        assert!(other.ns.ask_tcp((ip("192.0.2.1"), 8080)).is_some());
        assert!(self.node.ns.ask_tcp((ip("127.0.0.1"), 8080)).is_some());
    }

    fn services_work(&self, [server, other]: &[Pod; 2]) {
        let _pod = server.ns.serve_tcp((ip("0.0.0.0"), 80));
        let service = (ip("10.96.0.10"), 80);
        assert_eq!(
            other.ns.ask_tcp(service),
            Some(other.ip()),
            "a service sees its client"
        );
        assert!(
            server.ns.ask_tcp(service).is_some(),
            "a pod through its own service"
        );
        assert!(self.node.ns.ask_tcp(service).is_some(), "a service from the host");
        assert!(
            self.world.ask_tcp((ip("192.0.2.1"), 30080)).is_some(),
            "a node port"
        );
        assert!(
            other.ns.cannot_reach((ip("10.96.0.99"), 80)),
            "a service without pods"
        );
    }
}

#[test]
fn docker_and_kube_proxy_by_iptables() {
    let setup = Setup::new();
    setup.load("iptables-restore", DOCKER);
    setup.node.ns.command("ip6tables", &["-P", "FORWARD", "DROP"]);
    setup.load("iptables-restore", KUBE_PROXY);
    let pods = setup.pods();
    setup.pods_are_served(&pods);
    setup.services_work(&pods);
    let _secret = pods[0].ns.serve_tcp((ip("0.0.0.0"), 666));
    assert!(
        setup.world.cannot_reach((ip("10.66.0.2"), 666)),
        "what others refuse stays refused"
    );
    // iptables still understands its own chain, and ours is there once, however often we look.
    let ready = || setup.node.ns.run(|| setup.network.ready()).expect("ready");
    (0..3).for_each(|_| ready());
    let rules = setup.node.ns.command("iptables", &["-S", "FORWARD"]);
    for rule in ["-i pintle0", "-o pintle0"] {
        assert_eq!(rules.matches(rule).count(), 1, "{rules}");
    }
    assert!(rules.trim_end().ends_with("-j ACCEPT"), "{rules}");
}

#[test]
fn a_policy_that_comes_later_is_noticed() {
    let setup = Setup::new();
    let pods = setup.pods();
    setup.pods_are_served(&pods);
    setup.load("iptables-restore", DOCKER);
    setup.node.ns.command("ip6tables", &["-P", "FORWARD", "DROP"]);
    assert!(setup.world.cannot_reach((ip("192.0.2.1"), 8080)));
    setup.node.ns.run(|| setup.network.ready()).expect("ready");
    setup.pods_are_served(&pods);
    // Without such a policy nobody's chains are touched.
    setup.node.ns.command("iptables", &["-F", "FORWARD"]);
    setup.node.ns.command("iptables", &["-P", "FORWARD", "ACCEPT"]);
    setup.node.ns.run(|| setup.network.ready()).expect("ready");
    let rules = setup.node.ns.command("iptables", &["-S", "FORWARD"]);
    assert_eq!(rules.trim(), "-P FORWARD ACCEPT");
}

#[test]
fn kube_proxy_by_nftables_and_a_flush_of_everything() {
    let setup = Setup::new();
    setup.load("nft", KUBE_PROXY_NFT);
    let pods = setup.pods();
    setup.pods_are_served(&pods);
    setup.services_work(&pods);
    setup.node.ns.nft("flush ruleset");
    // Each puts back what is its own.
    setup.node.ns.run(|| setup.network.ready()).expect("ready");
    setup.load("nft", KUBE_PROXY_NFT);
    setup.pods_are_served(&pods);
    setup.services_work(&pods);
}

/// A firewalld of the test's own, with a bus of its own, in the node's network namespace.
struct Firewalld {
    processes: Vec<Child>,
    bus: String,
}

impl Firewalld {
    fn start(node: &Node) -> Firewalld {
        let folder = node.state.path();
        let bus = format!("unix:path={}", folder.join("bus").display());
        let conf = folder.join("bus.conf");
        let text = format!(
            "<busconfig><type>system</type><listen>{bus}</listen><policy context=\"default\"><allow own=\"*\"/>\
             <allow send_destination=\"*\"/><allow eavesdrop=\"true\"/><allow user=\"*\"/></policy></busconfig>"
        );
        std::fs::write(&conf, text).expect("write");
        let mut daemon = Firewalld {
            processes: Vec::new(),
            bus,
        };
        let conf = format!("--config-file={}", conf.display());
        daemon.spawn(node, "dbus-daemon", &["--nofork", "--nopidfile", &conf]);
        daemon.wait("its bus", || folder.join("bus").exists());
        let settings = folder.join("firewalld");
        std::fs::create_dir(&settings).expect("create");
        let settings = format!("--system-config={}", settings.display());
        let log = format!("--log-file={}", folder.join("firewalld.log").display());
        daemon.spawn(node, "firewalld", &["--nofork", "--nopid", &settings, &log]);
        daemon.wait("firewalld", || daemon.cmd(node, &["--state"]));
        daemon
    }

    fn spawn(&mut self, node: &Node, program: &str, arguments: &[&str]) {
        let child = node.ns.run(|| {
            Command::new(program)
                .args(arguments)
                .env("DBUS_SYSTEM_BUS_ADDRESS", &self.bus)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
        });
        let needed = format!("{program} is needed: apt-get install firewalld dbus-daemon");
        self.processes.push(child.expect(&needed));
    }

    fn wait(&self, what: &str, ready: impl Fn() -> bool) {
        let mut tries = 0;
        while !ready() {
            tries += 1;
            assert!(tries < 600, "{what} doesn't come up");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// Runs `firewall-cmd`; whether it succeeds.
    fn cmd(&self, node: &Node, arguments: &[&str]) -> bool {
        let done = node.ns.run(|| {
            Command::new("firewall-cmd")
                .args(arguments)
                .env("DBUS_SYSTEM_BUS_ADDRESS", &self.bus)
                .output()
        });
        done.expect("firewall-cmd").status.success()
    }
}

impl Drop for Firewalld {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

#[test]
fn firewalld_and_its_reload() {
    let setup = Setup::new();
    let firewalld = Firewalld::start(&setup.node);
    let pods = setup.pods();
    assert!(firewalld.cmd(&setup.node, &["--zone=trusted", "--add-interface=pintle0"]));
    setup.pods_are_served(&pods);
    assert!(firewalld.cmd(
        &setup.node,
        &["--permanent", "--zone=trusted", "--add-interface=pintle0"]
    ));
    assert!(firewalld.cmd(&setup.node, &["--reload"]));
    setup.pods_are_served(&pods);
    let _hidden = setup.node.ns.serve_tcp((ip("0.0.0.0"), 9999));
    assert!(
        setup.world.cannot_reach((ip("192.0.2.1"), 9999)),
        "the firewall is still one"
    );
    assert!(setup.node.ns.ask_tcp((ip("192.0.2.1"), 9999)).is_some());
}
