//! ttrpc, as far as NRI needs it: requests and responses of one message each, with a header of ten bytes.
//!
//! ```text
//! message:  length (u32) | stream (u32, odd) | kind (u8) | flags (u8) | bytes      all big-endian
//! request:  service, method, payload, time limit       response:  status, payload      in protobuf
//! ```
//!
//! Written here because the `ttrpc` crate doesn't fit: it wants a socket for each connection, where NRI runs two in opposite
//! directions over one, and it brings a second protobuf library with a generator of its own. What NRI uses of the protocol
//! is this page.

use std::io;

/// Bytes before each message.
pub(super) const HEADER: usize = 10;
/// The longest message, in bytes without its header.
pub(super) const LONGEST: usize = 4 << 20;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A call.
    Request = 1,
    /// Its answer.
    Response = 2,
    /// A part of a stream, which NRI has none of.
    Data = 3,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// Ties a response to its request.
    pub(super) stream: u32,
    /// What it is.
    pub(super) kind: Kind,
    /// A [`Request`] or a [`Response`].
    pub(super) data: Vec<u8>,
}

impl Message {
    /// A message of this content.
    pub(super) fn new(stream: u32, kind: Kind, content: &impl prost::Message) -> Self {
        let data = content.encode_to_vec();
        Self { stream, kind, data }
    }

    /// The message's bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + self.data.len());
        out.extend(u32::try_from(self.data.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend(self.stream.to_be_bytes());
        out.extend([self.kind as u8, 0]);
        out.extend(&self.data);
        out
    }

    /// Takes the first message out of a stream of bytes; None while it isn't whole.
    ///
    /// # Errors
    /// `InvalidData` for one that is too long, or of no known kind.
    pub(super) fn take(stream: &mut Vec<u8>) -> io::Result<Option<Self>> {
        let Some(&[l0, l1, l2, l3, s0, s1, s2, s3, kind, _flags]) = stream.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        if length > LONGEST {
            return Err(invalid("a message is too long"));
        }
        let kind = match kind {
            1 => Kind::Request,
            2 => Kind::Response,
            3 => Kind::Data,
            _ => return Err(invalid("a message is of no known kind")),
        };
        if stream.len() < HEADER + length {
            return Ok(None);
        }
        let rest = stream.split_off(HEADER + length);
        let data = std::mem::replace(stream, rest).split_off(HEADER);
        Ok(Some(Self {
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            kind,
            data,
        }))
    }

    /// The content as what it should be.
    ///
    /// # Errors
    /// `InvalidData`.
    pub(super) fn content<T: prost::Message + Default>(&self) -> io::Result<T> {
        T::decode(self.data.as_slice()).map_err(|_| invalid("a message can't be decoded"))
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A call.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Request {
    /// The full name of the service.
    #[prost(string, tag = "1")]
    pub(super) service: String,
    /// The name of its method.
    #[prost(string, tag = "2")]
    pub(super) method: String,
    /// The method's request, encoded.
    #[prost(bytes = "vec", tag = "3")]
    pub(super) payload: Vec<u8>,
    /// After how long the caller gives up, in nanoseconds.
    #[prost(int64, tag = "4")]
    pub(super) timeout: i64,
}

/// An answer.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Response {
    /// None, or of code 0, where the call succeeded.
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    /// The method's response, encoded.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) payload: Vec<u8>,
}

impl Response {
    /// The answer of a call that succeeded.
    pub(super) fn of(content: &impl prost::Message) -> Self {
        Self {
            status: None,
            payload: content.encode_to_vec(),
        }
    }

    /// The answer of a call that failed.
    pub(super) fn failure(code: i32, message: impl Into<String>) -> Self {
        Self {
            status: Some(Status {
                code,
                message: message.into(),
            }),
            payload: Vec::new(),
        }
    }
}

/// How a call ended: gRPC's code and a message.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Status {
    /// 0 for success.
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    /// For people.
    #[prost(string, tag = "2")]
    pub(super) message: String,
}

/// gRPC's code for a request that can't be what it is.
pub(super) const INVALID_ARGUMENT: i32 = 3;
/// gRPC's code for a peer that asks too much.
pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
/// gRPC's code for a method that isn't there.
pub(super) const UNIMPLEMENTED: i32 = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_taken_once_it_is_whole() {
        let request = Request {
            service: "s".into(),
            method: "m".into(),
            payload: vec![1, 2, 3],
            timeout: 5,
        };
        let bytes = Message::new(7, Kind::Request, &request).encode();
        assert_eq!(bytes[..10], [0, 0, 0, 13, 0, 0, 0, 7, 1, 0]);
        let mut stream = Vec::new();
        for byte in &bytes[..bytes.len() - 1] {
            stream.push(*byte);
            assert_eq!(Message::take(&mut stream).unwrap(), None);
        }
        stream.extend([bytes[bytes.len() - 1], 0xff]);
        let message = Message::take(&mut stream).unwrap().unwrap();
        assert_eq!((message.stream, message.kind), (7, Kind::Request));
        assert_eq!(message.content::<Request>().unwrap(), request);
        assert_eq!(stream, [0xff], "the next message's first byte stays");
    }

    #[test]
    fn nonsense_is_refused() {
        let mut kind = vec![0, 0, 0, 0, 0, 0, 0, 1, 9, 0];
        assert!(Message::take(&mut kind).is_err());
        let garbage = Message {
            stream: 1,
            kind: Kind::Response,
            data: vec![0xff; 9],
        };
        assert!(garbage.content::<Response>().is_err());
    }
}
