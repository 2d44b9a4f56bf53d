//! What all pods share: the bridge with its gateway addresses, forwarding, and the table.

use std::net::IpAddr;
use std::sync::PoisonError;

use ipnet::IpNet;
use nix::libc;

use super::{Host, Network};
use crate::error::{Error, Result};
use crate::ipam::pool::Pool;
use crate::rt::link::{self, Link, Target};
use crate::rt::make;
use crate::rt::port;
use crate::sysctl;

/// Where there is no uplink to take it from.
const DEFAULT_MTU: u32 = 1500;
/// Addresses of documentation networks: no route is more specific than the default route, and none is sent to.
const OUTSIDE: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 1)),
    IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1)),
];

/// The bridge, set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bridge {
    pub(super) index: u32,
    pub(super) mtu: u32,
    pub(super) mac: [u8; 6],
}

impl Network {
    /// The bridge, set up with everything around it. When nothing has changed since the last time, this asks
    /// the kernel two things and does no more.
    pub(super) fn bridge(&self, host: &mut Host) -> Result<Bridge> {
        let pools = self.pools()?;
        let name = &self.0.config.bridge;
        let found = host.route.link(name)?;
        let known = *self.0.bridge.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(known), Some(link)) = (known, &found)
            && link.index == known.index
            && link.up
            && host.nft.contains(&self.mark())?
        {
            return Ok(known);
        }
        // The lock keeps others from setting up at once, and pods from being missed when the table is refilled.
        let _lock = self.0.store.lock()?;
        let bridge = self.set_up_bridge(host, &pools)?;
        let mut inside: Vec<IpNet> = pools
            .iter()
            .flat_map(|pool| &pool.0)
            .map(|span| span.subnet)
            .collect();
        inside.extend(&self.0.config.masquerade_except);
        let interfaces = self.interfaces();
        self.set_up_table(host, &inside, &interfaces)?;
        host.nft.let_forward(&interfaces)?;
        *self.0.bridge.lock().unwrap_or_else(PoisonError::into_inner) = Some(bridge);
        Ok(bridge)
    }

    fn set_up_bridge(&self, host: &mut Host, pools: &[Pool]) -> Result<Bridge> {
        let config = &self.0.config;
        let name = config.bridge.as_str();
        let ipv6 = pools.iter().any(|pool| pool.0.iter().any(|span| !span.is_ipv4()));
        if ipv6 && !sysctl::has_ipv6() {
            return Err(Error::invalid(
                "range",
                pools_text(pools),
                "this kernel has no IPv6",
            ));
        }
        let link = self.find_or_create(host, config.vlan.is_some())?;
        sysctl::tame_ipv6(name)?;
        let mut requests = Vec::new();
        if config.promiscuous && !link.promiscuous {
            requests.push(link::set_promiscuous(Target::Index(link.index)));
        }
        if config.vlan.is_some() && !link.vlan_filtering {
            requests.push(link::set_vlan_filtering(Target::Index(link.index)));
        }
        if !link.up {
            requests.push(link::set_up(Target::Index(link.index)));
        }
        host.route.run(&requests)?;
        if config.gateway {
            let (index, interface) = self.gateway_interface(host, &link)?;
            self.set_up_gateways(host, index, &interface, pools)?;
        }
        Ok(Bridge {
            index: link.index,
            mtu: config.mtu.unwrap_or(link.mtu),
            mac: link.mac.as_slice().try_into().unwrap_or_default(),
        })
    }

    fn find_or_create(&self, host: &mut Host, vlan: bool) -> Result<Link> {
        let name = self.0.config.bridge.as_str();
        if let Some(link) = host.route.link(name)? {
            return self.checked(link);
        }
        let mtu = match self.0.config.mtu {
            Some(mtu) => mtu,
            None => uplink_mtu(host)?,
        };
        match host.route.run(&[make::create_bridge(name, mtu, vlan)]) {
            Err(error) if error.errno() == Some(libc::EEXIST) => {}
            done => done?,
        }
        let link = host
            .route
            .link(name)?
            .ok_or_else(|| Error::NoInterface { name: name.into() })?;
        host.route
            .run(&[link::keep(Target::Index(link.index), &link.mac, mtu)])?;
        self.checked(Link { mtu, ..link })
    }

    fn checked(&self, link: Link) -> Result<Link> {
        if link.kind == "bridge" {
            return Ok(link);
        }
        let kind = if link.kind.is_empty() {
            "physical or loopback device".into()
        } else {
            link.kind
        };
        Err(Error::NotABridge {
            name: link.name,
            kind,
        })
    }

    /// The interface that bears the gateway addresses: the bridge, or a VLAN interface on it.
    fn gateway_interface(&self, host: &mut Host, bridge: &Link) -> Result<(u32, String)> {
        let Some(vlan) = self.0.config.vlan else {
            return Ok((bridge.index, bridge.name.clone()));
        };
        let name = format!("{}.{vlan}", bridge.name);
        crate::request::check_ifname("VLAN interface", &name)?;
        if let Some(link) = host.route.link(&name)? {
            return Ok((link.index, name));
        }
        host.route.run(&[port::bridge_joins_vlan(bridge.index, vlan)])?;
        match host
            .route
            .run(&[make::create_vlan(&name, bridge.index, vlan, bridge.mtu)])
        {
            Err(error) if error.errno() == Some(libc::EEXIST) => {}
            done => done?,
        }
        let link = host
            .route
            .link(&name)?
            .ok_or_else(|| Error::NoInterface { name: name.clone() })?;
        sysctl::tame_ipv6(&name)?;
        Ok((link.index, name))
    }
}

/// The MTU of the link by which packets to the outside leave; IPv4's if both families have one.
fn uplink_mtu(host: &mut Host) -> Result<u32> {
    for outside in OUTSIDE {
        if let Some(index) = host.route.outgoing(outside)?
            && index != link::LOOPBACK
            && let Some(link) = host.route.link_by_index(index)?
        {
            return Ok(link.mtu);
        }
    }
    Ok(DEFAULT_MTU)
}

fn pools_text(pools: &[Pool]) -> String {
    pools
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}
