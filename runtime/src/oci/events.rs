//! `events`: statistics at intervals, and a line when memory runs out, each a line of JSON.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use serde_json::{Value, json};

use super::args::Given;
use super::list::put;
use super::state::{Container, Status};
use super::{Context, only_id, refused, wrong_flag};
use crate::cgroup::{Depth, Device, Hugetlb, Memory, Stats};
use crate::error::{Context as _, Error, Kind, Result};

/// Time between statistics unless the caller says otherwise.
const INTERVAL: Duration = Duration::from_secs(5);

/// How often the count of kills for lack of memory is looked at.
const LOOK: Duration = Duration::from_secs(1);

pub(super) fn events(context: &mut Context, given: &Given) -> Result<i32> {
    let container = Container::load(context, only_id("events", given)?)?;
    let interval = match given.get("interval") {
        Some(text) => parse_duration(text).map_err(wrong_flag)?,
        None => INTERVAL,
    };
    if container.status() == Status::Stopped {
        return Err(refused(Kind::InvalidState, "container not running"));
    }
    if given.is_on("stats") {
        print_stats(&container)?;
        return Ok(0);
    }
    let pidfd = container.pidfd()?;
    let mut kills = container.cgroup.oom_kills();
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now()).min(LOOK);
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
        let has_ended = match poll(&mut fds, timeout) {
            Ok(n) => n > 0,
            Err(Errno::EINTR) => false,
            Err(errno) => return Err(errno).call("poll"),
        };
        let now_killed = container.cgroup.oom_kills();
        if now_killed > kills {
            put_event("oom", &container, None)?;
        }
        kills = now_killed;
        if has_ended {
            return Ok(0);
        }
        if Instant::now() >= next {
            print_stats(&container)?;
            // what was missed on a slow machine isn't made up for
            next = (next + interval).max(Instant::now());
        }
    }
}

fn print_stats(container: &Container) -> Result<()> {
    let stats = container.cgroup.stats(Depth::Everything)?;
    put_event("stats", container, Some(data(&stats)))
}

/// An event, its fields in the order that readers without a parser rely on.
#[derive(Serialize)]
struct Event<'a> {
    r#type: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

fn put_event(kind: &'static str, container: &Container, data: Option<Value>) -> Result<()> {
    let event = Event {
        r#type: kind,
        id: &container.record.id,
        data,
    };
    let line = serde_json::to_string(&event).map_err(|_| Error::sys("encode event", Errno::EINVAL))?;
    put(&format!("{line}\n"))
}

fn data(stats: &Stats) -> Value {
    let cpu = &stats.cpu;
    let throttling = cpu.throttling.unwrap_or_default();
    let mut data = json!({
        "cpu": {
            "usage": {"total": cpu.usage, "kernel": cpu.system, "user": cpu.user},
            "throttling": {
                "periods": throttling.periods,
                "throttledPeriods": throttling.throttled_periods,
                "throttledTime": throttling.throttled
            }
        },
        "cpuset": {},
        "memory": stats.memory.as_ref().map_or_else(|| json!({}), memory),
        "blkio": {
            "ioServiceBytesRecursive": devices(&stats.io, |d| (d.read_bytes, d.write_bytes)),
            "ioServicedRecursive": devices(&stats.io, |d| (d.reads, d.writes))
        },
        "hugetlb": stats.hugetlb.iter().map(huge_pages).collect::<serde_json::Map<_, _>>(),
        "intel_rdt": {},
        "network_interfaces": null
    });
    if let Some(pids) = &stats.pids {
        data["pids"] = json!({"current": pids.current, "limit": pids.limit.unwrap_or(0)});
    }
    data
}

fn memory(memory: &Memory) -> Value {
    // what has no limit has the greatest one
    let limit = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    let swap = memory.swap.unwrap_or_default();
    json!({
        "cache": memory.cache,
        "usage": {
            "limit": limit(memory.limit),
            "usage": memory.usage,
            "max": memory.peak.unwrap_or(0),
            "failcnt": memory.limit_hits.unwrap_or(0)
        },
        "swap": {"limit": limit(swap.limit), "usage": swap.usage, "failcnt": 0},
        "kernel": {"usage": memory.kernel.unwrap_or(0), "failcnt": 0},
        "raw": {
            "rss": memory.rss, "cache": memory.cache, "mapped_file": memory.mapped_file,
            "pgfault": memory.faults, "pgmajfault": memory.major_faults
        }
    })
}

fn devices(all: &[Device], of: impl Fn(&Device) -> (u64, u64)) -> Vec<Value> {
    let entry = |device: &Device, op: &str, value: u64| json!({"major": device.major, "minor": device.minor, "op": op, "value": value});
    all.iter()
        .flat_map(|device| {
            let (read, write) = of(device);
            [entry(device, "Read", read), entry(device, "Write", write)]
        })
        .collect()
}

fn huge_pages(pages: &Hugetlb) -> (String, Value) {
    let value = json!({"usage": pages.usage, "max": pages.peak.unwrap_or(0), "failcnt": 0});
    (pages.page_size.clone(), value)
}

/// A time in Go's manner, as `5s` or `1m30s`, above zero.
fn parse_duration(text: &str) -> std::result::Result<Duration, String> {
    let wrong = || format!("duration interval must be greater than 0: {text:?}");
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let number: f64 = rest[..end].parse().map_err(|_| wrong())?;
        rest = &rest[end..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = match &rest[..unit_end] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        rest = &rest[unit_end..];
        total += Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
    }
    match total.is_zero() {
        true => Err(wrong()),
        false => Ok(total),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_times_above_zero() {
        assert_eq!(parse_duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for text in ["", "0s", "5", "s", "5x", "-1s", "1e9h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
