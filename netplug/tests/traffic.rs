//! Who can reach whom, seen with real packets.

mod common;

use common::{Node, Ns, cable, ip, net, request};
use netplug::{Config, Network};

/// A node with an uplink to a namespace that plays the rest of the world.
fn node_and_world() -> (Node, Ns) {
    let (node, world) = (Node::new(), Ns::new());
    cable(
        &node.ns,
        "192.0.2.1/24,fd02::1/64",
        &world,
        "192.0.2.9/24,fd02::9/64",
        "up0",
    );
    (node, world)
}

#[test]
fn pods_reach_one_another_and_the_host() {
    let node = Node::new();
    let network = node.network(&["10.66.0.0/24", "fd66::/64"]);
    let (a, b) = (node.pod(&network, "a"), node.pod(&network, "b"));
    assert_eq!(a.attachment.ips, [net("10.66.0.2/24"), net("fd66::2/64")]);
    assert_eq!(b.attachment.gateways, [ip("10.66.0.1"), ip("fd66::1")]);
    let _server = b.ns.serve_tcp((ip("::"), 80));
    let _host = node.ns.serve_tcp((ip("::"), 81));
    assert_eq!(a.ns.ask_tcp((ip("10.66.0.3"), 80)), Some(ip("10.66.0.2")));
    assert_eq!(a.ns.ask_tcp((ip("fd66::3"), 80)), Some(ip("fd66::2")));
    assert_eq!(node.ns.ask_tcp((ip("10.66.0.3"), 80)), Some(ip("10.66.0.1")));
    assert_eq!(a.ns.ask_tcp((ip("10.66.0.1"), 81)), Some(ip("10.66.0.2")));
    assert_eq!(a.ns.ask_tcp((ip("fd66::1"), 81)), Some(ip("fd66::2")));
    assert!(
        a.ns.run(|| std::net::TcpListener::bind("127.0.0.1:1234").is_ok()),
        "loopback is up"
    );
}

#[test]
fn the_outside_sees_the_nodes_address() {
    let (node, world) = node_and_world();
    node.ns.ip("link set up0 mtu 1400");
    node.ns.ip("route add default via 192.0.2.9");
    let network = node.network(&["10.66.0.0/24", "fd66::/64"]);
    let pod = node.pod(&network, "a");
    let _server = world.serve_tcp((ip("::"), 80));
    assert_eq!(pod.attachment.mtu, 1400, "that of the uplink");
    assert!(node.ns.ip("-o link show pintle0").contains("mtu 1400"));
    assert!(pod.ns.ip("-o link show eth0").contains("mtu 1400"));
    assert_eq!(pod.ns.ask_tcp((ip("192.0.2.9"), 80)), Some(ip("192.0.2.1")));
    assert_eq!(pod.ns.ask_tcp((ip("fd02::9"), 80)), Some(ip("fd02::1")));
}

#[test]
fn without_masquerade_the_outside_sees_the_pods_address() {
    let (node, world) = node_and_world();
    world.ip("route add 10.66.0.0/24 via 192.0.2.1");
    let config = Config {
        masquerade: false,
        ..node.config(&["10.66.0.0/24"])
    };
    let network = Network::new(config).expect("network");
    let pod = node.pod(&network, "a");
    let _server = world.serve_tcp((ip("0.0.0.0"), 80));
    assert_eq!(pod.ns.ask_tcp((ip("192.0.2.9"), 80)), Some(ip("10.66.0.2")));
}

#[test]
fn nodes_with_routed_ranges_see_one_anothers_pods() {
    let (one, two) = (Node::new(), Node::new());
    cable(
        &one.ns,
        "192.0.2.1/24,fd02::1/64",
        &two.ns,
        "192.0.2.2/24,fd02::2/64",
        "up0",
    );
    one.ns.ip("route add 10.2.0.0/24 via 192.0.2.2");
    two.ns.ip("route add 10.1.0.0/24 via 192.0.2.1");
    one.ns.ip("-6 route add fd66:2::/64 via fd02::2");
    two.ns.ip("-6 route add fd66:1::/64 via fd02::1");
    let cluster = vec![net("10.0.0.0/8"), net("fd66::/16")];
    let network = |node: &Node, ranges: &[&str]| {
        let config = Config {
            masquerade_except: cluster.clone(),
            ..node.config(ranges)
        };
        Network::new(config).expect("network")
    };
    let a = one.pod(&network(&one, &["10.1.0.0/24", "fd66:1::/64"]), "a");
    let b = two.pod(&network(&two, &["10.2.0.0/24", "fd66:2::/64"]), "b");
    let _server = b.ns.serve_tcp((ip("::"), 80));
    assert_eq!(
        a.ns.ask_tcp((ip("10.2.0.2"), 80)),
        Some(ip("10.1.0.2")),
        "not masqueraded"
    );
    assert_eq!(a.ns.ask_tcp((ip("fd66:2::2"), 80)), Some(ip("fd66:1::2")));
}

