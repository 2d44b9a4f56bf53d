//! The five route netlink messages that moving a device takes (rtnetlink(7)), over a plain blocking socket.
//!
//! Written by hand: a library's types of all messages would be most of the monitor's program.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvmsg, sendmsg, socket,
};

use crate::sys::fd::retry;

/// The kernel's answers are no longer, those to dumps included.
const MAX_ANSWER: usize = 64 << 10;

/// `struct nlmsghdr` and `struct ifinfomsg`; `struct ifaddrmsg` and attributes' headers.
const HEADER: usize = 16;
const LINK: usize = 16;
const ADDRESS: usize = 8;
const ATTRIBUTE: usize = 4;

/// `IFLA_*` of `linux/if_link.h`.
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_NEW_IFINDEX: u16 = 49;
/// `RTEXT_FILTER_SKIP_STATS`
const SKIP_STATS: u32 = 8;
/// `IFA_*` of `linux/if_addr.h`.
const IFA_LABEL: u16 = 3;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_F_PERMANENT: u32 = 0x80;
/// `RT_SCOPE_UNIVERSE`
const SCOPE_GLOBAL: u8 = 0;

/// A device as it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) is_up: bool,
}

/// An address as the kernel tells it, to be told back: its header, and what attributes have a meaning elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    header: [u8; ADDRESS],
    attributes: Vec<u8>,
}

/// A socket in the network namespace that it was opened in.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    pub(super) fn open() -> Result<Self, Errno> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        Ok(Self { fd, sequence: 0 })
    }

    /// The device of that name.
    pub(super) fn find(&mut self, name: &str) -> Result<Link, Errno> {
        let mut body = vec![0; LINK];
        push(&mut body, IFLA_IFNAME, &terminated(name));
        self.get(body)
    }

    /// The device of that index.
    pub(super) fn look_up(&mut self, index: u32) -> Result<Link, Errno> {
        self.get(link(index))
    }

    fn get(&mut self, mut body: Vec<u8>) -> Result<Link, Errno> {
        push(&mut body, IFLA_EXT_MASK, &SKIP_STATS.to_ne_bytes());
        let mut found = None;
        self.ask(libc::RTM_GETLINK, 0, &body, |payload| {
            found = found.take().or_else(|| read_link(payload));
        })?;
        found.ok_or(Errno::EPROTO)
    }

    /// The addresses of a device that stay and hold everywhere.
    pub(super) fn addresses(&mut self, index: u32) -> Result<Vec<Address>, Errno> {
        let mut all = Vec::new();
        let flags = libc::NLM_F_DUMP as u16;
        self.ask(libc::RTM_GETADDR, flags, &[0; ADDRESS], |payload| {
            all.extend(read_address(payload, index));
        })?;
        Ok(all)
    }

    /// Gives a device an address.
    pub(super) fn add(&mut self, index: u32, address: &Address) -> Result<(), Errno> {
        let mut body = address.header.to_vec();
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        body.extend_from_slice(&address.attributes);
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
        self.ask(libc::RTM_NEWADDR, flags, &body, |_| {})
    }

    pub(super) fn set_up(&mut self, index: u32) -> Result<(), Errno> {
        let mut body = link(index);
        let up = (libc::IFF_UP as u32).to_ne_bytes();
        body[8..12].copy_from_slice(&up);
        body[12..16].copy_from_slice(&up);
        self.ask(libc::RTM_SETLINK, 0, &body, |_| {})
    }

    /// Moves a device into another network namespace, under a name and an index there.
    pub(super) fn move_to(
        &mut self,
        index: u32,
        namespace: BorrowedFd<'_>,
        name: &str,
        new_index: u32,
    ) -> Result<(), Errno> {
        let mut body = link(index);
        push(
            &mut body,
            IFLA_NET_NS_FD,
            &namespace.as_raw_fd().cast_unsigned().to_ne_bytes(),
        );
        push(&mut body, IFLA_IFNAME, &terminated(name));
        push(&mut body, IFLA_NEW_IFINDEX, &new_index.to_ne_bytes());
        self.ask(libc::RTM_SETLINK, 0, &body, |_| {})
    }

    /// Sends a request and hears its answers to their end.
    fn ask(&mut self, kind: u16, flags: u16, body: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), Errno> {
        self.sequence += 1;
        let is_dump = flags & libc::NLM_F_DUMP as u16 == libc::NLM_F_DUMP as u16;
        let flags = flags | libc::NLM_F_REQUEST as u16 | if is_dump { 0 } else { libc::NLM_F_ACK as u16 };
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend_from_slice(&((HEADER + body.len()) as u32).to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&flags.to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&0_u32.to_ne_bytes());
        message.extend_from_slice(body);
        let (iov, kernel) = ([IoSlice::new(&message)], NetlinkAddr::new(0, 0));
        retry(|| sendmsg(self.fd.as_raw_fd(), &iov, &[], MsgFlags::empty(), Some(&kernel)))?;
        let mut buffer = vec![0; MAX_ANSWER];
        loop {
            let mut iov = [IoSliceMut::new(&mut buffer)];
            let received =
                match recvmsg::<NetlinkAddr>(self.fd.as_raw_fd(), &mut iov, None, MsgFlags::empty()) {
                    Err(Errno::EINTR) => continue,
                    other => other?,
                };
            if received.flags.contains(MsgFlags::MSG_TRUNC) {
                return Err(Errno::EMSGSIZE);
            }
            let length = received.bytes;
            if take_in(&buffer[..length], self.sequence, &mut each)? {
                return Ok(());
            }
        }
    }
}

