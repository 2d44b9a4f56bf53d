//! What keys and capabilities of a configuration do.

mod common;

use std::path::Path;

use common::cni::{Bench, Call, NETPLUG};
use common::{Ns, ip};
use serde_json::{Value, json};

struct Setup {
    bench: Bench,
    pod: Ns,
}

impl Setup {
    fn new() -> Setup {
        Setup {
            bench: Bench::new(),
            pod: Ns::new(),
        }
    }

    /// Runs a command for the pod, with keys over those of a bridge with the ranges 10.67.0.0/24 and fd67::/64.
    fn run(&self, command: &str, keys: &Value) -> Result<Value, Value> {
        let list = self.bench.single("1.1.0");
        let mut conf = list.conf(&list.plugins[0].1, &Value::Null, None);
        merge(&mut conf, keys);
        let call = Call {
            plugin: Path::new(NETPLUG),
            command,
            id: "pod-a",
            netns: Some(self.pod.path()),
            conf,
        };
        call.run(&self.bench.node.ns)
    }

    fn add(&self, keys: &Value) -> Value {
        self.run("ADD", keys).unwrap_or_else(|error| panic!("{error}"))
    }

    fn del(&self, keys: &Value) {
        self.run("DEL", keys).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Objects are merged, all else replaced.
fn merge(conf: &mut Value, keys: &Value) {
    match (conf, keys) {
        (Value::Object(conf), Value::Object(keys)) => {
            for (key, value) in keys {
                merge(conf.entry(key).or_insert(Value::Null), value);
            }
        }
        (conf, keys) => *conf = keys.clone(),
    }
}

#[test]
fn capabilities_that_say_who_a_pod_is() {
    let setup = Setup::new();
    let result = setup.add(&json!({"runtimeConfig": {
        "ips": ["10.67.0.50/24", "fd67::50"], "mac": "02:00:00:00:00:50",
        "dns": {"servers": ["192.0.2.53"], "searches": ["a.test"], "options": ["ndots:5"]},
    }}));
    let addresses: Vec<&Value> = result["ips"]
        .as_array()
        .expect("list")
        .iter()
        .map(|ip| &ip["address"])
        .collect();
    assert_eq!(addresses, ["10.67.0.50/24", "fd67::50/64"]);
    assert_eq!(result["interfaces"][2]["mac"], "02:00:00:00:00:50");
    assert!(setup.pod.ip("link show eth0").contains("02:00:00:00:00:50"));
    assert_eq!(
        result["dns"],
        json!({"nameservers": ["192.0.2.53"], "search": ["a.test"], "options": ["ndots:5"]})
    );
}

#[test]
fn ranges_by_capability_and_the_older_arguments() {
    let setup = Setup::new();
    let keys =
        json!({"runtimeConfig": {"ipRanges": [[{"subnet": "10.68.0.0/24", "rangeStart": "10.68.0.9"}]]}});
    let result = setup.add(&keys);
    assert_eq!(
        result["ips"][0]["address"], "10.68.0.9/24",
        "the capability's come first: {result}"
    );
    assert_eq!(result["ips"][0]["gateway"], "10.68.0.1");
    setup.del(&keys);
    let keys = json!({"args": {"cni": {"ips": ["10.67.0.60"], "mac": "02:00:00:00:00:60"}}});
    let result = setup.add(&keys);
    assert_eq!(result["ips"][0]["address"], "10.67.0.60/24");
    assert_eq!(result["interfaces"][2]["mac"], "02:00:00:00:00:60");
}

#[test]
fn reserved_addresses_are_given_only_when_asked_for() {
    let setup = Setup::new();
    let reserved = json!({"ipam": {"reserved": ["10.67.0.2", "10.67.0.3"]}});
    assert_eq!(setup.add(&reserved)["ips"][0]["address"], "10.67.0.4/24");
    setup.del(&reserved);
    let mut asked = reserved;
    asked["runtimeConfig"] = json!({"ips": ["10.67.0.2"]});
    assert_eq!(setup.add(&asked)["ips"][0]["address"], "10.67.0.2/24");
}

#[test]
fn hairpin_or_promiscuous_and_not_both() {
    let setup = Setup::new();
    let port = |result: &Value| {
        let name = result["interfaces"][1]["name"].as_str().expect("name").to_owned();
        setup.bench.node.ns.ip(&format!("-d link show {name}"))
    };
    let both = json!({"hairpinMode": true, "promiscMode": true});
    assert_eq!(setup.run("ADD", &both).expect_err("contradiction")["code"], 7);
    setup.bench.nothing_left();
    assert!(port(&setup.add(&json!({}))).contains("hairpin on"));
    setup.del(&json!({}));
    let promiscuous = json!({"hairpinMode": false, "promiscMode": true});
    assert!(port(&setup.add(&promiscuous)).contains("hairpin off"));
    assert!(setup.bench.node.ns.ip("link show cni0").contains("PROMISC"));
}

#[test]
fn the_mtu_is_the_uplinks_or_the_one_said() {
    for (keys, mtu) in [(json!({}), 1400), (json!({"mtu": 1300}), 1300)] {
        let setup = Setup::new();
        let node = &setup.bench.node.ns;
        node.ip("link set up0 mtu 1400");
        node.ip("route add default via 192.0.2.9");
        let result = setup.add(&keys);
        assert_eq!(result["interfaces"][2]["mtu"], mtu);
        for (ns, link) in [(node, "cni0"), (&setup.pod, "eth0")] {
            let shown = ns.ip(&format!("link show {link}"));
            assert!(shown.contains(&format!("mtu {mtu} ")), "{shown}");
        }
    }
}

#[test]
fn destinations_that_are_not_outside() {
    let setup = Setup::new();
    let world = &setup.bench.world;
    setup.add(&json!({"masqueradeExcept": ["192.0.2.8/30"]}));
    world.ip("route add 10.67.0.0/24 via 192.0.2.1");
    world.ip("addr add 192.0.2.20/24 dev up0");
    let _server = world.serve_tcp((ip("0.0.0.0"), 81));
    assert_eq!(setup.pod.ask_tcp((ip("192.0.2.9"), 81)), Some(ip("10.67.0.2")));
    assert_eq!(setup.pod.ask_tcp((ip("192.0.2.20"), 81)), Some(ip("192.0.2.1")));
}

#[test]
fn check_names_what_is_missing() {
    let setup = Setup::new();
    let ports = json!({"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}});
    let result = setup.add(&ports);
    let mut check = ports;
    check["prevResult"] = result;
    setup.run("CHECK", &check).expect("all is there");
    let damaged = |word: &str| {
        let failure = setup.run("CHECK", &check).expect_err(word);
        let message = failure["msg"].as_str().expect("message");
        assert!(message.contains(word), "{word}: {message}");
    };
    let node = &setup.bench.node.ns;
    node.nft("flush map inet pintle anyports4");
    damaged("anyports4");
    node.nft("delete table inet pintle");
    damaged("table");
    setup.run("STATUS", &json!({})).expect("puts it back");
    setup.run("CHECK", &check).expect("all is there again");
    setup.pod.ip("addr del 10.67.0.2/24 dev eth0");
    damaged("10.67.0.2");
    setup.pod.ip("link del eth0");
    damaged("veth");
    setup.del(&check);
    setup.bench.nothing_left();
}
