//! Requests that do away with links: first they are cut off, then all of them are deleted at once.

use netlink_packet_route::link::{
    BridgePortState, InfoBridgePort, InfoPortData, InfoPortKind, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage,
};
use nix::libc;

use super::link::{Target, message};
use super::request;
use crate::netlink::Request;

/// The link group of what is to be deleted: "pint".
const DOOMED: u32 = 0x7069_6e74;

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
