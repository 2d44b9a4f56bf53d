//! Host ports: from everywhere, to everywhere.

mod common;

use common::{Node, Ns, Pod, cable, ip, request};
use netplug::{Error, Network, PortMap, Protocol};

struct Setup {
    node: Node,
    world: Ns,
    network: Network,
}

fn setup() -> Setup {
    let (node, world) = (Node::new(), Ns::new());
    cable(
        &node.ns,
        "192.0.2.1/24,192.0.2.2/24,fd02::1/64",
        &world,
        "192.0.2.9/24,fd02::9/64",
        "up0",
    );
    let network = node.network(&["10.66.0.0/24", "fd66::/64"]);
    Setup { node, world, network }
}

fn port(protocol: Protocol, host_port: u16, container_port: u16, host_ip: Option<&str>) -> PortMap {
    PortMap {
        protocol,
        host_port,
        container_port,
        host_ip: host_ip.map(ip),
    }
}

impl Setup {
    fn pod(&self, id: &str, ports: &[PortMap]) -> Pod {
        let mut request = request(id);
        request.ports = ports.to_vec();
        self.node.attach(&self.network, request)
    }
}

#[test]
fn a_host_port_leads_to_the_pod_from_everywhere() {
    let setup = setup();
    let pod = setup.pod("a", &[port(Protocol::Tcp, 8080, 80, None)]);
    let other = setup.pod("b", &[]);
    let _server = pod.ns.serve_tcp((ip("::"), 80));
    let host = &setup.node.ns;
    // From outside: the pod sees who it is.
    assert_eq!(
        setup.world.ask_tcp((ip("192.0.2.1"), 8080)),
        Some(ip("192.0.2.9"))
    );
    assert_eq!(setup.world.ask_tcp((ip("fd02::1"), 8080)), Some(ip("fd02::9")));
    // From the host: by its address and by loopback.
    assert!(host.ask_tcp((ip("192.0.2.1"), 8080)).is_some());
    assert!(host.ask_tcp((ip("fd02::1"), 8080)).is_some());
    assert_eq!(host.ask_tcp((ip("127.0.0.1"), 8080)), Some(ip("10.66.0.1")));
    // From another pod on the same bridge, which must get its answers from the address it asked.
    assert_eq!(other.ns.ask_tcp((ip("192.0.2.1"), 8080)), Some(ip("10.66.0.1")));
    assert_eq!(other.ns.ask_tcp((ip("fd02::1"), 8080)), Some(ip("fd66::1")));
    // From the pod itself.
    assert!(pod.ns.ask_tcp((ip("192.0.2.1"), 8080)).is_some());
    assert!(pod.ns.ask_tcp((ip("fd02::1"), 8080)).is_some());
    // Its own port stays, and no other port is mapped.
    assert!(other.ns.ask_tcp((pod.ip(), 80)).is_some());
    assert!(setup.world.cannot_reach((ip("192.0.2.1"), 8081)));
}

#[test]
fn a_port_of_one_host_address_is_of_that_address_only() {
    let setup = setup();
    let one = setup.pod("a", &[port(Protocol::Tcp, 8080, 80, Some("192.0.2.1"))]);
    let two = setup.pod("b", &[port(Protocol::Tcp, 8080, 80, Some("192.0.2.2"))]);
    let local = setup.pod("c", &[port(Protocol::Tcp, 8080, 80, Some("127.0.0.1"))]);
    let _one = one.ns.serve_tcp((ip("0.0.0.0"), 80));
    assert!(setup.world.ask_tcp((ip("192.0.2.1"), 8080)).is_some());
    assert!(
        setup.world.cannot_reach((ip("192.0.2.2"), 8080)),
        "the other pod has no server"
    );
    let _two = two.ns.serve_tcp((ip("0.0.0.0"), 80));
    assert!(setup.world.ask_tcp((ip("192.0.2.2"), 8080)).is_some());
    let _local = local.ns.serve_tcp((ip("0.0.0.0"), 80));
    assert!(setup.node.ns.ask_tcp((ip("127.0.0.1"), 8080)).is_some());
    assert!(setup.world.cannot_reach((ip("fd02::1"), 8080)));
}

#[test]
fn datagrams_find_their_way_too() {
    let setup = setup();
    let pod = setup.pod("a", &[port(Protocol::Udp, 5353, 53, None)]);
    let heard = |client: &Ns, address: &str| {
        let any = if address.contains(':') { "::" } else { "0.0.0.0" };
        pod.ns
            .hears_udp((ip(any), 53).into(), client, (ip(address), 5353).into())
    };
    assert_eq!(heard(&setup.world, "192.0.2.1"), Some(ip("192.0.2.9")));
    assert_eq!(heard(&setup.world, "fd02::1"), Some(ip("fd02::9")));
    assert!(heard(&setup.node.ns, "127.0.0.1").is_some());
}

#[test]
fn a_port_is_given_once() {
    let setup = setup();
    let first = setup.pod("a", &[port(Protocol::Tcp, 8080, 80, None)]);
    let ns = Ns::new();
    let mut second = request("b");
    second.netns = ns.path();
    second.ports = vec![
        port(Protocol::Tcp, 9090, 80, None),
        port(Protocol::Tcp, 8080, 80, None),
    ];
    let before = setup.node.traces();
    let error = setup
        .node
        .ns
        .run(|| setup.network.attach(&second))
        .expect_err("taken");
    assert!(
        matches!(&error, Error::PortTaken { port } if port == "8080/tcp"),
        "{error}"
    );
    assert_eq!(setup.node.traces(), before, "nothing of the refused pod is left");
    second.ports[1].protocol = Protocol::Udp;
    setup
        .node
        .ns
        .run(|| setup.network.attach(&second))
        .expect("another protocol is another port");
    setup
        .node
        .ns
        .run(|| setup.network.detach("a", Some(&first.ns.path()), "eth0"))
        .expect("detach");
    let third = setup.pod("c", &[port(Protocol::Tcp, 8080, 80, None)]);
    let _server = third.ns.serve_tcp((ip("0.0.0.0"), 80));
    assert!(
        setup.world.ask_tcp((ip("192.0.2.1"), 8080)).is_some(),
        "freed with its pod"
    );
}

