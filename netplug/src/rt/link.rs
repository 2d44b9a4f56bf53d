//! Links: look up, create, change, delete.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, BridgePortState, In6AddrGenMode, InfoBridge, InfoBridgePort, InfoData,
    InfoKind, InfoPortData, InfoPortKind, InfoVeth, InfoVlan, LinkAttribute, LinkExtentMask, LinkFlags,
    LinkInfo, LinkMessage,
};
use nix::libc;

use super::{Route, request};
use crate::error::{Error, Result};
use crate::netlink::wire::{AttrIter, find};
use crate::netlink::{Request, decode};

/// Loopback is always the first link of a network namespace.
pub(crate) const LOOPBACK: u32 = 1;

/// The link group of what is to be deleted: "pint".
const DOOMED: u32 = 0x7069_6e74;

/// `IFLA_*` numbers of `linux/if_link.h`, for reading.
mod ifla {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const IFNAME: u16 = 3;
    pub(super) const MTU: u16 = 4;
    pub(super) const MASTER: u16 = 10;
    pub(super) const LINKINFO: u16 = 18;
    pub(super) const IFALIAS: u16 = 20;
    pub(super) const INFO_KIND: u16 = 1;
    pub(super) const INFO_DATA: u16 = 2;
    pub(super) const BR_VLAN_FILTERING: u16 = 7;
}

/// What is needed to know of a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// `bridge`, `veth`, …; empty for hardware and loopback.
    pub(crate) kind: String,
    pub(crate) mac: Vec<u8>,
    pub(crate) mtu: u32,
    /// Index of the bridge it is a port of, 0 for none.
    pub(crate) master: u32,
    pub(crate) alias: String,
    pub(crate) up: bool,
    pub(crate) promiscuous: bool,
    /// For bridges.
    pub(crate) vlan_filtering: bool,
}

/// A link to work on: by index when it is known, else by name.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target<'a> {
    Index(u32),
    Name(&'a str),
}

impl std::fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Index(index) => write!(f, "link {index}"),
            Target::Name(name) => f.write_str(name),
        }
    }
}

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

impl Route {
    /// The link of that name, if there is one.
    pub(crate) fn link(&mut self, name: &str) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message
            .attributes
            .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let request = request(libc::RTM_GETLINK, 0, &message, format!("look up {name}"));
        match self.0.get(&request, parse) {
            Ok(link) => Ok(Some(link)),
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The link of that index, if there is one.
    pub(crate) fn link_by_index(&mut self, index: u32) -> Result<Option<Link>> {
        let mut message = message(Target::Index(index));
        message
            .attributes
            .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let request = request(libc::RTM_GETLINK, 0, &message, format!("look up link {index}"));
        match self.0.get(&request, parse) {
            Ok(link) => Ok(Some(link)),
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every link.
    pub(crate) fn links(&mut self) -> Result<Vec<Link>> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let mut links: Vec<Link> = Vec::new();
        self.0.dump(
            &request(libc::RTM_GETLINK, 0, &message, "list links".into()),
            |payload| {
                let link = parse(payload)?;
                if !links.iter().any(|known| known.index == link.index) {
                    links.push(link);
                }
                Ok(())
            },
        )?;
        Ok(links)
    }
}

fn message(target: Target<'_>) -> LinkMessage {
    let mut message = LinkMessage::default();
    match target {
        Target::Index(index) => message.header.index = index,
        Target::Name(name) => message.attributes.push(LinkAttribute::IfName(name.to_owned())),
    }
    message
}

/// Creates a bridge, down. With `vlan`, ports are separated by VLAN.
pub(crate) fn create_bridge(name: &str, mtu: u32, vlan: bool) -> Request {
    let mut message = message(Target::Name(name));
    // A forwarding delay of zero and no spanning tree: a pod's first packet must not wait.
    // Without a querier, listening to group memberships brings nothing, and costs time for every port whenever
    // one comes or goes.
    let mut data = vec![InfoBridge::ForwardDelay(0), InfoBridge::MulticastSnooping(false)];
    if vlan {
        data.push(InfoBridge::VlanFiltering(true));
    }
    message.attributes.push(LinkAttribute::Mtu(mtu));
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

/// Sets up the host's end of a pod's pair as a bridge port and brings it up. `ipv6` if the link may have IPv6.
pub(crate) fn start_port(name: &str, hairpin: bool, alias: &str, ipv6: bool) -> Request {
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
    // A bridge port needs no address of its own.
    message.attributes.extend(ipv6.then(no_own_ipv6));
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
    message.attributes.push(no_own_ipv6());
    request(
        libc::RTM_SETLINK,
        0,
        &message,
        format!("keep link {index} from making IPv6 addresses"),
    )
}

fn no_own_ipv6() -> LinkAttribute {
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])])
}

