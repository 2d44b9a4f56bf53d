//! The section `ipam`, with the keys of the upstream plugin host-local.

use std::net::IpAddr;
use std::path::PathBuf;

use netplug::{PodRoute, Range};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::conf::{address, network};
use crate::error::{Code, Failure, Result};

/// Where host-local keeps its allocations unless told otherwise.
const HOST_LOCAL_DIR: &str = "/var/lib/cni/networks";

/// The section.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Ipam {
    #[serde(rename = "type")]
    kind: Option<String>,
    // One range, written the older way.
    subnet: Option<String>,
    range_start: Option<String>,
    range_end: Option<String>,
    gateway: Option<String>,
    ranges: Vec<Vec<RangeConf>>,
    routes: Vec<RouteConf>,
    pub(crate) data_dir: Option<PathBuf>,
    resolv_conf: Option<PathBuf>,
    reserved: Vec<String>,
}

/// A range.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct RangeConf {
    subnet: String,
    range_start: Option<String>,
    range_end: Option<String>,
    gateway: Option<String>,
}

/// A route.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RouteConf {
    dst: String,
    gw: Option<String>,
}

impl Ipam {
    /// Refuses allocation by other plugins.
    pub(crate) fn check_kind(&self) -> Result<()> {
        match self.kind.as_deref() {
            None | Some("" | "host-local" | "netplug") => Ok(()),
            Some(other) => {
                let reason = "addresses are allocated by netplug itself: use host-local or netplug";
                Err(Failure::conf("ipam.type", format!("{other:?}"), reason))
            }
        }
    }

    /// One pool for each list of ranges.
    pub(crate) fn pools(&self) -> Result<Vec<Vec<Range>>> {
        let mut pools: Vec<Vec<RangeConf>> = Vec::new();
        if let Some(subnet) = &self.subnet {
            pools.push(vec![RangeConf {
                subnet: subnet.clone(),
                range_start: self.range_start.clone(),
                range_end: self.range_end.clone(),
                gateway: self.gateway.clone(),
            }]);
        }
        pools.extend(self.ranges.iter().cloned());
        to_pools(&pools)
    }

    pub(crate) fn routes(&self) -> Result<Vec<PodRoute>> {
        let route = |route: &RouteConf| -> Result<PodRoute> {
            let gateway = route
                .gw
                .as_deref()
                .map(|text| address("ipam.routes gw", text))
                .transpose()?;
            Ok(PodRoute {
                destination: network("ipam.routes dst", &route.dst)?,
                gateway,
            })
        };
        self.routes.iter().map(route).collect()
    }

    pub(crate) fn reserved(&self) -> Result<Vec<IpAddr>> {
        self.reserved
            .iter()
            .map(|text| address("ipam.reserved", text))
            .collect()
    }

    /// Where host-local would keep this network's allocations.
    pub(crate) fn host_local_dir(&self, name: &str) -> PathBuf {
        self.data_dir
            .clone()
            .unwrap_or_else(|| PathBuf::from(HOST_LOCAL_DIR))
            .join(name)
    }

    /// `dns` of the result, out of `resolvConf`.
    pub(crate) fn dns(&self) -> Result<Option<Value>> {
        let Some(path) = &self.resolv_conf else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::new(Code::Io, format!("read {}: {error}", path.display())))?;
        Ok(Some(resolv_conf(&text)))
    }
}

/// Checks pools as they are written.
pub(crate) fn to_pools(pools: &[Vec<RangeConf>]) -> Result<Vec<Vec<Range>>> {
    let optional =
        |key: &str, text: &Option<String>| text.as_deref().map(|text| address(key, text)).transpose();
    let range = |range: &RangeConf| -> Result<Range> {
        Ok(Range {
            subnet: network("ipam subnet", &range.subnet)?,
            first: optional("ipam rangeStart", &range.range_start)?,
            last: optional("ipam rangeEnd", &range.range_end)?,
            gateway: optional("ipam gateway", &range.gateway)?,
        })
    };
    pools
        .iter()
        .map(|pool| pool.iter().map(range).collect())
        .collect()
}

fn resolv_conf(text: &str) -> Value {
    let (mut nameservers, mut search, mut options, mut domain) = (Vec::new(), Vec::new(), Vec::new(), None);
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => nameservers.extend(words.next()),
            Some("search") => search = words.collect(),
            Some("options") => options.extend(words),
            Some("domain") => domain = words.next(),
            _ => {}
        }
    }
    let mut dns = json!({"nameservers": nameservers, "search": search, "options": options});
    if let Some(domain) = domain {
        dns["domain"] = json!(domain);
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_write_ranges() {
        let ipam: Ipam = serde_json::from_value(json!({
            "type": "host-local", "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10", "gateway": "10.1.0.254",
            "ranges": [[{"subnet": "fd00::/64"}, {"subnet": "fd01::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "fd09::/16", "gw": "fd00::9"}],
        }))
        .expect("valid");
        ipam.check_kind().expect("host-local");
        let pools = ipam.pools().expect("valid");
        assert_eq!(pools.len(), 2);
        assert_eq!(pools[0][0].first.expect("start").to_string(), "10.1.0.10");
        assert_eq!(pools[1].len(), 2);
        assert_eq!(
            ipam.routes().expect("valid")[1]
                .gateway
                .expect("gateway")
                .to_string(),
            "fd00::9"
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let ipam = |value: Value| serde_json::from_value::<Ipam>(value);
        assert!(
            ipam(json!({"subnets": "10.0.0.0/8"}))
                .expect_err("unknown")
                .to_string()
                .contains("subnets")
        );
        let bad = ipam(json!({"subnet": "10.0.0.0/33"}))
            .expect("text")
            .pools()
            .expect_err("no network");
        assert!(
            bad.to_json("1.0.0")["msg"]
                .as_str()
                .is_some_and(|text| text.contains("10.0.0.0/33"))
        );
        let other = ipam(json!({"type": "dhcp"}))
            .expect("text")
            .check_kind()
            .expect_err("not ours");
        assert!(
            other.to_json("1.0.0")["msg"]
                .as_str()
                .is_some_and(|text| text.contains("dhcp"))
        );
    }

    #[test]
    fn name_resolution() {
        let dns = resolv_conf(
            "# x\nnameserver 192.0.2.1\nnameserver fd00::1\nsearch a.b c\noptions ndots:5\ndomain d\n",
        );
        assert_eq!(dns["nameservers"], json!(["192.0.2.1", "fd00::1"]));
        assert_eq!(dns["search"], json!(["a.b", "c"]));
        assert_eq!(dns["domain"], "d");
    }
}
