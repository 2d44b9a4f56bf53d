//! Work that outlives its request: a dropped RPC is a cancelled wait, never a half-done change.

use std::future::Future;
use std::path::Path;

use crate::error::{Error, IoContext as _, Result};

/// Bytes of stack of a thread of its own.
const OWN_STACK: usize = 256 << 10;

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

/// As [`blocking`], on a thread that ends with the work, so that the work may take the thread to other namespaces.
///
/// # Errors
/// As [`blocking`], and [`Error::Io`] where no thread can be started.
pub(crate) async fn on_own_thread<T, F>(doing: &'static str, work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    let (done, made) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("pintled-own".to_owned())
        .stack_size(OWN_STACK)
        .spawn(move || {
            // Whoever waited may have gone.
            drop(done.send(work()));
        })
        .io("start a thread for", Path::new(doing))?;
    made.await.unwrap_or(Err(Error::Panicked(doing)))
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
    async fn a_thread_of_its_own_is_gone_with_its_work() {
        let id = on_own_thread("testing", || Ok(std::thread::current().id())).await;
        assert_ne!(id.unwrap(), std::thread::current().id());
        let failed = on_own_thread("testing", || if true { panic!("on purpose") } else { Ok(()) }).await;
        assert!(matches!(failed, Err(Error::Panicked("testing"))));
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
