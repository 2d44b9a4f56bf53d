//! The program as a CNI plugin: alone, in chains, with Debian's plugins before and behind it.

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Node, Ns, cable, ip};
use serde_json::{Value, json};

const NETPLUG: &str = env!("CARGO_BIN_EXE_netplug");
/// Debian's package containernetworking-plugins.
const DEBIAN: &str = "/usr/lib/cni";

/// A call of a plugin.
struct Call<'a> {
    plugin: &'a Path,
    command: &'a str,
    id: &'a str,
    netns: Option<PathBuf>,
    conf: Value,
}

impl Call<'_> {
    /// Runs it on the node; gives what it wrote, if it succeeded and if it failed.
    fn run(&self, node: &Ns) -> Result<Value, Value> {
        let netns = self.netns.clone().unwrap_or_default();
        let output = node.run(|| {
            let mut child = Command::new(self.plugin)
                .env("CNI_COMMAND", self.command)
                .env("CNI_CONTAINERID", self.id)
                .env("CNI_NETNS", netns)
                .env("CNI_IFNAME", "eth0")
                .env("CNI_PATH", DEBIAN)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap_or_else(|error| panic!("{}: {error}", self.plugin.display()));
            let conf = self.conf.to_string();
            child
                .stdin
                .take()
                .expect("stdin")
                .write_all(conf.as_bytes())
                .expect("write");
            child.wait_with_output().expect("output")
        });
        let text = String::from_utf8_lossy(&output.stdout);
        let value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if output.status.success() {
            Ok(value)
        } else {
            Err(value)
        }
    }
}

/// A list of plugins run by hand, as a runtime would.
struct List {
    plugins: Vec<(PathBuf, Value)>,
    version: &'static str,
    state: PathBuf,
}

impl List {
    fn conf(&self, keys: &Value, ports: &Value, previous: Option<&Value>) -> Value {
        let mut conf = keys.clone();
        conf["cniVersion"] = json!(self.version);
        conf["name"] = json!("test");
        if keys["capabilities"]["portMappings"] == true && !ports.is_null() {
            conf["runtimeConfig"] = json!({"portMappings": ports});
        }
        if keys["type"] == "netplug" {
            conf["stateDir"] = json!(self.state);
        }
        if let Some(previous) = previous {
            conf["prevResult"] = previous.clone();
        }
        conf
    }

    fn add(&self, node: &Ns, id: &str, pod: &Ns, ports: &Value) -> Result<Value, Value> {
        let mut previous = None;
        for (plugin, keys) in &self.plugins {
            let conf = self.conf(keys, ports, previous.as_ref());
            let call = Call {
                plugin,
                command: "ADD",
                id,
                netns: Some(pod.path()),
                conf,
            };
            previous = Some(call.run(node)?);
        }
        Ok(previous.expect("a plugin"))
    }

    fn each(&self, command: &str, node: &Ns, id: &str, netns: Option<&Path>, ports: &Value, result: &Value) {
        for (plugin, keys) in self.plugins.iter().rev() {
            let conf = self.conf(keys, ports, Some(result));
            let call = Call {
                plugin,
                command,
                id,
                netns: netns.map(Path::to_owned),
                conf,
            };
            call.run(node)
                .unwrap_or_else(|error| panic!("{} {command}: {error}", plugin.display()));
        }
    }
}

fn netplug() -> PathBuf {
    PathBuf::from(NETPLUG)
}

fn debian(name: &str) -> PathBuf {
    let path = Path::new(DEBIAN).join(name);
    assert!(
        path.exists(),
        "{} is needed: apt-get install containernetworking-plugins",
        path.display()
    );
    path
}

/// The configuration of the upstream plugin bridge, the type left out.
fn bridge_keys(state: &Path) -> Value {
    json!({
        "bridge": "cni0", "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true,
        "ipam": {
            "type": "host-local", "dataDir": state.join("data"),
            "ranges": [[{"subnet": "10.67.0.0/24"}], [{"subnet": "fd67::/64"}]],
        },
    })
}

fn with_type(mut keys: Value, kind: &str) -> Value {
    keys["type"] = json!(kind);
    keys
}

struct Bench {
    node: Node,
    world: Ns,
}

impl Bench {
    fn new() -> Bench {
        let (node, world) = (Node::new(), Ns::new());
        cable(
            &node.ns,
            "192.0.2.1/24,fd02::1/64",
            &world,
            "192.0.2.9/24,fd02::9/64",
            "up0",
        );
        Bench { node, world }
    }

