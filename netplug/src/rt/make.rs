//! Requests that make links.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData,
    InfoPortKind, InfoVeth, InfoVlan, LinkAttribute, LinkInfo,
};
use nix::libc;

use super::link::{Target, message, up};
use super::request;
use crate::netlink::Request;

/// A veth pair to be made: one end here, the other in another namespace.
#[derive(Debug)]
pub(crate) struct VethPair<'a> {
    pub(crate) name: &'a str,
    pub(crate) master: u32,
    pub(crate) mtu: u32,
    pub(crate) mac: [u8; 6],
    pub(crate) peer_name: &'a str,
    pub(crate) peer_netns: BorrowedFd<'a>,
    pub(crate) peer_mac: [u8; 6],
}

/// Creates a bridge, down, whose MTU is one off: it is yet to be [set](super::link::keep), and what is set to the value
/// that it has isn't. With `vlan`, ports are separated by VLAN.
pub(crate) fn create_bridge(name: &str, mtu: u32, vlan: bool) -> Request {
    let mut message = message(Target::Name(name));
    // A forwarding delay of zero and no spanning tree: a pod's first packet must not wait.
    // Without a querier, listening to group memberships brings nothing, and costs time for every port whenever
    // one comes or goes.
    let mut data = vec![InfoBridge::ForwardDelay(0), InfoBridge::MulticastSnooping(false)];
    if vlan {
        data.push(InfoBridge::VlanFiltering(true));
    }
    message.attributes.push(LinkAttribute::Mtu(mtu ^ 1));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Bridge),
        LinkInfo::Data(InfoData::Bridge(data)),
    ]));
    request(
        libc::RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        &message,
        format!("create bridge {name}"),
    )
}

/// Creates a VLAN interface on a link, up.
pub(crate) fn create_vlan(name: &str, lower: u32, vlan: u16, mtu: u32) -> Request {
    let mut message = up(message(Target::Name(name)));
    message.attributes.extend([
        LinkAttribute::Link(lower),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vlan),
            LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(vlan)])),
        ]),
    ]);
    request(
        libc::RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        &message,
        format!("create VLAN interface {name}"),
    )
}

/// Creates an ifb device, up. Packets redirected to it pass its queueing discipline and come back.
pub(crate) fn create_ifb(name: &str, mtu: u32) -> Request {
    let mut message = up(message(Target::Name(name)));
    message.attributes.push(LinkAttribute::Mtu(mtu));
    message
        .attributes
        .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Ifb)]));
    request(
        libc::RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        &message,
        format!("create ifb device {name}"),
    )
}

/// Creates a veth pair, both ends down, the peer right in its namespace.
pub(crate) fn create_veth(pair: &VethPair<'_>) -> Request {
    let mut peer = message(Target::Name(pair.peer_name));
    peer.attributes.extend([
        LinkAttribute::Mtu(pair.mtu),
        LinkAttribute::Address(pair.peer_mac.to_vec()),
        LinkAttribute::NetNsFd(pair.peer_netns.as_raw_fd()),
    ]);
    let mut message = message(Target::Name(pair.name));
    message.attributes.extend([
        LinkAttribute::Mtu(pair.mtu),
        LinkAttribute::Address(pair.mac.to_vec()),
        LinkAttribute::Controller(pair.master),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ]);
    let what = format!("create veth pair {} and {}", pair.name, pair.peer_name);
    request(libc::RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &message, what)
}

/// Sets up the host's end of a pod's pair as a bridge port and brings it up.
pub(crate) fn start_port(name: &str, hairpin: bool, alias: &str) -> Request {
    let mut message = up(message(Target::Name(name)));
    message.attributes.extend([
        LinkAttribute::IfAlias(alias.to_owned()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(
                hairpin,
            )])),
        ]),
    ]);
    // RTM_NEWLINK without NLM_F_CREATE: RTM_SETLINK leaves port attributes alone.
    request(
        libc::RTM_NEWLINK,
        0,
        &message,
        format!("bring up bridge port {name}"),
    )
}

/// Lets a link have no IPv6 address but those that it is given.
pub(crate) fn give_no_ipv6(index: u32) -> Request {
    let mut message = message(Target::Index(index));
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    message
        .attributes
        .push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]));
    request(
        libc::RTM_SETLINK,
        0,
        &message,
        format!("keep link {index} from making IPv6 addresses"),
    )
}
