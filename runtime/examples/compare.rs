//! Measures `pintle-oci` beside Debian's runc and crun, as whole processes that take turns: a container that exits at once,
//! and an exec, of a configuration like Docker's with seccomp. Needs root, busybox-static, runc and crun.
//!
//! `cargo run --release --features oci --example compare -- <pintle-oci> [ROUNDS] [FILE.md]`
#![allow(clippy::unwrap_used, missing_docs)] // a tool for developers: a failure ends the measurement

#[path = "../tests/support/mod.rs"]
#[allow(unreachable_pub)]
mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use pintle_runtime::seccomp::default_profile;
use serde_json::json;
use support::Bundle;

/// Rounds that don't count: caches fill, filters are compiled.
const WARM: usize = 5;

/// One of those that are compared.
struct Runtime {
    name: &'static str,
    program: PathBuf,
    /// Of its states.
    root: PathBuf,
    bundle: Bundle,
    run: Vec<Cost>,
    exec: Vec<Cost>,
}

#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    cpu: Duration,
}

impl Runtime {
    fn new(name: &'static str, program: PathBuf, states: &Path) -> Self {
        let mut bundle = Bundle::new("");
        let caps = json!([
            "CAP_CHOWN",
            "CAP_DAC_OVERRIDE",
            "CAP_FSETID",
            "CAP_FOWNER",
            "CAP_MKNOD",
            "CAP_NET_RAW",
            "CAP_SETGID",
            "CAP_SETUID",
            "CAP_SETFCAP",
            "CAP_SETPCAP",
            "CAP_NET_BIND_SERVICE",
            "CAP_SYS_CHROOT",
            "CAP_KILL",
            "CAP_AUDIT_WRITE"
        ]);
        let sets = json!({"bounding": caps, "effective": caps, "permitted": caps});
        bundle.set("/process/capabilities", sets);
        bundle.set("/ociVersion", json!("1.0.2"));
        bundle.set(
            "/linux/seccomp",
            serde_json::to_value(default_profile(&[])).unwrap(),
        );
        Self {
            name,
            program,
            root: states.join(name),
            bundle,
            run: Vec::new(),
            exec: Vec::new(),
        }
    }

    /// Runs the program to its end; what that cost, its children included.
    fn call(&self, words: &[&str]) -> Cost {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root).args(words);
        command.current_dir(self.bundle.dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let before = cpu();
        let begun = Instant::now();
        let status = command.status().unwrap();
        let cost = Cost {
            wall: begun.elapsed(),
            cpu: cpu() - before,
        };
        assert!(status.success(), "{} {words:?}: {status}", self.name);
        cost
    }

    fn have_run(&mut self, args: &[&str]) {
        self.bundle.set("/process/args", json!(args));
        self.bundle.options(); // writes config.json
    }
}

/// Of all children that were waited for.
fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros.try_into().unwrap())
}

fn main() {
    let mut args = std::env::args().skip(1);
    let program = PathBuf::from(args.next().expect("the path of pintle-oci"));
    let rounds: usize = args.next().map_or(100, |n| n.parse().unwrap());
    hide_second_tree();
    let states = tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in("/dev/shm")
        .unwrap();
    let mut all = [
        Runtime::new("pintle-oci", program.canonicalize().unwrap(), states.path()),
        Runtime::new("crun", "crun".into(), states.path()),
        Runtime::new("runc", "runc".into(), states.path()),
    ];
    for runtime in &mut all {
        runtime.have_run(&["/bin/true"]);
    }
    turns(&mut all, rounds, &["run", "bench"], |runtime| &mut runtime.run);
    for runtime in &mut all {
        runtime.have_run(&["/bin/sleep", "100000"]);
        runtime.call(&["run", "--detach", "bench"]);
    }
    turns(&mut all, rounds, &["exec", "bench", "/bin/true"], |runtime| {
        &mut runtime.exec
    });
    for runtime in &all {
        runtime.call(&["delete", "--force", "bench"]);
    }
    let text = page(&all, rounds);
    match args.next() {
        Some(path) => std::fs::write(path, text).unwrap(),
        None => print!("{text}"),
    }
}

/// Debian's crun refuses hosts that have a cgroup2 tree beside v1 hierarchies: none of the three sees it.
fn hide_second_tree() {
    let tree = "/sys/fs/cgroup/unified";
    if !Path::new(tree).join("cgroup.procs").exists() {
        return;
    }
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    umount(tree).unwrap();
}

/// Has all of them make one call after the other, and notes what those cost that count.
fn turns(all: &mut [Runtime], rounds: usize, words: &[&str], series: fn(&mut Runtime) -> &mut Vec<Cost>) {
    for round in 0..WARM + rounds {
        for runtime in &mut *all {
            let cost = runtime.call(words);
            if round >= WARM {
                series(runtime).push(cost);
            }
        }
    }
}

fn median(costs: &[Cost], of: fn(&Cost) -> Duration) -> f64 {
    let mut times: Vec<Duration> = costs.iter().map(of).collect();
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

fn page(all: &[Runtime], rounds: usize) -> String {
    let mut text = String::from(HEAD);
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    writeln!(text, "- Linux {}", release.trim()).unwrap();
    for program in ["crun", "runc"] {
        let output = Command::new(program).arg("--version").output().unwrap();
        let version = String::from_utf8(output.stdout).unwrap();
        writeln!(text, "- {}", version.lines().next().unwrap_or_default()).unwrap();
    }
    let load: Vec<&str> = load.split(' ').take(3).collect();
    writeln!(
        text,
        "- load average at the end, the run's own load included: {}",
        load.join(", ")
    )
    .unwrap();
    writeln!(
        text,
        "\n## Median wall time / processor time in milliseconds (n = {rounds})\n"
    )
    .unwrap();
    text.push_str("|  | `run` of `true` | against crun | `exec` of `true` | against crun |\n");
    text.push_str("| --- | ---: | ---: | ---: | ---: |\n");
    let figures = |costs: &[Cost]| (median(costs, |c| c.wall), median(costs, |c| c.cpu));
    let (base_run, base_exec) = (figures(&all[1].run), figures(&all[1].exec));
    for runtime in all {
        let (run, exec) = (figures(&runtime.run), figures(&runtime.exec));
        writeln!(
            text,
            "| {} | {:.1} / {:.1} | {:.2} / {:.2} | {:.1} / {:.1} | {:.2} / {:.2} |",
            runtime.name,
            run.0,
            run.1,
            run.0 / base_run.0,
            run.1 / base_run.1,
            exec.0,
            exec.1,
            exec.0 / base_exec.0,
            exec.1 / base_exec.1,
        )
        .unwrap();
    }
    text
}

const HEAD: &str = "# Benchmarks of the OCI runtimes

`hack/bench runtime` writes this page. `pintle-oci`, Debian's crun and runc take turns, each as a whole process from its
start to its end, so that the machine's noise falls on all alike: compare the rows of one run, not the numbers of two. The
configuration is like Docker's, with its capabilities, masks and the default seccomp profile; states lie on a tmpfs; where a cgroup2 tree
lies beside v1 hierarchies it is hidden from all, as crun wants it. Processor
time is that of the process and all that it has waited for.

## Machine

";
