//! What the kernel takes for the parts that every runtime is made of, with nothing around them: no runtime can be faster.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, unshare};
use pintle_tests::host;

use crate::samples::Samples;

const SPAWN: &str = "a process: busybox `echo` started by `posix_spawn`, until its end";
const NAMESPACES: &str = "a pod's namespaces (network, IPC, UTS, mount) made by a thread";
const CGROUPS: &str = "a cgroup in each hierarchy, made and removed";

/// The rows of the table, in order.
pub(crate) const ROWS: [&str; 3] = [SPAWN, NAMESPACES, CGROUPS];

/// Each, once.
pub(crate) fn round(samples: &mut Samples, cgroup: &str) -> Result<()> {
    samples.add(SPAWN, spawn()?);
    samples.add(NAMESPACES, namespaces()?);
    samples.add(CGROUPS, cgroups(cgroup)?);
    Ok(())
}

fn spawn() -> Result<Duration> {
    let begun = Instant::now();
    let status = Command::new("/bin/busybox")
        .arg("echo")
        .stdout(Stdio::null())
        .status()
        .context("busybox")?;
    ensure!(status.success(), "busybox: {status}");
    Ok(begun.elapsed())
}

fn namespaces() -> Result<Duration> {
    let begun = Instant::now();
    let flags = CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWNS;
    let made = std::thread::spawn(move || unshare(flags)).join();
    made.ok().context("the thread panicked")?.context("unshare")?;
    Ok(begun.elapsed())
}

fn cgroups(below: &str) -> Result<Duration> {
    let folders: Vec<_> = host::cgroup_roots()?
        .iter()
        .map(|root| root.join(below.trim_start_matches('/')).join("floor"))
        .collect();
    let begun = Instant::now();
    for folder in &folders {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    for folder in &folders {
        std::fs::remove_dir(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    Ok(begun.elapsed())
}
