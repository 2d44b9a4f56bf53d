//! Writes the figures as Markdown.

use std::fmt::Write;

use anyhow::Result;

use crate::crowd::{self, Crowd};
use crate::floor;
use crate::machine;
use crate::measure::{AT_ONCE, EXEC, ROWS, Target};
use crate::samples::Samples;

const HEAD: &str = "\
# Benchmarks

`hack/bench` writes this page. It starts `pintled` and Debian's containerd (with runc, and with crun) at once, each with its
own folders, bridge and cgroup, and lets them take turns call by call over one open gRPC connection each, so that
the machine's noise falls on all alike: compare the columns of one run, not the numbers of two. The container is busybox's
`sleep`, with RuntimeDefault seccomp and a memory limit. The network of \"Pintle\" is the built-in bridge; all others call
Debian's CNI programs `bridge` (with masquerade), `host-local` and `portmap`. `/run` lies in memory, as on a node,
and the stores on a file system made for the run: ext4 is slow to make files for minutes after many were removed. Crowds
larger than a hundred are Pintle's alone: the others would take a quarter of an hour to make one.
";

/// The whole page.
pub(crate) fn markdown(targets: &[Target], kernel: &Samples, rounds: usize) -> Result<String> {
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
        line(&mut text, row, targets, |target| latency(&target.samples, row))?;
    }
    writeln!(
        text,
        "\nIn the same run, what the kernel takes for the parts alone:\n\n|  | kernel |\n| --- | ---: |"
    )?;
    for row in floor::ROWS {
        writeln!(text, "| {row} | {} |", latency(kernel, row))?;
    }
    writeln!(text, "\n## Throughput, {AT_ONCE} at once, per second\n")?;
    header(&mut text, targets)?;
    line(&mut text, "ExecSync `echo`", targets, |t| {
        short(t.execs_per_second)
    })?;
    line(&mut text, "pods with one container, up and down", targets, |t| {
        short(t.pods_per_second)
    })?;
    line(
        &mut text,
        "1 GiB of 100-byte lines into a log, MB",
        targets,
        |t| short(t.log_megabytes),
    )?;
    crowds(&mut text, targets)?;
    Ok(text)
}

/// One table for each size; who has no crowd is left out.
fn crowds(text: &mut String, targets: &[Target]) -> Result<()> {
    let sizes = targets.first().map_or(&[][..], |target| &target.crowds);
    for (index, size) in sizes.iter().map(|crowd| crowd.pods).enumerate() {
        writeln!(
            text,
            "\n## With {size} idle pods: latency as above, memory in KiB, processor time in % of a core\n"
        )?;
        let with: Vec<(&str, &Crowd)> = targets
            .iter()
            .filter_map(|t| Some((t.name.as_str(), t.crowds.get(index)?)))
            .collect();
        let mut line = |title: &str, cell: &dyn Fn(&str, &Crowd) -> String| {
            let cells: String = with
                .iter()
                .map(|(name, crowd)| format!(" {} |", cell(name, crowd)))
                .collect();
            writeln!(text, "| {title} |{cells}")
        };
        line("", &|name, _| name.to_owned())?;
        line("---", &|_, _| "---:".to_owned())?;
        for row in crowd::ROWS {
            line(row, &|_, crowd| latency(&crowd.samples, row))?;
        }
        line("monitor or shim, private (dirty)", &|_, c| {
            c.memory.monitor_private.to_string()
        })?;
        line("monitor or shim, proportional", &|_, c| {
            c.memory.monitor_pss.to_string()
        })?;
        line("a pod besides its container, proportional", &|_, c| {
            c.memory.pod_pss.to_string()
        })?;
        line("a pod, what the whole node has less", &|_, c| {
            c.node_per_pod.to_string()
        })?;
        line("daemon, proportional", &|_, c| c.memory.daemon_pss.to_string())?;
        line("processor time while nobody asks", &|_, c| {
            format!("{:.2}", c.idle_cpu)
        })?;
    }
    Ok(())
}

/// Median and 99th percentile.
fn latency(samples: &Samples, row: &str) -> String {
    samples.summary(row).map_or("–".to_owned(), |s| {
        format!("{} / {}", short(s.median), short(s.p99))
    })
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
    if value < 1.0 {
        format!("{value:.2}")
    } else if value < 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}
