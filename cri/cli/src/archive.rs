//! Archives in files, folders and pipes, on their way to the daemon and from it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, bail};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::connect::said;
use crate::proto::admin::{ExportChunk, ImportRequest};

const CHUNK: usize = 256 << 10;

/// Reads an archive: a file, `-` for standard input, or a folder that is an OCI image layout.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Read + Send>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin()));
    }
    let shown = path.display();
    if !path.is_dir() {
        return Ok(Box::new(
            File::open(path).with_context(|| format!("open {shown}"))?,
        ));
    }
    if !path.join("index.json").is_file() {
        bail!("{shown} is no OCI image layout: it has no index.json");
    }
    let (reader, writer) = io::pipe()?;
    let folder = path.to_owned();
    // A reader that goes away ends the thread; a folder that can't be read ends the archive too early.
    std::thread::spawn(move || {
        let mut tar = tar::Builder::new(writer);
        tar.append_dir_all("", &folder).and_then(|()| tar.finish())
    });
    Ok(Box::new(reader))
}

/// The messages of an import.
pub(crate) fn messages(
    mut from: Box<dyn Read + Send>,
    names: Vec<String>,
) -> (ReceiverStream<ImportRequest>, Reader) {
    let (sender, receiver) = mpsc::channel(4);
    let thread = std::thread::spawn(move || {
        let head = ImportRequest {
            names,
            data: Vec::new(),
        };
        if sender.blocking_send(head).is_err() {
            return Ok(());
        }
        loop {
            let mut data = Vec::with_capacity(CHUNK);
            from.by_ref().take(CHUNK as u64).read_to_end(&mut data)?;
            let last = data.is_empty();
            let message = ImportRequest {
                names: Vec::new(),
                data,
            };
            if last || sender.blocking_send(message).is_err() {
                return Ok(());
            }
        }
    });
    (ReceiverStream::new(receiver), Reader(thread))
}

/// The thread that reads an archive.
pub(crate) struct Reader(JoinHandle<io::Result<()>>);

impl Reader {
    /// What went wrong with reading, which explains whatever the daemon said of the rest. A reader that is still
    /// waiting for input is left alone.
    pub(crate) fn failure(self) -> Result<()> {
        if !self.0.is_finished() {
            return Ok(());
        }
        match self.0.join() {
            Ok(read) => read.context("read the archive"),
            Err(_) => bail!("reading the archive ended unexpectedly"),
        }
    }
}

/// Writes an archive: to a file, to standard output for `-`, or into a folder as an OCI image layout.
pub(crate) async fn save(mut chunks: Streaming<ExportChunk>, path: &Path) -> Result<()> {
    let shown = path.display();
    if path == Path::new("-") {
        return copy(&mut chunks, &mut io::stdout()).await;
    }
    if path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        fs::create_dir_all(path).with_context(|| format!("create {shown}"))?;
        let (reader, mut writer) = io::pipe()?;
        let folder = path.to_owned();
        let unpacking = std::thread::spawn(move || tar::Archive::new(reader).unpack(folder));
        let copied = copy(&mut chunks, &mut writer).await;
        drop(writer);
        let unpacked = unpacking
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("unpacking ended unexpectedly")));
        copied?;
        return unpacked.with_context(|| format!("write to {shown}"));
    }
    let mut file = File::create(path).with_context(|| format!("create {shown}"))?;
    let copied = copy(&mut chunks, &mut file).await;
    let synced = copied.and_then(|()| file.sync_all().with_context(|| format!("sync {shown}")));
    if synced.is_err() {
        // A part of an archive looks like a whole one to whoever finds it.
        drop(fs::remove_file(path));
    }
    synced
}

async fn copy(chunks: &mut Streaming<ExportChunk>, to: &mut impl Write) -> Result<()> {
    while let Some(chunk) = chunks.message().await.map_err(said)? {
        to.write_all(&chunk.data).context("write the archive")?;
    }
    to.flush().context("write the archive")
}
