//! Frames of SPDY/3 and 3.1 (draft 3, section 2.2): an eight-byte head, then what it announces.
//!
//! ```text
//!   control  1 | version 15 | type 16 | flags 8 | length 24
//!   data     0 | stream 31            | flags 8 | length 24
//! ```

use bytes::{BufMut as _, Bytes, BytesMut};

use super::Violation;
use super::headers::Deflater;

/// Bytes of a frame's head.
pub(super) const HEAD: usize = 8;
/// What a control frame may carry. A header block of ours takes a few hundred bytes.
pub(super) const MAX_CONTROL: usize = 16 << 10;
/// Settings in one frame; there are eight kinds.
const MAX_SETTINGS: u32 = 64;

const VERSION: u16 = 3;
const FIN: u8 = 1;
const UNIDIRECTIONAL: u8 = 2;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;
/// `SETTINGS_INITIAL_WINDOW_SIZE`.
const INITIAL_WINDOW: u32 = 7;

/// Why a stream is given up; the number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Reset {
    Refused = 3,
    Cancel = 5,
    FlowControl = 7,
}

/// A head, read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    Control { kind: u16, flags: u8, length: usize },
    Data { stream: u32, fin: bool, length: usize },
}

/// Reads a head.
pub(super) fn head(bytes: [u8; HEAD]) -> Result<Head, Violation> {
    let [a, b, c, d, flags, e, f, g] = bytes;
    let first = u32::from_be_bytes([a, b, c, d]);
    let length = u32::from_be_bytes([0, e, f, g]) as usize;
    if first >> 31 == 0 {
        let fin = flags & FIN != 0;
        return match first {
            0 => Err(Violation::StreamZero),
            stream => Ok(Head::Data { stream, fin, length }),
        };
    }
    let version = u16::from_be_bytes([a & 0x7f, b]);
    if version != VERSION {
        return Err(Violation::Version(version));
    }
    if length > MAX_CONTROL {
        return Err(Violation::FrameTooLarge);
    }
    let kind = u16::from_be_bytes([c, d]);
    Ok(Head::Control { kind, flags, length })
}

/// A control frame, read. Header blocks are still deflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control<'a> {
    SynStream {
        stream: u32,
        fin: bool,
        block: &'a [u8],
    },
    Reset {
        stream: u32,
    },
    InitialWindow(u32),
    Ping {
        id: u32,
    },
    GoAway,
    /// HEADERS, and SYN_REPLY, which nobody asked for: no meaning, but the header context must follow.
    Headers {
        stream: u32,
        fin: bool,
        block: &'a [u8],
    },
    WindowUpdate {
        stream: u32,
        delta: u32,
    },
    /// Settings that mean nothing to us, and kinds of frame that don't exist: passed over.
    Other,
}

/// Reads a control frame's content.
pub(super) fn control(kind: u16, flags: u8, mut body: &[u8]) -> Result<Control<'_>, Violation> {
    let body = &mut body;
    let fin = flags & FIN != 0;
    match kind {
        SYN_STREAM => {
            let stream = stream_id(body)?;
            if flags & UNIDIRECTIONAL != 0 {
                return Err(Violation::Unexpected("a unidirectional stream"));
            }
            // The stream that it belongs to, priority and slot have no use here.
            let block = body.get(6..).ok_or(Violation::Truncated)?;
            Ok(Control::SynStream { stream, fin, block })
        }
        SYN_REPLY | HEADERS => {
            let stream = stream_id(body)?;
            Ok(Control::Headers {
                stream,
                fin,
                block: body,
            })
        }
        RST_STREAM => {
            let stream = stream_id(body)?;
            number(body)?;
            Ok(Control::Reset { stream })
        }
        SETTINGS => settings(body),
        PING => Ok(Control::Ping { id: number(body)? }),
        GOAWAY => Ok(Control::GoAway),
        WINDOW_UPDATE => {
            let stream = number(body)? & 0x7fff_ffff;
            let delta = number(body)? & 0x7fff_ffff;
            match delta {
                0 => Err(Violation::BadWindow),
                delta => Ok(Control::WindowUpdate { stream, delta }),
            }
        }
        _ => Ok(Control::Other),
    }
}

fn settings<'a>(body: &mut &[u8]) -> Result<Control<'a>, Violation> {
    let count = number(body)?;
    if count > MAX_SETTINGS {
        return Err(Violation::FrameTooLarge);
    }
    let mut found = Control::Other;
    for _ in 0..count {
        let (id, value) = (number(body)? & 0x00ff_ffff, number(body)?);
        match (id, value) {
            (INITIAL_WINDOW, 0x8000_0000..) => return Err(Violation::BadWindow),
            (INITIAL_WINDOW, size) => found = Control::InitialWindow(size),
            _ => {}
        }
    }
    Ok(found)
}

fn number(body: &mut &[u8]) -> Result<u32, Violation> {
    let (number, rest) = body.split_first_chunk().ok_or(Violation::Truncated)?;
    *body = rest;
    Ok(u32::from_be_bytes(*number))
}

fn stream_id(body: &mut &[u8]) -> Result<u32, Violation> {
    match number(body)? & 0x7fff_ffff {
        0 => Err(Violation::StreamZero),
        stream => Ok(stream),
    }
}

