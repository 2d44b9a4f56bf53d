//! Measures the steps of a container on this machine: sandbox, prepare, start, exec, removal. Needs root and
//! busybox-static.
//!
//! `cargo run --release -p pintle-runtime --example bench -- [ROUNDS]`

#![allow(clippy::unwrap_used)] // a failure ends the measurement

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs::{self, File};
use std::time::{Duration, Instant};

use nix::sys::wait::waitpid;
use pintle_runtime::container;
use pintle_runtime::protocol::{NamespaceKind, Overlay, SandboxSetup};
use pintle_runtime::sandbox;
use serde_json::json;
use support::Bundle;

/// A container like those of a pod: three namespaces joined, an overlay, limits.
fn bundle() -> (Bundle, container::Options) {
    let mut bundle = Bundle::new("");
    bundle.set("/process/args", json!(["/bin/busybox", "sleep", "1000"]));
    bundle.set("/root/path", json!("mountpoint"));
    bundle.set("/linux/resources/memory", json!({"limit": 128 << 20}));
    bundle.set("/linux/resources/cpu", json!({"shares": 512}));
    bundle.spec.as_object_mut().unwrap().remove("hostname");
    for (kind, name) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
        let path = bundle.path("ns").join(name);
        for namespace in bundle.spec["linux"]["namespaces"].as_array_mut().unwrap() {
            if namespace["type"] == kind {
                namespace["path"] = json!(path);
            }
        }
    }
    for folder in ["mountpoint", "upper", "work"] {
        fs::create_dir(bundle.path(folder)).unwrap();
    }
    let overlay = Overlay {
        lower: vec![bundle.rootfs()],
        upper: Some(bundle.path("upper")),
        work: Some(bundle.path("work")),
        ..Overlay::default()
    };
    let options = container::Options {
        overlay: Some(overlay),
        ..bundle.options()
    };
    (bundle, options)
}

/// How long each step took, in the order in which they first came.
#[derive(Default)]
struct Times(Vec<(&'static str, Vec<Duration>)>);

impl Times {
    fn note(&mut self, name: &'static str, since: Instant) {
        let took = since.elapsed();
        match self.0.iter_mut().find(|(n, _)| *n == name) {
            Some((_, all)) => all.push(took),
            None => self.0.push((name, vec![took])),
        }
    }

    fn print(&mut self) {
        for (name, all) in &mut self.0 {
            all.sort_unstable();
            let at = |part: usize| all[(all.len() - 1) * part / 100].as_secs_f64() * 1e3;
            println!(
                "{name:16} median {:6.2} ms   min {:6.2}   p90 {:6.2}   p99 {:6.2}",
                at(50),
                at(0),
                at(90),
                at(99)
            );
        }
    }
}

fn main() {
    let rounds = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(100);
    let mut times = Times::default();
    let (bundle, options) = bundle();
    let setup = SandboxSetup {
        namespaces: vec![NamespaceKind::Net, NamespaceKind::Ipc, NamespaceKind::Uts],
        hostname: Some("pod".to_owned()),
        ..SandboxSetup::default()
    };
    let process = serde_json::from_value(json!({
        "args": ["/bin/busybox", "true"], "env": ["PATH=/bin"], "cwd": "/", "user": {"uid": 0, "gid": 0},
    }))
    .unwrap();
    for _ in 0..rounds {
        let t = Instant::now();
        sandbox::setup(bundle.dir.path(), &setup).unwrap();
        times.note("sandbox::setup", t);
        let t = Instant::now();
        let mut running = bundle.prepare_with(&options).unwrap();
        times.note("prepare", t);
        running.start().unwrap();
        times.note("prepare + start", t);
        for _ in 0..3 {
            let stdio = [(); 3].map(|()| File::open("/dev/null").unwrap().into());
            let t = Instant::now();
            let started = container::exec(&running.prepared.exec_target(), &process, None, stdio).unwrap();
            times.note("exec", t);
            waitpid(started.pid, None).unwrap();
            times.note("exec and wait", t);
        }
        let t = Instant::now();
        running.prepared.cgroup.kill_all().unwrap();
        running.wait();
        times.note("kill and wait", t);
        let t = Instant::now();
        drop(running);
        times.note("cgroup remove", t);
        let t = Instant::now();
        sandbox::unpin(bundle.dir.path()).unwrap();
        times.note("sandbox::unpin", t);
    }
    times.print();
}
