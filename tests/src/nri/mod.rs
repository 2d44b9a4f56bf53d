//! A plugin of the Node Resource Interface that does what a test says: its own side of the wire, from scratch.
//!
//! A script answers each request; what was asked is written down in order.

pub mod script;
pub mod wire;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use crate::wait;
use wire::{Configure, Event, Register, Request, Response, StateChange, Status, Synchronize, Synchronized};

const PLUGIN: u32 = 1;
const RUNTIME: u32 = 2;
const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;
/// gRPC's code for a method that isn't there.
const UNIMPLEMENTED: i32 = 12;

/// Something that the plugin was asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// What it is about.
    pub about: Event,
    /// The request, encoded.
    pub payload: Vec<u8>,
}

impl Asked {
    fn new(request: Request) -> Result<Self> {
        let payload = request.payload;
        let about = match request.method.as_str() {
            "Configure" | "Synchronize" | "Shutdown" => Event::default(),
            "StateChange" => {
                let change = StateChange::decode(payload.as_slice())?;
                Event {
                    pod: change.pod,
                    container: change.container,
                }
            }
            _ => Event::decode(payload.as_slice())?,
        };
        Ok(Self {
            method: request.method,
            about,
            payload,
        })
    }

    /// The id of the container, else of the pod.
    pub fn id(&self) -> &str {
        let (pod, container) = (&self.about.pod, &self.about.container);
        container
            .as_ref()
            .map(|c| c.id.as_str())
            .or(pod.as_ref().map(|p| p.id.as_str()))
            .unwrap_or_default()
    }

    /// The name of the container, else of the pod.
    pub fn name(&self) -> &str {
        let (pod, container) = (&self.about.pod, &self.about.container);
        container
            .as_ref()
            .map(|c| c.name.as_str())
            .or(pod.as_ref().map(|p| p.name.as_str()))
            .unwrap_or_default()
    }
}

