//! Addresses of links.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol,
};
use nix::libc;

use super::{Route, request};
use crate::error::Result;
use crate::netlink::Request;
use crate::netlink::wire::find;

/// `IFA_ADDRESS` and `IFA_LOCAL` of `linux/if_addr.h`, for reading.
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// `IFA_PROTO`: who has given an address; from Linux 5.18 on.
const IFA_PROTO: u16 = 11;
/// The mark of gateway addresses: "p".
const OURS: u8 = b'p';

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) net: IpNet,
    /// It bears the mark of [`add_gateway`].
    pub(crate) ours: bool,
}

impl Route {
    /// The addresses of a link with their prefix lengths; IPv6 link-local ones left out.
    pub(crate) fn addresses(&mut self, index: u32) -> Result<Vec<Address>> {
        let mut found: Vec<Address> = Vec::new();
        let message = AddressMessage::default();
        let request = request(libc::RTM_GETADDR, 0, &message, "list addresses".into());
        self.0.dump(&request, |payload| {
            if let Some((owner, address)) = parse(payload)
                && owner == index
                && !found.contains(&address)
            {
                found.push(address);
            }
            Ok(())
        })?;
        Ok(found)
    }
}

/// Gives a link an address of the host's, marked so that it is known again when it isn't wanted any more.
pub(crate) fn add_gateway(index: u32, name: &str, address: IpNet) -> Request {
    let mut message = addition(index, address, false);
    message
        .attributes
        .push(AddressAttribute::Protocol(AddressProtocol::Other(OURS)));
    request(
        libc::RTM_NEWADDR,
        NLM_F_CREATE,
        &message,
        format!("add address {address} to {name}"),
    )
}

/// Gives a link an address. Unless `dad`, IPv6 addresses are usable at once: no duplicate address detection, since
/// the allocator knows that there is no duplicate.
pub(crate) fn add(index: u32, name: &str, address: IpNet, dad: bool) -> Request {
    let message = addition(index, address, dad);
    request(
        libc::RTM_NEWADDR,
        NLM_F_CREATE,
        &message,
        format!("add address {address} to {name}"),
    )
}

fn addition(index: u32, address: IpNet, dad: bool) -> AddressMessage {
    let mut message = base(index, address);
    match address {
        IpNet::V4(net) if net.prefix_len() < 31 => {
            message
                .attributes
                .push(AddressAttribute::Broadcast(net.broadcast()));
        }
        IpNet::V6(_) if !dad => {
            message.header.flags = AddressHeaderFlags::Nodad;
            message
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        _ => {}
    }
    message
}

/// The IPv6 link-local address that goes with a hardware address (RFC 4291, appendix A).
pub(crate) fn link_local(mac: [u8; 6]) -> IpNet {
    let [a, b, c, d, e, f] = mac.map(u16::from);
    let address = Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        (a ^ 2) << 8 | b,
        c << 8 | 0xff,
        0xfe00 | d,
        e << 8 | f,
    );
    IpNet::V6(Ipv6Net::new_assert(address, 64))
}

/// Takes an address from a link.
pub(crate) fn delete(index: u32, name: &str, address: IpNet) -> Request {
    request(
        libc::RTM_DELADDR,
        0,
        &base(index, address),
        format!("delete address {address} of {name}"),
    )
}

fn base(index: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = address.prefix_len();
    message.header.family = if address.addr().is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    message.attributes.push(AddressAttribute::Address(address.addr()));
    message.attributes.push(AddressAttribute::Local(address.addr()));
    message
}

/// Index and address out of a `struct ifaddrmsg` (family, prefix length, flags, scope, index) and its attributes.
fn parse(payload: &[u8]) -> Option<(u32, Address)> {
    let prefix = *payload.get(1)?;
    let index = u32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?);
    let attributes = payload.get(8..)?;
    let raw = find(attributes, IFA_LOCAL).or_else(|| find(attributes, IFA_ADDRESS))?;
    let address = match *raw {
        [a, b, c, d] => IpAddr::from(Ipv4Addr::new(a, b, c, d)),
        _ => IpAddr::from(<[u8; 16]>::try_from(raw).ok()?),
    };
    if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        return None;
    }
    let ours = find(attributes, IFA_PROTO) == Some(&[OURS][..]);
    Some((
        index,
        Address {
            net: IpNet::new(address, prefix).ok()?,
            ours,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_addresses_follow_from_hardware_addresses() {
        let address = link_local([0x0a, 0x58, 0x0a, 0x42, 0x00, 0x02]);
        assert_eq!(address.to_string(), "fe80::858:aff:fe42:2/64");
    }
}
