//! One connection: numbered calls out, replies and events back, each to whom it belongs.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Result};
use crate::protocol::{Decoder, Event, Exit, Reply, Request, RequestFrame, ToDaemon, encode};
use crate::sys::fd::send_with_fds;

/// Bytes read at once.
const READ: usize = 16 * 1024;

/// What the reader task hands things to.
#[derive(Debug, Default)]
struct Waiting {
    last_seq: u64,
    /// The connection has ended: nothing may be added any more.
    is_gone: bool,
    replies: HashMap<u64, oneshot::Sender<Result<Reply>>>,
    exits: HashMap<String, oneshot::Sender<Exit>>,
}

/// A frame on its way out.
struct Outgoing {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// The sending half, and the lists of who waits. Dropping it closes the connection.
#[derive(Debug)]
pub(super) struct Link {
    queue: mpsc::UnboundedSender<Outgoing>,
    waiting: Arc<Mutex<Waiting>>,
}

/// What the monitor tells of itself. Exits of execs go to their [`super::ExecHandle`] instead.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::UnboundedReceiver<Event>,
    /// Whoever listens keeps the connection.
    _link: Arc<Link>,
}

impl Events {
    /// The next event; None when the monitor is gone. Dropping the future loses none.
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }
}

impl Link {
    /// Takes a connection and starts its two tasks.
    pub(super) fn new(stream: UnixStream) -> (Arc<Self>, Events) {
        let stream = Arc::new(stream);
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        // Bounded by what is asked for: a frame per call, an event per container and exec.
        let (queue, outgoing) = mpsc::unbounded_channel();
        let (sink, receiver) = mpsc::unbounded_channel();
        tokio::spawn(write(Arc::clone(&stream), outgoing));
        tokio::spawn(read(stream, Arc::clone(&waiting), sink));
        let link = Arc::new(Self { queue, waiting });
        (
            Arc::clone(&link),
            Events {
                receiver,
                _link: link,
            },
        )
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn call(&self, request: Request, fds: Vec<OwnedFd>) -> Result<Reply> {
        self.send(request, fds)?.await.map_err(|_| Error::MonitorGone)?
    }

    /// Sends a request; the answer comes in by the receiver, or never if it is dropped.
    pub(super) fn send(
        &self,
        request: Request,
        fds: Vec<OwnedFd>,
    ) -> Result<oneshot::Receiver<Result<Reply>>> {
        let (sender, receiver) = oneshot::channel();
        let seq = {
            let mut waiting = lock(&self.waiting);
            if waiting.is_gone {
                return Err(Error::MonitorGone);
            }
            waiting.last_seq += 1;
            let seq = waiting.last_seq;
            waiting.replies.insert(seq, sender);
            seq
        };
        let mut bytes = Vec::new();
        let frame = RequestFrame {
            seq,
            fds: u32::try_from(fds.len()).unwrap_or(u32::MAX),
            request,
        };
        if let Err(error) = encode(&frame, &mut bytes) {
            lock(&self.waiting).replies.remove(&seq);
            return Err(error.into());
        }
        // If the writer has ended, so has the reader, or soon will, and drops the sender.
        let _ = self.queue.send(Outgoing { bytes, fds });
        Ok(receiver)
    }

    /// Registers for an exec's exit, before it is asked for.
    pub(super) fn expect_exit(&self, exec_id: &str) -> Result<oneshot::Receiver<Exit>> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = lock(&self.waiting);
        if waiting.is_gone {
            return Err(Error::MonitorGone);
        }
        // A second exec of that name is refused by the monitor; the first one's exit must still arrive.
        if waiting.exits.contains_key(exec_id) {
            return Err(Error::Remote {
                kind: crate::protocol::ErrorKind::AlreadyExists,
                message: format!("exec {exec_id} exists"),
            });
        }
        waiting.exits.insert(exec_id.to_owned(), sender);
        Ok(receiver)
    }

    /// Takes the registration back.
    pub(super) fn forget_exit(&self, exec_id: &str) {
        lock(&self.waiting).exits.remove(exec_id);
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    // No panic can leave the lists half-changed.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn write(stream: Arc<UnixStream>, mut queue: mpsc::UnboundedReceiver<Outgoing>) {
    while let Some(mut outgoing) = queue.recv().await {
        let mut sent = 0;
        while sent < outgoing.bytes.len() {
            let attempt = stream.async_io(Interest::WRITABLE, || {
                let fds: Vec<RawFd> = outgoing.fds.iter().map(AsRawFd::as_raw_fd).collect();
                Ok(send_with_fds(stream.as_fd(), &outgoing.bytes[sent..], &fds)?)
            });
            match attempt.await {
                Ok(n) => {
                    sent += n;
                    outgoing.fds.clear(); // they went with the first byte
                }
                Err(_) => return close(&stream),
            }
        }
    }
    close(&stream);
}

/// Wakes the reader, whichever side ended it.
fn close(stream: &UnixStream) {
    // It fails if it is closed already.
    let _ = nix::sys::socket::shutdown(stream.as_raw_fd(), nix::sys::socket::Shutdown::Both);
}

async fn read(stream: Arc<UnixStream>, waiting: Arc<Mutex<Waiting>>, events: mpsc::UnboundedSender<Event>) {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; READ];
    while let Ok(n) = receive(&stream, &mut buffer).await {
        if n == 0 {
            break;
        }
        decoder.push(&buffer[..n]);
        if !deliver(&mut decoder, &waiting, &events) {
            break;
        }
    }
    close(&stream);
    let mut waiting = lock(&waiting);
    waiting.is_gone = true;
    // Their receivers see the sender dropped, which means MonitorGone.
    waiting.replies.clear();
    waiting.exits.clear();
}

async fn receive(stream: &UnixStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

/// Hands out every whole frame; false if the stream is no protocol.
fn deliver(decoder: &mut Decoder, waiting: &Mutex<Waiting>, events: &mpsc::UnboundedSender<Event>) -> bool {
    loop {
        match decoder.next_frame() {
            Ok(None) => return true,
            Err(_) => return false,
            Ok(Some(body)) => match serde_json::from_slice(body) {
                Ok(message) => dispatch(message, waiting, events),
                Err(_) => refuse(body, waiting),
            },
        }
    }
}

// Nobody may wait any more for what is dispatched: whoever did has been dropped.
fn dispatch(message: ToDaemon, waiting: &Mutex<Waiting>, events: &mpsc::UnboundedSender<Event>) {
    match message {
        ToDaemon::Reply { seq, result } => {
            if let Some(caller) = lock(waiting).replies.remove(&seq) {
                let _ = caller.send(result.map_err(Error::from));
            }
        }
        ToDaemon::Event(Event::ExecExited { exec_id, exit }) => {
            let waiter = lock(waiting).exits.remove(&exec_id);
            match waiter {
                Some(waiter) => drop(waiter.send(exit)),
                None => drop(events.send(Event::ExecExited { exec_id, exit })),
            }
        }
        ToDaemon::Event(event) => drop(events.send(event)),
    }
}

/// A message of a newer monitor: an event is passed over, a reply fails its call.
fn refuse(body: &[u8], waiting: &Mutex<Waiting>) {
    #[derive(serde::Deserialize)]
    struct Message {
        reply: Head,
    }
    #[derive(serde::Deserialize)]
    struct Head {
        seq: u64,
    }
    let Ok(message) = serde_json::from_slice::<Message>(body) else {
        return;
    };
    if let Some(caller) = lock(waiting).replies.remove(&message.reply.seq) {
        let _ = caller.send(Err(Error::Reply {
            request: "a call: it can't be read",
        }));
    }
}
