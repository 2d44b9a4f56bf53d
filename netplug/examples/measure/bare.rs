//! What the kernel takes for the least that makes a pod's interface: a veth pair, one end in the pod's namespace, the
//! other a port of the bridge, both up. Nothing is allocated, recorded, routed or translated.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::ns::Ns;

const HOST_END: &str = "bare";

/// A socket in the calling thread's namespace, opened before the time is taken.
pub(crate) struct Kernel(Socket);

impl Kernel {
    pub(crate) fn open() -> Kernel {
        let mut socket = Socket::new(NETLINK_ROUTE).expect("socket");
        socket.bind_auto().expect("bind");
        Kernel(socket)
    }

    /// The index of a link.
    pub(crate) fn index(name: &str) -> u32 {
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/dev_snmp6/{name}"));
        let text = text.expect("the bridge has IPv6");
        let first = text.split_whitespace().nth(1).expect("ifIndex");
        first.parse().expect("number")
    }

    pub(crate) fn attach(&self, bridge: u32, pod: &Ns, inside: &Kernel) {
        let mut peer = named("eth0");
        peer.attributes
            .extend([LinkAttribute::Mtu(1500), LinkAttribute::NetNsFd(pod.fd())]);
        let mut pair = named(HOST_END);
        pair.attributes.extend([
            LinkAttribute::Mtu(1500),
            LinkAttribute::Controller(bridge),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ]);
        self.ask(RouteNetlinkMessage::NewLink(pair), NLM_F_CREATE | NLM_F_EXCL);
        inside.ask(RouteNetlinkMessage::SetLink(up(named("eth0"))), 0);
        self.ask(RouteNetlinkMessage::SetLink(up(named(HOST_END))), 0);
    }

    pub(crate) fn detach(&self) {
        self.ask(RouteNetlinkMessage::DelLink(named(HOST_END)), 0);
    }

    fn ask(&self, message: RouteNetlinkMessage, flags: u16) {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.0.send_to(&bytes, &SocketAddr::new(0, 0), 0).expect("send");
        let (answer, _) = self.0.recv_from_full().expect("answer");
        // struct nlmsghdr, then the error code.
        assert_eq!(answer[16..20], [0; 4], "refused");
    }
}

fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}

fn up(mut message: LinkMessage) -> LinkMessage {
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}
