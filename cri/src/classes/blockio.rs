//! Classes of block I/O: what a file in goresctrl's form says of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};
use oci_spec::runtime::{
    LinuxBlockIo, LinuxThrottleDevice, LinuxThrottleDeviceBuilder, LinuxWeightDevice,
    LinuxWeightDeviceBuilder,
};
use regex::Regex;
use serde::Deserialize;

use super::BLOCK_IO;
use crate::error::{Error, IoContext as _, Result};

/// The setting that names the file.
pub(super) const SETTING: &str = "runtime.blockio_config_file";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "Classes")]
    classes: BTreeMap<String, Vec<Rule>>,
}

/// Limits of some devices; a weight without devices is for all others.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "PascalCase")]
struct Rule {
    devices: Vec<String>,
    weight: Option<Amount>,
    throttle_read_bps: Option<Amount>,
    throttle_write_bps: Option<Amount>,
    #[serde(rename = "ThrottleReadIOPS")]
    throttle_read_iops: Option<Amount>,
    #[serde(rename = "ThrottleWriteIOPS")]
    throttle_write_iops: Option<Amount>,
}

/// A number, or text as `10k` or `1Gi`.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Amount {
    Number(u64),
    Text(String),
}

impl Amount {
    fn value(&self) -> std::result::Result<u64, String> {
        let text = match self {
            Self::Number(number) => return Ok(*number),
            Self::Text(text) => text.trim(),
        };
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let factor = match unit {
            "" => 1,
            "k" => 1000,
            "M" => 1000_u64.pow(2),
            "G" => 1000_u64.pow(3),
            "T" => 1000_u64.pow(4),
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            "Ti" => 1 << 40,
            _ => return Err(format!("{text:?} is no amount")),
        };
        let number: Option<u64> = number.parse().ok();
        number
            .and_then(|number| number.checked_mul(factor))
            .ok_or_else(|| format!("{text:?} is no amount"))
    }
}

/// The limits of a class.
///
/// # Errors
/// A file that can't be used, or has no such class.
pub(super) fn block_io(file: &Path, class: &str) -> Result<LinuxBlockIo> {
    let text = fs::read_to_string(file).io("read", file)?;
    let refuse = |reason: String| Error::invalid(SETTING, format!("{}: {reason}", file.display()));
    let file: File = serde_saphyr::from_str(&text)
        .map_err(|e| refuse(e.to_string().lines().next().unwrap_or_default().to_owned()))?;
    let rules = file
        .classes
        .get(class)
        .ok_or_else(|| Error::invalid(BLOCK_IO.own, format!("{class:?}: there is no such class")))?;
    limits(rules).map_err(|reason| refuse(format!("class {class:?}: {reason}")))
}

/// A later rule for a device goes before an earlier one.
fn limits(rules: &[Rule]) -> std::result::Result<LinuxBlockIo, String> {
    let mut io = LinuxBlockIo::default();
    let mut weights = BTreeMap::new();
    let [mut read_bps, mut write_bps, mut read_iops, mut write_iops] = [const { BTreeMap::new() }; 4];
    for rule in rules {
        let weight = rule.weight.as_ref().map(weight).transpose()?;
        if rule.devices.is_empty() {
            io.set_weight(weight.or(io.weight()));
        }
        for device in rule
            .devices
            .iter()
            .map(|pattern| devices(pattern))
            .collect::<std::result::Result<Vec<_>, _>>()?
            .concat()
        {
            if let Some(weight) = weight {
                weights.insert(device, weight);
            }
            for (amount, into) in [
                (&rule.throttle_read_bps, &mut read_bps),
                (&rule.throttle_write_bps, &mut write_bps),
                (&rule.throttle_read_iops, &mut read_iops),
                (&rule.throttle_write_iops, &mut write_iops),
            ] {
                if let Some(amount) = amount {
                    into.insert(device, amount.value()?);
                }
            }
        }
    }
    io.set_weight_device(weight_devices(weights)?)
        .set_throttle_read_bps_device(throttles(read_bps)?)
        .set_throttle_write_bps_device(throttles(write_bps)?)
        .set_throttle_read_iops_device(throttles(read_iops)?)
        .set_throttle_write_iops_device(throttles(write_iops)?);
    Ok(io)
}

