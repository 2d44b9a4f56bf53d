//! Attaching a pod.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nix::libc;

use super::bandwidth::limit;
use super::setup::Bridge;
use super::{Host, Network};
use crate::error::{Error, Result};
use crate::ipam::record::Record;
use crate::ipam::store::{Allocation, Wanted};
use crate::netlink::Request;
use crate::netns::Netns;
use crate::nft::elements;
use crate::request::{AttachRequest, Attachment, format_mac, real_ports};
use crate::rt::link::{self, Target};
use crate::rt::make::{self, VethPair};
use crate::rt::{Route, addr, port, route};
use crate::sysctl::{self, Folder};

impl Network {
    /// Gives a pod its interface: a veth pair, addresses, routes, masquerade, host ports, limits. Also brings the
    /// pod's loopback interface up. On failure nothing is left.
    ///
    /// # Errors
    /// [`Error::NoRange`] before any range is known, [`Error::Exhausted`], [`Error::PortTaken`],
    /// [`Error::AddressTaken`], [`Error::AlreadyAttached`], [`Error::Netns`], [`Error::Invalid`]; what the kernel
    /// refuses.
    pub fn attach(&self, request: &AttachRequest) -> Result<Attachment> {
        request.validate()?;
        let netns = Netns::open(&request.netns)?;
        if netns.is_own()? {
            let reason = "is the host's own, not a pod's".into();
            return Err(Error::Netns {
                path: request.netns.clone(),
                reason,
            });
        }
        self.with_host(|host| {
            let bridge = self.bridge(host)?;
            let record = self.reserve(request)?;
            self.build(host, bridge, &netns, &record)
                .inspect_err(|_| self.undo(host, &record))
        })
    }

    /// Takes back a failed attachment. The failure is what the caller needs to know; what can't be undone now stays
    /// in the record.
    pub(super) fn undo(&self, host: &mut Host, record: &Record) {
        let undone = self
            .take_down(host, record)
            .and_then(|()| self.0.store.release(&record.id, &record.ifname, &record.ips()));
        if let Err(error) = undone {
            tracing::warn!(id = record.id, %error, "undoing a failed attachment");
        }
    }

    fn reserve(&self, request: &AttachRequest) -> Result<Record> {
        let pools = self.pools()?;
        let wanted = Wanted {
            id: &request.id,
            ifname: &request.ifname,
            pools: &pools,
            ips: &request.ips,
            reserved: &self.0.config.reserved,
            occupied: self.0.config.host_local_dir.as_deref(),
        };
        let record = |allocations: &[Allocation]| Record {
            id: request.id.clone(),
            ifname: request.ifname.clone(),
            netns: request.netns.clone(),
            host_interface: host_interface(&request.id, &request.ifname),
            addresses: allocations.iter().map(|allocation| allocation.address).collect(),
            gateways: allocations.iter().map(|allocation| allocation.gateway).collect(),
            mac: request.mac.unwrap_or_else(|| mac_of(allocations)),
            ports: real_ports(&request.ports),
            bandwidth: request.bandwidth,
            masquerade: self.0.config.masquerade,
            adopted: false,
            link: None,
        };
        self.0.store.reserve(&wanted, record)
    }

    fn build(&self, host: &mut Host, bridge: Bridge, netns: &Netns, record: &Record) -> Result<Attachment> {
        add_elements(host, record)?;
        let announce = record.mac != mac_of_addresses(record.ips().first().copied());
        // The pod's end comes up before the host's, which so comes up with a carrier, and once: for each change
        // of a port the bridge goes through all of them.
        netns.run(|| {
            self.make_pair(&mut host.route, bridge, netns, record)?;
            self.set_up_pod(record, announce)
        })?;
        let name = record.host_interface.as_str();
        if let Some(settings) = &host.ipv6 {
            // A bridge port needs no IPv6 of its own, and whatever comes and goes would have to look at its routes.
            settings.set(&format!("{name}/disable_ipv6"), "1")?;
        }
        let alias = self.alias(&record.id, &record.ifname);
        host.route
            .run(&[make::start_port(name, self.0.config.hairpin, &alias)])?;
        if !record.bandwidth.is_empty() || self.0.config.vlan.is_some() {
            let port = host
                .route
                .link(name)?
                .ok_or_else(|| Error::NoInterface { name: name.into() })?;
            self.join_vlan(&mut host.route, port.index)?;
            limit(host, &port, record)?;
        }
        Ok(Attachment {
            ips: record.addresses.clone(),
            gateways: record.gateways.clone(),
            mac: format_mac(&record.mac),
            host_interface: record.host_interface.clone(),
            host_mac: format_mac(&bridge.mac),
            mtu: bridge.mtu,
        })
    }

