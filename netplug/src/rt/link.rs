//! Links: look up, create, change, delete.

use std::collections::HashSet;

use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};
use nix::libc;

use super::{Route, request};
use crate::error::{Error, Result};
use crate::netlink::wire::{AttrIter, find};
use crate::netlink::{Request, decode};

/// Loopback is always the first link of a network namespace.
pub(crate) const LOOPBACK: u32 = 1;

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
        let mut links = Vec::new();
        let mut known = HashSet::new();
        self.0.dump(
            &request(libc::RTM_GETLINK, 0, &message, "list links".into()),
            |payload| {
                let link = parse(payload)?;
                if known.insert(link.index) {
                    links.push(link);
                }
                Ok(())
            },
        )?;
        Ok(links)
    }
}

pub(super) fn message(target: Target<'_>) -> LinkMessage {
    let mut message = LinkMessage::default();
    match target {
        Target::Index(index) => message.header.index = index,
        Target::Name(name) => message.attributes.push(LinkAttribute::IfName(name.to_owned())),
    }
    message
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

/// Has a bridge keep its hardware address and MTU. What was never set follows the ports: the address would change under
/// the pods whose gateway it is, and for the MTU the kernel asks all ports whenever one comes or goes.
pub(crate) fn keep(target: Target<'_>, mac: &[u8], mtu: u32) -> Request {
    let mut message = message(target);
    message
        .attributes
        .extend([LinkAttribute::Address(mac.to_vec()), LinkAttribute::Mtu(mtu)]);
    request(
        libc::RTM_SETLINK,
        0,
        &message,
        format!("set hardware address and MTU {mtu} of {target}"),
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

/// Deletes a link; with a veth end goes its peer.
pub(crate) fn delete(target: Target<'_>) -> Request {
    request(libc::RTM_DELLINK, 0, &message(target), format!("delete {target}"))
}

pub(super) fn up(mut message: LinkMessage) -> LinkMessage {
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
