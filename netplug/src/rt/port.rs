//! VLAN membership of bridge ports and of the bridge itself.

use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{
    AfSpecBridge, BridgeVlanInfo, BridgeVlanInfoFlags, LinkAttribute, LinkMessage,
};
use nix::libc;

use super::request;
use crate::netlink::Request;

/// Makes a port an access port of `vlan`: what comes in untagged belongs to it, what goes out loses its tag.
pub(crate) fn join_vlan(index: u32, vlan: u16) -> Request {
    let flags = BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged;
    let what = format!("add bridge port {index} to VLAN {vlan}");
    request(libc::RTM_SETLINK, 0, &message(index, flags, vlan), what)
}

/// Takes a port out of a VLAN, such as the bridge's default one.
pub(crate) fn leave_vlan(index: u32, vlan: u16) -> Request {
    let what = format!("take bridge port {index} out of VLAN {vlan}");
    request(
        libc::RTM_DELLINK,
        0,
        &message(index, BridgeVlanInfoFlags::empty(), vlan),
        what,
    )
}

/// Lets the bridge's own interface see a VLAN, tagged, so that a VLAN interface on it gets its packets.
pub(crate) fn bridge_joins_vlan(bridge: u32, vlan: u16) -> Request {
    let flags = BridgeVlanInfoFlags::Controller;
    let mut message = message(bridge, flags, vlan);
    if let Some(LinkAttribute::AfSpecBridge(spec)) = message.attributes.first_mut() {
        // IFLA_BRIDGE_FLAGS = BRIDGE_FLAGS_SELF: the bridge, not a port of another bridge.
        spec.insert(
            0,
            AfSpecBridge::Flags(netlink_packet_route::link::BridgeFlag::LowerDev),
        );
    }
    request(
        libc::RTM_SETLINK,
        0,
        &message,
        format!("add bridge {bridge} itself to VLAN {vlan}"),
    )
}

fn message(index: u32, flags: BridgeVlanInfoFlags, vlan: u16) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Bridge;
    message.header.index = index;
    let info = AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid: vlan });
    message.attributes.push(LinkAttribute::AfSpecBridge(vec![info]));
    message
}