/// Hands over what one datagram has; true once that was all.
fn take_in(mut rest: &[u8], sequence: u32, each: &mut impl FnMut(&[u8])) -> Result<bool, Errno> {
    while !rest.is_empty() {
        let length = number(rest, 0).ok_or(Errno::EPROTO)? as usize;
        let payload = rest.get(HEADER..length).ok_or(Errno::EPROTO)?;
        let kind = i32::from(half(rest, 4).ok_or(Errno::EPROTO)?);
        if number(rest, 8) == Some(sequence) {
            match kind {
                libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                    let code = number(payload, 0).unwrap_or_default().cast_signed();
                    return match code {
                        0 => Ok(true),
                        code => Err(Errno::from_raw(code.saturating_neg())),
                    };
                }
                _ => each(payload),
            }
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn read_link(payload: &[u8]) -> Option<Link> {
    let name = attributes(payload.get(LINK..)?)
        .find(|(kind, _)| *kind == IFLA_IFNAME)?
        .1;
    let name = String::from_utf8_lossy(name);
    Some(Link {
        index: number(payload, 4)?,
        name: name.trim_end_matches('\0').to_owned(),
        is_up: number(payload, 8)? & libc::IFF_UP as u32 != 0,
    })
}

/// An address of this device, if it is one to be kept: with neither the name that it goes by, which is the device's, nor
/// how long it holds, which is for ever.
fn read_address(payload: &[u8], index: u32) -> Option<Address> {
    let header: [u8; ADDRESS] = payload.get(..ADDRESS)?.try_into().ok()?;
    let rest = payload.get(ADDRESS..)?;
    let flags = match attributes(rest).find(|(kind, _)| *kind == IFA_FLAGS) {
        Some((_, value)) => number(value, 0)?,
        None => u32::from(header[2]),
    };
    let is_kept = number(&header, 4)? == index && header[3] == SCOPE_GLOBAL && flags & IFA_F_PERMANENT != 0;
    let mut kept = Vec::new();
    for (kind, value) in attributes(rest).filter(|(kind, _)| !matches!(*kind, IFA_LABEL | IFA_CACHEINFO)) {
        push(&mut kept, kind, value);
    }
    is_kept.then_some(Address {
        header,
        attributes: kept,
    })
}

/// `struct ifinfomsg` of this device.
fn link(index: u32) -> Vec<u8> {
    let mut body = vec![0; LINK];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body
}

fn push(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    // every value of ours is some bytes, or comes out of such an attribute
    let length = u16::try_from(ATTRIBUTE + value.len()).unwrap_or(u16::MAX);
    body.extend_from_slice(&length.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// The attributes of a message, up to where they make no sense.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(half(rest, 0)?);
        let value = rest.get(ATTRIBUTE..length)?;
        let kind = half(rest, 2)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn terminated(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_found_by_name_and_by_index() {
        let mut socket = Socket::open().unwrap();
        let lo = socket.find("lo").unwrap();
        assert_eq!((lo.index, lo.name.as_str()), (1, "lo"));
        assert_eq!(socket.look_up(1).unwrap(), lo);
        assert_eq!(socket.find("no-such-link"), Err(Errno::ENODEV));
        assert_eq!(
            socket.addresses(1),
            Ok(Vec::new()),
            "its addresses hold on this host only"
        );
    }

    #[test]
    fn torn_messages_are_errors_and_end() {
        for length in 0..40 {
            let mut message = vec![0xff; length];
            let _ = take_in(&message, 0, &mut |_| {});
            message.fill(0);
            // a length of nothing must not be taken in for ever
            assert!(message.is_empty() || take_in(&message, 0, &mut |_| {}).is_err());
            assert!(read_link(&message).is_none() && read_address(&message, 1).is_none());
        }
    }

    #[test]
    fn only_addresses_that_stay_and_hold_everywhere_are_kept() {
        let told = |flags: u32, scope: u8, index: u32| {
            let mut message = vec![2, 24, 0x80, scope];
            message.extend_from_slice(&index.to_ne_bytes());
            push(&mut message, 2, &[10, 0, 0, 1]);
            push(&mut message, IFA_LABEL, b"eth0\0");
            push(&mut message, IFA_FLAGS, &flags.to_ne_bytes());
            push(&mut message, IFA_CACHEINFO, &[0; 16]);
            message
        };
        let kept = read_address(&told(0x280, 0, 7), 7).unwrap();
        let left: Vec<u16> = attributes(&kept.attributes).map(|(kind, _)| kind).collect();
        assert_eq!(left, [2, IFA_FLAGS]);
        assert!(read_address(&told(0x200, 0, 7), 7).is_none(), "not for ever");
        assert!(read_address(&told(0x80, 253, 7), 7).is_none(), "of the link only");
        assert!(read_address(&told(0x80, 0, 8), 7).is_none(), "another device's");
    }
}
