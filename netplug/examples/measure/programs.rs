//! Plugins as programs: netplug, and Debian's bridge, host-local and portmap.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::ns::Ns;
use crate::quantile;

const ROUNDS: usize = 40;
const UPSTREAM: &str = "/usr/lib/cni";

/// A program with its configuration.
pub(crate) struct Plugin {
    pub(crate) program: PathBuf,
    pub(crate) keys: Value,
}

impl Plugin {
    pub(crate) fn run(&self, command: &str, id: &str, pod: &Ns, previous: Option<&Value>) -> Value {
        let mut conf = self.keys.clone();
        if let Some(previous) = previous {
            conf["prevResult"] = previous.clone();
        }
        let mut child = Command::new(&self.program)
            .envs([
                ("CNI_COMMAND", command),
                ("CNI_CONTAINERID", id),
                ("CNI_IFNAME", "eth0"),
            ])
            .envs([("CNI_NETNS", pod.path().as_str()), ("CNI_PATH", UPSTREAM)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("spawn");
        let mut stdin = child.stdin.take().expect("stdin");
        stdin.write_all(conf.to_string().as_bytes()).expect("write");
        drop(stdin);
        let output = child.wait_with_output().expect("output");
        assert!(
            output.status.success(),
            "{command}: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }
}

/// Both lists of plugins that do the same.
pub(crate) fn lists(netplug: &Path, state: &Path) -> [(&'static str, Vec<Plugin>); 2] {
    let keys = |kind: &str, bridge: &str, subnet: &str, port: u16| {
        let mut keys = json!({
            "cniVersion": "1.0.0", "name": kind, "type": kind, "bridge": bridge, "isDefaultGateway": true,
            "ipMasq": true, "capabilities": {"portMappings": true},
            "ipam": {"type": "host-local", "subnet": subnet, "dataDir": state},
            "runtimeConfig": {"portMappings": [{"hostPort": port, "containerPort": 80, "protocol": "tcp"}]},
        });
        if kind == "netplug" {
            keys["stateDir"] = json!(state.join("netplug"));
        }
        keys
    };
    let plugin = |program: PathBuf, keys: Value| Plugin { program, keys };
    let upstream = |name: &str| Path::new(UPSTREAM).join(name);
    [
        (
            "netplug",
            vec![plugin(
                netplug.to_owned(),
                keys("netplug", "np0", "10.71.0.0/16", 8071),
            )],
        ),
        (
            "bridge + host-local + portmap",
            vec![
                plugin(upstream("bridge"), keys("bridge", "up0", "10.72.0.0/16", 8072)),
                plugin(upstream("portmap"), keys("portmap", "up0", "10.72.0.0/16", 8072)),
            ],
        ),
    ]
}

pub(crate) fn measure(netplug: &Path, state: &Path) {
    let lists = lists(netplug, state);
    let mut times: Vec<[Vec<f64>; 2]> = lists.iter().map(|_| [Vec::new(), Vec::new()]).collect();
    for round in 0..ROUNDS {
        for ((_, plugins), [add, del]) in lists.iter().zip(&mut times) {
            let (pod, id) = (Ns::new(), format!("pod{round}"));
            let start = Instant::now();
            let mut result: Option<Value> = None;
            for plugin in plugins {
                result = Some(plugin.run("ADD", &id, &pod, result.as_ref()));
            }
            add.push(start.elapsed().as_secs_f64() * 1e3);
            let start = Instant::now();
            for plugin in plugins.iter().rev() {
                plugin.run("DEL", &id, &pod, result.as_ref());
            }
            del.push(start.elapsed().as_secs_f64() * 1e3);
            // What is still going on in the kernel is not the other's to pay.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    println!(
        "\n## As programs\n\nA pod with a host port, {ROUNDS} rounds in turns; milliseconds, median / 90th percentile.\n"
    );
    println!("| | ADD | DEL |\n| --- | ---: | ---: |");
    let mut medians = Vec::new();
    for ((name, _), [add, del]) in lists.iter().zip(&mut times) {
        let text = |list: &mut [f64]| format!("{:.1} / {:.1}", quantile(list, 0.5), quantile(list, 0.9));
        println!("| {name} | {} | {} |", text(add), text(del));
        medians.push([quantile(add, 0.5), quantile(del, 0.5)]);
    }
    println!(
        "| times faster | {:.1} | {:.1} |",
        medians[1][0] / medians[0][0],
        medians[1][1] / medians[0][1]
    );
}
