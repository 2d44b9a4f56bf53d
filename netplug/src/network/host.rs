//! The sockets that operations need, kept open from one to the next.
//!
//! Not to save opening them: closing a netfilter socket waits, some 10 ms, until the kernel has done away with what was
//! deleted by whomever.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use super::Network;
use crate::error::Result;
use crate::nft::Nft;
use crate::rt::Route;
use crate::sysctl::Folder;

/// As many are kept as operations may reasonably run at once.
const KEPT: usize = 16;

/// Sockets in the host's namespace.
pub(super) struct Host {
    pub(super) route: Route,
    pub(super) nft: Nft,
    /// The IPv6 settings of the host's interfaces.
    pub(super) ipv6: Option<Folder>,
}

/// Those that nobody uses at the moment.
#[derive(Default)]
pub(super) struct Hosts(Mutex<Vec<Host>>);

impl std::fmt::Debug for Hosts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hosts")
    }
}

impl Network {
    /// Runs an operation with sockets.
    pub(super) fn with_host<T>(&self, work: impl FnOnce(&mut Host) -> Result<T>) -> Result<T> {
        let hosts = &self.0.hosts.0;
        let kept = hosts.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut host = match kept {
            Some(host) => host,
            None => Host {
                route: Route::open()?,
                nft: Nft::open()?,
                ipv6: Folder::of_interfaces("ipv6")?,
            },
        };
        let outcome = work(&mut host);
        let mut hosts = hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() < KEPT {
            hosts.push(host);
        }
        outcome
    }

    /// Descriptors of the sockets that this network keeps. Whoever closes the last descriptor of one waits, some
    /// 10 ms, for the kernel to do away with what was deleted; a process that wants to end at once can leave them to
    /// another.
    ///
    /// # Errors
    /// [`Error::Netlink`](crate::Error::Netlink) where no more files can be open.
    pub fn hold(&self) -> Result<Vec<OwnedFd>> {
        let hosts = self.0.hosts.0.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.iter().map(|host| host.nft.hold()).collect()
    }
}
