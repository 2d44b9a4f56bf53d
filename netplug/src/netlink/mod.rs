//! A blocking netlink socket: requests in batches, acknowledgements with the kernel's own words, dumps.
//!
//! Blocking, because every request here is answered within the system call that sends it; the
//! socket stays in the network namespace in which it was opened, whichever thread uses it later.

pub(crate) mod wire;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE,
    NLMSG_ERROR,
};
use netlink_sys::{Socket as RawSocket, SocketAddr};

use crate::error::{Error, Result};

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// The kernel fills dump buffers of at most 32 KiB.
const RECEIVE: usize = 64 * 1024;
/// A dump that the kernel calls inconsistent is asked for again, at most this often.
const DUMP_TRIES: usize = 8;
/// `NLMSGERR_ATTR_MSG` of `linux/netlink.h`: the extended acknowledgement's text.
const ERROR_TEXT: u16 = 1;

/// One request to the kernel.
#[derive(Debug)]
pub(crate) struct Request {
    /// Message type.
    pub(crate) kind: u16,
    /// `NLM_F_*` beyond `REQUEST`.
    pub(crate) flags: u16,
    /// What follows the netlink header.
    pub(crate) body: Vec<u8>,
    /// For error messages: what this asks for.
    pub(crate) what: String,
}

/// One message of the kernel, its netlink header taken apart.
struct Incoming<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

/// An acknowledgement: the request's index and its failure.
pub(crate) struct Refusal {
    pub(crate) index: usize,
    pub(crate) error: Error,
}

/// A netlink socket of one protocol in one network namespace.
pub(crate) struct Socket {
    raw: RawSocket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace. `protocol` as `NETLINK_ROUTE`.
    pub(crate) fn open(protocol: isize) -> Result<Socket> {
        let open = || -> io::Result<RawSocket> {
            let raw = RawSocket::new(protocol)?;
            raw.set_cap_ack(true)?;
            raw.set_ext_ack(true)?;
            Ok(raw)
        };
        let raw = open().map_err(|source| Error::Netlink {
            what: "open netlink socket".into(),
            source,
            detail: String::new(),
        })?;
        Ok(Socket {
            raw,
            sequence: 0,
            buffer: Vec::with_capacity(RECEIVE),
        })
    }

    /// Another descriptor of the same socket, which keeps it open.
    pub(crate) fn hold(&self) -> Result<OwnedFd> {
        self.raw
            .as_fd()
            .try_clone_to_owned()
            .map_err(|source| Error::Netlink {
                what: "duplicate netlink socket".into(),
                source,
                detail: String::new(),
            })
    }

    /// Sends all requests in one system call and waits for each one's acknowledgement. The kernel goes on
    /// after a refusal, so later requests must be harmless then; all refusals are returned.
    pub(crate) fn batch(&mut self, requests: &[Request]) -> Result<Vec<Refusal>> {
        let Some(last) = requests.last() else {
            return Ok(Vec::new());
        };
        let first = self.sequence + 1;
        let mut bytes = Vec::with_capacity(requests.iter().map(|r| r.body.len() + HEADER + 4).sum());
        for request in requests {
            self.sequence += 1;
            push(&mut bytes, request, NLM_F_REQUEST | NLM_F_ACK, self.sequence);
        }
        self.send(&bytes, &last.what)?;
        self.acknowledgements(requests, first, self.sequence, None)
    }

    /// Sends requests of which only the last is acknowledged, and which take effect together or not at
    /// all (an nf_tables transaction, its begin and end marks included in `requests`).
    pub(crate) fn transaction(&mut self, requests: &[Request]) -> Result<Vec<Refusal>> {
        let Some(acknowledged) = requests.len().checked_sub(2) else {
            return Ok(Vec::new());
        };
        let first = self.sequence + 1;
        let mut bytes = Vec::with_capacity(requests.iter().map(|r| r.body.len() + HEADER + 4).sum());
        for (index, request) in requests.iter().enumerate() {
            self.sequence += 1;
            let flags = if index == acknowledged {
                NLM_F_REQUEST | NLM_F_ACK
            } else {
                NLM_F_REQUEST
            };
            push(&mut bytes, request, flags, self.sequence);
        }
        self.send(&bytes, &requests[acknowledged].what)?;
        // What concerns the whole (no permission, a failed commit) is said of the first message, and then perhaps
        // nothing of the others.
        self.acknowledgements(requests, first, self.sequence - 1, Some(first))
    }

    /// Like [`Socket::batch`], failing with the first refusal.
    pub(crate) fn request(&mut self, requests: &[Request]) -> Result<()> {
        match self.batch(requests)?.into_iter().next() {
            Some(refusal) => Err(refusal.error),
            None => Ok(()),
        }
    }

    /// Asks for one object; `parse` gets its message's payload.
    pub(crate) fn get<T>(
        &mut self,
        request: &Request,
        mut parse: impl FnMut(&[u8]) -> Result<T>,
    ) -> Result<T> {
        self.sequence += 1;
        let mut bytes = Vec::with_capacity(request.body.len() + HEADER + 4);
        push(&mut bytes, request, NLM_F_REQUEST, self.sequence);
        self.send(&bytes, &request.what)?;
        let mut found = None;
        let sequence = self.sequence;
        while found.is_none() {
            self.receive(&request.what, |message| {
                if message.sequence == sequence && found.is_none() {
                    found = Some(match refusal_of(&message, &request.what) {
                        Some(error) => Err(error),
                        None => parse(message.payload),
                    });
                }
                Ok(())
            })?;
        }
        found.unwrap_or_else(|| Err(decode(&request.what, "no answer")))
    }

