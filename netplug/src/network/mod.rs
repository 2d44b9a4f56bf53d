//! A pod network: a bridge, and a veth pair for each pod.
//!
//! ```text
//! attach:  check -> bridge, table (once) -> addresses and record -> table elements -> veth pair -> pod's side
//! detach:                                 record and addresses <- table elements <- veth pair
//! ```
//!
//! What a pod has in the kernel is written down before it is made and forgotten after it is gone, so that whatever
//! a crash leaves behind can be found and taken away.

mod adopt;
mod attach;
mod bandwidth;
mod check;
mod detach;
mod gateway;
mod host;
mod setup;
mod sweep;
mod table;

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ipnet::IpNet;

pub use self::adopt::AdoptRequest;
use self::host::{Host, Hosts};
use self::setup::Bridge;
use self::sweep::Sweeper;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::ipam::pool::{self, Pool};
use crate::ipam::store::Store;

/// A pod network. It is of the network namespace in which it is first used. Cheap to clone; usable from several threads, and by several processes on the same state folder.
///
/// All methods block, for some milliseconds at most.
#[derive(Debug, Clone)]
pub struct Network(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    store: Store,
    pools: RwLock<Vec<Pool>>,
    /// What [`Network::set_ranges`] was told last.
    told: Mutex<Vec<IpNet>>,
    /// The bridge as it was last set up, to see at once whether it still is.
    bridge: Mutex<Option<Bridge>>,
    hosts: Hosts,
    sweeper: Sweeper,
}

impl Network {
    /// Checks the configuration and opens the state folder. Nothing is made in the kernel before the first
    /// [`Network::attach`] or [`Network::ready`]. Where the configuration has no ranges, those that
    /// [`Network::set_ranges`] told last are used.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the field and the value; [`Error::Io`] for the state folder.
    pub fn new(config: Config) -> Result<Network> {
        config.validate()?;
        let mut pools = config.checked_pools()?;
        let store = Store::open(&config.state_dir)?;
        let mut told = Vec::new();
        if pools.is_empty() {
            told = store.ranges()?.unwrap_or_default();
            pools = pool::pools_of(&told)?;
        }
        Ok(Network(Arc::new(Inner {
            config,
            store,
            pools: RwLock::new(pools),
            told: Mutex::new(told),
            bridge: Mutex::new(None),
            hosts: Hosts::default(),
            sweeper: Sweeper::default(),
        })))
    }

    /// Sets the ranges of pod addresses, such as the node's pod CIDRs, and remembers them across restarts. Pods that
    /// are attached keep their addresses.
    ///
    /// # Errors
    /// [`Error::Invalid`] for ranges that are too small or overlap.
    pub fn set_ranges(&self, ranges: Vec<IpNet>) -> Result<()> {
        let pools = pool::pools_of(&ranges)?;
        if *self.0.told.lock().unwrap_or_else(PoisonError::into_inner) == ranges {
            return Ok(());
        }
        self.0.store.set_ranges(&ranges)?;
        *self.0.pools.write().unwrap_or_else(PoisonError::into_inner) = pools;
        *self.0.told.lock().unwrap_or_else(PoisonError::into_inner) = ranges;
        // The bridge needs the new gateways.
        *self.0.bridge.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    /// Whether pods can be attached: ranges are known, and bridge and table are there, or could be put back.
    /// Cheap enough to be asked every few seconds.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self) -> Result<()> {
        self.with_host(|host| {
            if !host.nft.is_whole()? {
                *self.0.bridge.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
            self.bridge(host)?;
            // Those who say it may come later than we.
            host.nft.let_forward(&self.interfaces())
        })
    }

    fn pools(&self) -> Result<Vec<Pool>> {
        let pools = self
            .0
            .pools
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if pools.is_empty() {
            Err(Error::NoRange)
        } else {
            Ok(pools)
        }
    }
}
