//! One layer: network → sha256 → decompress → sha256 → unpack, in one pass and in bounded memory.
//!
//! ```text
//! async task: BlobStream ──chunks──> thread: sha256, inflate ──chunks──> thread: sha256, untar ──> tmp/<n>/
//! ```

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::decompress::Compression;
use super::network::{self, NetworkReader, NetworkSender};
use super::plain::{self, Gone, PlainReader, PlainSender};
use crate::crash;
use crate::digest::Digest;
use crate::error::{Error, IoContext as _, Result};
use crate::progress::{LayerProgress, Step};
use crate::registry::{BlobReader, Session};
use crate::store::{Inner, LayerRecord, Lease, TempDir};
use crate::unpack::{self, LayerError, Recorder, Unpacked};

/// The size of what is read of a file at once.
const FILE_CHUNK: usize = 64 << 10;

/// Where a layer comes from.
pub(crate) enum Origin {
    /// A registry, or further places where it may lie.
    Registry {
        session: Arc<Session>,
        /// Of the compressed layer.
        digest: Digest,
        /// Of the compressed layer.
        size: u64,
        urls: Vec<String>,
    },
    /// A part of a file.
    File { file: Arc<File>, begin: u64, size: u64 },
}

/// A layer, and where it comes from.
pub(crate) struct LayerSource {
    pub(crate) origin: Origin,
    /// Of the compressed layer; `None` if only the diff id is known.
    pub(crate) digest: Option<Digest>,
    pub(crate) diff_id: Digest,
    pub(crate) progress: Option<Arc<LayerProgress>>,
}

impl LayerSource {
    /// Makes sure that the layer is in the store and holds it there. A layer that several pulls want is fetched by
    /// one of them; if that one fails or is cancelled, the next one fetches it with its own credentials.
    pub(super) async fn bring(self, inner: &Arc<Inner>, working: mpsc::Sender<()>) -> Result<Lease> {
        let flight = inner.flight(&self.diff_id);
        let _turn = flight.lock().await;
        if let Some(lease) = Lease::take(inner, &self.diff_id) {
            self.enter(Step::Known);
            return Ok(lease);
        }
        let closed = |_| Error::Worker {
            what: "the queue of layers",
        };
        let slots = Arc::clone(&inner.layer_slots);
        let _slot = slots.acquire_owned().await.map_err(closed)?;
        self.enter(Step::Moving);
        let (folder, unpacked) = self.fetch(inner, working).await?;
        self.enter(Step::Done);
        crash::point("layer-unpacked");
        Ok(Lease::stage(
            inner,
            self.diff_id,
            LayerRecord::from(unpacked),
            folder,
        ))
    }

    /// Bytes to move.
    pub(super) fn size(&self) -> u64 {
        match &self.origin {
            Origin::Registry { size, .. } | Origin::File { size, .. } => *size,
        }
    }

    fn enter(&self, step: Step) {
        if let Some(progress) = &self.progress {
            progress.enter(step);
        }
    }

    async fn fetch(&self, inner: &Arc<Inner>, working: mpsc::Sender<()>) -> Result<(TempDir, Unpacked)> {
        let (sender, reader) = network::channel();
        let job = Job {
            digest: self.digest,
            diff_id: self.diff_id,
            limit: inner.config.max_layer_bytes,
            inner: Arc::clone(inner),
        };
        // The sender goes with the result: dropped with it, it is dropped after the folder.
        let worker = tokio::task::spawn_blocking(move || (job.run(reader), working));
        let sent = self.transfer(sender).await;
        let ended = worker.await;
        let (unpacked, _working) = ended.map_err(|_| Error::Worker {
            what: "unpacking a layer",
        })?;
        match (sent, unpacked) {
            // The worker stops early when it finds something wrong, and late when the network does.
            (Err(error), _) => Err(error),
            (Ok(()), unpacked) => unpacked,
        }
    }

    /// Network or file to channel. A closed channel is no error here: the worker says why.
    async fn transfer(&self, mut sender: NetworkSender) -> Result<()> {
        let (session, digest, size, urls) = match &self.origin {
            Origin::Registry {
                session,
                digest,
                size,
                urls,
            } => (session, digest, size, urls),
            Origin::File { file, begin, size } => {
                let (file, begin, size) = (Arc::clone(file), *begin, *size);
                let progress = self.progress.clone();
                let work = tokio::task::spawn_blocking(move || {
                    send_file(&file, begin, size, progress.as_deref(), sender)
                });
                return work.await.map_err(|_| Error::Worker {
                    what: "reading a layer",
                })?;
            }
        };
        let mut blob = BlobReader::new(Arc::clone(session), *digest, *size, urls);
        while let Some(chunk) = blob.next(|| sender.is_waited_for()).await? {
            if let Some(progress) = &self.progress {
                progress.moved(chunk.len() as u64);
            }
            if sender.send(&chunk).await.is_err() {
                return Ok(());
            }
        }
        let _ = sender.end().await;
        Ok(())
    }
}

