//! Whether somebody still wants a checkpoint: every step of one asks, and ends early where nobody does.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::error::{Error, Result};

/// A checkpoint's view of whether it is still wanted.
#[derive(Debug, Clone)]
pub struct Interest(Arc<watch::Sender<bool>>);

/// Who wants it. It is wanted until this is dropped, as with the future of a call whose caller has gone.
#[derive(Debug)]
pub(crate) struct Caller(Interest);

impl Caller {
    /// Somebody who wants a checkpoint.
    pub(crate) fn new() -> Self {
        Self(Interest(Arc::new(watch::Sender::new(true))))
    }

    /// What the checkpoint is to look at.
    pub(crate) fn interest(&self) -> Interest {
        self.0.clone()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Interest {
    fn end(&self) {
        self.0.send_replace(false);
    }

    /// Waits until nobody wants it any more.
    pub(super) async fn ended(&self) {
        // the sender lives in `self`, so that this can't fail
        drop(self.0.subscribe().wait_for(|wanted| !wanted).await);
    }

    /// A file that can be written to while somebody wants it.
    pub(super) fn writer<W: Write>(&self, inner: W) -> Writer<W> {
        Writer {
            inner,
            interest: self.clone(),
        }
    }

    /// Does it within `limit`. `work` looks at this interest, and is waited for to its end in any case, so that what it
    /// does is done, or undone, when this returns.
    ///
    /// # Errors
    /// Those of `work`; [`Error::CheckpointTimeout`] where the limit has come before them.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        tokio::pin!(work);
        match tokio::time::timeout(limit, &mut work).await {
            Ok(done) => done,
            Err(_) => {
                self.end();
                work.await.map_err(|_| Error::CheckpointTimeout {
                    seconds: limit.as_secs(),
                })
            }
        }
    }
}

/// What is written while somebody wants it.
#[derive(Debug)]
pub(super) struct Writer<W> {
    inner: W,
    interest: Interest,
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match *self.interest.0.borrow() {
            true => self.inner.write(buf),
            false => Err(io::Error::other("nobody waits for the checkpoint any more")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_ends_early_when_its_caller_goes() {
        let caller = Caller::new();
        let interest = caller.interest();
        let mut writer = interest.writer(Vec::new());
        writer.write_all(b"wanted").unwrap();
        drop(caller);
        interest.ended().await;
        assert!(writer.write_all(b"not").is_err());
        assert_eq!(writer.inner, b"wanted");
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_limit_it_is_told_and_waited_for() {
        let caller = Caller::new();
        let interest = caller.interest();
        let mut undone = false;
        let work = async {
            interest.ended().await;
            undone = true;
            Err::<(), _>(Error::Panicked("testing"))
        };
        let error = interest.within(Duration::from_secs(7), work).await.unwrap_err();
        assert!(
            matches!(error, Error::CheckpointTimeout { seconds: 7 }),
            "{error}"
        );
        assert!(undone);
    }
}