    /// What a host's end is labelled with: this network (its state folder), pod, interface.
    fn alias(&self, id: &str, ifname: &str) -> String {
        format!("{}{id}:{ifname}", self.alias_prefix())
    }

    pub(super) fn alias_prefix(&self) -> String {
        format!("pintle:{}:", self.label())
    }

    /// Makes the pair, the host's end a port of the bridge. The socket is the host's.
    fn make_pair(&self, socket: &mut Route, bridge: Bridge, netns: &Netns, record: &Record) -> Result<()> {
        let name = record.host_interface.as_str();
        let create = [make::create_veth(&VethPair {
            name,
            master: bridge.index,
            mtu: bridge.mtu,
            // For every address of a port the bridge has an entry, and goes through its ports to make it and through
            // its entries for each port that comes. Its own it has already; nobody ever asks for a port's.
            mac: bridge.mac,
            peer_name: &record.ifname,
            peer_netns: std::os::fd::AsFd::as_fd(netns),
            peer_mac: record.mac,
        })];
        match socket.run(&create) {
            // One that was cut off and isn't deleted yet, or that a crash left.
            Err(error) if error.errno() == Some(libc::EEXIST) => {
                socket.try_all(&[link::delete(Target::Name(name))])?;
                socket.run(&create)
            }
            done => done,
        }
    }

    fn join_vlan(&self, socket: &mut Route, port: u32) -> Result<()> {
        let Some(vlan) = self.0.config.vlan else {
            return Ok(());
        };
        socket.run(&[port::join_vlan(port, vlan)])?;
        // The bridge's default VLAN, which every new port is in.
        if vlan == 1 {
            Ok(())
        } else {
            socket.run(&[port::leave_vlan(port, 1)])
        }
    }

    /// The pod's side, by a thread inside its namespace.
    fn set_up_pod(&self, record: &Record, announce: bool) -> Result<()> {
        let dad = self.0.config.duplicate_detection;
        let name = record.ifname.as_str();
        let wants_ipv6 = record.addresses.iter().any(|address| address.addr().is_ipv6());
        let settings = Folder::of_interface("ipv6", name)?;
        if let Some(settings) = &settings {
            // Another pod's router advertisement could make that pod this one's gateway.
            settings.set("accept_ra", "0")?;
            if wants_ipv6 {
                settings.set("disable_ipv6", "0")?;
            }
            if announce {
                settings.set("ndisc_notify", "1")?;
            }
        }
        if announce {
            // The addresses may have been another pod's with another hardware address a moment ago.
            sysctl::set_interface("ipv4", name, "arp_notify", "1")?;
        }
        let mut socket = Route::open()?;
        let link = socket
            .link(name)?
            .ok_or_else(|| Error::NoInterface { name: name.into() })?;
        let mut requests = vec![link::set_up(Target::Index(link::LOOPBACK))];
        let mut addresses = record.addresses.clone();
        if settings.is_some() && !dad {
            // An address that it makes itself would be announced to every pod on the bridge, and tested first.
            requests.push(make::give_no_ipv6(link.index));
            addresses.extend(wants_ipv6.then(|| addr::link_local(record.mac)));
        }
        requests.extend(
            addresses
                .iter()
                .map(|address| addr::add(link.index, name, *address, dad)),
        );
        requests.push(link::set_up(Target::Index(link.index)));
        requests.extend(self.pod_routes(link.index, record));
        socket.run(&requests)
    }

