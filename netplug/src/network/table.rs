//! The nf_tables table, and what a network has in it.

use ipnet::IpNet;

use super::attach::hash;
use super::{Host, Network};
use crate::error::Result;
use crate::ipam::record::Record;
use crate::nft::elements::{self, Entry};

/// What is never masqueraded besides the ranges: multicast.
const MULTICAST: [&str; 2] = ["224.0.0.0/4", "ff00::/8"];

impl Network {
    /// A short name for this network that no other on this host has: it stands for the state folder.
    pub(super) fn label(&self) -> String {
        let folder = self.0.config.state_dir.as_os_str().as_encoded_bytes();
        format!("{:08x}", hash(folder.iter().copied()) >> 32)
    }

    /// The interfaces behind which the pods are, seen from the host.
    pub(super) fn interfaces(&self) -> Vec<String> {
        let name = &self.0.config.bridge;
        let vlan = self.0.config.vlan.map(|vlan| format!("{name}.{vlan}"));
        std::iter::once(name.clone()).chain(vlan).collect()
    }

    /// The element that says that this network's elements are all there.
    pub(super) fn mark(&self) -> Entry {
        elements::network(&self.label())
    }

    /// Makes the table whole, and puts in all that belongs to this network; its mark last. For callers that hold
    /// the store's lock.
    pub(super) fn set_up_table(
        &self,
        host: &mut Host,
        inside: &[IpNet],
        interfaces: &[String],
    ) -> Result<()> {
        if !host.nft.is_whole()? {
            host.nft.build()?;
        }
        let mut inside = inside.to_vec();
        inside.extend(MULTICAST.iter().filter_map(|text| text.parse::<IpNet>().ok()));
        host.nft.add_inside(&inside)?;
        let interfaces: Vec<Entry> = interfaces.iter().map(|name| elements::bridge(name)).collect();
        host.nft.add_many(&interfaces)?;
        let mark = self.mark();
        if host.nft.contains(&mark)? {
            return Ok(());
        }
        let entries: Vec<Entry> = self.0.store.records()?.iter().flat_map(Record::entries).collect();
        host.nft.add_many(&entries)?;
        host.nft.add_many(&[mark])
    }
}