/// What the plugin does when it is asked.
pub enum Answer {
    /// An empty answer.
    Yes,
    /// An answer.
    With(Vec<u8>),
    /// An error in these words.
    No(String),
    /// It has no such method.
    Unknown,
    /// Nothing at all.
    Silence,
    /// It breaks off.
    Die,
    /// An empty answer, after this.
    After(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl Answer {
    /// An answer with this message.
    pub fn with(message: &impl Message) -> Self {
        Self::With(message.encode_to_vec())
    }
}

/// A script: what is answered to what.
pub type Script = Box<dyn FnMut(&Asked) -> Answer + Send>;

/// A connected plugin. Dropped, it is gone.
pub struct Plugin {
    asked: Arc<Mutex<Vec<Asked>>>,
    calls: mpsc::UnboundedSender<(Request, oneshot::Sender<Response>)>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Plugin {
    /// Connects, registers, and waits until it has been given what there is.
    pub async fn connect(
        socket: &Path,
        index: &str,
        name: &str,
        script: impl FnMut(&Asked) -> Answer + Send + 'static,
    ) -> Result<Self> {
        let plugin = Self::begin(socket, index, name, script).await?;
        plugin.wait_for("Synchronize", 1).await?;
        Ok(plugin)
    }

    /// Connects and registers.
    pub async fn begin(
        socket: &Path,
        index: &str,
        name: &str,
        script: impl FnMut(&Asked) -> Answer + Send + 'static,
    ) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .await
            .with_context(|| format!("connect to {}", socket.display()))?;
        let (reading, writing) = stream.into_split();
        Self::run(reading, writing, index, name, Box::new(script)).await
    }

    /// Registers over a socket of two halves.
    pub async fn run(
        reading: impl AsyncRead + Unpin + Send + 'static,
        writing: impl AsyncWrite + Unpin + Send + 'static,
        index: &str,
        name: &str,
        script: Script,
    ) -> Result<Self> {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (calls, called) = mpsc::unbounded_channel();
        let work = work(reading, writing, script, Arc::clone(&asked), called);
        let task = tokio::spawn(async move {
            // The connection's end is the daemon's business, or the script's.
            drop(work.await);
        });
        let plugin = Self { asked, calls, task };
        let register = Register {
            name: name.to_owned(),
            index: index.to_owned(),
        };
        plugin.call("RegisterPlugin", &register).await?;
        Ok(plugin)
    }

    /// Asks the runtime something; the answer's payload.
    pub async fn call(&self, method: &str, request: &impl Message) -> Result<Vec<u8>> {
        let (answer, answered) = oneshot::channel();
        let request = Request {
            service: "nri.pkg.api.v1alpha1.Runtime".to_owned(),
            method: method.to_owned(),
            payload: request.encode_to_vec(),
            timeout: 0,
        };
        self.calls
            .send((request, answer))
            .ok()
            .context("the plugin is gone")?;
        let response = answered.await.context("the connection was closed")?;
        match response.status {
            Some(status) if status.code != 0 => bail!("{method}: {}", status.message),
            _ => Ok(response.payload),
        }
    }

    /// All that it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it was asked about an object, by methods.
    pub fn methods_about(&self, id: &str) -> Vec<String> {
        let asked = self.asked();
        let about = asked.iter().filter(|asked| asked.id() == id);
        about.map(|asked| asked.method.clone()).collect()
    }

    /// Ids of the pods and containers that it was given when it joined.
    pub fn given(&self) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        for asked in self.asked().iter().filter(|a| a.method == "Synchronize") {
            let part = Synchronize::decode(asked.payload.as_slice())?;
            ids.extend(part.pods.into_iter().map(|pod| pod.id));
            ids.extend(part.containers.into_iter().map(|container| container.id));
        }
        Ok(ids)
    }

    /// Its configuration, as the runtime gave it.
    pub fn configuration(&self) -> Result<Configure> {
        let asked = self.asked();
        let asked = asked.iter().find(|a| a.method == "Configure");
        Ok(Configure::decode(
            asked.context("not configured")?.payload.as_slice(),
        )?)
    }

    /// Waits until it was asked this so often.
    pub async fn wait_for(&self, method: &str, times: usize) -> Result<()> {
        wait::until_some(method, wait::PATIENCE, || async {
            let asked = self.asked();
            (asked.iter().filter(|a| a.method == method).count() >= times).then_some(())
        })
        .await
    }

    /// Waits, for however long, until the connection ends.
    pub async fn ended(mut self) {
        drop((&mut self.task).await);
    }

    /// Waits for the connection's end.
    pub async fn wait_gone(&self) -> Result<()> {
        wait::until_some("the plugin to be cut off", wait::PATIENCE, || async {
            self.task.is_finished().then_some(())
        })
        .await
    }
}

async fn work(
    mut reading: impl AsyncRead + Unpin + Send,
    mut writing: impl AsyncWrite + Unpin + Send,
    mut script: Script,
    seen: Arc<Mutex<Vec<Asked>>>,
    mut calls: mpsc::UnboundedReceiver<(Request, oneshot::Sender<Response>)>,
) -> Result<()> {
    let (outgoing, mut to_write) = mpsc::unbounded_channel::<Vec<u8>>();
    let (messages, mut incoming) = mpsc::unbounded_channel();
    let reader = async move {
        let mut streams: [Vec<u8>; 2] = Default::default();
        loop {
            for message in read(&mut reading, &mut streams).await? {
                ensure!(messages.send(message).is_ok(), "nobody listens");
            }
        }
    };
    let dispatcher = async move {
        let mut waiting: Vec<(u32, oneshot::Sender<Response>)> = Vec::new();
        let mut last = 1;
        loop {
            tokio::select! {
                Some((request, answer)) = calls.recv() => {
                    last += 2;
                    waiting.push((last, answer));
                    drop(outgoing.send(frame(RUNTIME, last, REQUEST, &request)));
                }
                message = incoming.recv() => match message.context("the connection was closed")? {
                    (RUNTIME, stream, RESPONSE, data) => {
                        let at = waiting.iter().position(|(id, _)| *id == stream).context("an answer to nothing")?;
                        drop(waiting.swap_remove(at).1.send(Response::decode(data.as_slice())?));
                    }
                    (PLUGIN, stream, REQUEST, data) => {
                        let asked = Asked::new(Request::decode(data.as_slice())?)?;
                        let answer = answer(&mut script, &asked);
                        seen.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
                        respond(&outgoing, stream, answer?);
                    }
                    other => bail!("an unexpected message: {other:?}"),
                }
            }
        }
    };
    let writer = async move {
        while let Some(bytes) = to_write.recv().await.filter(|bytes| !bytes.is_empty()) {
            writing.write_all(&bytes).await?;
            writing.flush().await?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        ended = reader => ended,
        ended = dispatcher => ended,
        ended = writer => ended,
    }
}

/// What is answered: what the script says, with the one field that must be repeated.
fn answer(script: &mut Script, asked: &Asked) -> Result<Answer> {
    let said = script(asked);
    if asked.method == "Synchronize" && matches!(said, Answer::Yes) {
        let more = Synchronize::decode(asked.payload.as_slice())?.more;
        return Ok(Answer::with(&Synchronized {
            update: Vec::new(),
            more,
        }));
    }
    Ok(said)
}

fn respond(outgoing: &mpsc::UnboundedSender<Vec<u8>>, stream: u32, answer: Answer) {
    let failure = |code: i32, message: String| Response {
        status: Some(Status { code, message }),
        payload: Vec::new(),
    };
    let response = match answer {
        Answer::Yes => Response::default(),
        Answer::With(payload) => Response {
            status: None,
            payload,
        },
        Answer::No(message) => failure(2, message),
        Answer::Unknown => failure(UNIMPLEMENTED, "there is no such method".to_owned()),
        Answer::Silence => return,
        Answer::Die => {
            // Nothing to write ends the writer, and the socket with it.
            drop(outgoing.send(Vec::new()));
            return;
        }
        Answer::After(moment) => {
            let outgoing = outgoing.clone();
            tokio::spawn(async move {
                moment.await;
                drop(outgoing.send(frame(PLUGIN, stream, RESPONSE, &Response::default())));
            });
            return;
        }
    };
    drop(outgoing.send(frame(PLUGIN, stream, RESPONSE, &response)));
}

type Received = (u32, u32, u8, Vec<u8>);

/// Reads one frame; the messages that are whole then.
async fn read(from: &mut (impl AsyncRead + Unpin), streams: &mut [Vec<u8>; 2]) -> Result<Vec<Received>> {
    let connection = from.read_u32().await?;
    let length = from.read_u32().await?;
    ensure!(length <= 5 << 20, "a frame of {length} bytes");
    let mut bytes = vec![0; usize::try_from(length)?];
    from.read_exact(&mut bytes).await?;
    let stream = match connection {
        PLUGIN => &mut streams[0],
        RUNTIME => &mut streams[1],
        other => bail!("connection {other}"),
    };
    stream.extend(bytes);
    let mut whole = Vec::new();
    while stream.len() >= 10 {
        let size = usize::try_from(u32::from_be_bytes(stream[..4].try_into()?))?;
        if stream.len() < 10 + size {
            break;
        }
        let id = u32::from_be_bytes(stream[4..8].try_into()?);
        let rest = stream.split_off(10 + size);
        let message = std::mem::replace(stream, rest);
        whole.push((connection, id, message[8], message[10..].to_vec()));
    }
    Ok(whole)
}

/// A message in one frame.
fn frame(connection: u32, stream: u32, kind: u8, content: &impl Message) -> Vec<u8> {
    let data = content.encode_to_vec();
    let length = |extra: usize| {
        u32::try_from(data.len() + extra)
            .unwrap_or(u32::MAX)
            .to_be_bytes()
    };
    let mut bytes = Vec::new();
    bytes.extend(connection.to_be_bytes());
    bytes.extend(length(10));
    bytes.extend(length(0));
    bytes.extend(stream.to_be_bytes());
    bytes.extend([kind, 0]);
    bytes.extend(data);
    bytes
}
