//! Detaching pods, and finding what was never detached.

use std::collections::HashSet;
use std::path::Path;

use nix::libc;

use super::attach::host_interface;
use super::bandwidth::ifb_name;
use super::{Host, Network};
use crate::error::{Error, Result};
use crate::ipam::record::Record;
use crate::netlink::Request;
use crate::request::check_key;
use crate::rt::doom;

impl Network {
    /// Takes a pod's interface away and frees its addresses and ports. Succeeds for what is half there, was never
    /// there, or whose namespace is gone.
    ///
    /// The pod is cut off and what it held is free when this returns. Its interface pair is deleted on a thread of its
    /// own: the kernel takes some 20 ms for that, which nobody needs to wait for.
    ///
    /// # Errors
    /// What could not be taken away; it is then still recorded, and detaching can be tried again.
    pub fn detach(&self, id: &str, netns: Option<&Path>, ifname: &str) -> Result<()> {
        self.cut_off(id, netns, ifname)?;
        self.sweep_later()
    }

    /// [`Network::detach`] without the deletion of the interface pair, which [`Network::sweep`] does.
    ///
    /// # Errors
    /// As [`Network::detach`].
    pub fn cut_off(&self, id: &str, _netns: Option<&Path>, ifname: &str) -> Result<()> {
        check_key(id, ifname)?;
        self.with_host(|host| match self.0.store.record(id, ifname)? {
            Some(record) => self.remove(host, &record),
            None => self.remove_unrecorded(host, id, ifname),
        })
    }

    /// Frees everything that belongs to pods not in `live`, whatever was left of it by crashes. Returns their ids.
    ///
    /// # Errors
    /// What could not be freed; the rest is freed all the same.
    pub fn gc(&self, live: &[String]) -> Result<Vec<String>> {
        let live: HashSet<&str> = live.iter().map(String::as_str).collect();
        self.with_host(|host| self.collect(host, |id, _| live.contains(id)))
    }

    /// [`Network::gc`] for those who know which interfaces of a pod (id, interface) are live.
    ///
    /// # Errors
    /// As [`Network::gc`].
    pub fn gc_interfaces(&self, live: &[(String, String)]) -> Result<Vec<String>> {
        let live: HashSet<(&str, &str)> = live
            .iter()
            .map(|(id, ifname)| (id.as_str(), ifname.as_str()))
            .collect();
        self.with_host(|host| self.collect(host, |id, ifname| live.contains(&(id, ifname))))
    }

    fn collect(&self, host: &mut Host, is_live: impl Fn(&str, &str) -> bool) -> Result<Vec<String>> {
        let mut freed = Vec::new();
        let mut errors = Vec::new();
        let mut leftovers = self.0.store.keys()?;
        leftovers.retain(|(id, ifname)| !is_live(id, ifname));
        // Addresses and interfaces without a record are nobody's, whoever lives.
        leftovers.extend(self.0.store.orphans()?);
        leftovers.extend(self.stray_interfaces(host)?);
        for (id, ifname) in leftovers {
            let outcome = match self.0.store.record(&id, &ifname) {
                Ok(Some(record)) => self.remove(host, &record),
                Ok(None) => self.remove_unrecorded(host, &id, &ifname),
                Err(error) => Err(error),
            };
            match outcome {
                Ok(()) if !freed.contains(&id) => freed.push(id),
                Ok(()) => {}
                Err(error) => errors.push(error),
            }
        }
        self.sweep()?;
        Error::collect(errors).map(|()| freed)
    }

    /// Pods of which there is an interface of ours, but no record: the state folder was lost.
    fn stray_interfaces(&self, host: &mut Host) -> Result<Vec<(String, String)>> {
        let prefix = self.alias_prefix();
        // The links before the records: what is being attached meanwhile has its record first.
        let links = host.route.links()?;
        let recorded: HashSet<(String, String)> = self.0.store.keys()?.into_iter().collect();
        let owners = links.iter().filter_map(|link| {
            let (id, ifname) = link.alias.strip_prefix(&prefix)?.split_once(':')?;
            Some((id.to_owned(), ifname.to_owned()))
        });
        Ok(owners.filter(|owner| !recorded.contains(owner)).collect())
    }

    fn remove(&self, host: &mut Host, record: &Record) -> Result<()> {
        self.take_down(host, record)?;
        self.0.store.release(&record.id, &record.ifname, &record.ips())
    }

    /// What there may be of a pod without a (readable) record.
    fn remove_unrecorded(&self, host: &mut Host, id: &str, ifname: &str) -> Result<()> {
        let ips = self.0.store.addresses_of(id, ifname)?;
        host.nft.delete_addresses(&ips)?;
        cut_off_port(host, &host_interface(id, ifname))?;
        cut_off(host, doom::doom(&ifb_name(id, ifname)))?;
        self.0.store.release(id, ifname, &ips)
    }

    /// Takes away what a record names in the kernel. Goes on to the end, whatever fails.
    pub(super) fn take_down(&self, host: &mut Host, record: &Record) -> Result<()> {
        let mut errors = Vec::new();
        errors.extend(host.nft.delete(&record.entries()).err());
        errors.extend(host.nft.forget_streams(&record.ports).err());
        if !record.adopted {
            errors.extend(cut_off_port(host, &record.host_interface).err());
        }
        if record.bandwidth.egress.is_some() {
            errors.extend(cut_off(host, doom::doom(&ifb_name(&record.id, &record.ifname))).err());
        }
        Error::collect(errors)
    }
}

fn cut_off_port(host: &mut Host, name: &str) -> Result<()> {
    match cut_off(host, doom::doom_port(name)) {
        Ok(()) => Ok(()),
        // It isn't a port (any more), or spanning tree decides over its state.
        Err(_) => cut_off(host, doom::doom(name)),
    }
}

/// Cuts a link off; one that doesn't exist is no error.
fn cut_off(host: &mut Host, request: Request) -> Result<()> {
    match host.route.run(&[request]) {
        Err(error) if error.errno() == Some(libc::ENODEV) => Ok(()),
        done => done,
    }
}