fn weight(amount: &Amount) -> std::result::Result<u16, String> {
    let weight = amount.value()?;
    match u16::try_from(weight) {
        Ok(weight @ 10..=1000) => Ok(weight),
        _ => Err(format!("weight {weight}: expected 10 to 1000")),
    }
}

type Numbers = (i64, i64);

fn weight_devices(of: BTreeMap<Numbers, u16>) -> std::result::Result<Option<Vec<LinuxWeightDevice>>, String> {
    let made = of.into_iter().map(|((major, minor), weight)| {
        let device = LinuxWeightDeviceBuilder::default().major(major).minor(minor);
        device.weight(weight).build().map_err(|e| e.to_string())
    });
    let all: Vec<_> = made.collect::<std::result::Result<_, _>>()?;
    Ok(Some(all).filter(|all| !all.is_empty()))
}

fn throttles(of: BTreeMap<Numbers, u64>) -> std::result::Result<Option<Vec<LinuxThrottleDevice>>, String> {
    let made = of.into_iter().map(|((major, minor), rate)| {
        let device = LinuxThrottleDeviceBuilder::default().major(major).minor(minor);
        device.rate(rate).build().map_err(|e| e.to_string())
    });
    let all: Vec<_> = made.collect::<std::result::Result<_, _>>()?;
    Ok(Some(all).filter(|all| !all.is_empty()))
}

/// The block devices whose paths fit: `*`, `?` and `[…]` in the last part stand for what they do in a shell. Those that
/// aren't there are passed over, as one file serves many nodes.
fn devices(pattern: &str) -> std::result::Result<Vec<Numbers>, String> {
    let path = PathBuf::from(pattern);
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(format!("device {pattern:?}: expected an absolute path"));
    };
    if !path.is_absolute() {
        return Err(format!("device {pattern:?}: expected an absolute path"));
    }
    let name = Regex::new(&shell_pattern(name)).map_err(|_| format!("device {pattern:?}: no pattern"))?;
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let fitting = entries.filter(|entry| entry.file_name().to_str().is_some_and(|n| name.is_match(n)));
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    Ok(fitting
        .filter_map(|entry| fs::metadata(entry.path()).ok())
        .filter(|about| about.file_type().is_block_device())
        .map(|about| (number(major(about.rdev())), number(minor(about.rdev()))))
        .collect())
}

fn shell_pattern(name: &str) -> String {
    let mut pattern = String::from("^");
    for c in name.chars() {
        match c {
            '*' => pattern.push_str(".*"),
            '?' => pattern.push('.'),
            '[' | ']' | '-' | '^' => pattern.push(c),
            c => pattern.push_str(&regex::escape(&c.to_string())),
        }
    }
    pattern.push('$');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_units() {
        let value = |text: &str| Amount::Text(text.to_owned()).value();
        assert_eq!(value("50M"), Ok(50_000_000));
        assert_eq!(value("1Ki"), Ok(1024));
        assert_eq!(value("7"), Ok(7));
        for bad in ["", "M", "7x", "-1", "99999999999999T"] {
            assert!(value(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_class_becomes_limits_or_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        let file = tmp.path().join("classes.yaml");
        fs::write(
            &file,
            "Classes:\n  low:\n  - Weight: 80\n  - Devices: [/dev/no-such*]\n    ThrottleReadBps: 50M\n  bad:\n  - Weight: 5\n",
        )
        .unwrap();
        let io = block_io(&file, "low").unwrap();
        assert_eq!(io.weight(), Some(80));
        assert!(io.throttle_read_bps_device().is_none(), "no such device here");
        let refusal = |class| block_io(&file, class).unwrap_err().to_string();
        assert!(refusal("bad").contains("class \"bad\": weight 5: expected 10 to 1000"));
        assert!(refusal("other").contains("\"other\": there is no such class"));
        fs::write(&file, "Classes: [").unwrap();
        assert!(refusal("low").contains("classes.yaml"));
    }

    #[test]
    fn patterns_are_those_of_a_shell() {
        let fits = |pattern: &str, name: &str| Regex::new(&shell_pattern(pattern)).unwrap().is_match(name);
        assert!(fits("sd[a-z]", "sda") && !fits("sd[a-z]", "sda1"));
        assert!(fits("nvme?n*", "nvme0n1p1") && !fits("vd.", "vda"));
    }
}
