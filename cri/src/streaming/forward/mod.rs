//! Port-forward: any number of connections to ports of a pod, side by side over one connection of the client.
//!
//! ```text
//!   SPDY       a pair of streams a connection, with headers port, requestID and streamType (data, error)
//!   WebSocket  a pair of channels a port: 2i data, 2i+1 error, each begins with the port, little-endian
//! ```

mod dial;
mod pair;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, Stream as Messages};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::{self, Message};

use self::dial::Dialer;
use self::pair::Pair;
use super::error::StreamError;
use super::link::Link;
use super::negotiate::Codec;
use super::websocket::Channel;
use super::{spdy, websocket};
use crate::core::Core;
use crate::error::{Error, Result};

/// Channels of a WebSocket have one byte for their number, and two are taken a port.
const MAX_PORTS: usize = 100;

/// Where the connections of a pod's clients go.
///
/// # Errors
/// The pod is gone or not ready.
fn dialer(core: &Core, pod: &str) -> Result<Dialer> {
    let pod = core.pod(pod)?;
    pod.must_be_ready()?;
    let netns = match pod.cell.get().host_network() {
        true => None,
        false => Some(core.paths.pod(&pod.id).namespace("net")),
    };
    Ok(Dialer { netns })
}

/// Serves a SPDY client until it leaves.
///
/// # Errors
/// As [`dialer`].
pub(super) async fn over_spdy(
    core: Arc<Core>,
    pod: &str,
    mut connection: spdy::Connection,
    limit: Duration,
) -> Result<()> {
    let dialer = dialer(&core, pod)?;
    let mut waiting = Waiting::default();
    // Dropped with this function: no pair outlives its connection.
    let mut pairs = JoinSet::new();
    loop {
        tokio::select! {
            stream = connection.accept() => match stream {
                Some(stream) => {
                    if let Some(pair) = waiting.add(stream, Instant::now() + limit) {
                        pairs.spawn(pair.run(dialer.clone()));
                    }
                }
                None => return Ok(()),
            },
            () = waiting.first_deadline() => waiting.expire(Instant::now()),
            Some(_) = pairs.join_next() => {}
        }
    }
}

/// What tells which two streams belong together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// The request's id.
    Request(String),
    /// Of old clients, which send none: the error stream's own id; the data stream's is the next one.
    Streams(u32),
}

/// Streams whose other half hasn't come yet. Bounded by the streams of a connection.
#[derive(Debug, Default)]
struct Waiting(HashMap<Key, Half>);

#[derive(Debug)]
struct Half {
    is_data: bool,
    stream: spdy::Stream,
    until: Instant,
}

impl Waiting {
    /// Takes a stream; the pair, if this makes one whole. What is no half of a pair is dropped, that is, reset.
    fn add(&mut self, stream: spdy::Stream, until: Instant) -> Option<Pair> {
        let port = stream
            .headers
            .get("port")?
            .parse()
            .ok()
            .filter(|port| *port > 0)?;
        let is_data = match stream.headers.get("streamtype")? {
            "data" => true,
            "error" => false,
            _ => return None,
        };
        let key = match stream.headers.get("requestid") {
            Some(id) => Key::Request(id.to_owned()),
            None if is_data => Key::Streams(stream.id.checked_sub(2)?),
            None => Key::Streams(stream.id),
        };
        match self.0.remove(&key) {
            None => {
                stream.reply();
                self.0.insert(
                    key,
                    Half {
                        is_data,
                        stream,
                        until,
                    },
                );
                None
            }
            Some(half) if half.is_data == is_data => {
                self.0.insert(key, half);
                None
            }
            Some(half) => {
                stream.reply();
                let (data, error) = if is_data {
                    (stream, half.stream)
                } else {
                    (half.stream, stream)
                };
                Some(Pair {
                    port,
                    from_client: data.input,
                    to_client: data.output,
                    errors: error.output,
                })
            }
        }
    }

    /// Waits until a half has waited too long; for ever if none waits.
    async fn first_deadline(&self) {
        match self.0.values().map(|half| half.until).min() {
            Some(until) => sleep_until(until).await,
            None => std::future::pending().await,
        }
    }

    fn expire(&mut self, now: Instant) {
        self.0.retain(|_, half| half.until > now);
    }
}

/// Serves a WebSocket client with a connection to each of `ports`.
///
/// # Errors
/// As [`dialer`]; ports that are none.
pub(super) async fn over_websocket<T>(
    core: Arc<Core>,
    (pod, ports): (&str, &[u16]),
    socket: T,
    link: Link,
    codec: Codec,
    idle: Duration,
) -> Result<()>
where
    T: Messages<Item = tungstenite::Result<Message>> + Sink<Message> + Send + 'static,
{
    let most = match codec {
        Codec::Binary => MAX_PORTS,
        Codec::Base64 => websocket::BASE64_CHANNELS / 2,
    };
    if ports.is_empty() || ports.len() > most {
        return Err(Error::invalid(
            "port",
            format!("{} ports are asked for, 1 to {most} are possible", ports.len()),
        ));
    }
    let dialer = dialer(&core, pod)?;
    let numbers = || (0_u8..).step_by(2);
    let (channels, inputs): (Vec<_>, Vec<_>) =
        numbers().zip(ports).map(|(data, _)| Channel::new(data)).unzip();
    let connection = websocket::Connection::start(socket, link.clone(), codec, channels, idle);
    let mut pairs = JoinSet::new();
    for ((number, port), from_client) in numbers().zip(ports).zip(inputs) {
        let mut pair = Pair {
            port: *port,
            from_client,
            to_client: connection.output(number),
            errors: connection.output(number + 1),
        };
        let greeting = Bytes::copy_from_slice(&port.to_le_bytes());
        let dialer = dialer.clone();
        pairs.spawn(async move {
            pair.to_client.send(greeting.clone()).await?;
            pair.errors.send(greeting).await?;
            pair.run(dialer).await;
            Ok::<(), StreamError>(())
        });
    }
    tokio::select! {
        () = async { while pairs.join_next().await.is_some() {} } => connection.close().await,
        () = link.closed() => {}
    }
    Ok(())
}
