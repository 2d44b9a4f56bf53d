//! Results of ADD: the addresses that a pod got.

use std::net::IpAddr;

use serde_json::Value;

use super::error::{CniError, Result};

/// What a network gave a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct CniResult {
    /// The pod's addresses: the first IPv4 address comes first, then the others in the plugins' order.
    pub ips: Vec<IpAddr>,
    /// The last plugin's result as it came.
    pub raw: Value,
}

impl CniResult {
    /// Reads a result of any version of the specification.
    pub(super) fn parse(raw: Value, network: &str, ifname: &str) -> Result<CniResult> {
        let bad = |reason: String| CniError::BadResult {
            plugin: network.to_owned(),
            reason,
        };
        let mut ips = Vec::new();
        for ip in raw["ips"].as_array().into_iter().flatten() {
            if in_pod(&raw, ip) {
                let text = ip["address"].as_str().unwrap_or_default();
                ips.push(address(text).ok_or_else(|| bad(format!("address {text:?}")))?);
            }
        }
        // Versions before 0.3.0.
        for key in ["ip4", "ip6"] {
            if let Some(text) = raw[key]["ip"].as_str() {
                ips.push(address(text).ok_or_else(|| bad(format!("{key} {text:?}")))?);
            }
        }
        if ips.is_empty() {
            return Err(CniError::NoAddress {
                network: network.to_owned(),
                ifname: ifname.to_owned(),
            });
        }
        if let Some(first) = ips.iter().position(IpAddr::is_ipv4) {
            ips[..=first].rotate_right(1);
        }
        let mut seen = std::collections::HashSet::new();
        ips.retain(|ip| seen.insert(*ip));
        Ok(CniResult { ips, raw })
    }
}

/// Whether an address is the pod's: of an interface in a namespace, or of none that is named.
fn in_pod(raw: &Value, ip: &Value) -> bool {
    let index = ip["interface"]
        .as_u64()
        .and_then(|index| usize::try_from(index).ok());
    match index.and_then(|index| raw["interfaces"].get(index)) {
        Some(interface) => interface["sandbox"]
            .as_str()
            .is_some_and(|sandbox| !sandbox.is_empty()),
        None => true,
    }
}

fn address(text: &str) -> Option<IpAddr> {
    text.split('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ips(raw: Value) -> Vec<String> {
        let result = CniResult::parse(raw, "n", "eth0").expect("valid");
        result.ips.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_pods_addresses_with_ipv4_first() {
        let raw = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "veth1"}, {"name": "eth0", "sandbox": "/run/netns/a"}],
            "ips": [
                {"address": "192.0.2.1/24", "interface": 0},
                {"address": "fd00::2/64", "interface": 1},
                {"address": "10.0.0.2/24", "interface": 1},
                {"address": "10.0.0.3/24"},
            ],
        });
        assert_eq!(ips(raw), ["10.0.0.2", "fd00::2", "10.0.0.3"]);
    }

    #[test]
    fn old_versions() {
        assert_eq!(
            ips(json!({"ip4": {"ip": "10.0.0.2/24"}, "ip6": {"ip": "fd00::2/64"}})),
            ["10.0.0.2", "fd00::2"]
        );
    }

    #[test]
    fn no_address_and_no_sense() {
        let error = CniResult::parse(json!({"ips": []}), "net", "eth0")
            .expect_err("none")
            .to_string();
        assert!(error.contains("net") && error.contains("eth0"), "{error}");
        assert!(CniResult::parse(json!({}), "net", "eth0").is_err());
        let error = CniResult::parse(json!({"ips": [{"address": "x"}]}), "net", "eth0").expect_err("bad");
        assert!(error.to_string().contains("\"x\""), "{error}");
    }
}
