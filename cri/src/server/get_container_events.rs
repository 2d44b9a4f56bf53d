//! GetContainerEvents: the stream of events, until the client or the daemon goes.
//!
//! Pintle's own addition: the answer's metadata has `pintle-resume-token`, and a request may bring one, to hear first
//! what came after it. It is a time: that of the answer is the stream's beginning, and `created_at` of each
//! event is the token for going on after it. Events that are no longer kept, or were told by a former daemon, answer
//! `OutOfRange`, with the token from which on all are there: list anew, and subscribe with that or without a token.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Response, Status};

use super::{container_status, pod_sandbox_status};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::events::{Event, TOKEN};
use crate::proto::ContainerEventResponse;

/// Messages that wait for the connection; the others wait in the ring.
const AHEAD: usize = 4;

/// What the stream yields.
pub(super) type EventStream = Pin<Box<dyn Stream<Item = Result<ContainerEventResponse, Status>> + Send>>;

pub(super) fn get_container_events(
    core: &Arc<Core>,
    metadata: &MetadataMap,
) -> Result<Response<EventStream>> {
    let after = token(metadata)?;
    // Subscribed here, so that nothing is missed once the answer begins.
    let begin = core.events.subscribe(after)?.place();
    let (send, receive) = mpsc::channel(AHEAD);
    let core = Arc::clone(core);
    tokio::spawn(async move {
        tokio::select! {
            () = send.closed() => {}
            () = forward(&core, begin, &send) => {}
        }
    });
    let mut answer = Response::new(Box::pin(ReceiverStream::new(receive)) as EventStream);
    answer.metadata_mut().insert(TOKEN, MetadataValue::from(begin));
    Ok(answer)
}

fn token(metadata: &MetadataMap) -> Result<Option<i64>> {
    let Some(value) = metadata.get(TOKEN) else {
        return Ok(None);
    };
    let parsed = value.to_str().ok().and_then(|text| text.parse().ok());
    parsed
        .map(Some)
        .ok_or_else(|| Error::invalid(TOKEN, "is none that this server gave"))
}

async fn forward(core: &Core, begin: i64, send: &mpsc::Sender<Result<ContainerEventResponse, Status>>) {
    let mut listener = match core.events.subscribe(Some(begin)) {
        Ok(listener) => listener,
        Err(error) => return drop(send.send(Err(error.into())).await),
    };
    loop {
        let message = match listener.next().await {
            Ok(Some(event)) => Ok(message(&event)),
            Ok(None) => return,
            Err(error) => Err(Status::from(error)),
        };
        let is_last = message.is_err();
        if send.send(message).await.is_err() || is_last {
            return;
        }
    }
}

fn message(event: &Event) -> ContainerEventResponse {
    ContainerEventResponse {
        container_id: event.id.clone(),
        container_event_type: event.kind as i32,
        created_at: event.created_at,
        pod_sandbox_status: Some(pod_sandbox_status::status(&event.pod)),
        containers_statuses: event
            .containers
            .iter()
            .map(|record| container_status::status(record))
            .collect(),
    }
}
