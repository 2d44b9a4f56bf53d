//! A small SPDY/3.1 client, which keeps no windows, as kubectl's.
//!
//! Its header blocks are deflated without SPDY's dictionary, which zlib's format allows; the ones that come back are
//! not looked into.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use flate2::{Compress, Compression, FlushCompress};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use super::http::{self, Io};
use crate::wait::scaled;

/// What comes on a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The server has accepted it.
    Reply,
    /// Content.
    Data(Vec<u8>),
    /// The server has no more to send.
    Fin,
    /// The server has given it up.
    Reset,
}

type Streams = Arc<Mutex<HashMap<u32, mpsc::UnboundedSender<Event>>>>;

/// A connection. Dropped with all its streams, it is closed.
pub struct Spdy {
    /// The protocol that the server chose.
    pub protocol: Option<String>,
    streams: Streams,
    writer: Arc<tokio::sync::Mutex<Writer>>,
    reader: tokio::task::JoinHandle<()>,
    last: u32,
}

struct Writer {
    io: WriteHalf<Box<dyn Io>>,
    deflate: Compress,
}

/// A stream.
pub struct Stream {
    id: u32,
    events: mpsc::UnboundedReceiver<Event>,
    writer: Arc<tokio::sync::Mutex<Writer>>,
}

impl Drop for Spdy {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Spdy {
    /// Upgrades a connection to a URL, offering these protocols.
    pub async fn connect(url: &str, protocols: &[&str]) -> Result<Spdy> {
        Self::over(http::connect(url, None).await?, url, protocols).await
    }

    /// As [`Spdy::connect`], over a connection that stands.
    pub async fn over(io: Box<dyn Io>, url: &str, protocols: &[&str]) -> Result<Spdy> {
        let mut headers = vec![("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")];
        headers.extend(protocols.iter().map(|p| ("X-Stream-Protocol-Version", *p)));
        let answer = http::request(io, "POST", url, &headers).await?;
        ensure!(answer.status == 101, "status {}", answer.status);
        let protocol = answer.header("x-stream-protocol-version").map(str::to_owned);
        Ok(Self::start(answer.io, protocol))
    }

    /// Speaks SPDY at once.
    pub fn start(io: Box<dyn Io>, protocol: Option<String>) -> Spdy {
        let (from, to) = tokio::io::split(io);
        let streams = Streams::default();
        Spdy {
            protocol,
            reader: tokio::spawn(read(from, Arc::clone(&streams))),
            streams,
            writer: Arc::new(tokio::sync::Mutex::new(Writer {
                io: to,
                deflate: Compress::new(Compression::fast(), true),
            })),
            last: 0,
        }
    }

    /// Opens a stream with these headers, and waits until the server has accepted it.
    pub async fn open(&mut self, headers: &[(&str, &str)]) -> Result<Stream> {
        let id = if self.last == 0 { 1 } else { self.last + 2 };
        self.last = id;
        let (sink, events) = mpsc::unbounded_channel();
        self.streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, sink);
        {
            let mut writer = self.writer.lock().await;
            let frame = syn_stream(&mut writer.deflate, id, headers)?;
            writer.io.write_all(&frame).await?;
        }
        let mut stream = Stream {
            id,
            events,
            writer: Arc::clone(&self.writer),
        };
        let first = stream.next().await?;
        ensure!(first == Event::Reply, "stream {headers:?}: {first:?}");
        Ok(stream)
    }

    /// Closes the connection, as a client that is killed.
    pub async fn vanish(self) -> Result<()> {
        self.reader.abort();
        self.writer.lock().await.io.shutdown().await?;
        Ok(())
    }
}

