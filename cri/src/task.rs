//! Work that outlives its request: a dropped RPC is a cancelled wait, never a half-done change.

use std::future::Future;

use crate::error::{Error, Result};

/// Runs `work` in a task of its own and waits for it. If the caller goes away the work still ends.
///
/// # Errors
/// Those of `work`, and [`Error::Panicked`] where it panicked; `doing` completes "internal error while …".
pub(crate) async fn detached<T, F>(doing: &'static str, work: F) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    tokio::spawn(work).await.unwrap_or(Err(Error::Panicked(doing)))
}

/// Runs blocking work on a thread made for it.
///
/// # Errors
/// As [`detached`].
pub(crate) async fn blocking<T, E, F>(doing: &'static str, work: F) -> Result<T>
where
    T: Send + 'static,
    E: Send + 'static,
    Error: From<E>,
    F: FnOnce() -> Result<T, E> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Error::from),
        Err(_) => Err(Error::Panicked(doing)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_goes_on_when_its_caller_is_gone() {
        let (started, on_start) = tokio::sync::oneshot::channel();
        let (done, on_done) = tokio::sync::oneshot::channel();
        let (go, on_go) = tokio::sync::oneshot::channel::<()>();
        let call = tokio::spawn(detached("testing", async move {
            started.send(()).unwrap();
            on_go.await.unwrap();
            done.send(7).unwrap();
            Ok(())
        }));
        on_start.await.unwrap();
        call.abort();
        go.send(()).unwrap();
        assert_eq!(on_done.await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_that_call_alone() {
        let failed = detached("testing", async {
            if true { panic!("on purpose") } else { Ok(()) }
        })
        .await;
        assert!(matches!(failed, Err(Error::Panicked("testing"))));
    }
}
