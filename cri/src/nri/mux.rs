//! Two connections over one socket: the runtime asks the plugin on the first, the plugin asks the runtime on the second.
//!
//! ```text
//! frame:  connection (u32, big-endian) | length (u32, big-endian) | bytes
//! ```
//!
//! Frames cut each connection's stream of bytes anywhere; [`Demux`] puts the messages together again. What is written is
//! cut in the one way that all peers can read: some read a frame into a buffer of 4096 bytes unless they wait for more,
//! and some keep no more than 256 frames that nobody has read, so that a large message must not come in small ones.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::ttrpc::{self, Message};

/// The connection on which the plugin serves.
pub(super) const PLUGIN: u32 = 1;
/// The connection on which the runtime serves.
pub(super) const RUNTIME: u32 = 2;

const HEADER: usize = 8;
/// A peer's smallest buffer.
const FIRST: usize = 4096;
/// The longest frame: one whole message.
const LONGEST: usize = ttrpc::HEADER + ttrpc::LONGEST;

/// A message as frames.
pub(super) fn frames(connection: u32, message: &Message) -> Vec<u8> {
    let bytes = message.encode();
    let (first, rest) = bytes.split_at(bytes.len().min(FIRST));
    let mut out = Vec::with_capacity(bytes.len() + 2 * HEADER);
    for part in [first, rest] {
        if !part.is_empty() {
            out.extend(connection.to_be_bytes());
            out.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend(part);
        }
    }
    out
}

/// The reading side of a socket.
#[derive(Debug)]
pub(super) struct Demux<R> {
    socket: R,
    plugin: Vec<u8>,
    runtime: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Demux<R> {
    /// Reads from `socket`.
    pub(super) fn new(socket: R) -> Self {
        Self {
            socket,
            plugin: Vec::new(),
            runtime: Vec::new(),
        }
    }

    /// The next whole message and its connection; None at the end. Not to be dropped half-way.
    ///
    /// # Errors
    /// The socket's, and `InvalidData` for what is no message or too long. The socket is of no use then.
    pub(super) async fn next(&mut self) -> io::Result<Option<(u32, Message)>> {
        loop {
            for connection in [PLUGIN, RUNTIME] {
                if let Some(message) = Message::take(self.stream(connection))? {
                    return Ok(Some((connection, message)));
                }
            }
            let mut header = [0; HEADER];
            match self.socket.read_exact(&mut header).await {
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                read => read?,
            };
            let [c0, c1, c2, c3, l0, l1, l2, l3] = header;
            let connection = u32::from_be_bytes([c0, c1, c2, c3]);
            let length = u32::from_be_bytes([l0, l1, l2, l3]);
            if usize::try_from(length).unwrap_or(usize::MAX) > LONGEST {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
            }
            self.read(connection, u64::from(length)).await?;
        }
    }

    /// Takes in a frame's bytes; those of a connection that nobody has opened are dropped.
    async fn read(&mut self, connection: u32, length: u64) -> io::Result<()> {
        let mut frame = (&mut self.socket).take(length);
        let read = match connection {
            PLUGIN => frame.read_to_end(&mut self.plugin).await?,
            RUNTIME => frame.read_to_end(&mut self.runtime).await?,
            _ => usize::try_from(tokio::io::copy(&mut frame, &mut tokio::io::sink()).await?).unwrap_or(0),
        };
        if u64::try_from(read).unwrap_or(u64::MAX) == length {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn stream(&mut self, connection: u32) -> &mut Vec<u8> {
        if connection == PLUGIN {
            &mut self.plugin
        } else {
            &mut self.runtime
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ttrpc::Kind;
    use super::*;

    fn message(stream: u32, size: usize) -> Message {
        Message {
            stream,
            kind: Kind::Request,
            data: vec![7; size],
        }
    }

    /// Frames with the bytes cut every `size`.
    fn cut(connection: u32, bytes: &[u8], size: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for part in bytes.chunks(size) {
            out.extend(connection.to_be_bytes());
            out.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
            out.extend(part);
        }
        out
    }

    #[tokio::test]
    async fn messages_come_out_as_they_went_in() {
        let sizes = [0, 1, FIRST - ttrpc::HEADER, FIRST, 100_000, ttrpc::LONGEST];
        for size in sizes {
            let sent = message(3, size);
            let bytes = frames(RUNTIME, &sent);
            let mut demux = Demux::new(bytes.as_slice());
            assert_eq!(demux.next().await.unwrap(), Some((RUNTIME, sent)), "{size}");
            assert_eq!(demux.next().await.unwrap(), None);
        }
    }

    #[test]
    fn peers_with_small_buffers_and_short_queues_can_read_it() {
        let bytes = frames(PLUGIN, &message(1, 1 << 20));
        assert_eq!(bytes[4..8], u32::try_from(FIRST).unwrap().to_be_bytes());
        assert_eq!(bytes.len(), (1 << 20) + ttrpc::HEADER + 2 * HEADER, "two frames");
    }

    #[tokio::test]
    async fn interleaved_pieces_are_put_together() {
        let (one, two) = (message(1, 1000).encode(), message(3, 500).encode());
        let (one, two) = (cut(PLUGIN, &one, 7), cut(RUNTIME, &two, 7));
        let mut bytes = Vec::new();
        let size = HEADER + 7;
        for at in 0..one.len().max(two.len()).div_ceil(size) {
            for pieces in [&one, &two] {
                let end = pieces.len().min((at + 1) * size);
                bytes.extend(pieces.get(at * size..end).unwrap_or_default());
            }
        }
        // and something that is for nobody
        bytes.extend(cut(9, b"nobody reads this", 5));
        let mut demux = Demux::new(bytes.as_slice());
        assert_eq!(demux.next().await.unwrap(), Some((RUNTIME, message(3, 500))));
        assert_eq!(demux.next().await.unwrap(), Some((PLUGIN, message(1, 1000))));
        assert_eq!(demux.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn lengths_that_lie_are_refused_before_anything_is_kept() {
        let mut frame = Vec::new();
        frame.extend(PLUGIN.to_be_bytes());
        frame.extend(u32::MAX.to_be_bytes());
        assert!(Demux::new(frame.as_slice()).next().await.is_err());

        let mut header = Vec::from((5_u32 << 20).to_be_bytes());
        header.extend([0, 0, 0, 1, 1, 0]);
        let bytes = cut(PLUGIN, &header, 100);
        let error = Demux::new(bytes.as_slice()).next().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);

        let cut_off = &frames(PLUGIN, &message(1, 100))[..50];
        assert!(Demux::new(cut_off).next().await.is_err());
    }
}
