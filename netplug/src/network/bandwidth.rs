//! Bandwidth limits of a pod: a token bucket on each way.
//!
//! To the pod: on the host's end of its pair. From the pod: what comes in by that end is sent through an
//! ifb device with a bucket of its own. Both are outside the pod, where it can't remove them.

use nix::libc;

use super::Host;
use super::attach::host_interface;
use crate::error::{Error, Result};
use crate::ipam::record::Record;
use crate::netlink::Request;
use crate::request::Rate;
use crate::rt::link::{self, Link, Target};
use crate::rt::make;
use crate::rt::tc;

/// Puts the record's limits on the host's end of the pod's pair.
pub(super) fn limit(host: &mut Host, port: &Link, record: &Record) -> Result<()> {
    if let Some(rate) = record.bandwidth.ingress {
        host.route.run(&[bucket(port.index, port.mtu, rate)])?;
    }
    if let Some(rate) = record.bandwidth.egress {
        let name = ifb_name(&record.id, &record.ifname);
        match host.route.run(&[make::create_ifb(&name, port.mtu)]) {
            // One that was cut off and isn't deleted yet, or that a crash left.
            Err(error) if error.errno() == Some(libc::EEXIST) => {
                host.route.try_all(&[link::delete(Target::Name(&name))])?;
                host.route.run(&[make::create_ifb(&name, port.mtu)])?;
            }
            done => done?,
        }
        let ifb = host.route.link(&name)?.ok_or(Error::NoInterface { name })?;
        let queue = bucket(ifb.index, port.mtu, rate);
        host.route.run(&[
            queue,
            tc::ingress(port.index),
            tc::redirect(port.index, ifb.index),
        ])?;
    }
    Ok(())
}

/// A bucket that holds at least one packet: a smaller one would let nothing through.
fn bucket(index: u32, mtu: u32, rate: Rate) -> Request {
    const ETHERNET_HEADER: u32 = 18;
    let packet = u64::from(mtu + ETHERNET_HEADER) * 8;
    tc::limit(index, rate.bits_per_second, rate.burst_bits.max(packet))
}

/// The ifb device that goes with a pod's interface.
pub(super) fn ifb_name(id: &str, ifname: &str) -> String {
    host_interface(id, ifname).replacen("veth", "ifbp", 1)
}
