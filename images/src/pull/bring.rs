//! Brings all layers of an image into the store, side by side.

use std::cmp::Reverse;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::layer::LayerSource;
use crate::error::{Error, Result};
use crate::store::{Inner, Lease};

/// Brings the layers here, the largest first: begun last, it would be alone in the end. When one fails the others are
/// stopped and nothing stays.
pub(crate) async fn bring_all(inner: &Arc<Inner>, mut sources: Vec<LayerSource>) -> Result<Vec<Lease>> {
    sources.sort_by_key(|source| Reverse(source.size()));
    let mut tasks = JoinSet::new();
    // Every piece of work holds a sender: when the receiver sees the end, nothing is being written any more.
    let (working, mut idle) = mpsc::channel::<()>(1);
    let mut started = Vec::new();
    for source in sources {
        if started.contains(&source.diff_id) {
            continue;
        }
        started.push(source.diff_id);
        let (inner, working) = (Arc::clone(inner), working.clone());
        tasks.spawn(async move { source.bring(&inner, working).await });
    }
    drop(working);
    let mut leases = Vec::new();
    let mut failure = None;
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(Ok(lease)) => leases.push(lease),
            Ok(Err(error)) if failure.is_none() => failure = Some(error),
            Err(error) if error.is_panic() && failure.is_none() => {
                failure = Some(Error::Worker {
                    what: "fetching a layer",
                });
            }
            _ => {}
        }
        if failure.is_some() {
            tasks.abort_all();
        }
    }
    let Some(failure) = failure else { return Ok(leases) };
    let _ = idle.recv().await;
    give_up(leases).await;
    Err(failure)
}

/// Lets layers go that no image will have, and waits until they are removed.
async fn give_up(leases: Vec<Lease>) {
    let work = tokio::task::spawn_blocking(move || leases.into_iter().try_for_each(Lease::release));
    match work.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "layers of a failed pull stay until the next start"),
        Err(_) => tracing::warn!("removing the layers of a failed pull ended unexpectedly"),
    }
}