/// A frame on its way out.
#[derive(Debug)]
pub(super) enum Outgoing {
    Reply { stream: u32 },
    Data { stream: u32, fin: bool, bytes: Bytes },
    Reset { stream: u32, why: Reset },
    Ping { id: u32 },
    WindowUpdate { stream: u32, delta: u32 },
    GoAway { last: u32, broken: bool },
}

impl Outgoing {
    /// Appends the frame's bytes.
    pub(super) fn encode(&self, deflater: &mut Deflater, to: &mut BytesMut) {
        match self {
            Self::Reply { stream } => {
                let block = deflater.write(&[]);
                put_control(to, SYN_REPLY, 4 + block.len());
                to.put_u32(*stream);
                to.put_slice(&block);
            }
            Self::Data { stream, fin, bytes } => {
                to.put_u32(*stream);
                to.put_u8(if *fin { FIN } else { 0 });
                to.put_uint(bytes.len() as u64, 3);
                to.put_slice(bytes);
            }
            Self::Reset { stream, why } => put_pair(to, RST_STREAM, *stream, *why as u32),
            Self::Ping { id } => {
                put_control(to, PING, 4);
                to.put_u32(*id);
            }
            Self::WindowUpdate { stream, delta } => put_pair(to, WINDOW_UPDATE, *stream, *delta),
            Self::GoAway { last, broken } => put_pair(to, GOAWAY, *last, u32::from(*broken)),
        }
    }
}

fn put_control(to: &mut BytesMut, kind: u16, length: usize) {
    to.put_u16(0x8000 | VERSION);
    to.put_u16(kind);
    to.put_u32(u32::try_from(length).unwrap_or_default());
}

fn put_pair(to: &mut BytesMut, kind: u16, a: u32, b: u32) {
    put_control(to, kind, 8);
    to.put_u32(a);
    to.put_u32(b);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        assert_eq!(
            head([0, 0, 0, 5, 1, 0, 1, 0]),
            Ok(Head::Data {
                stream: 5,
                fin: true,
                length: 256
            })
        );
        assert_eq!(
            head([0x80, 3, 0, 6, 0, 0, 0, 4]),
            Ok(Head::Control {
                kind: PING,
                flags: 0,
                length: 4
            })
        );
        assert_eq!(head([0; 8]), Err(Violation::StreamZero));
        assert_eq!(head([0x80, 2, 0, 6, 0, 0, 0, 4]), Err(Violation::Version(2)));
        assert_eq!(
            head([0xff, 0xff, 0, 6, 0, 0, 0, 4]),
            Err(Violation::Version(0x7fff))
        );
        assert_eq!(head([0x80, 3, 0, 1, 0, 1, 0, 0]), Err(Violation::FrameTooLarge));
    }

    #[test]
    fn every_cut_of_a_control_frame_is_refused() {
        for (kind, whole) in [
            (SYN_STREAM, 10),
            (RST_STREAM, 8),
            (PING, 4),
            (WINDOW_UPDATE, 8),
            (SETTINGS, 12),
            (HEADERS, 4),
        ] {
            let mut body = vec![0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 9];
            body.truncate(whole);
            assert!(control(kind, 0, &body).is_ok(), "{kind}");
            for cut in 0..whole {
                assert_eq!(
                    control(kind, 0, &body[..cut]),
                    Err(Violation::Truncated),
                    "{kind}: {cut}"
                );
            }
        }
    }

    #[test]
    fn what_a_control_frame_may_not_say() {
        assert_eq!(control(SYN_STREAM, 0, &[0; 10]), Err(Violation::StreamZero));
        assert!(control(SYN_STREAM, UNIDIRECTIONAL, &[1; 10]).is_err());
        assert_eq!(
            control(WINDOW_UPDATE, 0, &[0, 0, 0, 1, 0, 0, 0, 0]),
            Err(Violation::BadWindow)
        );
        assert_eq!(control(SETTINGS, 0, &[0xff; 12]), Err(Violation::FrameTooLarge));
        assert_eq!(
            control(SETTINGS, 0, &[0, 0, 0, 1, 0, 0, 0, 7, 0xff, 0, 0, 0]),
            Err(Violation::BadWindow)
        );
        assert_eq!(
            control(77, 0, &[]),
            Ok(Control::Other),
            "kinds to come are passed over"
        );
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut bytes = BytesMut::new();
        let mut deflater = Deflater::new();
        Outgoing::WindowUpdate { stream: 3, delta: 9 }.encode(&mut deflater, &mut bytes);
        assert_eq!(
            head(bytes[..8].try_into().unwrap()),
            Ok(Head::Control {
                kind: WINDOW_UPDATE,
                flags: 0,
                length: 8
            })
        );
        assert_eq!(
            control(WINDOW_UPDATE, 0, &bytes[8..]),
            Ok(Control::WindowUpdate { stream: 3, delta: 9 })
        );
        bytes.clear();
        let data = Bytes::from(vec![7; 70_000]);
        Outgoing::Data {
            stream: 1,
            fin: false,
            bytes: data,
        }
        .encode(&mut deflater, &mut bytes);
        assert_eq!(
            head(bytes[..8].try_into().unwrap()),
            Ok(Head::Data {
                stream: 1,
                fin: false,
                length: 70_000
            })
        );
    }
}
