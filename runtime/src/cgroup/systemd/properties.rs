//! `linux.resources` as properties of a unit (systemd.resource-control(5)).
//!
//! The limits are written to the group's files as well, exactly; these are what systemd writes there whenever it sets up
//! its groups anew (`daemon-reload`), which without them would lift the limits.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::super::Mode;
use super::super::devices::{self, Rule};
use super::super::v2;
use super::wire::Value;
use crate::error::Result;

/// No limit.
const INFINITY: u64 = u64::MAX;

/// The first versions of systemd with a property.
const HAS_QUOTA_PERIOD: u32 = 242;
const HAS_CPUSETS: u32 = 244;
const HAS_IDLE: u32 = 252;

/// Microseconds of a CPU quota's period unless said otherwise.
const PERIOD: u64 = 100_000;

/// systemd keeps CPU quotas as microseconds per second, in steps of this many.
const STEP: u64 = 10_000;

type Properties = Vec<(&'static str, Value)>;

/// What these limits are to a manager of this version. What isn't given isn't named, and stays.
pub(super) fn of(resources: &LinuxResources, mode: Mode, version: u32) -> Result<Properties> {
    let mut found = Properties::new();
    if let Some(memory) = resources.memory() {
        match mode {
            Mode::V1 => found.extend(limit("MemoryLimit", memory.limit())),
            Mode::V2 => memory_of(memory, &mut found)?,
        }
    }
    if let Some(cpu) = resources.cpu() {
        cpu_of(cpu, mode, version, &mut found);
    }
    if let Some(pids) = resources.pids() {
        let most = u64::try_from(pids.limit()).map_or(INFINITY, |n| n.max(1));
        found.push(("TasksMax", Value::U64(most)));
    }
    let weight = resources
        .block_io()
        .as_ref()
        .and_then(LinuxBlockIo::weight)
        .filter(|w| *w != 0);
    if let Some(weight) = weight {
        found.push(match mode {
            Mode::V1 => ("BlockIOWeight", Value::U64(weight.into())),
            Mode::V2 => ("IOWeight", Value::U64(v2::io_weight(weight))),
        });
    }
    for (file, value) in resources.unified().iter().flatten() {
        unified_of(file, value, version, &mut found);
    }
    Ok(found)
}

/// The devices that may be used, where systemd itself would let all be used when it sets up its groups anew; on v2 it
/// leaves programs of others alone.
pub(super) fn devices_of(resources: &LinuxResources, mode: Mode) -> Result<Properties> {
    if mode == Mode::V2 {
        return Ok(Properties::new());
    }
    let rules = devices::rules(resources.devices().as_deref().unwrap_or_default())?;
    let start = rules.iter().rposition(Rule::is_everything).unwrap_or(0);
    // what is denied after something was allowed can't be said in systemd's words
    if rules[start].allow || rules[start + 1..].iter().any(|rule| !rule.allow) {
        return Ok(vec![("DevicePolicy", Value::Text("auto".to_owned()))]);
    }
    let known = std::fs::read_to_string("/proc/devices").unwrap_or_default();
    let lines = rules[start + 1..]
        .iter()
        .flat_map(|rule| rule.systemd_lines(&known));
    Ok(vec![
        ("DevicePolicy", Value::Text("strict".to_owned())),
        ("DeviceAllow", Value::Pairs(lines.collect())),
    ])
}

fn memory_of(memory: &LinuxMemory, found: &mut Properties) -> Result<()> {
    found.extend(limit("MemoryMax", memory.limit()));
    found.extend(limit("MemoryLow", memory.reservation()));
    let given = |n: Option<i64>| n.filter(|n| *n != 0);
    if let Some(swap) = v2::swap_max(given(memory.limit()), given(memory.swap()))? {
        found.push(("MemorySwapMax", Value::U64(number(&swap).unwrap_or(INFINITY))));
    }
    Ok(())
}

/// A limit as specifications have it: 0 says nothing, and what is below 0 is none.
fn limit(name: &'static str, limit: Option<i64>) -> Option<(&'static str, Value)> {
    let limit = limit.filter(|n| *n != 0)?;
    Some((name, Value::U64(u64::try_from(limit).unwrap_or(INFINITY))))
}

fn cpu_of(cpu: &LinuxCpu, mode: Mode, version: u32, found: &mut Properties) {
    let shares = cpu.shares().filter(|n| *n != 0);
    match (mode, shares, cpu.idle()) {
        (Mode::V2, _, Some(1)) if version >= HAS_IDLE => found.push(("CPUWeight", Value::U64(0))),
        (Mode::V2, Some(shares), _) => found.push(("CPUWeight", Value::U64(v2::weight_of_shares(shares)))),
        (Mode::V1, Some(shares), _) => found.push(("CPUShares", Value::U64(shares))),
        (_, None, _) => {}
    }
    quota_of(
        cpu.quota().filter(|n| *n != 0),
        cpu.period().filter(|n| *n != 0),
        version,
        found,
    );
    if mode == Mode::V2 {
        for (name, list) in [("AllowedCPUs", cpu.cpus()), ("AllowedMemoryNodes", cpu.mems())] {
            set_of(name, list.as_deref().unwrap_or_default(), version, found);
        }
    }
}

fn quota_of(quota: Option<i64>, period: Option<u64>, version: u32, found: &mut Properties) {
    if quota.is_none() && period.is_none() {
        return;
    }
    if let Some(period) = period.filter(|_| version >= HAS_QUOTA_PERIOD) {
        found.push(("CPUQuotaPeriodUSec", Value::U64(period)));
    }
    let per_second = match quota.map(u64::try_from) {
        Some(Ok(quota)) => {
            (quota.saturating_mul(1_000_000) / period.unwrap_or(PERIOD)).next_multiple_of(STEP)
        }
        Some(Err(_)) | None => INFINITY,
    };
    found.push(("CPUQuotaPerSecUSec", Value::U64(per_second)));
}

fn set_of(name: &'static str, list: &str, version: u32, found: &mut Properties) {
    // the kernel says what is wrong with a list that is none
    if let Some(mask) = mask(list).filter(|mask| !mask.is_empty() && version >= HAS_CPUSETS) {
        found.push((name, Value::Bytes(mask)));
    }
}

/// `0-2,8` as a mask, of which the first byte holds the numbers 0 to 7. None: it is no list.
fn mask(list: &str) -> Option<Vec<u8>> {
    /// The kernel's own bound is 8192 processors.
    const MOST: usize = 1 << 16;
    let mut mask = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        mask.resize(mask.len().max(last / 8 + 1), 0);
        for n in first..=last {
            mask[n / 8] |= 1 << (n % 8);
        }
    }
    Some(mask)
}

