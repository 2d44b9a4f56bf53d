//! Measures attaching and detaching pods in process: `attach [pods already there]...`, as root. Wall time is what
//! counts; the processor time of this process tells more where others use the machine too.
//!
//! Works in a network namespace and a state folder of its own.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Instant;

use netplug::{AttachRequest, Config, Network, PortMap, Protocol};
use nix::sched::{CloneFlags, unshare};
use nix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 50;

fn namespace() -> File {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("unshare");
        File::open("/proc/thread-self/ns/net").expect("open")
    });
    thread.join().expect("thread")
}

fn path(ns: &File) -> PathBuf {
    format!("/proc/self/fd/{}", ns.as_raw_fd()).into()
}

fn request(number: usize, ns: &File, ports: bool) -> AttachRequest {
    let port = PortMap {
        protocol: Protocol::Tcp,
        host_port: 10_000 + u16::try_from(number).expect("port"),
        container_port: 80,
        host_ip: None,
    };
    AttachRequest {
        id: format!("pod{number}"),
        netns: path(ns),
        ifname: "eth0".into(),
        ports: if ports { vec![port] } else { Vec::new() },
        ..AttachRequest::default()
    }
}

/// Processor time of this process, in milliseconds.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("clock");
    time.tv_sec() as f64 * 1e3 + time.tv_nsec() as f64 / 1e6
}

/// Runs `work`; wall and processor time in milliseconds.
fn timed(times: &mut [Vec<f64>; 2], work: impl FnOnce()) {
    let (wall, before) = (Instant::now(), cpu());
    work();
    times[0].push(wall.elapsed().as_secs_f64() * 1e3);
    times[1].push(cpu() - before);
}

fn report(what: &str, times: [Vec<f64>; 2]) {
    let [mut times, mut cpu] = times;
    times.sort_by(f64::total_cmp);
    cpu.sort_by(f64::total_cmp);
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!(
        "{what}: median {:.2} ms, p99 {:.2} ms, min {:.2} ms; processor median {:.2} ms",
        at(0.5),
        at(0.99),
        times[0],
        cpu[cpu.len() / 2]
    );
}

fn main() {
    unshare(CloneFlags::CLONE_NEWNET).expect("unshare: needs root");
    let four = std::env::var_os("BENCH_IPV4_ONLY").is_some();
    let ranges: &[&str] = if four {
        &["10.77.0.0/16"]
    } else {
        &["10.77.0.0/16", "fd77::/64"]
    };
    let state = std::env::temp_dir().join(format!("netplug-bench-{}", std::process::id()));
    let config = Config {
        ranges: ranges.iter().map(|text| text.parse().expect("network")).collect(),
        state_dir: state.clone(),
        ..Config::default()
    };
    let network = Network::new(config).expect("network");
    let mut resident: Vec<File> = Vec::new();
    // Dismantling a namespace keeps the lock that network changes wait for: not while measuring.
    let mut resident_dead: Vec<File> = Vec::new();
    let counts: Vec<usize> = std::env::args()
        .skip(1)
        .map(|text| text.parse().expect("number"))
        .collect();
    for count in counts {
        while resident.len() < count {
            let ns = namespace();
            network
                .attach(&request(1000 + resident.len(), &ns, true))
                .expect("attach");
            resident.push(ns);
        }
        for ports in [false, true] {
            let (mut attach, mut detach) = (<[Vec<f64>; 2]>::default(), <[Vec<f64>; 2]>::default());
            for round in 0..ROUNDS {
                let ns = namespace();
                let request = request(round, &ns, ports);
                timed(&mut attach, || drop(network.attach(&request).expect("attach")));
                timed(&mut detach, || {
                    network.detach(&request.id, None, "eth0").expect("detach");
                });
                network.sweep().expect("sweep");
                resident_dead.push(ns);
            }
            let with = if ports { "with a host port" } else { "plain" };
            report(&format!("{count:5} pods there, attach {with}"), attach);
            report(&format!("{count:5} pods there, detach {with}"), detach);
        }
    }
    std::fs::remove_dir_all(state).expect("remove state");
}
