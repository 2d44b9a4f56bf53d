//! The program as a CNI plugin: alone, in chains, with Debian's plugins before and behind it.

mod common;

use std::path::Path;

use common::cni::{Bench, Call, NETPLUG, bridge_keys, debian, netplug, with_type};
use common::{Ns, ip};
use serde_json::{Value, json};

#[test]
fn one_plugin_does_it_all_in_every_version() {
    let bench = Bench::new();
    for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let keys = with_type(bridge_keys(&bench.node.state.path().join(version)), "netplug");
        let mut list = bench.single(version);
        list.plugins[0].1 = with_type(keys, "netplug");
        list.plugins[0].1["capabilities"] = json!({"portMappings": true});
        list.state = list.state.join(version);
        bench.round(&list);
    }
}

#[test]
fn debians_portmap_works_behind_netplug() {
    let bench = Bench::new();
    let first = with_type(bridge_keys(bench.node.state.path()), "netplug");
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}, "snat": true});
    let plugins = vec![(netplug(), first), (debian("portmap"), portmap)];
    // Debian's portmap looks for IPv6 rules that it hasn't made in its CHECK: a version without.
    bench.round(&bench.list("0.3.1", plugins));
}

#[test]
fn netplug_maps_ports_behind_debians_bridge() {
    let bench = Bench::new();
    let first = with_type(bridge_keys(bench.node.state.path()), "bridge");
    let second = json!({"type": "netplug", "capabilities": {"portMappings": true}, "snat": true});
    bench.round(&bench.list("1.0.0", vec![(debian("bridge"), first), (netplug(), second)]));
}

#[test]
fn netplug_limits_behind_debians_ptp() {
    let bench = Bench::new();
    let mut first = with_type(bridge_keys(bench.node.state.path()), "ptp");
    first["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0"}]);
    let second = json!({
        "type": "netplug", "capabilities": {"portMappings": true},
        "ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000,
    });
    let list = bench.list("1.0.0", vec![(debian("ptp"), first), (netplug(), second)]);
    let pod = Ns::new();
    let ports = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    let result = list.add(&bench.node.ns, "pod-a", &pod, &ports).expect("add");
    assert_eq!(
        bench
            .node
            .ns
            .command("tc", &["qdisc"])
            .matches("rate 8Mbit")
            .count(),
        2
    );
    let _server = pod.serve_tcp((ip("0.0.0.0"), 80));
    assert!(bench.world.ask_tcp((ip("192.0.2.1"), 8080)).is_some());
    assert!(bench.node.ns.ask_tcp((ip("127.0.0.1"), 8080)).is_some());
    list.each("DEL", &bench.node.ns, "pod-a", Some(&pod.path()), &ports, &result);
    bench.nothing_left();
}

#[test]
fn results_are_of_the_version_that_was_asked_for() {
    let bench = Bench::new();
    for (version, number) in [("0.4.0", 0), ("1.0.0", 1), ("1.1.0", 2)] {
        let pod = Ns::new();
        let list = bench.single(version);
        let result = list
            .add(&bench.node.ns, &format!("pod-{number}"), &pod, &Value::Null)
            .expect("add");
        assert_eq!(result["cniVersion"], version);
        let address = &result["ips"][0];
        assert_eq!(address["version"] == "4", version == "0.4.0", "{result}");
        assert_eq!(address["gateway"], "10.67.0.1");
        assert_eq!(
            result["interfaces"][address["interface"].as_u64().expect("index") as usize]["name"],
            "eth0"
        );
        assert_eq!(result["interfaces"][2]["sandbox"], json!(pod.path()));
        assert_eq!(result["interfaces"][2]["mtu"].is_number(), version == "1.1.0");
        assert_eq!(
            result["routes"][0],
            json!({"dst": "0.0.0.0/0", "gw": "10.67.0.1"})
        );
    }
    let call = |version: &str| Call {
        plugin: Path::new(NETPLUG),
        command: "VERSION",
        id: "",
        netns: None,
        conf: json!({"cniVersion": version}),
    };
    let reply = call("1.0.0").run(&bench.node.ns).expect("version");
    assert_eq!(
        reply["supportedVersions"],
        json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
    );
}
