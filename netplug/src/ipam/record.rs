//! The record of an attached pod: all that is needed to put its elements back, or to take it away.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::nft::elements::{self, Entry};
use crate::request::{Bandwidth, PortMap};

/// An attached pod (or one that is being attached, or was not wholly detached).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) ifname: String,
    pub(crate) netns: PathBuf,
    pub(crate) host_interface: String,
    pub(crate) addresses: Vec<IpNet>,
    pub(crate) gateways: Vec<IpAddr>,
    pub(crate) mac: [u8; 6],
    #[serde(default)]
    pub(crate) ports: Vec<PortMap>,
    #[serde(default)]
    pub(crate) bandwidth: Bandwidth,
    #[serde(default)]
    pub(crate) masquerade: bool,
    /// The interface was made by somebody else: it only has ports and limits of ours.
    #[serde(default)]
    pub(crate) adopted: bool,
    /// An interface of this pod alone that leads to it, where there is no bridge.
    #[serde(default)]
    pub(crate) link: Option<String>,
}

impl Record {
    pub(crate) fn ips(&self) -> Vec<IpAddr> {
        self.addresses.iter().map(IpNet::addr).collect()
    }

    /// The elements that make the pod masqueraded.
    pub(crate) fn masquerade_entries(&self) -> Vec<Entry> {
        if !self.masquerade {
            return Vec::new();
        }
        self.addresses
            .iter()
            .map(|address| elements::masquerade(address.addr()))
            .collect()
    }

    /// The elements of its host ports, each with the port it stands for.
    pub(crate) fn port_entries(&self) -> Vec<(&PortMap, Entry)> {
        let ips = self.ips();
        self.ports
            .iter()
            .flat_map(|map| {
                elements::port(map, &ips)
                    .into_iter()
                    .map(move |entry| (map, entry))
            })
            .collect()
    }

    /// All its elements.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let mut entries = self.masquerade_entries();
        entries.extend(self.port_entries().into_iter().map(|(_, entry)| entry));
        entries.extend(self.link.as_deref().map(elements::bridge));
        entries
    }
}
