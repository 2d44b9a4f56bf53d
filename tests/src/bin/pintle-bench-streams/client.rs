//! A client that does as little as can be done, so that the server's work is what is measured: large frames made in
//! place, blocking calls, a thread for each direction.

use std::io::{self, BufReader, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};

use anyhow::{Context, Result, bail, ensure};
use flate2::{Compress, Compression};
use pintle_tests::stream::http;
use pintle_tests::stream::remote::V4;
use pintle_tests::stream::spdy::syn_stream;

use crate::content::{Check, Content};

/// How a session is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Spdy,
    WebSocket,
}

/// What is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An exec or attach, with output, and with input or without.
    Remote { stdin: bool },
    /// A forwarded port.
    Forward(u16),
}

/// An open session.
pub(crate) struct Session {
    socket: TcpStream,
    framing: Framing,
}

/// How content is told apart.
#[derive(Debug, Clone, Copy)]
enum Framing {
    /// SPDY's streams for what goes in and what comes out.
    Spdy { input: u32, output: u32 },
    /// The same in WebSocket's messages.
    Tunnelled { input: u32, output: u32 },
    /// WebSocket's messages, the first byte of each being the channel.
    Channels,
}

/// Channels of `v5.channel.k8s.io`.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const CLOSE: u8 = 255;

impl Session {
    /// Opens a session and its streams.
    pub(crate) fn open(url: &str, transport: Transport, kind: Kind) -> Result<Session> {
        let (host, path) = http::split(url)?;
        let mut socket = TcpStream::connect(host)?;
        socket.set_nodelay(true)?;
        let protocol = match (transport, kind) {
            (Transport::Spdy, Kind::Remote { .. }) => V4,
            (Transport::Spdy, Kind::Forward(_)) => "portforward.k8s.io",
            (Transport::WebSocket, Kind::Remote { .. }) => "v5.channel.k8s.io",
            (Transport::WebSocket, Kind::Forward(_)) => "SPDY/3.1+portforward.k8s.io",
        };
        let upgrade = match transport {
            Transport::Spdy => format!(
                "POST {path} HTTP/1.1\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {protocol}\r\nContent-Length: 0\r\n"
            ),
            Transport::WebSocket => format!(
                "GET {path} HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {protocol}\r\n"
            ),
        };
        socket.write_all(format!("{upgrade}Host: {host}\r\nConnection: Upgrade\r\n\r\n").as_bytes())?;
        read_head(&mut socket)?;
        let framing = match (transport, kind) {
            (Transport::WebSocket, Kind::Remote { .. }) => Framing::Channels,
            (Transport::WebSocket, Kind::Forward(_)) => Framing::Tunnelled { input: 3, output: 3 },
            (Transport::Spdy, Kind::Forward(_)) => Framing::Spdy { input: 3, output: 3 },
            // Streams are numbered as they are opened; see `streams`.
            (Transport::Spdy, Kind::Remote { stdin }) => Framing::Spdy {
                input: 3,
                output: if stdin { 5 } else { 3 },
            },
        };
        let mut session = Session { socket, framing };
        session.open_streams(kind)?;
        Ok(session)
    }

    fn open_streams(&mut self, kind: Kind) -> Result<()> {
        if matches!(self.framing, Framing::Channels) {
            return Ok(());
        }
        let mut deflate = Compress::new(Compression::fast(), true);
        for (id, headers) in (1..).step_by(2).zip(streams(kind)) {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
            let frame = syn_stream(&mut deflate, id, &headers)?;
            self.put(&[&frame])?;
            if matches!(self.framing, Framing::Spdy { .. }) {
                self.await_reply()?;
            }
        }
        Ok(())
    }

    /// Waits for a SYN_REPLY. Some servers drop what comes before it.
    fn await_reply(&mut self) -> Result<()> {
        loop {
            let mut head = [0; 8];
            self.socket.read_exact(&mut head).context("a SYN_REPLY")?;
            let length = u32::from_be_bytes([0, head[5], head[6], head[7]]);
            let body = (&self.socket).take(u64::from(length));
            io::copy(&mut { body }, &mut io::sink())?;
            if head[..4] == [0x80, 3, 0, 2] {
                return Ok(());
            }
        }
    }

    /// Another handle, for another thread.
    pub(crate) fn try_clone(&self) -> io::Result<Session> {
        Ok(Session {
            socket: self.socket.try_clone()?,
            framing: self.framing,
        })
    }

