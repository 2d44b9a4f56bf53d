//! Writes the figures as Markdown.

use std::fmt::Write;

use anyhow::Result;

use crate::machine;
use crate::measure::{AT_ONCE, EXEC, IDLE_PODS, ROWS, Target};

const HEAD: &str = "\
# Benchmarks

`hack/bench` writes this page. It starts `pintled` and Debian's containerd (with runc, and with crun) at once, each with its
own folders, bridge and cgroup, and lets them take turns call by call over one open gRPC connection each, so that
the machine's noise falls on all alike: compare the columns of one run, not the numbers of two. The container is busybox's
`sleep`, with RuntimeDefault seccomp and a memory limit. The network of \"Pintle\" is the built-in bridge; all others call
Debian's CNI programs `bridge` (with masquerade), `host-local` and `portmap`.
";

/// The whole page.
pub(crate) fn markdown(targets: &[Target], rounds: usize) -> Result<String> {
    let mut text = HEAD.to_owned();
    writeln!(text, "\n## Machine\n")?;
    for line in machine::describe() {
        writeln!(text, "- {line}")?;
    }
    let execs = targets
        .first()
        .and_then(|t| t.samples.summary(EXEC))
        .map_or(0, |s| s.count);
    writeln!(
        text,
        "\n## Latency, median / p99 in milliseconds (n = {rounds}; {execs} for ExecSync)\n"
    )?;
    header(&mut text, targets)?;
    for row in ROWS {
        line(&mut text, row, targets, |target| {
            target.samples.summary(row).map_or("–".to_owned(), |s| {
                format!("{} / {}", short(s.median), short(s.p99))
            })
        })?;
    }
    writeln!(text, "\n## Throughput, {AT_ONCE} at once, per second\n")?;
    header(&mut text, targets)?;
    line(&mut text, "ExecSync `echo`", targets, |t| {
        short(t.execs_per_second)
    })?;
    line(&mut text, "pods with one container, up and down", targets, |t| {
        short(t.pods_per_second)
    })?;
    writeln!(text, "\n## Memory with {IDLE_PODS} idle pods, in KiB\n")?;
    header(&mut text, targets)?;
    line(&mut text, "monitor or shim, private (dirty)", targets, |t| {
        t.memory.monitor_private.to_string()
    })?;
    line(&mut text, "monitor or shim, proportional", targets, |t| {
        t.memory.monitor_pss.to_string()
    })?;
    line(
        &mut text,
        "a pod besides its container, proportional",
        targets,
        |t| t.memory.pod_pss.to_string(),
    )?;
    line(&mut text, "daemon, proportional", targets, |t| {
        t.memory.daemon_pss.to_string()
    })?;
    Ok(text)
}

fn header(text: &mut String, targets: &[Target]) -> std::fmt::Result {
    line(text, "", targets, |target| target.name.clone())?;
    line(text, "---", targets, |_| "---:".to_owned())
}

fn line(
    text: &mut String,
    title: &str,
    targets: &[Target],
    cell: impl Fn(&Target) -> String,
) -> std::fmt::Result {
    write!(text, "| {title} |")?;
    for target in targets {
        write!(text, " {} |", cell(target))?;
    }
    writeln!(text)
}

/// Two digits that count, or whole numbers from 10 on.
fn short(value: f64) -> String {
    if value < 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}
