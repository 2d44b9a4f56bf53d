//! Host ports and limits for pods whose interface somebody else has made: a CNI plugin earlier in a chain.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use super::attach::add_elements;
use super::bandwidth::limit;
use super::{Host, Network};
use crate::error::{Error, Result};
use crate::ipam::record::Record;
use crate::request::{Bandwidth, PortMap, check_key, check_ports, check_rates, real_ports};
use crate::rt::link::Link;
use crate::sysctl;

/// A pod that has its interface already.
#[derive(Debug, Clone, Default)]
pub struct AdoptRequest {
    /// Identifies the pod, as in [`AttachRequest`](crate::AttachRequest).
    pub id: String,
    /// Its interface.
    pub ifname: String,
    /// Its addresses; ports lead to the first of each family.
    pub addresses: Vec<IpAddr>,
    /// The host's end of its pair, if it has one. Needed for limits, and for ports that are reached through
    /// 127.0.0.1 or from pods on the same bridge.
    pub host_interface: Option<String>,
    /// Host ports that lead to the pod. Those with host port 0 are left out.
    pub ports: Vec<PortMap>,
    /// Limits.
    pub bandwidth: Bandwidth,
}

impl Network {
    /// Gives host ports and limits to a pod that has its interface from somebody else. The bridge and the ranges of
    /// the configuration play no part in it. [`Network::detach`] takes them away. On failure nothing is left.
    ///
    /// # Errors
    /// [`Error::PortTaken`], [`Error::AlreadyAttached`], [`Error::NoInterface`], [`Error::Invalid`]; what the kernel
    /// refuses.
    pub fn adopt(&self, request: &AdoptRequest) -> Result<()> {
        check_key(&request.id, &request.ifname)?;
        check_ports(&request.ports)?;
        check_rates(&request.bandwidth)?;
        self.with_host(|host| self.adopt_on(host, request))
    }

    fn adopt_on(&self, host: &mut Host, request: &AdoptRequest) -> Result<()> {
        let port = find_port(host, request)?;
        let way = port.as_ref().map(|port| way_in(host, port)).transpose()?;
        let (own, shared) = match &way {
            Some(way) if way.own => (Some(way.name.clone()), Vec::new()),
            Some(way) => (None, vec![way.name.clone()]),
            None => (None, Vec::new()),
        };
        {
            let _lock = self.0.store.lock()?;
            self.set_up_table(host, &[], &shared)?;
        }
        if let Some(way) = &way {
            // For ports reached through 127.0.0.1; the table's guard chain keeps pods out of 127.0.0.0/8.
            sysctl::set_interface("ipv4", &way.name, "route_localnet", "1")?;
        }
        let record = record(request, own);
        self.0.store.insert(&record)?;
        add_elements(host, &record)
            .and_then(|()| port.as_ref().map_or(Ok(()), |port| limit(host, port, &record)))
            .inspect_err(|_| self.undo(host, &record))
    }
}

fn find_port(host: &mut Host, request: &AdoptRequest) -> Result<Option<Link>> {
    match &request.host_interface {
        Some(name) => match host.route.link(name)? {
            None => Err(Error::NoInterface { name: name.clone() }),
            found => Ok(found),
        },
        None if request.bandwidth.is_empty() => Ok(None),
        None => Err(Error::invalid(
            "bandwidth",
            &request.id,
            "no host interface is known to limit",
        )),
    }
}

/// The interface by which the host reaches a pod.
struct Way {
    name: String,
    /// It is this pod's alone.
    own: bool,
}

fn way_in(host: &mut Host, port: &Link) -> Result<Way> {
    if port.master != 0
        && let Some(bridge) = host.route.link_by_index(port.master)?
    {
        return Ok(Way {
            name: bridge.name,
            own: false,
        });
    }
    Ok(Way {
        name: port.name.clone(),
        own: true,
    })
}

fn record(request: &AdoptRequest, link: Option<String>) -> Record {
    Record {
        id: request.id.clone(),
        ifname: request.ifname.clone(),
        netns: PathBuf::new(),
        host_interface: request.host_interface.clone().unwrap_or_default(),
        addresses: request
            .addresses
            .iter()
            .map(|address| IpNet::from(*address))
            .collect(),
        gateways: Vec::new(),
        mac: [0; 6],
        ports: real_ports(&request.ports),
        bandwidth: request.bandwidth,
        masquerade: false,
        adopted: true,
        link,
    }
}
