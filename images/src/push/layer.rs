//! Pushes one layer.

use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use reqwest::Url;
use tokio::sync::mpsc;

use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::progress::{LayerProgress, Step};
use crate::reference::Reference;
use crate::registry::{Access, BlobReader, Session, Upload};
use crate::store::{Inner, LayerStream};

/// How many chunks wait for the network.
const CHUNKS: usize = 4;
const CHUNK: usize = 128 << 10;
/// As docker compresses layers.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// A repository that may have the layer.
pub(super) struct Place(pub(super) Reference);

/// A layer, and where it goes.
pub(super) struct LayerPush {
    pub(super) inner: Arc<Inner>,
    pub(super) session: Arc<Session>,
    pub(super) digest: Digest,
    pub(super) diff_id: Digest,
    pub(super) size: u64,
    pub(super) media_type: String,
    pub(super) is_foreign: bool,
    /// The target's.
    pub(super) domain: String,
    pub(super) origins: Arc<Vec<Place>>,
    pub(super) progress: Option<Arc<LayerProgress>>,
}

/// What became of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sent {
    /// The registry has it as the manifest says.
    AsIs,
    /// It was compressed anew and is this now.
    Anew { digest: Digest, size: u64 },
}

impl LayerPush {
    pub(super) async fn run(self) -> Result<Sent> {
        if self.is_foreign || self.session.has_blob(&self.digest).await? {
            self.enter(Step::Known);
            return Ok(Sent::AsIs);
        }
        self.enter(Step::Moving);
        let (sent, step) = self.send().await?;
        self.enter(step);
        Ok(sent)
    }

    fn enter(&self, step: Step) {
        if let Some(progress) = &self.progress {
            progress.enter(step);
        }
    }

    async fn send(&self) -> Result<(Sent, Step)> {
        let neighbours = self
            .origins
            .iter()
            .filter(|place| place.0.domain() == self.domain);
        let mut url = None;
        for neighbour in neighbours {
            match self
                .session
                .begin_upload(Some((&self.digest, neighbour.0.path())))
                .await
            {
                Ok(None) => return Ok((Sent::AsIs, Step::Known)),
                Ok(begun) => url = begun,
                // Not readable by whoever pushes, or not there any more.
                Err(error) => tracing::debug!(%error, layer = %self.digest, "a layer is not taken over"),
            }
        }
        if self.digest == self.diff_id {
            let url = self.place(url).await?;
            let stream = self.inner.layer_stream(&self.diff_id)?;
            self.plain(url, stream).await?;
            return Ok((Sent::AsIs, Step::Done));
        }
        if let Some((mut blob, first)) = self.open_origin().await {
            let url = self.place(url).await?;
            self.through(url, &mut blob, first).await?;
            return Ok((Sent::AsIs, Step::Done));
        }
        let stream = self.inner.layer_stream(&self.diff_id)?;
        self.anew(self.place(url).await?, stream)
            .await
            .map(|sent| (sent, Step::Done))
    }

    /// Where to send to: an upload that a mount that came to nothing has begun, or a new one.
    async fn place(&self, begun: Option<Url>) -> Result<Url> {
        let url = match begun {
            Some(url) => Some(url),
            None => self.session.begin_upload(None).await?,
        };
        url.ok_or_else(|| Error::LayerUnavailable {
            diff_id: self.diff_id,
            reason: "the registry begins no upload".to_owned(),
        })
    }

    /// The layer at one of the places that the image came from, with its first bytes.
    async fn open_origin(&self) -> Option<(BlobReader, Option<Bytes>)> {
        for place in self.origins.iter() {
            let session = self.inner.registries.session(&place.0, None, Access::Pull);
            let opened = match session {
                Ok(session) => {
                    let mut blob = BlobReader::new(Arc::new(session), self.digest, self.size, &[]);
                    blob.next(|| false).await.map(|first| (blob, first))
                }
                Err(error) => Err(error),
            };
            match opened {
                Ok(opened) => return Some(opened),
                Err(error) => {
                    tracing::debug!(%error, layer = %self.digest, "a layer's origin does not give it");
                }
            }
        }
        None
    }

    fn channel(&self, size: Option<u64>) -> (mpsc::Sender<io::Result<Bytes>>, Upload) {
        let (sender, bytes) = mpsc::channel(CHUNKS);
        let sent = Arc::default();
        (sender, Upload { bytes, size, sent })
    }

