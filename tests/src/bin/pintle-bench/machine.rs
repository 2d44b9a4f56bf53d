//! The machine and the versions of what was compared.

use std::fs;

use pintle_tests::host;

/// Lines for a list.
pub(crate) fn describe() -> Vec<String> {
    let mut lines = vec![
        format!(
            "{} × {}, {} memory",
            cores(),
            field("/proc/cpuinfo", "model name"),
            memory()
        ),
        format!(
            "Linux {}, {}",
            first_line("/proc/sys/kernel/osrelease"),
            distribution()
        ),
        format!("cgroups: {}", if v2() { "v2" } else { "v1 hierarchies" }),
        format!("load average at the end, the run's own load included: {}", load()),
    ];
    for (program, arguments) in [
        ("containerd", "--version"),
        ("runc", "--version"),
        ("crun", "--version"),
    ] {
        if let Ok(text) = host::run(program, &[arguments]) {
            lines.push(text.lines().next().unwrap_or_default().to_owned());
        }
    }
    lines
}

fn first_line(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn field(path: &str, key: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text
        .lines()
        .find(|line| line.starts_with(key))
        .unwrap_or_default();
    line.split_once(':')
        .map_or("unknown", |(_, value)| value.trim())
        .to_owned()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn memory() -> String {
    let text = field("/proc/meminfo", "MemTotal");
    let kib: u64 = text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    format!("{} GiB", (kib + (1 << 19)) >> 20)
}

fn load() -> String {
    first_line("/proc/loadavg")
        .split(' ')
        .take(3)
        .collect::<Vec<_>>()
        .join(", ")
}

fn distribution() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.unwrap_or("unknown").trim_matches('"').to_owned()
}

fn v2() -> bool {
    fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or(false)
}