    /// Sends some input.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        match self.framing {
            Framing::Spdy { input, .. } | Framing::Tunnelled { input, .. } => {
                let length = u32::try_from(bytes.len())?.to_be_bytes();
                self.put(&[&input.to_be_bytes(), &length, bytes])
            }
            Framing::Channels => self.put(&[&[STDIN], bytes]),
        }
    }

    /// Sends all of it, and the end of the input.
    pub(crate) fn send_all(&mut self, content: &Content) -> Result<()> {
        let mut place = 0;
        while place < content.length {
            let piece = content.at(place);
            self.send(piece)?;
            place += piece.len() as u64;
        }
        match self.framing {
            Framing::Spdy { input, .. } | Framing::Tunnelled { input, .. } => {
                self.put(&[&input.to_be_bytes(), &[1, 0, 0, 0]])
            }
            Framing::Channels => self.put(&[&[CLOSE, STDIN]]),
        }
    }

    /// Writes a SPDY frame, or a message.
    fn put(&mut self, parts: &[&[u8]]) -> Result<()> {
        let mut head = Vec::with_capacity(14);
        if !matches!(self.framing, Framing::Spdy { .. }) {
            let length: usize = parts.iter().map(|part| part.len()).sum();
            // FIN, binary, masked. The mask may be any: one of zeros costs the client nothing.
            head.extend([0x82, 0x80 | 127]);
            head.extend((length as u64).to_be_bytes());
            head.extend([0; 4]);
        }
        let mut slices: Vec<IoSlice> = std::iter::once(&head[..])
            .chain(parts.iter().copied())
            .map(IoSlice::new)
            .collect();
        let mut slices = &mut slices[..];
        while !slices.is_empty() {
            let written = self.socket.write_vectored(slices)?;
            IoSlice::advance_slices(&mut slices, written);
        }
        Ok(())
    }

    /// Reads whatever comes, until the output's end, or the connection's if there is none; compares the output.
    pub(crate) fn receive(&mut self, wanted: Option<&Content>) -> Result<()> {
        let mut output = wanted.map(Check::new);
        let from = BufReader::with_capacity(256 << 10, self.socket.try_clone()?);
        match self.framing {
            Framing::Spdy { output: id, .. } => read_spdy(from, id, &mut output)?,
            Framing::Tunnelled { output: id, .. } => read_spdy(Messages::new(from), id, &mut output)?,
            Framing::Channels => read_channels(from, &mut output)?,
        }
        output.map_or(Ok(()), |check| check.end())
    }

    /// Ends the connection, also for other handles.
    pub(crate) fn close(&self) {
        // It may have been closed by the other side.
        drop(self.socket.shutdown(Shutdown::Both));
    }
}

/// The headers of a session's SPDY streams, in the order of their numbers.
fn streams(kind: Kind) -> Vec<Vec<(&'static str, String)>> {
    match kind {
        Kind::Remote { stdin } => [("error", true), ("stdin", stdin), ("stdout", true)]
            .into_iter()
            .filter(|(_, wanted)| *wanted)
            .map(|(name, _)| vec![("streamtype", name.to_owned())])
            .collect(),
        Kind::Forward(port) => ["error", "data"]
            .map(|name| {
                let named = |name: &str| name.to_owned();
                vec![
                    ("streamtype", named(name)),
                    ("port", port.to_string()),
                    ("requestid", named("0")),
                ]
            })
            .into(),
    }
}

fn read_head(socket: &mut TcpStream) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < 16 << 10, "a head without an end");
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    ensure!(
        head.starts_with(b"HTTP/1.1 101"),
        "{}",
        String::from_utf8_lossy(&head)
    );
    Ok(())
}

/// Whether an error is the connection's end.
fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
    )
}

fn read_spdy(mut from: impl Read, output: u32, check: &mut Option<Check>) -> Result<()> {
    let mut body = Vec::new();
    loop {
        let mut head = [0; 8];
        match from.read_exact(&mut head) {
            Err(error) if is_end(&error) && check.is_none() => return Ok(()),
            read => read.context("a frame's head")?,
        }
        let id = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]);
        body.resize(length as usize, 0);
        from.read_exact(&mut body).context("a frame's content")?;
        let Some(check) = check.as_mut().filter(|_| id == output) else {
            ensure!(id != 0x8003_0003, "a stream was reset");
            continue;
        };
        check.take(&body)?;
        if head[4] & 1 == 1 {
            return Ok(());
        }
    }
}

fn read_channels(mut from: impl Read, check: &mut Option<Check>) -> Result<()> {
    let mut body = Vec::new();
    loop {
        let (opcode, length) = match message(&mut from) {
            Err(error) if is_end(&error) && check.is_none() => return Ok(()),
            head => head.context("a message's head")?,
        };
        body.resize(length, 0);
        from.read_exact(&mut body).context("a message")?;
        match (opcode, body.first(), check.as_mut()) {
            (2, Some(&STDOUT), Some(check)) => check.take(&body[1..])?,
            // The end: all output has come before it.
            (8, ..) => return Ok(()),
            (2 | 9 | 10, ..) => {}
            _ => bail!("a message of the kind {opcode}"),
        }
    }
}

/// Kind and length of the next message of a server, which masks and splits none.
fn message(from: &mut impl Read) -> io::Result<(u8, usize)> {
    let mut head = [0; 2];
    from.read_exact(&mut head)?;
    let length = match head[1] {
        126 => {
            let mut length = [0; 2];
            from.read_exact(&mut length)?;
            usize::from(u16::from_be_bytes(length))
        }
        127 => {
            let mut length = [0; 8];
            from.read_exact(&mut length)?;
            usize::try_from(u64::from_be_bytes(length)).map_err(io::Error::other)?
        }
        short => usize::from(short),
    };
    Ok((head[0] & 15, length))
}

/// What messages carry, one after the other.
struct Messages<R> {
    from: R,
    left: usize,
}

impl<R: Read> Messages<R> {
    fn new(from: R) -> Self {
        Self { from, left: 0 }
    }
}

impl<R: Read> Read for Messages<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            let (opcode, length) = message(&mut self.from)?;
            match opcode {
                2 => self.left = length,
                8 => return Ok(0),
                _ => {
                    io::copy(&mut (&mut self.from).take(length as u64), &mut io::sink())?;
                }
            }
        }
        let most = buffer.len().min(self.left);
        let count = self.from.read(&mut buffer[..most])?;
        self.left -= count;
        Ok(count)
    }
}
