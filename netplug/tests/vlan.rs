//! Networks that share a bridge and are kept apart by VLANs. Skips itself, and says so, where the kernel has none.

mod common;

use std::process::Command;

use common::{Node, Ns, cable, ip};
use netplug::{Config, Network};

/// Whether this kernel can filter VLANs and has VLAN interfaces.
fn has_vlans() -> bool {
    let ns = Ns::new();
    ns.run(|| {
        let script = "ip link add probe type bridge vlan_filtering 1 && ip link add link probe name probe.5 type vlan id 5";
        Command::new("sh").args(["-ec", script]).output().expect("sh")
    })
    .status
    .success()
}

fn network(node: &Node, name: &str, range: &str, vlan: u16) -> Network {
    Network::new(Config {
        vlan: Some(vlan),
        state_dir: node.state.path().join(name),
        ..node.config(&[range, &format!("fd{vlan:02}::/64")])
    })
    .expect("network")
}

#[test]
fn vlans_of_one_bridge_are_apart() {
    if !has_vlans() {
        println!("skipped: this kernel has no VLANs (CONFIG_BRIDGE_VLAN_FILTERING, CONFIG_VLAN_8021Q)");
        return;
    }
    let (node, world) = (Node::new(), Ns::new());
    cable(&node.ns, "192.0.2.1/24", &world, "192.0.2.9/24", "up0");
    let five = network(&node, "net", "10.55.0.0/24", 5);
    let six = network(&node, "net6", "10.66.0.0/24", 6);
    let (a, b) = (node.pod(&five, "a"), node.pod(&five, "b"));
    let (c, d) = (node.pod(&six, "c"), node.pod(&six, "d"));
    let _a = a.ns.serve_tcp((ip("::"), 80));
    let _c = c.ns.serve_tcp((ip("::"), 80));
    for (client, server) in [(&b, &a), (&d, &c)] {
        for address in &server.attachment.ips {
            assert!(client.ns.ask_tcp((address.addr(), 80)).is_some(), "{address}");
        }
    }
    // Host, outside, and by way of the host the other network.
    let _outside = world.serve_tcp((ip("0.0.0.0"), 81));
    assert_eq!(b.ns.ask_tcp((ip("192.0.2.9"), 81)), Some(ip("192.0.2.1")));
    assert!(node.ns.ask_tcp((a.ip(), 80)).is_some());
    assert!(b.ns.ask_tcp((c.ip(), 80)).is_some());
    // Who gives himself an address of the other's finds nobody there.
    d.ns.ip("addr add 10.55.0.99/24 dev eth0");
    assert!(d.ns.cannot_reach((a.ip(), 80)));
    b.ns.ip("addr add 10.55.0.98/24 dev eth0");
    assert!(b.ns.ask_tcp((a.ip(), 80)).is_some());
    // Nor does a tag of one's own lead over.
    d.ns.ip("link add link eth0 name eth0.5 type vlan id 5");
    d.ns.ip("addr flush dev eth0");
    d.ns.ip("addr add 10.55.0.97/24 dev eth0.5");
    d.ns.ip("link set eth0.5 up");
    assert!(d.ns.cannot_reach((a.ip(), 80)));
    let check = |network: &Network, pod: &common::Pod| {
        node.ns
            .run(|| network.check(&pod.id, &pod.ns.path(), "eth0"))
            .expect("check");
    };
    check(&five, &a);
    for (network, pods) in [(&five, [&a, &b]), (&six, [&c, &d])] {
        for pod in pods {
            node.ns
                .run(|| network.detach(&pod.id, None, "eth0"))
                .expect("detach");
        }
        node.ns.run(|| network.sweep()).expect("sweep");
    }
    assert_eq!(node.traces(), [""; 0]);
}
