//! What exec and attach see of a client: its standard streams, its terminal's size, and a way to tell the end.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{Sink, Stream};
use serde::Deserialize;
use tokio_tungstenite::tungstenite::{self, Message};

use super::error::StreamError;
use super::inbox::Taken;
use super::io::{Input, Output};
use super::link::Link;
use super::negotiate::{Codec, Remote};
use super::status::Outcome;
use super::{spdy, websocket};

/// Channels of a WebSocket.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Bytes of a size that is not complete yet.
const MAX_SIZE_TEXT: usize = 4096;

/// Which streams a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the CRI's four switches")]
pub(super) struct Wanted {
    /// The client sends input.
    pub(super) stdin: bool,
    /// It receives output.
    pub(super) stdout: bool,
    /// It receives errors apart.
    pub(super) stderr: bool,
    /// It has a terminal, and tells its size.
    pub(super) tty: bool,
}

/// An exec or attach session with its client: the streams while it lasts, and what is needed at its end.
pub(super) type Session = (Streams, Closing);

/// The client's streams.
#[derive(Debug)]
pub(super) struct Streams {
    /// What the client types.
    pub(super) stdin: Option<Input>,
    /// Standard output, of which a terminal makes the only one.
    pub(super) stdout: Option<Output>,
    /// Standard error.
    pub(super) stderr: Option<Output>,
    /// The terminal's sizes.
    pub(super) resize: Option<Resizes>,
    /// Tells when the client is gone.
    pub(super) link: Link,
}

/// What is left of a session for its end.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) protocol: Remote,
    pub(super) error: Output,
    /// Our halves of streams on which only the client sends.
    pub(super) others: Vec<Output>,
    pub(super) transport: Transport,
}

/// What carries a session.
#[derive(Debug)]
pub(super) enum Transport {
    /// SPDY/3.1.
    Spdy(spdy::Connection),
    /// A WebSocket.
    WebSocket(websocket::Connection),
}

impl Closing {
    /// Tells the client how it ended, and ends the connection once it has taken everything in. To be called when the
    /// outputs are finished and the inputs dropped.
    pub(super) async fn end(mut self, outcome: &Outcome, verb: &str, command: &[String]) {
        // Each fails only if the client is gone already.
        let text = outcome.write(self.protocol.form(), verb, command);
        if !text.is_empty() {
            drop(self.error.send(text).await);
        }
        drop(self.error.finish().await);
        for output in &mut self.others {
            drop(output.finish().await);
        }
        match self.transport {
            Transport::Spdy(connection) => connection.close().await,
            Transport::WebSocket(connection) => connection.close().await,
        }
    }
}

/// A terminal's size, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Size {
    /// Columns.
    pub(super) width: u16,
    /// Rows.
    pub(super) height: u16,
}

/// The sizes that a client tells: JSON objects, one after the other.
#[derive(Debug)]
pub(super) struct Resizes {
    input: Input,
    text: BytesMut,
}

impl Resizes {
    /// Those that come on `input`.
    pub(super) fn new(input: Input) -> Self {
        Self {
            input,
            text: BytesMut::new(),
        }
    }

    /// The latest size since the last call; None when no more can come. Dropping the future loses none.
    pub(super) async fn next(&mut self) -> Option<Size> {
        loop {
            if let Some(size) = latest(&mut self.text) {
                return Some(size);
            }
            match self.input.next().await {
                Taken::Data(data) if self.text.len() + data.len() <= MAX_SIZE_TEXT => {
                    self.text.extend_from_slice(&data);
                }
                // Nothing that goes on for so long is a size. Sizes come one at a time, so a heap of them is rare:
                // the last one counts.
                Taken::Data(data) => {
                    self.text.clear();
                    let begin = data.iter().rposition(|byte| *byte == b'{').unwrap_or(data.len());
                    self.text
                        .extend_from_slice(&data[begin..][..(data.len() - begin).min(MAX_SIZE_TEXT)]);
                }
                Taken::End(_) => return None,
            }
        }
    }
}

/// Takes all whole objects out of `text`; the last one that is a size, if one is.
fn latest(text: &mut BytesMut) -> Option<Size> {
    let mut stream = serde_json::Deserializer::from_slice(text).into_iter::<serde_json::Value>();
    let mut found = None;
    let mut broken = false;
    loop {
        match stream.next() {
            Some(Ok(value)) => {
                let size = Size::deserialize(value).ok();
                found = size.filter(|size| size.width > 0 && size.height > 0).or(found);
            }
            Some(Err(error)) => {
                broken = !error.is_eof();
                break;
            }
            None => break,
        }
    }
    let read = stream.byte_offset();
    match broken {
        true => text.clear(),
        false => text.advance(read),
    }
    found
}