/// Brings a link up.
pub(crate) fn set_up(target: Target<'_>) -> Request {
    request(
        libc::RTM_SETLINK,
        0,
        &up(message(target)),
        format!("bring up {target}"),
    )
}

/// Gives a link its hardware address.
pub(crate) fn set_mac(target: Target<'_>, mac: &[u8]) -> Request {
    let mut message = message(target);
    message.attributes.push(LinkAttribute::Address(mac.to_vec()));
    request(
        libc::RTM_SETLINK,
        0,
        &message,
        format!("set the hardware address of {target}"),
    )
}

/// Lets a link take packets for any hardware address.
pub(crate) fn set_promiscuous(target: Target<'_>) -> Request {
    let mut message = message(target);
    message.header.flags = LinkFlags::Promisc;
    message.header.change_mask = LinkFlags::Promisc;
    request(
        libc::RTM_SETLINK,
        0,
        &message,
        format!("set {target} promiscuous"),
    )
}

/// Lets a bridge tell VLANs apart.
pub(crate) fn set_vlan_filtering(target: Target<'_>) -> Request {
    let mut message = message(target);
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Bridge),
        LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::VlanFiltering(true)])),
    ]));
    request(
        libc::RTM_NEWLINK,
        0,
        &message,
        format!("let {target} filter VLANs"),
    )
}

/// Cuts a bridge port off: the bridge passes nothing to or from it any more. Puts it in the group that
/// [`delete_doomed`] deletes. Other than bringing it down, this waits for nobody.
pub(crate) fn doom_port(name: &str) -> Request {
    let mut message = doomed(name);
    let state = InfoBridgePort::State(BridgePortState::Disabled);
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(vec![state])),
    ]));
    request(
        libc::RTM_NEWLINK,
        0,
        &message,
        format!("cut off bridge port {name}"),
    )
}

/// Brings a link down and puts it in the group that [`delete_doomed`] deletes.
pub(crate) fn doom(name: &str) -> Request {
    let mut message = doomed(name);
    message.header.change_mask = LinkFlags::Up;
    request(libc::RTM_SETLINK, 0, &message, format!("cut off {name}"))
}

fn doomed(name: &str) -> LinkMessage {
    let mut message = message(Target::Name(name));
    // Without its label it is nobody's any more.
    message.attributes.extend([
        LinkAttribute::Group(DOOMED),
        LinkAttribute::IfAlias(String::new()),
    ]);
    message
}

/// Deletes all links that were cut off, at once. Takes the kernel some 20 ms, however many they are;
/// `ENODEV` if there are none.
pub(crate) fn delete_doomed() -> Request {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::Group(DOOMED));
    request(
        libc::RTM_DELLINK,
        0,
        &message,
        "delete links that were cut off".into(),
    )
}

/// Deletes a link; with a veth end goes its peer.
pub(crate) fn delete(target: Target<'_>) -> Request {
    request(libc::RTM_DELLINK, 0, &message(target), format!("delete {target}"))
}

fn up(mut message: LinkMessage) -> LinkMessage {
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}

fn parse(payload: &[u8]) -> Result<Link> {
    // struct ifinfomsg: family, pad, type (16), index (32), flags (32), change (32).
    let word = |at: usize| payload.get(at..at + 4).and_then(number).ok_or_else(torn);
    let flags = word(8)?;
    let mut link = Link {
        index: word(4)?,
        up: flags & LinkFlags::Up.bits() != 0,
        promiscuous: flags & LinkFlags::Promisc.bits() != 0,
        ..Link::default()
    };
    for (kind, value) in AttrIter(payload.get(16..).unwrap_or(&[])) {
        match kind {
            ifla::IFNAME => link.name = text(value),
            ifla::ADDRESS => link.mac = value.to_vec(),
            ifla::MTU => link.mtu = number(value).ok_or_else(torn)?,
            ifla::MASTER => link.master = number(value).ok_or_else(torn)?,
            ifla::IFALIAS => link.alias = text(value),
            ifla::LINKINFO => {
                link.kind = find(value, ifla::INFO_KIND).map(text).unwrap_or_default();
                link.vlan_filtering = link.kind == "bridge"
                    && find(value, ifla::INFO_DATA)
                        .and_then(|data| find(data, ifla::BR_VLAN_FILTERING))
                        .is_some_and(|value| value.first() == Some(&1));
            }
            _ => {}
        }
    }
    Ok(link)
}

fn torn() -> Error {
    decode("read link", "torn message")
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_link_is_an_error() {
        assert!(parse(&[0; 7]).is_err());
    }
}