/// Sends a part of a file into the channel.
fn send_file(
    file: &File,
    mut at: u64,
    size: u64,
    progress: Option<&LayerProgress>,
    mut sender: NetworkSender,
) -> Result<()> {
    let end = at.saturating_add(size);
    let mut buffer = vec![0; FILE_CHUNK];
    while at < end {
        let length = usize::try_from(end - at).unwrap_or(FILE_CHUNK).min(FILE_CHUNK);
        let chunk = &mut buffer[..length];
        file.read_exact_at(chunk, at).map_err(|error| Error::BadArchive {
            reason: format!("a layer can't be read: {error}"),
        })?;
        at += length as u64;
        if let Some(progress) = progress {
            progress.moved(length as u64);
        }
        if sender.blocking_send(chunk).is_err() {
            return Ok(());
        }
    }
    let _ = sender.blocking_end();
    Ok(())
}

/// The blocking part.
struct Job {
    digest: Option<Digest>,
    diff_id: Digest,
    limit: u64,
    inner: Arc<Inner>,
}

impl Job {
    fn run(self, network: NetworkReader) -> Result<(TempDir, Unpacked)> {
        let folder = self.inner.temp.make()?;
        let root = File::open(folder.path()).at("open", folder.path())?;
        let frame = folder.frame();
        let recorder = Recorder::create(&frame).at("create", &frame)?;
        let (sender, reader) = plain::channel();
        crash::point("layer-begun");
        let (compressed, plain) = std::thread::scope(|scope| {
            let decompressor = scope.spawn(|| decompress(network, sender));
            let plain = unpack_from(reader, &root, self.limit, recorder);
            (decompressor.join(), plain)
        });
        let compressed = compressed.map_err(|_| Error::Worker {
            what: "decompressing a layer",
        })?;
        self.judge(compressed, plain).map(|unpacked| (folder, unpacked))
    }

    /// What is wrong, the most telling first: content that is not what was asked for explains everything else.
    fn judge(
        &self,
        compressed: Compressed,
        plain: Result<(Unpacked, Digest), LayerError>,
    ) -> Result<Unpacked> {
        let name = self.digest.unwrap_or(self.diff_id);
        let bad = |source| Error::BadLayer { digest: name, source };
        match (compressed.digest, self.digest) {
            (None, _) => return Err(Error::Cancelled),
            (Some(digest), Some(expected)) if digest != expected => {
                return Err(Error::DigestMismatch { digest: expected });
            }
            _ => {}
        }
        compressed.decompressed.map_err(bad)?;
        let (unpacked, diff_id) = plain.map_err(bad)?;
        if diff_id != self.diff_id {
            return Err(Error::DiffIdMismatch {
                digest: name,
                diff_id: self.diff_id,
            });
        }
        Ok(unpacked)
    }
}

/// What the decompressor found.
struct Compressed {
    /// Of all compressed bytes; `None` if the stream was cut off.
    digest: Option<Digest>,
    decompressed: Result<(), LayerError>,
}

fn decompress(mut network: NetworkReader, sender: PlainSender) -> Compressed {
    let decompressed = decompress_to(&mut network, sender);
    // Whatever went wrong, and whatever follows the compressed stream, the digest is of everything.
    Compressed {
        digest: network.finish(),
        decompressed,
    }
}

fn decompress_to(network: &mut NetworkReader, sender: PlainSender) -> Result<(), LayerError> {
    let start = network.start();
    let compression = Compression::of(start.unwrap_or_default())?;
    let broken = |error: std::io::Error| LayerError::Compression {
        algorithm: compression.name(),
        reason: error.to_string(),
    };
    let mut reader = compression.reader(network).map_err(broken)?;
    match sender.send_all(&mut reader) {
        // The unpacker has stopped, and says why itself.
        Err(Gone) => Ok(()),
        Ok(result) => result.map_err(broken),
    }
}

/// Unpacks, and gives up the reader in any case, so that the decompressor sees that nobody reads any more.
fn unpack_from(
    mut reader: PlainReader,
    root: &File,
    limit: u64,
    recorder: Recorder,
) -> Result<(Unpacked, Digest), LayerError> {
    let unpacked = unpack::unpack(&mut reader, root.as_fd(), limit, Some(recorder))?;
    Ok((unpacked, reader.finish()))
}