/// The files of v2 that systemd knows, too. What isn't among them it leaves alone.
fn unified_of(file: &str, value: &str, version: u32, found: &mut Properties) {
    let name = match file {
        "cpu.weight" => "CPUWeight",
        "memory.min" => "MemoryMin",
        "memory.low" => "MemoryLow",
        "memory.high" => "MemoryHigh",
        "memory.max" => "MemoryMax",
        "memory.swap.max" => "MemorySwapMax",
        "pids.max" => "TasksMax",
        "cpuset.cpus" => return set_of("AllowedCPUs", value, version, found),
        "cpuset.mems" => return set_of("AllowedMemoryNodes", value, version, found),
        "cpu.idle" if value.trim() == "1" && version >= HAS_IDLE => {
            return found.push(("CPUWeight", Value::U64(0)));
        }
        "cpu.max" => {
            let mut words = value.split_whitespace();
            let quota = words.next().and_then(number).map(|n| match n {
                INFINITY => -1,
                n => i64::try_from(n).unwrap_or(i64::MAX),
            });
            let period = words.next().and_then(|word| word.parse().ok());
            return quota_of(quota, period, version, found);
        }
        _ => return,
    };
    if let Some(n) = number(value.trim()) {
        found.push((name, Value::U64(n)));
    }
}

