//! Measures a monitor: private memory, an exec's round trip, the throughput of a log. Needs root and busybox-static.
//!
//! `cargo run --release --features client --example monitor_bench -- <pintle-monitor> [GiB to log]`
#![allow(clippy::unwrap_used, missing_docs)] // a tool for developers

#[path = "../tests/support/mod.rs"]
#[allow(unreachable_pub)]
mod support;

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pintle_runtime::client::{Events, MonitorClient, SpawnOptions};
use pintle_runtime::protocol::{CreateContainer, ExecRequest, LogTarget, SandboxSetup};
use serde_json::json;
use support::Bundle;

const LINE: usize = 100;
const FILE: usize = 8 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut args = std::env::args_os().skip(1);
    let program = PathBuf::from(args.next().expect("the monitor's path"));
    let gib: f64 = args.next().map_or(1.0, |n| n.to_str().unwrap().parse().unwrap());
    memory_and_exec(&program).await;
    logging(&program, gib).await;
}

async fn pod(program: &Path, dir: &Path) -> (MonitorClient, Events) {
    let begun = Instant::now();
    let options = SpawnOptions {
        program: program.to_owned().into(),
        blank: None,
        dir: dir.to_owned(),
        id: "bench".to_owned(),
    };
    let (client, events) = MonitorClient::spawn(&options).await.unwrap();
    client.setup_sandbox(SandboxSetup::default()).await.unwrap();
    println!("monitor started and sandbox set up in {:?}", begun.elapsed());
    (client, events)
}

async fn run(client: &MonitorClient, dir: &Path, id: &str, bundle: &Bundle) -> Duration {
    bundle.options();
    let begun = Instant::now();
    let container = CreateContainer {
        id: id.to_owned(),
        bundle: bundle.dir.path().to_owned(),
        log: Some(LogTarget::new(dir.join(format!("{id}.log")))),
        ..CreateContainer::default()
    };
    client.create(container).await.unwrap();
    client.start(id).await.unwrap();
    begun.elapsed()
}

fn sleeper() -> Bundle {
    let mut bundle = Bundle::new("");
    bundle.set("/process/args", json!(["sleep", "100000"]));
    bundle
}

async fn memory_and_exec(program: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let (client, mut events) = pod(program, dir.path()).await;
    let bundles: Vec<Bundle> = (0..10).map(|_| sleeper()).collect();
    let mut times = Vec::new();
    for (i, bundle) in bundles.iter().enumerate() {
        times.push(run(&client, dir.path(), &format!("c{i}"), bundle).await);
        if i == 0 || i == 9 {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            println!("{} containers: {}", i + 1, memory(client.pid()));
        }
    }
    print_times("create + start", &mut times);
    let mut times = Vec::new();
    for i in 0..300 {
        let begun = Instant::now();
        exec_echo(&client, i).await;
        times.push(begun.elapsed());
    }
    print_times("exec of echo, with its output and exit", &mut times);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    println!("after 300 execs: {}", memory(client.pid()));
    client.shutdown().await.unwrap();
    while events.next().await.is_some() {}
}

async fn exec_echo(client: &MonitorClient, i: usize) {
    let process =
        json!({"user": {"uid": 0, "gid": 0}, "args": ["echo", "hi"], "cwd": "/", "env": ["PATH=/bin"]});
    let request = ExecRequest {
        container: "c0".to_owned(),
        exec_id: format!("e{i}"),
        process: serde_json::from_value(process).unwrap(),
        seccomp_filter: None,
    };
    let null = || OwnedFd::from(fs::File::open("/dev/null").unwrap());
    let (mut output, end) = std::io::pipe().unwrap();
    let mut exec = client.exec(request, [null(), end.into(), null()]).await.unwrap();
    assert_eq!(exec.wait().await.unwrap().code, 0);
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hi\n");
}

async fn logging(program: &Path, gib: f64) {
    let dir = tempfile::tempdir().unwrap();
    let (client, mut events) = pod(program, dir.path()).await;
    let file = format!("{}\n", "x".repeat(LINE - 1)).repeat(FILE / LINE);
    let times = (gib * f64::from(1 << 30)) as usize / file.len();
    let bytes = times * file.len();
    let mut bundle = Bundle::new("");
    fs::write(bundle.rootfs().join("lines"), file).unwrap();
    let words: Vec<&str> = ["cat"]
        .into_iter()
        .chain(std::iter::repeat_n("/lines", times))
        .collect();
    bundle.set("/process/args", json!(words));
    let begun = Instant::now();
    run(&client, dir.path(), "c", &bundle).await;
    events.next().await.unwrap();
    let took = begun.elapsed();
    let lines = bytes / LINE;
    let logged = fs::metadata(dir.path().join("c.log")).unwrap().len() as usize;
    assert_eq!(logged, lines * (LINE + 40), "no line is lost");
    println!(
        "{lines} lines of {LINE} bytes: {took:?}, {:.0} MB/s; {}",
        rate(bytes, took),
        cpu(client.pid())
    );
    println!("right after: {}", memory(client.pid()));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    println!("a moment later: {}", memory(client.pid()));
    client.shutdown().await.unwrap();

    let source = bundle.rootfs().join("lines");
    let script = format!(
        "{} | cat > {}",
        words.join(" ").replace("/lines", source.to_str().unwrap()),
        dir.path().join("copy").display()
    );
    let begun = Instant::now();
    assert!(
        std::process::Command::new("/bin/busybox")
            .args(["sh", "-c", &script])
            .status()
            .unwrap()
            .success()
    );
    println!(
        "the same through `cat > file`: {:.0} MB/s",
        rate(bytes, begun.elapsed())
    );
}

fn rate(bytes: usize, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64()
}

fn print_times(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |percent: usize| times[times.len() * percent / 100];
    println!("{what}: median {:?}, p99 {:?}", at(50), at(99));
}

fn memory(pid: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let wanted = |line: &&str| {
        ["Rss:", "Pss:", "Private_Dirty:"]
            .iter()
            .any(|name| line.starts_with(name))
    };
    text.lines()
        .filter(wanted)
        .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join(", ")
}

fn cpu(pid: i32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    format!(
        "monitor's CPU: {}0 ms user, {}0 ms system",
        fields[11], fields[12]
    )
}