    /// Asks for a dump; `each` gets the payload of every message. Starts over when the kernel says that the
    /// objects changed meanwhile: `each` must therefore bear to see an object twice.
    pub(crate) fn dump(
        &mut self,
        request: &Request,
        mut each: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        for _ in 0..DUMP_TRIES {
            if self.dump_once(request, &mut each)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn dump_once(&mut self, request: &Request, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        self.sequence += 1;
        let mut bytes = Vec::with_capacity(request.body.len() + HEADER + 4);
        push(&mut bytes, request, NLM_F_REQUEST | NLM_F_DUMP, self.sequence);
        self.send(&bytes, &request.what)?;
        let sequence = self.sequence;
        let (mut done, mut consistent) = (false, true);
        let mut outcome = Ok(());
        while !done {
            self.receive(&request.what, |message| {
                if message.sequence != sequence {
                    return Ok(());
                }
                consistent &= message.flags & NLM_F_DUMP_INTR == 0;
                if let Some(error) = refusal_of(&message, &request.what) {
                    done = true;
                    outcome = Err(error);
                } else if message.kind == NLMSG_DONE || message.kind == NLMSG_ERROR {
                    done = true;
                } else if outcome.is_ok() {
                    outcome = each(message.payload);
                }
                Ok(())
            })?;
        }
        outcome.map(|()| consistent)
    }

    /// Reads until the acknowledgement of `last`, or a refusal of `whole`.
    fn acknowledgements(
        &mut self,
        requests: &[Request],
        first: u32,
        last: u32,
        whole: Option<u32>,
    ) -> Result<Vec<Refusal>> {
        let what = |index: usize| requests.get(index).map_or("netlink request", |r| r.what.as_str());
        let mut refusals = Vec::new();
        let mut done = false;
        while !done {
            self.receive(what(requests.len() - 1), |message| {
                let Some(index) = message.sequence.checked_sub(first).map(|i| i as usize) else {
                    return Ok(());
                };
                if message.kind == NLMSG_ERROR {
                    let refusal = refusal_of(&message, what(index));
                    done |= message.sequence == last;
                    done |= refusal.is_some() && whole == Some(message.sequence);
                    refusals.extend(refusal.map(|error| Refusal { index, error }));
                }
                Ok(())
            })?;
        }
        Ok(refusals)
    }

    fn send(&self, bytes: &[u8], what: &str) -> Result<()> {
        let failed = |source| Error::Netlink {
            what: what.to_owned(),
            source,
            detail: String::new(),
        };
        self.raw
            .send_to(bytes, &SocketAddr::new(0, 0), 0)
            .map(drop)
            .map_err(failed)
    }

    /// Receives one datagram and hands over each of its messages.
    fn receive(&mut self, what: &str, mut each: impl FnMut(Incoming<'_>) -> Result<()>) -> Result<()> {
        self.buffer.clear();
        loop {
            match self.raw.recv_from(&mut self.buffer, 0) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(Error::Netlink {
                        what: what.into(),
                        source,
                        detail: String::new(),
                    });
                }
            }
        }
        let mut rest = self.buffer.as_slice();
        while !rest.is_empty() {
            let (message, length) = parse_header(rest).ok_or_else(|| decode(what, "torn message"))?;
            each(message)?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        }
        Ok(())
    }
}

fn push(bytes: &mut Vec<u8>, request: &Request, flags: u16, sequence: u32) {
    let length = u32::try_from(HEADER + request.body.len()).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&request.kind.to_ne_bytes());
    bytes.extend_from_slice(&(request.flags | flags).to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&0u32.to_ne_bytes());
    bytes.extend_from_slice(&request.body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn parse_header(bytes: &[u8]) -> Option<(Incoming<'_>, usize)> {
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let half = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let length = word(0)? as usize;
    let payload = bytes.get(HEADER..length)?;
    Some((
        Incoming {
            kind: half(4)?,
            flags: half(6)?,
            sequence: word(8)?,
            payload,
        },
        length,
    ))
}

/// The failure in an `NLMSG_ERROR` (or in a dump's `NLMSG_DONE`), if the message is one and its code isn't zero.
fn refusal_of(message: &Incoming<'_>, what: &str) -> Option<Error> {
    if message.kind != NLMSG_ERROR && message.kind != NLMSG_DONE {
        return None;
    }
    let code = i32::from_ne_bytes(message.payload.get(..4)?.try_into().ok()?);
    if code == 0 {
        return None;
    }
    // struct nlmsgerr: the code, the request's header (its body too unless capped), then attributes.
    let mut detail = String::new();
    if message.kind == NLMSG_ERROR && message.flags & NLM_F_ACK_TLVS != 0 {
        let mut skip = 4 + HEADER;
        if message.flags & NLM_F_CAPPED == 0
            && let Some((request, _)) = message.payload.get(4..).and_then(parse_header)
        {
            skip += request.payload.len().next_multiple_of(4);
        }
        if let Some(text) = wire::find(message.payload.get(skip..).unwrap_or(&[]), ERROR_TEXT) {
            let text = String::from_utf8_lossy(text);
            detail = format!(" ({})", text.trim_end_matches('\0'));
        }
    }
    Some(Error::Netlink {
        what: what.to_owned(),
        source: io::Error::from_raw_os_error(code.saturating_abs()),
        detail,
    })
}

pub(crate) fn decode(what: &str, reason: &str) -> Error {
    Error::Decode {
        what: what.to_owned(),
        reason: reason.to_string(),
    }
}