#[test]
fn one_family_needs_nothing_of_the_other() {
    let node = Node::new();
    node.ns.command(
        "sysctl",
        &[
            "-qw",
            "net.ipv6.conf.all.disable_ipv6=1",
            "net.ipv6.conf.default.disable_ipv6=1",
        ],
    );
    let network = node.network(&["10.66.0.0/24"]);
    let (a, b) = (node.pod(&network, "a"), node.pod(&network, "b"));
    let _server = b.ns.serve_tcp((ip("0.0.0.0"), 80));
    assert!(a.ns.ask_tcp((b.ip(), 80)).is_some());

    let node = Node::new();
    let network = node.network(&["fd66::/64"]);
    let (a, b) = (node.pod(&network, "a"), node.pod(&network, "b"));
    let _server = b.ns.serve_tcp((ip("::"), 80));
    assert_eq!(a.ns.ask_tcp((b.ip(), 80)), Some(ip("fd66::2")));
    assert_eq!(node.ns.ip("-4 -o addr show pintle0"), "");
    assert_eq!(node.ns.ask_tcp((b.ip(), 80)), Some(ip("fd66::1")));
}

#[test]
fn ipv6_addresses_are_usable_at_once_and_pods_cannot_advertise_routes() {
    let node = Node::new();
    let network = node.network(&["fd66::/64"]);
    let pod = node.pod(&network, "a");
    let tentative = pod.ns.ip("-6 addr show tentative");
    assert_eq!(
        tentative, "",
        "duplicate address detection delays the first packets"
    );
    let setting = |ns: &Ns, interface: &str| {
        let path = format!("/proc/sys/net/ipv6/conf/{interface}/accept_ra");
        ns.run(|| std::fs::read_to_string(path).expect("setting"))
    };
    assert_eq!(setting(&pod.ns, "eth0").trim(), "0");
    assert_eq!(setting(&node.ns, "pintle0").trim(), "0");
}

#[test]
fn a_host_that_lives_on_router_advertisements_keeps_listening() {
    let (node, _world) = node_and_world();
    node.ns.command(
        "sysctl",
        &[
            "-qw",
            "net.ipv6.conf.up0.accept_ra=1",
            "net.ipv6.conf.all.forwarding=0",
        ],
    );
    let network = node.network(&["fd66::/64"]);
    let _pod = node.pod(&network, "a");
    let read = |key: &str| node.ns.command("sysctl", &["-n", key]).trim().to_owned();
    assert_eq!(read("net.ipv6.conf.all.forwarding"), "1");
    assert_eq!(read("net.ipv6.conf.up0.accept_ra"), "2");
}

#[test]
fn requested_addresses_are_given() {
    let node = Node::new();
    let network = node.network(&["10.66.0.0/24", "fd66::/64"]);
    let mut wanted = request("a");
    wanted.ips = vec![ip("fd66::77"), ip("10.66.0.77")];
    wanted.mac = Some([2, 0, 0, 0, 0, 7]);
    let pod = node.attach(&network, wanted);
    assert_eq!(pod.attachment.ips, [net("10.66.0.77/24"), net("fd66::77/64")]);
    assert!(pod.ns.ip("link show eth0").contains("02:00:00:00:00:07"));
    let host = node
        .ns
        .ip(&format!("-o link show {}", pod.attachment.host_interface));
    assert!(host.contains(&pod.attachment.host_mac), "{host}");
}

#[test]
fn the_bridge_keeps_its_hardware_address() {
    let node = Node::new();
    let network = node.network(&["10.66.0.0/24"]);
    let mac = || {
        node.ns.command("cat", &["/proc/self/net/arp"]).len().to_string()
            + &node.ns.ip("-o link show pintle0")
    };
    let a = node.pod(&network, "a");
    let before = mac();
    let before = before.split("link/ether ").nth(1).expect("address")[..17].to_owned();
    let mut others = vec![a];
    for number in 0..8 {
        let mut other = request(&format!("pod{number}"));
        other.mac = Some([2, 0, 0, 0, 0, number]);
        others.push(node.attach(&network, other));
    }
    assert!(
        mac().contains(&before),
        "pods would lose their gateway as others come"
    );
}

#[test]
fn limits_are_put_on_both_ways() {
    let (node, _world) = node_and_world();
    let network = node.network(&["10.66.0.0/24"]);
    let mut limited = request("a");
    limited.bandwidth.ingress = Some(netplug::Rate {
        bits_per_second: 10_000_000,
        burst_bits: u64::from(u32::MAX),
    });
    limited.bandwidth.egress = Some(netplug::Rate {
        bits_per_second: 8_000_000_000_000,
        burst_bits: 80_000,
    });
    let pod = node.attach(&network, limited);
    let host = &pod.attachment.host_interface;
    let qdiscs = node.ns.command("tc", &["qdisc"]);
    let of = |device: &str| -> String { qdiscs.lines().filter(|line| line.contains(device)).collect() };
    assert!(
        of(host).contains("tbf") && of(host).contains("rate 10Mbit"),
        "{qdiscs}"
    );
    assert!(of(host).contains("ingress"), "{qdiscs}");
    let ifb = host.replace("veth", "ifbp");
    assert!(of(&ifb).contains("rate 8Tbit"), "{qdiscs}");
    let _server = pod.ns.serve_tcp((ip("0.0.0.0"), 80));
    let _host = node.ns.serve_tcp((ip("0.0.0.0"), 81));
    assert!(
        node.ns.ask_tcp((pod.ip(), 80)).is_some(),
        "packets pass the buckets"
    );
    assert!(pod.ns.ask_tcp((ip("10.66.0.1"), 81)).is_some());
    node.ns.run(|| network.detach("a", None, "eth0").expect("detach"));
    node.ns.run(|| network.sweep().expect("sweep"));
    assert_eq!(node.traces(), [""; 0]);
}