    fn list(&self, version: &'static str, plugins: Vec<(PathBuf, Value)>) -> List {
        List {
            plugins,
            version,
            state: self.node.state.path().join("state"),
        }
    }

    /// One netplug that does everything.
    fn single(&self, version: &'static str) -> List {
        let mut keys = with_type(bridge_keys(self.node.state.path()), "netplug");
        keys["capabilities"] = json!({"portMappings": true});
        self.list(version, vec![(netplug(), keys)])
    }

    /// Adds a pod, sees that its port works from everywhere, deletes it, sees that nothing is left.
    fn round(&self, list: &List) {
        let pod = Ns::new();
        let ports = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
        let result = list
            .add(&self.node.ns, "pod-a", &pod, &ports)
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(result["ips"][0]["address"], "10.67.0.2/24", "{result}");
        let _server = pod.serve_tcp((ip("::"), 80));
        let _outside = self.world.serve_tcp((ip("::"), 81));
        assert_eq!(
            pod.ask_tcp((ip("192.0.2.9"), 81)),
            Some(ip("192.0.2.1")),
            "masqueraded"
        );
        assert_eq!(self.world.ask_tcp((ip("192.0.2.1"), 8080)), Some(ip("192.0.2.9")));
        assert!(
            self.node.ns.ask_tcp((ip("127.0.0.1"), 8080)).is_some(),
            "through 127.0.0.1"
        );
        assert!(
            pod.ask_tcp((ip("192.0.2.1"), 8080)).is_some(),
            "from the pod itself"
        );
        if list.version >= "0.4.0" {
            list.each(
                "CHECK",
                &self.node.ns,
                "pod-a",
                Some(&pod.path()),
                &ports,
                &result,
            );
        }
        list.each("DEL", &self.node.ns, "pod-a", Some(&pod.path()), &ports, &result);
        assert!(self.world.cannot_reach((ip("192.0.2.1"), 8080)));
        list.each("DEL", &self.node.ns, "pod-a", None, &ports, &result);
        self.nothing_left();
    }