    fn pod_routes(&self, index: u32, record: &Record) -> Vec<Request> {
        let config = &self.0.config;
        let gateway_of = |v4: bool| {
            record
                .gateways
                .iter()
                .copied()
                .find(|gateway| gateway.is_ipv4() == v4)
        };
        let mut routes = Vec::new();
        for route in &config.routes {
            let gateway = route
                .gateway
                .or_else(|| gateway_of(route.destination.addr().is_ipv4()));
            // A route of a family that the pod has no address of is not for it.
            routes.extend(gateway.map(|gateway| (route.destination, gateway)));
        }
        if config.default_route {
            for v4 in [true, false] {
                let default = if v4 {
                    IpNet::from(Ipv4Net::default())
                } else {
                    Ipv6Net::default().into()
                };
                if let Some(gateway) = gateway_of(v4)
                    && !routes.iter().any(|(destination, _)| *destination == default)
                {
                    routes.push((default, gateway));
                }
            }
        }
        routes
            .into_iter()
            .map(|(destination, gateway)| route::add(index, destination, Some(gateway)))
            .collect()
    }
}

/// Masquerade and host ports, in one transaction.
pub(super) fn add_elements(host: &mut Host, record: &Record) -> Result<()> {
    let masquerade = record.masquerade_entries();
    let ports = record.port_entries();
    let mut entries = masquerade.clone();
    entries.extend(ports.iter().map(|(_, entry)| entry.clone()));
    entries.extend(record.link.as_deref().map(elements::bridge));
    host.nft.add(&entries).map_err(|(index, error)| {
        let port = index
            .and_then(|index| index.checked_sub(masquerade.len()))
            .and_then(|index| ports.get(index));
        match (port, error.errno()) {
            (Some((port, _)), Some(libc::EEXIST | libc::EBUSY)) => Error::PortTaken {
                port: port.to_string(),
            },
            _ => error,
        }
    })?;
    host.nft.forget_streams(&record.ports)
}

/// A 64-bit FNV-1a hash.
pub(super) fn hash(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// The name of the host's end: always the same for a pod's interface, so that it is found without a record.
pub(super) fn host_interface(id: &str, ifname: &str) -> String {
    let hash = hash(id.bytes().chain([0]).chain(ifname.bytes()));
    // FNV's upper bits mix worse than its lower ones: fold.
    format!("veth{:011x}", (hash ^ hash >> 44) & 0xFFF_FFFF_FFFF)
}

fn mac_of(allocations: &[Allocation]) -> [u8; 6] {
    mac_of_addresses(allocations.first().map(|allocation| allocation.address.addr()))
}

/// The hardware address that goes with an address, so that who reuses the address needs no new neighbour entries.
fn mac_of_addresses(address: Option<IpAddr>) -> [u8; 6] {
    let low = match address {
        Some(IpAddr::V4(v4)) => v4.octets(),
        Some(IpAddr::V6(v6)) => {
            let [.., a, b, c, d] = v6.octets();
            [a, b, c, d]
        }
        None => [0; 4],
    };
    [0x0a, 0x58, low[0], low[1], low[2], low[3]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_interfaces_have_stable_distinct_valid_names() {
        let name = host_interface("a", "eth0");
        assert_eq!(name, host_interface("a", "eth0"));
        assert!(name.len() <= 15 && name.starts_with("veth"));
        assert_ne!(name, host_interface("a", "eth1"));
        assert_ne!(host_interface("ae", "th0"), host_interface("a", "eth0"));
    }

    #[test]
    fn hardware_addresses_follow_from_addresses() {
        let mac = mac_of_addresses(Some("10.88.0.5".parse().expect("address")));
        assert_eq!(format_mac(&mac), "0a:58:0a:58:00:05");
    }
}
