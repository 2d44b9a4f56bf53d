//! Tells the client how far a transfer is, until it ends or the client goes away.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use pintle_images::{Progress, Step as ImageStep};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::Stream;
use crate::error::{Error, Result};
use crate::proto::admin::{Layer, Outcome, Step, TransferEvent};

/// How often a picture of the transfer is sent: often enough for the eye.
const FRAME: Duration = Duration::from_millis(100);

/// Runs `work` and streams what `progress` says of it. A client that goes away cancels it.
pub(super) fn follow<F>(progress: Arc<Progress>, work: F) -> Stream<TransferEvent>
where
    F: Future<Output = Result<Outcome>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut work = Box::pin(work);
        let mut frames = tokio::time::interval(FRAME);
        let outcome = loop {
            tokio::select! {
                outcome = &mut work => break outcome,
                () = sender.closed() => return,
                _ = frames.tick() => {
                    let event = TransferEvent { layers: layers(&progress), outcome: None };
                    // A client that reads slowly misses pictures, and nothing else.
                    drop(sender.try_send(Ok(event)));
                }
            }
        };
        let last = outcome.map(|outcome| TransferEvent {
            layers: layers(&progress),
            outcome: Some(outcome),
        });
        drop(
            sender
                .send(last.map_err(|error: Error| Status::from(error)))
                .await,
        );
    });
    ReceiverStream::new(receiver)
}

fn layers(progress: &Progress) -> Vec<Layer> {
    let shown = |layer: &Arc<pintle_images::LayerProgress>| {
        let (moved, step) = layer.now();
        let step = match step {
            ImageStep::Waiting => Step::Waiting,
            ImageStep::Moving => Step::Moving,
            ImageStep::Known => Step::Known,
            ImageStep::Done => Step::Done,
        };
        Layer {
            digest: layer.digest.to_string(),
            total: layer.total,
            moved,
            step: step.into(),
        }
    };
    progress.layers().iter().map(shown).collect()
}
