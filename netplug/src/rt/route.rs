//! Routes: those of a pod, and the look-up of the host's uplink.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use nix::libc;

use super::{Route, request};
use crate::error::Result;
use crate::netlink::wire::find;
use crate::netlink::{Request, decode};

/// `RTA_OIF` of `linux/rtnetlink.h`, for reading.
const RTA_OIF: u16 = 4;

impl Route {
    /// The index of the link by which packets to `destination` leave, `None` if there is no route.
    pub(crate) fn outgoing(&mut self, destination: IpAddr) -> Result<Option<u32>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination);
        message.header.destination_prefix_length = if destination.is_ipv4() { 32 } else { 128 };
        message
            .attributes
            .push(RouteAttribute::Destination(destination.into()));
        let what = format!("look up the route to {destination}");
        let request = request(libc::RTM_GETROUTE, 0, &message, what);
        let found = self.0.get(&request, |payload| {
            // struct rtmsg has 12 bytes.
            let oif = payload.get(12..).and_then(|attributes| find(attributes, RTA_OIF));
            let index = oif.and_then(|raw| raw.try_into().ok()).map(u32::from_ne_bytes);
            index.ok_or_else(|| decode("look up route", "no outgoing interface"))
        });
        match found {
            Ok(index) => Ok(Some(index)),
            Err(error) if no_route(error.errno()) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn no_route(errno: Option<i32>) -> bool {
    matches!(
        errno,
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL)
    )
}

/// Adds a route by way of `gateway`, or straight out of the link without one.
pub(crate) fn add(index: u32, destination: IpNet, gateway: Option<IpAddr>) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = family(destination.addr());
    message.header.destination_prefix_length = destination.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.kind = RouteType::Unicast;
    message.header.scope = if gateway.is_some() || destination.addr().is_ipv6() {
        RouteScope::Universe
    } else {
        RouteScope::Link
    };
    message.attributes.push(RouteAttribute::Oif(index));
    if destination.prefix_len() > 0 {
        message
            .attributes
            .push(RouteAttribute::Destination(destination.network().into()));
    }
    let mut what = format!("add route to {destination}");
    if let Some(gateway) = gateway {
        message.attributes.push(RouteAttribute::Gateway(gateway.into()));
        what = format!("{what} by {gateway}");
    }
    request(libc::RTM_NEWROUTE, NLM_F_CREATE, &message, what)
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}
