//! The configuration of a network: what the caller gives, and its checked form.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::error::{Error, Result};
use crate::ipam::pool::{self, Pool};
use crate::ipam::range::Range;
use crate::request::check_ifname;

/// A network to make. The default is a masqueraded network on the bridge `pintle0` that waits for its ranges.
#[derive(Debug, Clone)]
pub struct Config {
    /// The bridge's interface name, at most 15 bytes.
    pub bridge: String,
    /// MTU of bridge and pods; by default that of the uplink.
    pub mtu: Option<u32>,
    /// The networks of pod addresses. A pod gets one address of each family; several ranges of a family are used
    /// one after another. Empty until [`Network::set_ranges`](crate::Network::set_ranges) tells them.
    pub ranges: Vec<IpNet>,
    /// Pools in full detail, instead of `ranges`: a pod gets an address from each.
    pub pools: Vec<Vec<Range>>,
    /// Addresses never given to a pod unless it asks for them by name.
    pub reserved: Vec<IpAddr>,
    /// Rewrite the source of what pods send to the outside.
    pub masquerade: bool,
    /// Destinations that aren't outside, besides the ranges: those of other nodes' pods, for instance.
    pub masquerade_except: Vec<IpNet>,
    /// Let a packet leave by the port by which it came: a pod that reaches itself through a service.
    pub hairpin: bool,
    /// Let the bridge take packets for any hardware address; the older way to what `hairpin` does.
    pub promiscuous: bool,
    /// Give the bridge the ranges' gateway addresses and let the host forward.
    pub gateway: bool,
    /// Give pods a default route by way of the gateways.
    pub default_route: bool,
    /// Further routes of the pods; without a gateway of their own by way of the ranges'.
    pub routes: Vec<PodRoute>,
    /// Separate this network's pods from others on the same bridge by a VLAN, 1 to 4094.
    pub vlan: Option<u16>,
    /// Replace a gateway address that the bridge has in the same range.
    pub force_address: bool,
    /// Detect duplicate IPv6 addresses, which costs pods their first second.
    pub duplicate_detection: bool,
    /// Allocations of the CNI plugin host-local, in a folder of its own, whose addresses are not to be given again:
    /// for networks that were that plugin's before.
    pub host_local_dir: Option<PathBuf>,
    /// Where allocations and records live. One folder a network; processes may share it.
    pub state_dir: PathBuf,
}

/// A route of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRoute {
    /// Destination.
    pub destination: IpNet,
    /// Next hop; by default the gateway of the pod's range of that family.
    pub gateway: Option<IpAddr>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            bridge: "pintle0".into(),
            mtu: None,
            ranges: Vec::new(),
            pools: Vec::new(),
            reserved: Vec::new(),
            masquerade: true,
            masquerade_except: Vec::new(),
            hairpin: true,
            promiscuous: false,
            gateway: true,
            default_route: true,
            routes: Vec::new(),
            vlan: None,
            force_address: false,
            duplicate_detection: false,
            host_local_dir: None,
            state_dir: PathBuf::from("/run/pintle/net"),
        }
    }
}

impl Config {
    /// Checks everything but the ranges, which may come later.
    pub(crate) fn validate(&self) -> Result<()> {
        check_ifname("bridge", &self.bridge)?;
        if let Some(mtu) = self.mtu
            && !(68..=65535).contains(&mtu)
        {
            return Err(Error::invalid("mtu", mtu, "expected 68 to 65535"));
        }
        if let Some(vlan) = self.vlan
            && !(1..=4094).contains(&vlan)
        {
            return Err(Error::invalid("vlan", vlan, "expected 1 to 4094"));
        }
        if self.hairpin && self.promiscuous {
            return Err(Error::invalid(
                "hairpin",
                true,
                "cannot be combined with promiscuous mode",
            ));
        }
        if self.state_dir.as_os_str().is_empty() {
            return Err(Error::invalid("state_dir", "", "a folder is needed"));
        }
        Ok(())
    }

    /// The pools, checked; empty if no range is known.
    pub(crate) fn checked_pools(&self) -> Result<Vec<Pool>> {
        if self.pools.is_empty() {
            pool::pools_of(&self.ranges)
        } else {
            pool::check(&self.pools)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_values_are_named() {
        let error = |config: Config| config.validate().expect_err("must be refused").to_string();
        let bridge = Config {
            bridge: "a-name-that-is-too-long".into(),
            ..Config::default()
        };
        assert!(error(bridge).contains("a-name-that-is-too-long"));
        assert!(
            error(Config {
                mtu: Some(20),
                ..Config::default()
            })
            .contains("20")
        );
        assert!(
            error(Config {
                vlan: Some(4095),
                ..Config::default()
            })
            .contains("4095")
        );
        assert!(Config::default().validate().is_ok());
    }
}