    fn nothing_left(&self) {
        for _ in 0..200 {
            if self.node.traces().is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(self.node.traces(), [""; 0]);
        let state = self.node.state.path().join("state");
        let left = Command::new("find")
            .arg(&state)
            .args(["-path", "*/pods/*", "-o", "-path", "*/addresses/*"])
            .output();
        assert_eq!(String::from_utf8_lossy(&left.expect("find").stdout), "");
    }
}

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

#[test]
fn garbage_collection_and_status() {
    let bench = Bench::new();
    let list = bench.single("1.1.0");
    let (a, b) = (Ns::new(), Ns::new());
    list.add(&bench.node.ns, "pod-a", &a, &Value::Null).expect("add");
    list.add(
        &bench.node.ns,
        "pod-b",
        &b,
        &json!([{"hostPort": 1, "containerPort": 1}]),
    )
    .expect("add");
    let run = |command: &str, extra: (&str, Value)| {
        let mut conf = list.conf(&list.plugins[0].1, &Value::Null, None);
        conf[extra.0] = extra.1;
        Call {
            plugin: Path::new(NETPLUG),
            command,
            id: "",
            netns: None,
            conf,
        }
        .run(&bench.node.ns)
    };
    run("STATUS", ("bridge", json!("cni0"))).expect("ready");
    let failure = run("STATUS", ("bridge", json!("up0"))).expect_err("a bridge that is none");
    assert_eq!(failure["code"], 50);
    assert!(
        failure["msg"]
            .as_str()
            .is_some_and(|text| text.contains("up0") && text.contains("veth")),
        "{failure}"
    );
    let live = json!([{"containerID": "pod-a", "ifname": "eth0"}]);
    run("GC", ("cni.dev/valid-attachments", live)).expect("gc");
    let traces = bench.node.traces().join("\n");
    assert!(
        traces.contains("10.67.0.2") && !traces.contains("10.67.0.3"),
        "{traces}"
    );
    run("GC", ("cni.dev/valid-attachments", json!([]))).expect("gc");
    bench.nothing_left();
}

#[test]
fn addresses_that_host_local_gave_are_not_given_again() {
    let bench = Bench::new();
    let list = bench.single("1.0.0");
    let dir = bench.node.state.path().join("data/test");
    std::fs::create_dir_all(&dir).expect("create");
    std::fs::write(dir.join("10.67.0.2"), "old-pod\neth0").expect("write");
    let result = list
        .add(&bench.node.ns, "pod-a", &Ns::new(), &Value::Null)
        .expect("add");
    assert_eq!(result["ips"][0]["address"], "10.67.0.3/24");
}

#[test]
fn what_cannot_be_is_an_error_that_names_it_and_leaves_nothing() {
    let bench = Bench::new();
    let pod = Ns::new();
    let add = |change: &dyn Fn(&mut Value), netns: PathBuf| {
        let list = bench.single("1.0.0");
        let mut conf = list.conf(&list.plugins[0].1, &Value::Null, None);
        change(&mut conf);
        let call = Call {
            plugin: Path::new(NETPLUG),
            command: "ADD",
            id: "pod-a",
            netns: Some(netns),
            conf,
        };
        let failure = call.run(&bench.node.ns).expect_err("must fail");
        bench.nothing_left();
        (
            failure["code"].as_u64().expect("code"),
            failure["msg"].as_str().expect("message").to_owned(),
        )
    };
    let bad = |change: &dyn Fn(&mut Value), code: u64, word: &str| {
        let (found, message) = add(change, pod.path());
        assert!(
            found == code && message.contains(word),
            "{code} {word}: {found} {message}"
        );
    };
    bad(
        &|conf| conf["ipam"]["ranges"] = json!([[{"subnet": "10.67.0.0/33"}]]),
        7,
        "10.67.0.0/33",
    );
    bad(
        &|conf| conf["ipam"]["ranges"] = json!([[{"subnet": "10.67.0.0/31"}]]),
        7,
        "10.67.0.0/31",
    );
    bad(
        &|conf| conf["ipam"]["ranges"] = json!([[{"subnet": "10.67.0.0/24"}], [{"subnet": "10.67.0.0/16"}]]),
        7,
        "overlaps",
    );
    bad(
        &|conf| conf["ipam"]["rangeStrat"] = json!("10.67.0.9"),
        6,
        "rangeStrat",
    );
    bad(&|conf| conf["ipMask"] = json!(true), 7, "ipMask");
    bad(&|conf| conf["cniVersion"] = json!("3.0.0"), 1, "3.0.0");
    bad(&|conf| conf["bridge"] = json!("up0"), 7, "up0");
    bad(
        &|conf| conf["bridge"] = json!("much-too-long-a-name"),
        7,
        "much-too-long-a-name",
    );
    bad(
        &|conf| conf["runtimeConfig"]["ips"] = json!(["10.99.0.1/24"]),
        7,
        "10.99.0.1",
    );
    bad(
        &|conf| conf["runtimeConfig"]["mac"] = json!("nonsense"),
        7,
        "nonsense",
    );
    let (code, message) = add(&|_| {}, "/nonexistent/netns".into());
    assert!(
        code == 4 && message.contains("/nonexistent/netns"),
        "{code} {message}"
    );
    let (code, message) = add(&|_| {}, "/etc/hostname".into());
    assert!(code == 4 && message.contains("/etc/hostname"), "{code} {message}");
    let (code, message) = add(&|_| {}, "/proc/self/ns/net".into());
    assert!(code == 4 && message.contains("host's own"), "{code} {message}");
}

#[test]
fn a_taken_port_and_an_exhausted_range_are_told() {
    let bench = Bench::new();
    let mut list = bench.single("1.0.0");
    list.plugins[0].1["ipam"]["ranges"] = json!([[{"subnet": "10.67.0.0/29", "rangeEnd": "10.67.0.3"}]]);
    let ports = json!([{"hostPort": 8080, "containerPort": 80}]);
    let pods = [Ns::new(), Ns::new(), Ns::new()];
    list.add(&bench.node.ns, "pod-a", &pods[0], &ports).expect("add");
    let failure = list
        .add(&bench.node.ns, "pod-b", &pods[1], &ports)
        .expect_err("port taken");
    assert!(
        failure["msg"]
            .as_str()
            .is_some_and(|text| text.contains("8080/tcp")),
        "{failure}"
    );
    list.add(&bench.node.ns, "pod-b", &pods[1], &Value::Null)
        .expect("the address is free again");
    let failure = list
        .add(&bench.node.ns, "pod-c", &pods[2], &Value::Null)
        .expect_err("exhausted");
    assert!(
        failure["msg"]
            .as_str()
            .is_some_and(|text| text.contains("10.67.0.3")),
        "{failure}"
    );
    let failure = list
        .add(&bench.node.ns, "pod-a", &pods[0], &Value::Null)
        .expect_err("twice");
    assert!(
        failure["msg"].as_str().is_some_and(|text| text.contains("pod-a")),
        "{failure}"
    );
}
