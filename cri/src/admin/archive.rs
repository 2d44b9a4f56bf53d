//! Import and export: archives through the socket.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use pintle_images::Progress;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Stream, progress};
use crate::core::Core;
use crate::error::Error;
use crate::proto::admin::{ExportChunk, ExportRequest, ImportRequest, Outcome, TransferEvent};
use crate::task::blocking;

/// The size of a message with a part of an archive.
const CHUNK: usize = 256 << 10;

/// The archive goes to a file without a name first: what it holds stands at its end.
pub(super) async fn import(
    core: &Arc<Core>,
    mut request: Streaming<ImportRequest>,
) -> Result<Stream<TransferEvent>, Status> {
    let store = core.images.clone();
    let mut file = blocking("making a file", move || store.spool()).await?;
    let mut names = Vec::new();
    while let Some(message) = request.message().await? {
        names.extend(message.names);
        file = blocking("writing an archive", move || append(file, &message.data)).await?;
    }
    let (store, shown) = (core.images.clone(), Arc::new(Progress::default()));
    let told = Arc::clone(&shown);
    let work = async move {
        let images = store
            .import(pintle_images::ImportRequest { file, names }, Some(told))
            .await?;
        Ok(Outcome {
            image_ids: images.iter().map(|image| image.id.clone()).collect(),
            ..Outcome::default()
        })
    };
    Ok(progress::follow(shown, work))
}

fn append(mut file: File, data: &[u8]) -> Result<File, Error> {
    file.write_all(data).map_err(|source| Error::Io {
        verb: "write",
        path: "an archive".into(),
        source,
    })?;
    Ok(file)
}

pub(super) fn export(core: &Arc<Core>, request: ExportRequest) -> Stream<ExportChunk> {
    let store = core.images.clone();
    let (sender, receiver) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        let writer = Chunks {
            sender: sender.clone(),
            buffer: Vec::with_capacity(CHUNK),
        };
        if let Err(error) = store.export(&request.images, writer) {
            drop(sender.blocking_send(Err(Status::from(Error::from(error)))));
        }
    });
    ReceiverStream::new(receiver)
}

/// Makes messages of what is written.
struct Chunks {
    sender: mpsc::Sender<Result<ExportChunk, Status>>,
    buffer: Vec<u8>,
}

impl Write for Chunks {
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
        let data = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        let sent = self.sender.blocking_send(Ok(ExportChunk { data }));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