#[test]
fn pods_cannot_reach_the_hosts_loopback() {
    let setup = setup();
    let pod = setup.pod("a", &[port(Protocol::Tcp, 8080, 80, None)]);
    let _secret = setup.node.ns.serve_tcp((ip("127.0.0.1"), 999));
    pod.ns.ip("route add 127.0.0.0/8 via 10.66.0.1 dev eth0 table 5");
    pod.ns.ip("rule add to 127.0.0.0/8 pref 0 table 5");
    pod.ns.ip("rule del pref 0 table local");
    pod.ns.ip("rule add pref 10 table local");
    pod.ns
        .command("sysctl", &["-qw", "net.ipv4.conf.all.route_localnet=1"]);
    assert!(pod.ns.cannot_reach((ip("127.0.0.1"), 999)));
    assert!(
        setup.node.ns.ask_tcp((ip("127.0.0.1"), 999)).is_some(),
        "the host itself can"
    );
}

#[test]
fn what_others_flush_is_put_back() {
    let setup = setup();
    let pod = setup.pod("a", &[port(Protocol::Tcp, 8080, 80, None)]);
    let _server = pod.ns.serve_tcp((ip("0.0.0.0"), 80));
    let node = &setup.node.ns;
    let ready = || node.run(|| setup.network.ready()).expect("ready");
    let reachable = || setup.world.ask_tcp((ip("192.0.2.1"), 8080)).is_some();
    assert!(reachable());
    for damage in [
        "flush ruleset",
        "flush table inet pintle",
        "flush chain inet pintle ports",
        "delete table inet pintle",
    ] {
        node.nft(damage);
        assert!(setup.world.cannot_reach((ip("192.0.2.1"), 8080)), "{damage}");
        ready();
        assert!(reachable(), "after {damage}");
    }
    // Attaching puts it back as well, for the pods that were there before.
    node.nft("flush ruleset");
    let _other = setup.pod("b", &[]);
    assert!(reachable());
}

#[test]
fn the_table_can_be_read_by_people() {
    let setup = setup();
    let _pod = setup.pod(
        "a",
        &[
            port(Protocol::Tcp, 8080, 80, None),
            port(Protocol::Sctp, 9, 9, Some("192.0.2.1")),
        ],
    );
    let table = setup.node.ns.nft("list table inet pintle");
    for part in [
        r#"elements = { "pintle0" }"#,
        "tcp . 8080 : 10.66.0.2 . 80",
        "192.0.2.1 . sctp . 9 : 10.66.0.2 . 9",
        "tcp . 8080 : fd66::2 . 80",
        "224.0.0.0/4",
        "masquerade",
    ] {
        assert!(table.contains(part), "{part} in {table}");
    }
}

#[test]
fn rules_of_others_stay() {
    let setup = setup();
    let node = &setup.node.ns;
    node.nft("add table ip other");
    node.nft("add chain ip other nat { type nat hook prerouting priority -100 ; }");
    node.nft("add rule ip other nat tcp dport 7777 redirect to :81");
    let before = node.nft("list table ip other");
    let pod = setup.pod("a", &[port(Protocol::Tcp, 8080, 80, None)]);
    let _server = pod.ns.serve_tcp((ip("0.0.0.0"), 80));
    let _other = node.serve_tcp((ip("0.0.0.0"), 81));
    assert!(setup.world.ask_tcp((ip("192.0.2.1"), 8080)).is_some());
    assert!(setup.world.ask_tcp((ip("192.0.2.1"), 7777)).is_some());
    node.run(|| setup.network.detach("a", None, "eth0").expect("detach"));
    assert_eq!(node.nft("list table ip other"), before);
}

#[test]
fn a_stream_that_began_before_the_pod_reaches_it_and_ends_with_it() {
    use std::net::UdpSocket;
    use std::time::Duration;

    let setup = setup();
    let _other = setup.pod("other", &[]);
    let sender = setup.world.run(|| UdpSocket::bind("192.0.2.9:0").expect("bind"));
    let listen = |pod: &Pod| {
        let socket = pod.ns.run(|| UdpSocket::bind("0.0.0.0:53").expect("bind"));
        socket
            .set_read_timeout(Some(Duration::from_millis(200)))
            .expect("timeout");
        socket
    };
    let hears = |server: &UdpSocket| {
        (0..10).any(|_| {
            // The host answers that nobody is there, which the next call then tells.
            let _ = sender.send_to(b"hello", "192.0.2.1:5353");
            let _ = sender.send_to(b"hello", "192.0.2.1:5353");
            server.recv_from(&mut [0; 16]).is_ok()
        })
    };
    let _ = sender.send_to(b"hello", "192.0.2.1:5353");
    let map = [port(Protocol::Udp, 5353, 53, None)];
    let first = setup.pod("a", &map);
    assert!(
        hears(&listen(&first)),
        "the stream was remembered as the host's own"
    );
    setup
        .node
        .ns
        .run(|| setup.network.detach("a", None, "eth0"))
        .expect("detach");
    let second = setup.pod("b", &map);
    assert!(
        hears(&listen(&second)),
        "the stream was remembered as the first pod's"
    );
}
