//! Network namespaces made by the tests, and traffic between them.
//!
//! A test's "host" is a namespace of its own too, so that nothing of the machine is touched. All namespaces go away
//! with the values that hold them, also when a test panics.

#![allow(dead_code, unreachable_pub, reason = "every test binary uses another part")]

pub mod cni;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use netplug::{AttachRequest, Config, IpNet, Network};
use nix::sched::{CloneFlags, setns, unshare};

/// How long traffic that should pass may take, and traffic that should not is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
const IMPATIENCE: Duration = Duration::from_millis(300);

/// A network namespace, alive as long as this value.
#[derive(Debug)]
pub struct Ns(File);

impl Ns {
    /// A new namespace with its loopback interface up.
    pub fn new() -> Ns {
        let file = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
            File::open("/proc/thread-self/ns/net").expect("own namespace")
        });
        let ns = Ns(file.join().expect("namespace thread"));
        ns.ip("link set lo up");
        ns
    }

    /// One that somebody else has made.
    pub fn open(path: &std::path::Path) -> Ns {
        Ns(File::open(path).expect("namespace"))
    }

    /// A path by which this process can open it.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    /// Runs a closure on a thread inside.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).expect("enter namespace");
                work()
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a program inside; fails the test if it fails.
    pub fn command(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(|| Command::new(program).args(arguments).output().expect(program));
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `ip` with arguments separated by spaces.
    pub fn ip(&self, arguments: &str) -> String {
        self.command("ip", &arguments.split(' ').collect::<Vec<_>>())
    }

    pub fn nft(&self, arguments: &str) -> String {
        self.command("nft", &arguments.split(' ').collect::<Vec<_>>())
    }

    /// A TCP server inside that answers every connection with its peer's address. Ends with the returned value.
    pub fn serve_tcp(&self, address: impl Into<SocketAddr>) -> Server {
        let address = address.into();
        let listener = self.run(|| TcpListener::bind(address).expect("bind"));
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = stop.clone();
        listener.set_nonblocking(true).expect("nonblocking");
        let thread = std::thread::spawn(move || {
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                match listener.accept() {
                    Ok((mut stream, peer)) => drop(write!(stream, "{}", peer.ip().to_canonical())),
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        Server {
            stop,
            thread: Some(thread),
        }
    }

    /// Connects from inside; gives what the server says the peer's address is, or `None` if there is no way.
    pub fn ask_tcp(&self, address: impl Into<SocketAddr>) -> Option<IpAddr> {
        self.ask(address.into(), PATIENCE)
    }

    /// Like [`Ns::ask_tcp`], for ways that should not exist.
    pub fn cannot_reach(&self, address: impl Into<SocketAddr>) -> bool {
        self.ask(address.into(), IMPATIENCE).is_none()
    }

    fn ask(&self, address: SocketAddr, patience: Duration) -> Option<IpAddr> {
        self.run(|| {
            let mut stream = TcpStream::connect_timeout(&address, patience).ok()?;
            stream.set_read_timeout(Some(patience)).ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).ok()?;
            text.parse().ok()
        })
    }

    /// Sends a datagram from `client` to `address` until this namespace's socket at `local` gets one; gives the sender it sees.
    pub fn hears_udp(&self, local: SocketAddr, client: &Ns, address: SocketAddr) -> Option<IpAddr> {
        let server = self.run(|| bind_udp(local));
        server
            .set_read_timeout(Some(Duration::from_millis(200)))
            .expect("timeout");
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let sender = client.run(|| UdpSocket::bind(any).expect("bind"));
        for _ in 0..20 {
            sender.send_to(b"hello", address).ok()?;
            let mut buffer = [0; 16];
            if let Ok((_, peer)) = server.recv_from(&mut buffer) {
                return Some(peer.ip().to_canonical());
            }
        }
        None
    }
}

/// A server's thread.
pub struct Server {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A node: a namespace that plays the host, with a state folder.
pub struct Node {
    pub ns: Ns,
    pub state: tempfile::TempDir,
}

impl Node {
    pub fn new() -> Node {
        Node {
            ns: Ns::new(),
            state: tempfile::tempdir().expect("temporary folder"),
        }
    }

    pub fn config(&self, ranges: &[&str]) -> Config {
        Config {
            ranges: ranges.iter().map(|text| net(text)).collect(),
            state_dir: self.state.path().join("net"),
            ..Config::default()
        }
    }

    pub fn network(&self, ranges: &[&str]) -> Network {
        Network::new(self.config(ranges)).expect("network")
    }

    /// Attaches a new pod.
    pub fn pod(&self, network: &Network, id: &str) -> Pod {
        self.attach(network, request(id))
    }

    pub fn attach(&self, network: &Network, mut request: AttachRequest) -> Pod {
        let ns = Ns::new();
        request.netns = ns.path();
        let attachment = self.ns.run(|| network.attach(&request)).expect("attach");
        Pod {
            ns,
            attachment,
            id: request.id,
        }
    }

    /// Everything in the kernel that may be a trace of a pod.
    pub fn traces(&self) -> Vec<String> {
        let links = self.ns.ip("-o link");
        let mut traces: Vec<String> = links
            .lines()
            .filter(|line| line.contains("veth") || line.contains("ifbp"))
            .map(str::to_owned)
            .collect();
        let table = self.ns.run(|| {
            Command::new("nft")
                .args(["list", "table", "inet", "pintle"])
                .output()
                .expect("nft")
        });
        let table = String::from_utf8_lossy(&table.stdout).into_owned();
        let mut set = String::new();
        for line in table.lines() {
            if line.contains("set ") || line.contains("map ") {
                line.trim().clone_into(&mut set);
            }
            if line.contains("elements") && (set.contains("masq") || set.contains("ports")) {
                traces.push(format!("{set} {}", line.trim()));
            }
        }
        for folder in ["addresses", "pods"] {
            let path = self.state.path().join("net").join(folder);
            let Ok(entries) = std::fs::read_dir(path) else {
                continue;
            };
            traces.extend(entries.map(|entry| entry.expect("entry").path().display().to_string()));
        }
        traces
    }
}

pub struct Pod {
    pub ns: Ns,
    pub attachment: netplug::Attachment,
    pub id: String,
}

impl Pod {
    pub fn ip(&self) -> IpAddr {
        self.attachment.ips[0].addr()
    }
}

pub fn net(text: &str) -> IpNet {
    text.parse().expect("network")
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

pub fn request(id: &str) -> AttachRequest {
    AttachRequest {
        id: id.into(),
        ifname: "eth0".into(),
        ..AttachRequest::default()
    }
}

/// Joins two namespaces by a cable, `name` the interface's name on both ends.
pub fn cable(a: &Ns, a_net: &str, b: &Ns, b_net: &str, name: &str) {
    let peer = b.path();
    let peer = peer.to_str().expect("path");
    a.ip(&format!(
        "link add {name} type veth peer name {name} netns {peer}"
    ));
    for (ns, address) in [(a, a_net), (b, b_net)] {
        for address in address.split(',') {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            ns.ip(&format!("addr add {address} dev {name}{nodad}"));
        }
        ns.ip(&format!("link set {name} up"));
    }
}

/// A test that starts a program holds copies of all sockets for a moment, also of those that are closed here by now.
fn bind_udp(local: SocketAddr) -> UdpSocket {
    for _ in 0..200 {
        match UdpSocket::bind(local) {
            Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
                std::thread::sleep(Duration::from_millis(10));
            }
            bound => return bound.expect("bind"),
        }
    }
    panic!("{local} stays in use");
}