/// Gathers the streams that `wanted` names from a SPDY client.
///
/// # Errors
/// [`StreamError::StreamsMissing`] after `limit`, [`StreamError::Closed`].
pub(super) async fn over_spdy(
    mut connection: spdy::Connection,
    link: Link,
    protocol: Remote,
    wanted: Wanted,
    limit: Duration,
) -> Result<Session, StreamError> {
    let mut gathered = Gathered::default();
    let gathering = async {
        while !gathered.is_complete(protocol, wanted) {
            let stream = connection.accept().await.ok_or(StreamError::Closed)?;
            gathered.add(stream, protocol, wanted);
        }
        Ok(())
    };
    tokio::time::timeout(limit, gathering)
        .await
        .unwrap_or(Err(StreamError::StreamsMissing))?;
    let Gathered {
        error,
        stdin,
        stdout,
        stderr,
        resize,
    } = gathered;
    let error = error.ok_or(StreamError::StreamsMissing)?;
    let (stdin, stdin_back) = stdin.map(|s| (s.input, s.output)).unzip();
    let (resize, resize_back) = resize.map(|s| (Resizes::new(s.input), s.output)).unzip();
    let streams = Streams {
        stdin,
        stdout: stdout.map(|stream| stream.output),
        stderr: stderr.map(|stream| stream.output),
        resize,
        link,
    };
    let closing = Closing {
        protocol,
        error: error.output,
        others: stdin_back.into_iter().chain(resize_back).collect(),
        transport: Transport::Spdy(connection),
    };
    Ok((streams, closing))
}

/// The channels that `wanted` names, on a WebSocket that says it is ready by an empty message.
///
/// # Errors
/// [`StreamError::Closed`].
pub(super) async fn over_websocket<T>(
    socket: T,
    link: Link,
    (protocol, codec): (Remote, Codec),
    wanted: Wanted,
    idle: Duration,
) -> Result<Session, StreamError>
where
    T: Stream<Item = tungstenite::Result<Message>> + Sink<Message> + Send + 'static,
{
    let (stdin, input) = wanted.stdin.then(|| websocket::Channel::new(STDIN)).unzip();
    let (resize, sizes) = wanted.tty.then(|| websocket::Channel::new(RESIZE)).unzip();
    let channels = stdin.into_iter().chain(resize).collect();
    let connection = websocket::Connection::start(socket, link.clone(), codec, channels, idle);
    let lowest = match wanted {
        Wanted { stdout: true, .. } => STDOUT,
        Wanted { stderr: true, .. } => STDERR,
        _ => ERROR,
    };
    connection.output(lowest).send(Bytes::new()).await?;
    let streams = Streams {
        stdin: input,
        stdout: wanted.stdout.then(|| connection.output(STDOUT)),
        stderr: wanted.stderr.then(|| connection.output(STDERR)),
        resize: sizes.map(Resizes::new),
        link,
    };
    let closing = Closing {
        protocol,
        error: connection.output(ERROR),
        others: Vec::new(),
        transport: Transport::WebSocket(connection),
    };
    Ok((streams, closing))
}

#[derive(Default)]
struct Gathered {
    error: Option<spdy::Stream>,
    stdin: Option<spdy::Stream>,
    stdout: Option<spdy::Stream>,
    stderr: Option<spdy::Stream>,
    resize: Option<spdy::Stream>,
}

impl Gathered {
    fn is_complete(&self, protocol: Remote, wanted: Wanted) -> bool {
        self.error.is_some()
            && self.stdin.is_some() == wanted.stdin
            && self.stdout.is_some() == wanted.stdout
            && self.stderr.is_some() == wanted.stderr
            && self.resize.is_some() == (wanted.tty && protocol.has_resize())
    }

    /// Takes a stream that is wanted and not there yet; any other one is reset.
    fn add(&mut self, stream: spdy::Stream, protocol: Remote, wanted: Wanted) {
        let place = match stream.headers.get("streamtype") {
            Some("error") => &mut self.error,
            Some("stdin") if wanted.stdin => &mut self.stdin,
            Some("stdout") if wanted.stdout => &mut self.stdout,
            Some("stderr") if wanted.stderr => &mut self.stderr,
            Some("resize") if wanted.tty && protocol.has_resize() => &mut self.resize,
            _ => return,
        };
        if place.is_none() {
            stream.reply();
            *place = Some(stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_size_counts() {
        let mut text = BytesMut::from(r#"{"Width":80,"Height":24}{"Width":100,"Height":30} {"Wid"#);
        assert_eq!(
            latest(&mut text),
            Some(Size {
                width: 100,
                height: 30
            })
        );
        assert_eq!(latest(&mut text), None);
        text.extend_from_slice(br#"th":7,"Height":8}"#);
        assert_eq!(latest(&mut text), Some(Size { width: 7, height: 8 }));
        assert!(text.is_empty());
    }

    #[test]
    fn what_is_no_size_changes_nothing() {
        for bad in [
            r#"{"Width":0,"Height":24}"#,
            "garbage",
            r#"{"Width":70000,"Height":1}"#,
            "[]",
            "\"\"",
        ] {
            let mut text = BytesMut::from(bad);
            assert_eq!(latest(&mut text), None, "{bad}");
        }
        let mut text = BytesMut::from(r#"{"Width":5,"Height":6}{"Width":0,"Height":0}"#);
        assert_eq!(latest(&mut text), Some(Size { width: 5, height: 6 }));
    }
}
