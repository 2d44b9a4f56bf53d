//! The configuration, checked.
//!
//! A configuration with `ipam` or `ranges` asks for an interface; one without is chained behind another plugin
//! and asks for host ports and limits. A key that nobody knows is an error: misspelt, it would quietly make another
//! network than was meant.

use std::net::IpAddr;
use std::path::PathBuf;

use netplug::{Bandwidth, IpNet, PortMap, Protocol, Rate};

use crate::call::Command;
use crate::error::{Code, Failure, Result};
use crate::keys::{Keys, Rates};
use crate::version::Version;

/// Where state lives unless `ipam.dataDir` or `stateDir` says otherwise.
const STATE_DIR: &str = "/run/netplug";

/// A configuration of a known version, with a usable name and no key that is unknown or asks for what isn't there.
#[derive(Debug)]
pub(crate) struct Conf {
    pub(crate) version: Version,
    pub(crate) keys: Keys,
}

impl Conf {
    pub(crate) fn parse(stdin: &[u8], command: Command) -> Result<Conf> {
        let decode = |error: serde_json::Error| Failure::new(Code::Decode, format!("configuration: {error}"));
        let mut value: serde_json::Value = serde_json::from_slice(stdin).map_err(decode)?;
        if command == Command::Del {
            // What was valid when the pod came must not keep it from going.
            keep_for_del(&mut value);
        }
        let keys: Keys = serde_json::from_value(value).map_err(decode)?;
        let version = Version::parse(&keys.cni_version).ok_or_else(|| {
            let message = format!("cniVersion {:?} is not supported", keys.cni_version);
            Failure::new(Code::Version, message)
        })?;
        let good = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if !keys.name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !keys.name.chars().all(good) {
            return Err(Failure::conf(
                "name",
                format!("{:?}", keys.name),
                "expected [A-Za-z0-9][A-Za-z0-9_.-]*",
            ));
        }
        let conf = Conf { version, keys };
        if command != Command::Del {
            conf.refuse_unknown()?;
            conf.refuse_unsupported()?;
        }
        Ok(conf)
    }

    /// Whether another plugin makes the interface.
    pub(crate) fn is_chained(&self) -> bool {
        self.keys.ipam.is_none() && self.keys.ranges.is_none()
    }

    fn refuse_unknown(&self) -> Result<()> {
        // Runtimes and people add keys of their own, which by custom have a slash or an underscore in front.
        let ours = |key: &&String| !key.contains('/') && !key.starts_with('_');
        match self.keys.unknown.iter().find(|(key, _)| ours(key)) {
            Some((key, value)) => Err(Failure::conf(key, value, "unknown key")),
            None => Ok(()),
        }
    }

    fn refuse_unsupported(&self) -> Result<()> {
        let keys = &self.keys;
        let wanted = [
            ("vlanTrunk", !keys.vlan_trunk.is_empty()),
            ("macspoofchk", keys.macspoofchk),
            ("disableContainerInterface", keys.disable_container_interface),
            ("portIsolation", keys.port_isolation),
            (
                "conditionsV4",
                keys.conditions_v4.as_ref().is_some_and(|list| !list.is_empty()),
            ),
            (
                "conditionsV6",
                keys.conditions_v6.as_ref().is_some_and(|list| !list.is_empty()),
            ),
            ("snat", keys.snat == Some(false)),
            ("shapedSubnets", !keys.shaped_subnets.is_empty()),
            ("unshapedSubnets", !keys.unshaped_subnets.is_empty()),
            (
                "preserveDefaultVlan",
                keys.vlan != 0 && keys.preserve_default_vlan == Some(true),
            ),
        ];
        match wanted.iter().find(|(_, wanted)| *wanted) {
            Some((key, _)) => {
                let message = format!("{key}: not supported by this plugin");
                Err(Failure::new(Code::Configuration, message))
            }
            None => Ok(()),
        }
    }

    /// The folder of this network's state; that of chained use is another.
    pub(crate) fn state_dir(&self) -> PathBuf {
        let base = self.keys.state_dir.clone().unwrap_or_else(|| {
            let data = self.keys.ipam.as_ref().and_then(|ipam| ipam.data_dir.as_ref());
            data.map_or_else(|| PathBuf::from(STATE_DIR), |dir| dir.join("netplug"))
        });
        base.join(&self.keys.name)
    }

    /// For GC: the interfaces that live.
    pub(crate) fn live(&self) -> Vec<(String, String)> {
        let live = self.keys.valid_attachments.iter();
        live.map(|one| (one.container_id.clone(), one.ifname.clone()))
            .collect()
    }

    /// The pod's host ports.
    pub(crate) fn ports(&self) -> Result<Vec<PortMap>> {
        let port = |mapping: &crate::keys::PortMapping| -> Result<PortMap> {
            let protocol = if mapping.protocol.is_empty() {
                "tcp"
            } else {
                &mapping.protocol
            };
            Ok(PortMap {
                protocol: protocol.parse::<Protocol>()?,
                host_port: mapping.host_port,
                container_port: mapping.container_port,
                host_ip: match mapping.host_ip.as_str() {
                    "" => None,
                    text => Some(address("hostIP", text)?),
                },
            })
        };
        self.keys.runtime_config.port_mappings.iter().map(port).collect()
    }

    /// The pod's limits: the runtime's, else the configuration's.
    pub(crate) fn bandwidth(&self) -> Bandwidth {
        let Rates {
            ingress_rate,
            ingress_burst,
            egress_rate,
            egress_burst,
        } = self
            .keys
            .runtime_config
            .bandwidth
            .as_ref()
            .unwrap_or(&self.keys.rates);
        let rate = |rate: u64, burst: u64| Rate {
            bits_per_second: rate,
            burst_bits: burst,
        };
        Bandwidth {
            ingress: (*ingress_rate > 0).then(|| rate(*ingress_rate, *ingress_burst)),
            egress: (*egress_rate > 0).then(|| rate(*egress_rate, *egress_burst)),
        }
    }
}

/// Leaves of a configuration only what DEL needs.
fn keep_for_del(value: &mut serde_json::Value) {
    if let Some(keys) = value.as_object_mut() {
        keys.retain(|key, _| {
            matches!(
                key.as_str(),
                "cniVersion" | "name" | "ipam" | "ranges" | "bridge" | "stateDir"
            )
        });
        if let Some(ipam) = keys.get_mut("ipam").and_then(|ipam| ipam.as_object_mut()) {
            ipam.retain(|key, _| key == "dataDir");
        }
        if keys.contains_key("ranges") {
            keys.insert("ranges".into(), serde_json::json!([]));
        }
    }
}

/// Reads an address.
pub(crate) fn address(key: &str, text: &str) -> Result<IpAddr> {
    text.parse()
        .map_err(|_| Failure::conf(key, format!("{text:?}"), "not an address"))
}

/// Reads a network.
pub(crate) fn network(key: &str, text: &str) -> Result<IpNet> {
    text.parse()
        .map_err(|_| Failure::conf(key, format!("{text:?}"), "not a network such as 10.0.0.0/24"))
}

#[cfg(test)]
#[path = "conf_tests.rs"]
mod tests;
