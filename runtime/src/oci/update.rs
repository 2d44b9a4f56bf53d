//! `update`: changes the limits of a container that exists.

use std::io::Read;
use std::path::Path;

use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value, json};

use super::args::{Flag, Given, value};
use super::state::{Container, Status};
use super::{Context, only_id, refused};
use crate::error::{Context as _, Error, Kind, Result};

/// Resources of more than this many bytes are a mistake.
const MAX_RESOURCES: u64 = 1 << 20;

pub(super) const FLAGS: &[Flag] = &[
    value(
        "resources",
        "r",
        "file with linux.resources, or - for standard input; then other flags don't count",
    ),
    value("blkio-weight", "", "weight for I/O, 10 to 1000"),
    value("cpu-period", "", "CPU period in microseconds"),
    value("cpu-quota", "", "CPU time in a period in microseconds"),
    value(
        "cpu-burst",
        "",
        "unused CPU time that may be made up for, in microseconds",
    ),
    value("cpu-share", "", "CPU shares, in relation to other containers"),
    value("cpu-rt-period", "", "realtime period in microseconds"),
    value(
        "cpu-rt-runtime",
        "",
        "realtime CPU time in a period in microseconds",
    ),
    value("cpuset-cpus", "", "CPUs to use"),
    value("cpuset-mems", "", "memory nodes to use"),
    value("memory", "", "memory in bytes, or with a unit"),
    value(
        "memory-reservation",
        "",
        "memory to be left alone, in bytes or with a unit",
    ),
    value(
        "memory-swap",
        "",
        "memory and swap together, in bytes or with a unit; -1: no limit",
    ),
    value(
        "kernel-memory",
        "",
        "accepted for compatibility; kernels have no such limit any more",
    ),
    value("kernel-memory-tcp", "", "accepted for compatibility"),
    value("pids-limit", "", "the most processes"),
    value("cpu-idle", "", "1: run only when nothing else wants to"),
    value("l3-cache-schema", "", "not supported by this version"),
    value("mem-bw-schema", "", "not supported by this version"),
];

pub(super) fn update(context: &mut Context, given: &Given) -> Result<i32> {
    let container = Container::load(context, only_id("update", given)?)?;
    if container.status() == Status::Stopped {
        return Err(refused(Kind::InvalidState, "container not running"));
    }
    let resources = match given.get("resources") {
        Some("-") => read_from(std::io::stdin(), "/dev/stdin")?,
        Some(path) => read_from(std::fs::File::open(path).path("open", path)?, path)?,
        None => from_flags(given)?,
    };
    for warning in &container.cgroup.change(&resources)?.warnings {
        context.log.warn(warning);
    }
    Ok(0)
}

fn read_from(from: impl Read, path: &str) -> Result<LinuxResources> {
    let mut text = Vec::new();
    from.take(MAX_RESOURCES)
        .read_to_end(&mut text)
        .path("read", path)?;
    serde_json::from_slice(&text).map_err(|source| Error::Parse {
        path: Path::new(path).to_owned(),
        source,
    })
}

fn from_flags(given: &Given) -> Result<LinuxResources> {
    for flag in ["l3-cache-schema", "mem-bw-schema"] {
        if given.get(flag).is_some_and(|schema| !schema.is_empty()) {
            return Err(Error::invalid(flag, "is not supported by this version"));
        }
    }
    let mut all = json!({"cpu": {}, "memory": {}, "pids": {}, "blockIO": {}});
    let numbers = [
        ("blkio-weight", "blockIO", "weight"),
        ("cpu-period", "cpu", "period"),
        ("cpu-quota", "cpu", "quota"),
        ("cpu-burst", "cpu", "burst"),
        ("cpu-share", "cpu", "shares"),
        ("cpu-rt-period", "cpu", "realtimePeriod"),
        ("cpu-rt-runtime", "cpu", "realtimeRuntime"),
        ("cpu-idle", "cpu", "idle"),
        ("pids-limit", "pids", "limit"),
    ];
    for (flag, group, field) in numbers {
        if let Some(text) = given.get(flag).filter(|text| !text.is_empty()) {
            let number: i64 = text.parse().map_err(|_| invalid(flag, text))?;
            all[group][field] = json!(number);
        }
    }
    for (flag, field) in [
        ("memory", "limit"),
        ("memory-reservation", "reservation"),
        ("memory-swap", "swap"),
    ] {
        if let Some(text) = given.get(flag).filter(|text| !text.is_empty()) {
            all["memory"][field] = json!(bytes(text).ok_or_else(|| invalid(flag, text))?);
        }
    }
    for (flag, field) in [("cpuset-cpus", "cpus"), ("cpuset-mems", "mems")] {
        if let Some(text) = given.get(flag).filter(|text| !text.is_empty()) {
            all["cpu"][field] = json!(text);
        }
    }
    if let Some(groups) = all.as_object_mut() {
        groups.retain(|_, group| {
            group
                .as_object()
                .is_some_and(|fields: &Map<String, Value>| !fields.is_empty())
        });
    }
    serde_json::from_value(all).map_err(|e| refused(Kind::InvalidArgument, format!("invalid value: {e}")))
}

fn invalid(flag: &str, text: &str) -> Error {
    refused(
        Kind::InvalidArgument,
        format!("invalid value for {flag}: {text:?}"),
    )
}

/// Bytes, with a unit of 1024 or without; -1 means no limit.
fn bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let lower = text.to_ascii_lowercase();
    let plain = lower
        .strip_suffix("ib")
        .or_else(|| lower.strip_suffix('b'))
        .unwrap_or(&lower);
    let (number, shift) = match plain.char_indices().last()? {
        (at, 'k') => (&plain[..at], 10),
        (at, 'm') => (&plain[..at], 20),
        (at, 'g') => (&plain[..at], 30),
        (at, 't') => (&plain[..at], 40),
        _ => (plain, 0),
    };
    let number: i64 = number.trim().parse().ok().filter(|n| *n >= 0)?;
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, size) in [
            ("0", 0),
            ("7", 7),
            ("1k", 1024),
            ("2M", 2 << 20),
            ("3GiB", 3 << 30),
            ("-1", -1),
            ("5b", 5),
        ] {
            assert_eq!(bytes(text), Some(size), "{text}");
        }
        for text in ["", "x", "-2", "1.5", "9999999999t", "k"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn only_what_is_given_is_changed() {
        let line = "--pids-limit 7 --memory 1m --cpuset-cpus 0-1 c";
        let given = Given::parse(FLAGS, true, line.split(' ').map(str::to_owned)).unwrap();
        let resources = from_flags(&given).unwrap();
        assert_eq!(resources.memory().as_ref().unwrap().limit(), Some(1 << 20));
        assert_eq!(resources.memory().as_ref().unwrap().swap(), None);
        assert_eq!(resources.cpu().as_ref().unwrap().cpus().as_deref(), Some("0-1"));
        assert!(resources.block_io().is_none());
        let given = Given::parse(
            FLAGS,
            true,
            ["--cpu-quota", "x", "c"].map(str::to_owned).into_iter(),
        )
        .unwrap();
        assert!(from_flags(&given).is_err());
    }
}
