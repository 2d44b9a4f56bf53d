//! Measures, as root, in one run: the program netplug against Debian's bridge, host-local and portmap, ADD and DEL
//! of a pod with a host port; then TCP throughput against a veth pair and bridge set up by hand.
//!
//! `compare <path of netplug>`; needs the packages containernetworking-plugins, iproute2 and nftables.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use serde_json::{Value, json};

const ROUNDS: usize = 40;
const UPSTREAM: &str = "/usr/lib/cni";

struct Ns(File);

impl Ns {
    fn new() -> Ns {
        let thread = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("unshare: needs root");
            File::open("/proc/thread-self/ns/net").expect("open")
        });
        Ns(thread.join().expect("thread"))
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).expect("setns");
                work()
            });
            inside.join().expect("thread")
        })
    }

    fn shell(&self, script: &str) {
        let status = self.run(|| Command::new("sh").args(["-ec", script]).status().expect("sh"));
        assert!(status.success(), "{script}");
    }
}

struct Plugin {
    program: PathBuf,
    keys: Value,
}

impl Plugin {
    fn run(&self, command: &str, id: &str, pod: &Ns, previous: Option<&Value>) -> Value {
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
        child
            .stdin
            .take()
            .expect("stdin")
            .write_all(conf.to_string().as_bytes())
            .expect("write");
        let output = child.wait_with_output().expect("output");
        assert!(
            output.status.success(),
            "{command}: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }
}

fn lists(netplug: &Path, state: &Path) -> [(&'static str, Vec<Plugin>); 2] {
    let keys = |kind: &str, bridge: &str, subnet: &str, port: u16| {
        json!({
            "cniVersion": "1.0.0", "name": kind, "type": kind, "bridge": bridge, "isDefaultGateway": true,
            "ipMasq": true, "capabilities": {"portMappings": true},
            "ipam": {"type": "host-local", "subnet": subnet, "dataDir": state},
            "runtimeConfig": {"portMappings": [{"hostPort": port, "containerPort": 80, "protocol": "tcp"}]},
        })
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
            "bridge+host-local+portmap",
            vec![
                plugin(upstream("bridge"), keys("bridge", "up0", "10.72.0.0/16", 8072)),
                plugin(upstream("portmap"), keys("portmap", "up0", "10.72.0.0/16", 8072)),
            ],
        ),
    ]
}

fn compare_programs(netplug: &Path, state: &Path) {
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
    for ((name, _), [add, del]) in lists.iter().zip(&mut times) {
        for (what, list) in [("ADD", add), ("DEL", del)] {
            list.sort_by(f64::total_cmp);
            let at = |part: f64| list[((list.len() - 1) as f64 * part) as usize];
            println!(
                "{name} {what}: median {:.1} ms, p90 {:.1} ms, min {:.1} ms",
                at(0.5),
                at(0.9),
                list[0]
            );
        }
    }
}

/// Gigabits a second from `client` to `server`, which listens on `port`.
fn throughput(client: &Ns, server: &Ns, port: u16, to: SocketAddr) -> f64 {
    const SPAN: Duration = Duration::from_secs(2);
    let listener = server.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("bind"));
    let receiver = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        let (mut buffer, mut total) = (vec![0; 1 << 18], 0_usize);
        while let Ok(count) = stream.read(&mut buffer)
            && count > 0
        {
            total += count;
        }
        total
    });
    let mut stream = client.run(|| TcpStream::connect(to).expect("connect"));
    let (buffer, start) = (vec![0; 1 << 18], Instant::now());
    while start.elapsed() < SPAN {
        stream.write_all(&buffer).expect("write");
    }
    drop(stream);
    let total = receiver.join().expect("receiver");
    total as f64 * 8.0 / start.elapsed().as_secs_f64() / 1e9
}

fn compare_throughput(netplug: &Path, state: &Path, host: &Ns) {
    let (a, b, c, d) = (Ns::new(), Ns::new(), Ns::new(), Ns::new());
    let list = &lists(netplug, state)[0].1[0];
    let mut plain = list.keys.clone();
    plain.as_object_mut().expect("object").remove("runtimeConfig");
    let first = Plugin {
        program: netplug.to_owned(),
        keys: plain,
    };
    first.run("ADD", "client", &a, None);
    let result = list.run("ADD", "server", &b, None);
    let server: Ipv4Addr = result["ips"][0]["address"]
        .as_str()
        .expect("address")
        .split('/')
        .next()
        .expect("ip")
        .parse()
        .expect("ip");
    host.shell(&format!(
        "ip link add hand0 type bridge; ip addr add 10.73.0.1/24 dev hand0; ip link set hand0 up
         ip link add h1 mtu $(cat /sys/class/net/np0/mtu 2>/dev/null || echo 1500) type veth peer name eth0 netns {c}
         ip link add h2 type veth peer name eth0 netns {d}
         for i in h1 h2; do ip link set $i master hand0 up; done
         nft add table ip hand; nft 'add chain ip hand pre {{ type nat hook prerouting priority -100; }}'
         nft 'add chain ip hand post {{ type nat hook postrouting priority 100; }}'
         nft add rule ip hand pre iifname hand0 tcp dport 8073 dnat to 10.73.0.3:80
         nft add rule ip hand post ip saddr 10.73.0.0/24 ip daddr 10.73.0.3 ct status dnat masquerade",
        c = c.path(),
        d = d.path(),
    ));
    for (ns, address) in [(&c, "10.73.0.2"), (&d, "10.73.0.3")] {
        ns.shell(&format!(
            "ip addr add {address}/24 dev eth0; ip link set eth0 up; ip route add default via 10.73.0.1"
        ));
    }
    let mut rates: [Vec<f64>; 4] = Default::default();
    for _ in 0..5 {
        rates[0].push(throughput(&a, &b, 80, (server, 80).into()));
        rates[1].push(throughput(&c, &d, 80, ([10, 73, 0, 3], 80).into()));
        rates[2].push(throughput(&a, &b, 80, ([10, 71, 0, 1], 8071).into()));
        rates[3].push(throughput(&c, &d, 80, ([10, 73, 0, 1], 8073).into()));
    }
    let names = [
        "pod to pod, netplug",
        "pod to pod, by hand",
        "host port, netplug",
        "host port, by hand",
    ];
    for (name, mut list) in names.iter().zip(rates) {
        list.sort_by(f64::total_cmp);
        println!(
            "{name}: median {:.2} Gbit/s ({:.2} to {:.2})",
            list[2], list[0], list[4]
        );
    }
}

fn main() {
    let netplug = PathBuf::from(std::env::args().nth(1).expect("the path of netplug"));
    unshare(CloneFlags::CLONE_NEWNET).expect("unshare: needs root");
    let host = Ns(File::open("/proc/thread-self/ns/net").expect("open"));
    host.shell("ip link set lo up");
    let state = std::env::temp_dir().join(format!("netplug-compare-{}", std::process::id()));
    compare_programs(&netplug, &state);
    compare_throughput(&netplug, &state, &host);
    std::fs::remove_dir_all(state).expect("remove state");
}
