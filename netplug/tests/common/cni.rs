//! Calling CNI plugins, as a runtime would.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{Node, Ns, cable, ip};

pub const NETPLUG: &str = env!("CARGO_BIN_EXE_netplug");
/// Debian's package containernetworking-plugins.
pub const DEBIAN: &str = "/usr/lib/cni";

/// A call of a plugin.
pub struct Call<'a> {
    pub plugin: &'a Path,
    pub command: &'a str,
    pub id: &'a str,
    pub netns: Option<PathBuf>,
    pub conf: Value,
}

impl Call<'_> {
    /// Runs it on the node; gives what it wrote, if it succeeded and if it failed.
    pub fn run(&self, node: &Ns) -> Result<Value, Value> {
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
pub struct List {
    pub plugins: Vec<(PathBuf, Value)>,
    pub version: &'static str,
    pub state: PathBuf,
}

impl List {
    pub fn conf(&self, keys: &Value, ports: &Value, previous: Option<&Value>) -> Value {
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

    pub fn add(&self, node: &Ns, id: &str, pod: &Ns, ports: &Value) -> Result<Value, Value> {
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

    pub fn each(
        &self,
        command: &str,
        node: &Ns,
        id: &str,
        netns: Option<&Path>,
        ports: &Value,
        result: &Value,
    ) {
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

pub fn netplug() -> PathBuf {
    PathBuf::from(NETPLUG)
}

pub fn debian(name: &str) -> PathBuf {
    let path = Path::new(DEBIAN).join(name);
    assert!(
        path.exists(),
        "{} is needed: apt-get install containernetworking-plugins",
        path.display()
    );
    path
}

/// The configuration of the upstream plugin bridge, the type left out.
pub fn bridge_keys(state: &Path) -> Value {
    json!({
        "bridge": "cni0", "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true,
        "ipam": {
            "type": "host-local", "dataDir": state.join("data"),
            "ranges": [[{"subnet": "10.67.0.0/24"}], [{"subnet": "fd67::/64"}]],
        },
    })
}

pub fn with_type(mut keys: Value, kind: &str) -> Value {
    keys["type"] = json!(kind);
    keys
}

pub struct Bench {
    pub node: Node,
    pub world: Ns,
}

impl Bench {
    pub fn new() -> Bench {
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

    pub fn list(&self, version: &'static str, plugins: Vec<(PathBuf, Value)>) -> List {
        List {
            plugins,
            version,
            state: self.node.state.path().join("state"),
        }
    }

    /// One netplug that does everything.
    pub fn single(&self, version: &'static str) -> List {
        let mut keys = with_type(bridge_keys(self.node.state.path()), "netplug");
        keys["capabilities"] = json!({"portMappings": true});
        self.list(version, vec![(netplug(), keys)])
    }

    /// Adds a pod, sees that its port works from everywhere, deletes it, sees that nothing is left.
    pub fn round(&self, list: &List) {
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

    pub fn nothing_left(&self) {
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
