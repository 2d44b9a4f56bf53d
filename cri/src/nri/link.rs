//! A socket with a plugin at its other end: calls go out, the plugin's own calls come in.
//!
//! One task reads and one writes. Nothing is kept without bound: calls of the plugin wait in a short queue and are refused
//! when it is full, and a plugin that doesn't read what it is sent is cut off.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};

use super::mux::{self, Demux};
use super::ttrpc::{self, Kind, Message, Request, Response, Status};

/// Calls of a plugin that may wait.
const INBOUND: usize = 16;
/// Messages to a plugin that may wait.
const OUTBOUND: usize = 64;

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CallError {
    /// The plugin is gone.
    #[error("the connection was closed")]
    Closed,
    /// The plugin took too long.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The request is longer than a message may be.
    #[error("the request is too long: {0} bytes")]
    TooLong(usize),
    /// The plugin says no, in its own words.
    #[error("{message}")]
    Refused {
        /// gRPC's code.
        code: i32,
        /// The plugin's message.
        message: String,
    },
    /// The answer can't be decoded.
    #[error("its answer can't be decoded")]
    Malformed,
}

/// A call of the plugin.
#[derive(Debug)]
pub(super) struct Inbound {
    stream: u32,
    /// What it asks.
    pub(super) request: Request,
}

/// One plugin's socket.
#[derive(Debug)]
pub(super) struct Link {
    outbound: mpsc::Sender<Vec<u8>>,
    calls: Mutex<Calls>,
    closed: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Calls {
    next: u32,
    waiting: HashMap<u32, oneshot::Sender<Response>>,
}

impl Link {
    /// Begins to read and to write. The plugin's own calls come out of the receiver.
    pub(super) fn open(socket: UnixStream) -> (Arc<Self>, mpsc::Receiver<Inbound>) {
        let (reading, writing) = tokio::io::split(socket);
        let (outbound, to_write) = mpsc::channel(OUTBOUND);
        let (inbound, calls) = mpsc::channel(INBOUND);
        let link = Arc::new(Self {
            outbound,
            calls: Mutex::default(),
            closed: watch::Sender::new(false),
        });
        tokio::spawn(Self::write(Arc::clone(&link), writing, to_write));
        tokio::spawn(Self::read(Arc::clone(&link), reading, inbound));
        (link, calls)
    }

    /// Calls a method and waits for its answer.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn call<Q, A>(
        &self,
        service: &str,
        method: &str,
        request: &Q,
        limit: Duration,
    ) -> Result<A, CallError>
    where
        Q: prost::Message,
        A: prost::Message + Default,
    {
        let request = Request {
            service: service.to_owned(),
            method: method.to_owned(),
            payload: request.encode_to_vec(),
            timeout: i64::try_from(limit.as_nanos()).unwrap_or(i64::MAX),
        };
        let size = prost::Message::encoded_len(&request);
        if size > ttrpc::LONGEST {
            return Err(CallError::TooLong(size));
        }
        let (answer, answered) = oneshot::channel();
        let stream = self.begin(answer)?;
        let frames = mux::frames(mux::PLUGIN, &Message::new(stream, Kind::Request, &request));
        let exchange = async {
            self.outbound.send(frames).await.map_err(|_| CallError::Closed)?;
            answered.await.map_err(|_| CallError::Closed)
        };
        let done = tokio::time::timeout(limit, exchange).await;
        self.lock().waiting.remove(&stream);
        let response = done.map_err(|_| CallError::TimedOut(limit))??;
        match response.status {
            Some(Status { code, message }) if code != 0 => Err(CallError::Refused { code, message }),
            _ => A::decode(response.payload.as_slice()).map_err(|_| CallError::Malformed),
        }
    }

    fn begin(&self, answer: oneshot::Sender<Response>) -> Result<u32, CallError> {
        let mut calls = self.lock();
        if self.is_closed() {
            return Err(CallError::Closed);
        }
        // Streams of a client are odd.
        let stream = calls.next | 1;
        calls.next = stream.wrapping_add(2);
        calls.waiting.insert(stream, answer);
        Ok(stream)
    }

    /// Answers a call of the plugin.
    pub(super) fn answer(&self, call: &Inbound, response: &Response) {
        self.answer_stream(call.stream, response);
    }

    fn answer_stream(&self, stream: u32, response: &Response) {
        let frames = mux::frames(mux::RUNTIME, &Message::new(stream, Kind::Response, response));
        if self.outbound.try_send(frames).is_err() {
            self.close();
        }
    }

    /// Ends the connection, and all calls on it.
    pub(super) fn close(&self) {
        let mut calls = self.lock();
        self.closed.send_replace(true);
        calls.waiting.clear();
    }

    /// Whether the connection has ended.
    pub(super) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Waits for the connection's end.
    pub(super) async fn wait_closed(&self) {
        let mut closed = self.closed.subscribe();
        // The sender lives in `self`, so this can't fail.
        drop(closed.wait_for(|closed| *closed).await);
    }

    async fn write(
        link: Arc<Self>,
        mut socket: WriteHalf<UnixStream>,
        mut to_write: mpsc::Receiver<Vec<u8>>,
    ) {
        let work = async {
            while let Some(frames) = to_write.recv().await {
                if socket.write_all(&frames).await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = link.wait_closed() => {}
        }
        link.close();
        drop(socket.shutdown().await);
    }

    async fn read(link: Arc<Self>, socket: ReadHalf<UnixStream>, inbound: mpsc::Sender<Inbound>) {
        let mut demux = Demux::new(socket);
        let work = async {
            loop {
                match demux.next().await {
                    Ok(Some((connection, message))) => link.take_in(connection, &message, &inbound)?,
                    Ok(None) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        };
        tokio::select! {
            ended = work => if let Err(error) = ended {
                tracing::debug!(%error, "a plugin's connection is broken");
            },
            () = link.wait_closed() => {}
        }
        link.close();
    }

    fn take_in(
        &self,
        connection: u32,
        message: &Message,
        inbound: &mpsc::Sender<Inbound>,
    ) -> std::io::Result<()> {
        match (connection, message.kind) {
            (mux::PLUGIN, Kind::Response) => {
                let response = message.content()?;
                // Nobody may wait for it any more.
                if let Some(answer) = self.lock().waiting.remove(&message.stream) {
                    drop(answer.send(response));
                }
                Ok(())
            }
            (mux::RUNTIME, Kind::Request) => {
                let call = Inbound {
                    stream: message.stream,
                    request: message.content()?,
                };
                if let Err(refused) = inbound.try_send(call) {
                    let stream = refused.into_inner().stream;
                    let answer = Response::failure(ttrpc::RESOURCE_EXHAUSTED, "too many calls at once");
                    self.answer_stream(stream, &answer);
                }
                Ok(())
            }
            _ => Err(std::io::ErrorKind::InvalidData.into()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