    /// From one registry to the other. The target checks the digest.
    async fn through(&self, url: Url, blob: &mut BlobReader, first: Option<Bytes>) -> Result<()> {
        let (sender, upload) = self.channel(Some(self.size));
        let feed = async move {
            let mut next = Ok(first);
            loop {
                match next {
                    Ok(Some(chunk)) => {
                        self.moved(chunk.len());
                        if sender.send(Ok(chunk)).await.is_err() {
                            return Ok(());
                        }
                    }
                    Ok(None) => return Ok(()),
                    Err(error) => {
                        drop(sender.send(Err(io::Error::other("the origin broke off"))).await);
                        return Err(error);
                    }
                }
                next = blob.next(|| false).await;
            }
        };
        let (sent, fed) = tokio::join!(self.session.put_blob(url, &self.digest, upload), feed);
        fed.and(sent)
    }

    fn moved(&self, bytes: usize) {
        if let Some(progress) = &self.progress {
            progress.moved(bytes as u64);
        }
    }

    /// A layer that never was compressed.
    async fn plain(&self, url: Url, mut stream: LayerStream) -> Result<()> {
        let (sender, upload) = self.channel(Some(self.size));
        let progress = self.progress.clone();
        let feed = tokio::task::spawn_blocking(move || {
            let mut sink = Sink::new(sender, progress);
            let copied = io::copy(&mut stream, &mut sink).and_then(|_| sink.flush());
            sink.end(copied)
        });
        let sent = self.session.put_blob(url, &self.digest, upload).await;
        self.fed(feed.await).and(sent)
    }

    async fn anew(&self, url: Url, stream: LayerStream) -> Result<Sent> {
        let (sender, upload) = self.channel(None);
        let progress = self.progress.clone();
        let is_zstd = self.media_type.ends_with("zstd");
        let feed = tokio::task::spawn_blocking(move || {
            let mut sink = Sink::new(sender, progress);
            let copied = compress(stream, &mut sink, is_zstd);
            sink.end(copied)
        });
        let patched = self.session.patch_blob(url, upload).await;
        let (digest, size) = self.fed(feed.await)?;
        self.session.close_upload(patched?, &digest).await?;
        if digest == self.digest {
            return Ok(Sent::AsIs);
        }
        Ok(Sent::Anew { digest, size })
    }

    fn fed<T>(&self, fed: Result<io::Result<T>, tokio::task::JoinError>) -> Result<T> {
        let fed = fed.map_err(|_| Error::Worker {
            what: "reading a layer",
        })?;
        fed.map_err(|error| Error::LayerUnavailable {
            diff_id: self.diff_id,
            reason: error.to_string(),
        })
    }
}

fn compress(mut stream: impl Read, sink: &mut Sink, is_zstd: bool) -> io::Result<()> {
    if is_zstd {
        zstd::stream::copy_encode(&mut stream, &mut *sink, ZSTD_LEVEL)?;
    } else {
        let mut encoder = flate2::write::GzEncoder::new(&mut *sink, flate2::Compression::new(GZIP_LEVEL));
        io::copy(&mut stream, &mut encoder)?;
        encoder.finish()?;
    }
    sink.flush()
}

/// Chunks for the network, hashed and counted.
struct Sink {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
    hasher: Hasher,
    length: u64,
    progress: Option<Arc<LayerProgress>>,
    gone: bool,
}

impl Sink {
    fn new(sender: mpsc::Sender<io::Result<Bytes>>, progress: Option<Arc<LayerProgress>>) -> Sink {
        Sink {
            sender,
            buffer: Vec::with_capacity(CHUNK),
            hasher: Hasher::default(),
            length: 0,
            progress,
            gone: false,
        }
    }

    /// The digest and length of everything; an error is passed on to the network, too. That the network has ended
    /// first is no error here: it says itself why.
    fn end(self, copied: io::Result<impl Sized>) -> io::Result<(Digest, u64)> {
        match copied {
            Err(error) if !self.gone => {
                let told = io::Error::new(error.kind(), error.to_string());
                drop(self.sender.blocking_send(Err(told)));
                Err(error)
            }
            _ => Ok((self.hasher.finish(), self.length)),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK)));
        self.hasher.update(&chunk);
        self.length += chunk.len() as u64;
        if let Some(progress) = &self.progress {
            progress.moved(chunk.len() as u64);
        }
        self.sender.blocking_send(Ok(chunk)).map_err(|_| {
            self.gone = true;
            io::Error::from(io::ErrorKind::BrokenPipe)
        })
    }
}