/// The frame that opens a stream.
pub fn syn_stream(deflate: &mut Compress, id: u32, headers: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut text = u32::try_from(headers.len())?.to_be_bytes().to_vec();
    for part in headers.iter().flat_map(|(name, value)| [name, value]) {
        text.extend(u32::try_from(part.len())?.to_be_bytes());
        text.extend(part.as_bytes());
    }
    let mut block = Vec::with_capacity(text.len() + 128);
    deflate.compress_vec(&text, &mut block, FlushCompress::Sync)?;
    let mut frame = vec![0x80, 3, 0, 1];
    frame.extend(u32::try_from(10 + block.len())?.to_be_bytes());
    frame.extend(id.to_be_bytes());
    frame.extend([0; 6]);
    frame.extend(block);
    Ok(frame)
}

impl Stream {
    /// Sends content.
    pub async fn write(&mut self, content: &[u8]) -> Result<()> {
        for piece in content.chunks(32 << 10) {
            self.frame(0, piece).await?;
        }
        Ok(())
    }

    /// Half-closes it.
    pub async fn finish(&mut self) -> Result<()> {
        self.frame(1, &[]).await
    }

    /// Gives it up.
    pub async fn reset(&mut self) -> Result<()> {
        let mut frame = vec![0x80, 3, 0, 3, 0, 0, 0, 8];
        frame.extend(self.id.to_be_bytes());
        frame.extend(5_u32.to_be_bytes());
        Ok(self.writer.lock().await.io.write_all(&frame).await?)
    }

    async fn frame(&mut self, flags: u8, content: &[u8]) -> Result<()> {
        let mut frame = self.id.to_be_bytes().to_vec();
        frame.extend((u32::from(flags) << 24 | u32::try_from(content.len())?).to_be_bytes());
        frame.extend(content);
        Ok(self.writer.lock().await.io.write_all(&frame).await?)
    }

    /// The next thing that comes.
    pub async fn next(&mut self) -> Result<Event> {
        let limit = crate::wait::PATIENCE;
        let event = tokio::time::timeout(scaled(limit), self.events.recv()).await;
        event
            .context("nothing comes on a stream")?
            .context("the connection is closed")
    }

    /// Reads to the end.
    pub async fn read_to_end(&mut self) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            match self.next().await? {
                Event::Data(data) => all.extend(data),
                Event::Fin => return Ok(all),
                other => anyhow::bail!("{other:?} behind {} bytes", all.len()),
            }
        }
    }

    /// Reads until `text` has come; all that came.
    pub async fn read_until(&mut self, text: &str) -> Result<String> {
        let mut all = Vec::new();
        loop {
            let so_far = String::from_utf8_lossy(&all).into_owned();
            if so_far.contains(text) {
                return Ok(so_far);
            }
            match self
                .next()
                .await
                .with_context(|| format!("{text:?} after {so_far:?}"))?
            {
                Event::Data(data) => all.extend(data),
                other => anyhow::bail!("{other:?} after {so_far:?}, not {text:?}"),
            }
        }
    }
}

async fn read(mut from: ReadHalf<Box<dyn Io>>, streams: Streams) {
    // It ends with the connection; then every stream's channel is closed.
    while read_frame(&mut from, &streams).await.is_ok() {}
    streams.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

async fn read_frame(from: &mut ReadHalf<Box<dyn Io>>, streams: &Streams) -> Result<()> {
    let (first, second) = (from.read_u32().await?, from.read_u32().await?);
    let mut body = vec![0; (second & 0x00ff_ffff) as usize];
    from.read_exact(&mut body).await?;
    let tell = |id: u32, event| {
        let streams = streams.lock().unwrap_or_else(PoisonError::into_inner);
        // A test may have dropped the stream.
        drop(streams.get(&id).map(|stream| stream.send(event)));
    };
    if first >> 31 == 0 {
        if !body.is_empty() {
            tell(first, Event::Data(body));
        }
        if second >> 24 & 1 == 1 {
            tell(first, Event::Fin);
        }
        return Ok(());
    }
    let id = body.first_chunk().map_or(0, |id| u32::from_be_bytes(*id));
    match first & 0xffff {
        2 => tell(id, Event::Reply),
        3 => tell(id, Event::Reset),
        _ => {}
    }
    Ok(())
}
