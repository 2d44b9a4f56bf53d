//! netplug: pod networking by netlink, without helper programs.
//!
//! [`Network`] is a bridge with a veth pair for each pod: addresses out of ranges that are allocated on disk, routes,
//! masquerade, host ports, bandwidth limits, IPv4 and IPv6. It talks to the kernel by route netlink and nf_tables.
//!
//! Everything is synchronous: each operation is a handful of system calls. The program `netplug` makes the same
//! available as a CNI plugin.

mod config;
mod error;
mod ipam;
mod netlink;
mod netns;
mod network;
mod nft;
mod procfs;
mod request;
mod rt;
mod sysctl;

pub use self::config::{Config, PodRoute};
pub use self::error::{Error, Result};
pub use self::ipam::range::Range;
pub use self::netns::loopback_up;
pub use self::network::{AdoptRequest, Network};
pub use self::request::{AttachRequest, Attachment, Bandwidth, PortMap, Protocol, Rate, parse_mac};
pub use ipnet::IpNet;
