//! What went through the interfaces of pods.
//!
//! A thread that ends with the call enters one pod's network namespace after the other: nothing of the daemon may stay in
//! one. Interfaces count all they carry, IPv4 or IPv6.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};

use crate::error::{Error, IoContext as _, Result};

/// One interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name in the pod.
    pub name: String,
    /// What it has received.
    pub received: Traffic,
    /// What it has sent.
    pub sent: Traffic,
}

/// What went one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets in error.
    pub errors: u64,
    /// Packets dropped.
    pub dropped: u64,
}

/// The interfaces of each namespace, the loopback one left out; None where the namespace is gone. Blocking.
///
/// # Errors
/// Only where the thread can't be started.
pub fn interfaces(namespaces: &[PathBuf]) -> Result<Vec<Option<Vec<Interface>>>> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns-stats".to_owned())
            .spawn_scoped(scope, || namespaces.iter().map(|path| visit(path).ok()).collect())
            .io("start a thread for", "network namespaces")?;
        thread
            .join()
            .map_err(|_| Error::Panicked("reading network statistics"))
    })
}

fn visit(namespace: &Path) -> io::Result<Vec<Interface>> {
    setns(File::open(namespace)?, CloneFlags::CLONE_NEWNET)?;
    // The thread's own view: /proc/net would be the main thread's.
    Ok(parse(&fs::read_to_string("/proc/thread-self/net/dev")?))
}

/// Two lines of headings, then `name: bytes packets errs drop fifo frame compressed multicast`, and the same for
/// what was sent.
fn parse(text: &str) -> Vec<Interface> {
    let line = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers
            .split_ascii_whitespace()
            .map_while(|n| n.parse().ok())
            .collect();
        let traffic = |at: usize| {
            Some(Traffic {
                bytes: *numbers.get(at)?,
                packets: *numbers.get(at + 1)?,
                errors: *numbers.get(at + 2)?,
                dropped: *numbers.get(at + 3)?,
            })
        };
        Some(Interface {
            name: name.trim().to_owned(),
            received: traffic(0)?,
            sent: traffic(8)?,
        })
    };
    text.lines()
        .filter_map(line)
        .filter(|interface| interface.name != "lo")
        .collect()
}

/// The interface that stands for the pod: eth0, else the first one.
pub fn default_interface(all: &[Interface]) -> Option<&Interface> {
    all.iter()
        .find(|interface| interface.name == "eth0")
        .or_else(|| all.first())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    100       2    0    0    0     0          0         0      100       2    0    0    0     0       0          0
  net1:      7       1    0    0    0     0          0         0        8       1    0    0    0     0       0          0
  eth0: 123456     100    1    2    0     0          0         0   654321     200    3    4    0     0       0          0
";

    #[test]
    fn the_table_is_read_without_loopback() {
        let all = parse(TABLE);
        assert_eq!(all.len(), 2);
        let eth0 = default_interface(&all).unwrap();
        assert_eq!(eth0.name, "eth0");
        assert_eq!((eth0.received.bytes, eth0.received.dropped), (123_456, 2));
        assert_eq!((eth0.sent.packets, eth0.sent.errors), (200, 3));
        assert_eq!(default_interface(&all[..1]).unwrap().name, "net1");
        assert!(parse("garbage: x\n").is_empty());
    }

    #[test]
    fn a_namespace_that_is_gone_harms_no_other() {
        let read = interfaces(&[PathBuf::from("/nowhere"), PathBuf::from("/proc/self/ns/net")]).unwrap();
        assert!(read[0].is_none());
        assert!(read[1].is_some());
    }
}
