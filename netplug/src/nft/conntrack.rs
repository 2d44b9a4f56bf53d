//! Connections that the kernel remembers, and must forget when a host port comes or goes.
//!
//! Only a connection's first packet meets the port maps. A stream of datagrams to a port that began before its
//! pod came would never reach the pod, and one that outlives its pod would go to the address's next owner.
//! (TCP ends by itself.) Numbers are those of `linux/netfilter/nfnetlink_conntrack.h`.

use nix::libc;

use super::Nft;
use crate::error::Result;
use crate::netlink::Request;
use crate::netlink::wire::{Attrs, find};
use crate::request::{PortMap, Protocol};

/// `NFNL_SUBSYS_CTNETLINK << 8`.
const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const TUPLE_ORIG: u16 = 1;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
const FILTER_ORIG_FLAGS: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const PROTO_NUM: u16 = 1;
const PROTO_DST_PORT: u16 = 3;
/// `CTA_FILTER_F_CTA_PROTO_NUM` and `..._DST_PORT` of the kernel's `nf_conntrack_netlink.c`.
const MATCH_PROTOCOL_AND_PORT: u32 = 1 << 3 | 1 << 5;
const NESTED: u16 = 1 << 15;

impl Nft {
    /// Forgets the streams to these ports, those of TCP excepted.
    pub(crate) fn forget_streams(&mut self, ports: &[PortMap]) -> Result<()> {
        for port in ports.iter().filter(|port| port.protocol != Protocol::Tcp) {
            for family in [libc::AF_INET, libc::AF_INET6] {
                self.forget(u8::try_from(family).unwrap_or_default(), port)?;
            }
        }
        Ok(())
    }

    fn forget(&mut self, family: u8, port: &PortMap) -> Result<()> {
        let mut found: Vec<Request> = Vec::new();
        self.0.dump(&list(family, port), |payload| {
            let attributes = payload.get(4..).unwrap_or(&[]);
            if let Some(tuple) = find(attributes, TUPLE_ORIG)
                && is_to(tuple, port)
            {
                found.push(deletion(family, tuple, find(attributes, ZONE)));
            }
            Ok(())
        })?;
        for request in found {
            match self.0.request(&[request]) {
                // Gone by itself.
                Err(error) if error.errno() == Some(libc::ENOENT) => {}
                done => done?,
            }
        }
        Ok(())
    }
}

/// Asks for the connections to a port. A kernel that knows no filters tells all.
fn list(family: u8, port: &PortMap) -> Request {
    let mut body = Attrs::with_header(&[family, 0, 0, 0]);
    body.nested(TUPLE_ORIG, |tuple| {
        tuple.nested(TUPLE_PROTO, |proto| {
            proto.bytes(PROTO_NUM, &[port.protocol.number()]);
            proto.bytes(PROTO_DST_PORT, &port.host_port.to_be_bytes());
        });
    });
    body.nested(FILTER, |filter| {
        filter.u32(FILTER_ORIG_FLAGS, MATCH_PROTOCOL_AND_PORT);
    });
    Request {
        kind: GET,
        flags: 0,
        body: body.into_bytes(),
        what: format!("list connections to port {port}"),
    }
}

/// Whether a connection's first packet went to the port.
fn is_to(tuple: &[u8], port: &PortMap) -> bool {
    let Some(proto) = find(tuple, TUPLE_PROTO) else {
        return false;
    };
    find(proto, PROTO_NUM) == Some(&[port.protocol.number()][..])
        && find(proto, PROTO_DST_PORT) == Some(&port.host_port.to_be_bytes()[..])
}

fn deletion(family: u8, tuple: &[u8], zone: Option<&[u8]>) -> Request {
    let mut body = Attrs::with_header(&[family, 0, 0, 0]);
    body.bytes(TUPLE_ORIG | NESTED, tuple);
    if let Some(zone) = zone {
        body.bytes(ZONE, zone);
    }
    Request {
        kind: DELETE,
        flags: 0,
        body: body.into_bytes(),
        what: "forget a connection".into(),
    }
}