fn number(text: &str) -> Option<u64> {
    match text {
        "max" => Some(INFINITY),
        text => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn properties(resources: serde_json::Value, mode: Mode, version: u32) -> Properties {
        of(&serde_json::from_value(resources).unwrap(), mode, version).unwrap()
    }

    #[test]
    fn limits_of_v2_become_properties() {
        let resources = json!({
            "memory": {"limit": 1048576, "swap": 2097152, "reservation": 4096},
            "cpu": {"shares": 1024, "quota": 25000, "period": 100000, "cpus": "0-1,9", "mems": "0"},
            "pids": {"limit": 7},
            "blockIO": {"weight": 10}
        });
        let expected = [
            ("MemoryMax", Value::U64(1 << 20)),
            ("MemoryLow", Value::U64(4096)),
            ("MemorySwapMax", Value::U64(1 << 20)),
            ("CPUWeight", Value::U64(100)),
            ("CPUQuotaPeriodUSec", Value::U64(100_000)),
            ("CPUQuotaPerSecUSec", Value::U64(250_000)),
            ("AllowedCPUs", Value::Bytes(vec![3, 2])),
            ("AllowedMemoryNodes", Value::Bytes(vec![1])),
            ("TasksMax", Value::U64(7)),
            ("IOWeight", Value::U64(1)),
        ];
        assert_eq!(properties(resources.clone(), Mode::V2, 252), expected);
        // of an old manager no more is asked than it has
        let old = properties(resources, Mode::V2, 241);
        assert!(
            old.iter()
                .all(|(name, _)| !name.starts_with("Allowed") && *name != "CPUQuotaPeriodUSec")
        );
    }

    #[test]
    fn limits_of_v1_become_properties() {
        let resources = json!({
            "memory": {"limit": 1048576, "swap": 2097152},
            "cpu": {"shares": 2, "quota": 12345, "cpus": "0"},
            "pids": {"limit": -1},
            "blockIO": {"weight": 10}
        });
        let expected = [
            ("MemoryLimit", Value::U64(1 << 20)),
            ("CPUShares", Value::U64(2)),
            ("CPUQuotaPerSecUSec", Value::U64(130_000)),
            ("TasksMax", Value::U64(INFINITY)),
            ("BlockIOWeight", Value::U64(10)),
        ];
        assert_eq!(properties(resources, Mode::V1, 239), expected);
    }

    #[test]
    fn no_limit_is_infinity_and_nothing_says_nothing() {
        let resources =
            json!({"memory": {"limit": -1, "swap": -1}, "cpu": {"quota": -1}, "pids": {"limit": 0}});
        let expected = [
            ("MemoryMax", Value::U64(INFINITY)),
            ("MemorySwapMax", Value::U64(INFINITY)),
            ("CPUQuotaPerSecUSec", Value::U64(INFINITY)),
            ("TasksMax", Value::U64(1)),
        ];
        assert_eq!(properties(resources, Mode::V2, 252), expected);
        assert!(
            properties(
                json!({"memory": {"limit": 0}, "cpu": {"quota": 0}}),
                Mode::V2,
                252
            )
            .is_empty()
        );
    }

    #[test]
    fn files_of_v2_that_systemd_knows_become_properties() {
        let resources = json!({"unified": {
            "cpu.idle": "1", "cpu.max": "max 50000", "memory.high": "max", "memory.min": "4096",
            "memory.oom.group": "1", "cpuset.cpus": "x"
        }});
        let mut found = properties(resources, Mode::V2, 252);
        found.sort_by_key(|(name, _)| *name);
        let expected = [
            ("CPUQuotaPerSecUSec", Value::U64(INFINITY)),
            ("CPUQuotaPeriodUSec", Value::U64(50_000)),
            ("CPUWeight", Value::U64(0)),
            ("MemoryHigh", Value::U64(INFINITY)),
            ("MemoryMin", Value::U64(4096)),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn masks_are_of_lists() {
        assert_eq!(mask("0-2,8"), Some(vec![7, 1]));
        assert_eq!(mask(""), Some(vec![]));
        for text in ["x", "3-1", "0-99999999", "-1", "1-"] {
            assert_eq!(mask(text), None, "{text}");
        }
    }

    #[test]
    fn devices_matter_on_v1() {
        let devices = |resources: serde_json::Value, mode| {
            devices_of(&serde_json::from_value(resources).unwrap(), mode).unwrap()
        };
        let one = json!({"devices": [{"allow": false, "access": "rwm"},
                                     {"allow": true, "type": "b", "major": 8, "minor": 1, "access": "rw"}]});
        assert!(devices(one.clone(), Mode::V2).is_empty());
        let found = devices(one, Mode::V1);
        assert_eq!(found[0], ("DevicePolicy", Value::Text("strict".to_owned())));
        let Value::Pairs(pairs) = &found[1].1 else {
            panic!("{found:?}")
        };
        assert!(pairs.contains(&("/dev/block/8:1".to_owned(), "rw".to_owned())));
        assert!(pairs.contains(&("char-*".to_owned(), "m".to_owned())));
        let all = json!({"devices": [{"allow": true, "access": "rwm"}]});
        assert_eq!(
            devices(all, Mode::V1),
            [("DevicePolicy", Value::Text("auto".to_owned()))]
        );
    }
}
