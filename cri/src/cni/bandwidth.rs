//! Bandwidth limits out of a pod's annotations.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::{CniError, Result};

const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";
/// What the annotations may say, as Kubernetes has it: 1k to 1P.
const RANGE: std::ops::RangeInclusive<u128> = 1_000..=1_000_000_000_000_000;
/// The annotations say nothing of bursts: as much as plugins accept.
pub const BURST_BITS: u64 = u32::MAX as u64;

/// A pod's limits in bits a second, `None` for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// To the pod.
    pub ingress: Option<u64>,
    /// From the pod.
    pub egress: Option<u64>,
}

impl Limits {
    /// Reads the annotations `kubernetes.io/ingress-bandwidth` and `kubernetes.io/egress-bandwidth`.
    ///
    /// # Errors
    /// [`CniError::Invalid`] for what is no quantity between 1k and 1P.
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Result<Limits> {
        let read = |key: &'static str| annotations.get(key).map(|text| rate(key, text)).transpose();
        Ok(Limits {
            ingress: read(INGRESS)?,
            egress: read(EGRESS)?,
        })
    }

    /// The `bandwidth` capability.
    pub(super) fn to_json(self) -> Option<Value> {
        if self == Limits::default() {
            return None;
        }
        let mut value = json!({});
        for (name, rate) in [("ingress", self.ingress), ("egress", self.egress)] {
            if let Some(rate) = rate {
                value[format!("{name}Rate")] = json!(rate);
                value[format!("{name}Burst")] = json!(BURST_BITS);
            }
        }
        Some(value)
    }
}

fn rate(key: &'static str, text: &str) -> Result<u64> {
    let value = quantity(text).ok_or_else(|| CniError::invalid(key, text, "not a quantity"))?;
    if !RANGE.contains(&value) {
        return Err(CniError::invalid(key, text, "expected 1k to 1P"));
    }
    u64::try_from(value).map_err(|_| CniError::invalid(key, text, "expected 1k to 1P"))
}

/// A Kubernetes quantity, rounded up: digits, perhaps a fraction, and a decimal or binary suffix or exponent.
fn quantity(text: &str) -> Option<u128> {
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (digits, suffix) = text.split_at(split);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty()
        || fraction.contains('.')
        || whole.len() > 18
        || fraction.len() > 9
    {
        return None;
    }
    let (numerator, denominator): (u128, u128) = match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        exponent => {
            let power: u32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            (10_u128.checked_pow(power.min(18))?, 1)
        }
    };
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let value: u128 = format!("{whole}{fraction}").parse().ok()?;
    Some((value * numerator).div_ceil(scale * denominator))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for (text, value) in [
            ("10M", 10_000_000),
            ("1.5k", 1_500),
            ("1Gi", 1 << 30),
            ("2e6", 2_000_000),
            ("5000", 5_000),
            ("1500m", 2),
        ] {
            assert_eq!(quantity(text), Some(value), "{text}");
        }
        for text in ["", "M", "1.2.3", "-5", "1X", "1e", "10 M", "."] {
            assert_eq!(quantity(text), None, "{text}");
        }
    }

    #[test]
    fn annotations_become_limits() {
        let annotations = |egress: &str| BTreeMap::from([(EGRESS.to_owned(), egress.to_owned())]);
        let limits = Limits::from_annotations(&annotations("10M")).expect("valid");
        assert_eq!(
            limits,
            Limits {
                ingress: None,
                egress: Some(10_000_000)
            }
        );
        assert_eq!(
            limits.to_json(),
            Some(json!({"egressRate": 10_000_000, "egressBurst": BURST_BITS}))
        );
        for bad in ["1", "2P", "fast"] {
            let error = Limits::from_annotations(&annotations(bad))
                .expect_err("out of range")
                .to_string();
            assert!(error.contains(EGRESS) && error.contains(bad), "{error}");
        }
        assert_eq!(Limits::default().to_json(), None);
    }
}
