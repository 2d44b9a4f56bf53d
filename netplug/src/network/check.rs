//! Checking that a pod's network is as it was made.

use std::path::Path;

use super::{Host, Network};
use crate::error::{Error, Result};
use crate::ipam::record::Record;
use crate::netns::Netns;
use crate::request::check_key;
use crate::rt::Route;

impl Network {
    /// Whether all of a pod's network is there: its interface pair, addresses, masquerade and host ports.
    ///
    /// # Errors
    /// [`Error::Missing`] names the first thing that isn't; [`Error::Netns`].
    pub fn check(&self, id: &str, netns: &Path, ifname: &str) -> Result<()> {
        check_key(id, ifname)?;
        let missing = |what: String| Error::Missing {
            id: id.to_owned(),
            what,
        };
        let record = self.0.store.record(id, ifname)?;
        let record = record.ok_or_else(|| missing(format!("the record of {ifname}")))?;
        self.with_host(|host| self.check_host(host, &record))?;
        if record.adopted {
            Ok(())
        } else {
            Netns::open(netns)?.run(|| check_pod(&record))
        }
    }

    fn check_host(&self, host: &mut Host, record: &Record) -> Result<()> {
        let missing = |what: String| Error::Missing {
            id: record.id.clone(),
            what,
        };
        if !host.nft.is_whole()? {
            return Err(missing("the nf_tables table".into()));
        }
        for entry in record.entries() {
            if !host.nft.contains(&entry)? {
                return Err(missing(format!(
                    "an element of the nf_tables set {}",
                    entry.0.name()
                )));
            }
        }
        if record.adopted {
            return Ok(());
        }
        let bridge = host.route.link(&self.0.config.bridge)?.map(|link| link.index);
        let port = host.route.link(&record.host_interface)?;
        if port.is_some_and(|port| port.up && Some(port.master) == bridge) {
            return Ok(());
        }
        Err(missing(format!("the bridge port {}", record.host_interface)))
    }
}

/// The pod's side, by a thread inside its namespace.
fn check_pod(record: &Record) -> Result<()> {
    let missing = |what: String| Error::Missing {
        id: record.id.clone(),
        what,
    };
    let mut socket = Route::open()?;
    let link = socket.link(&record.ifname)?.filter(|link| link.up);
    let link = link.ok_or_else(|| missing(format!("interface {}", record.ifname)))?;
    let present = socket.addresses(link.index)?;
    match record
        .addresses
        .iter()
        .find(|address| !present.iter().any(|one| one.net == **address))
    {
        Some(address) => Err(missing(format!("address {address}"))),
        None => Ok(()),
    }
}
