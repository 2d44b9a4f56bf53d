//! Bytes between a client's streams and a process's pipes or terminal.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::unix::pipe::{Receiver as Source, Sender as Drain};
use tokio::sync::watch;
use tokio::time::Instant;

use super::growing::{Growing, LARGEST};
use super::inbox::Taken;
use super::io::{Input, Output};

/// A pipe: our end to read a process's output, and the process's.
///
/// # Errors
/// The kernel's.
pub(super) fn output_pipe() -> io::Result<(Source, OwnedFd)> {
    let (ours, theirs) = io::pipe()?;
    Ok((Source::from_owned_fd(ours.into())?, theirs.into()))
}

/// A pipe: our end to write a process's input, and the process's.
///
/// # Errors
/// The kernel's.
pub(super) fn input_pipe() -> io::Result<(Drain, OwnedFd)> {
    let (theirs, ours) = io::pipe()?;
    Ok((Drain::from_owned_fd(ours.into())?, theirs.into()))
}

/// Both directions of a pseudo-terminal, by its master. Once all copies of the master are dropped, the kernel hangs up
/// the terminal's session.
///
/// # Errors
/// The kernel's.
pub(super) fn terminal(master: &OwnedFd) -> io::Result<(Source, Drain)> {
    let flags = OFlag::from_bits_retain(fcntl(master, FcntlArg::F_GETFL)?);
    fcntl(master, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    // No pipe, but all that is asked of one: to be read, written and waited for.
    let from = Source::from_owned_fd_unchecked(master.try_clone()?)?;
    let to = Drain::from_owned_fd_unchecked(master.try_clone()?)?;
    Ok((from, to))
}

/// What a pipe holds if nobody asks for more, in bytes (pipe(7)).
const PIPE: usize = 64 << 10;

/// Writes what the client sends until it ends, or nobody takes more.
pub(super) async fn feed(from: Option<Input>, to: Option<Drain>) {
    let (Some(mut from), Some(mut to)) = (from, to) else {
        return;
    };
    let mut is_wide = false;
    loop {
        let taken = tokio::select! {
            taken = from.next() => taken,
            // The reader's end is closed. A client that sends nothing would never hear of it.
            _ = to.ready(Interest::ERROR) => return,
        };
        let Taken::Data(data) = taken else {
            return;
        };
        if !is_wide && data.len() >= PIPE {
            is_wide = true;
            widen(&to);
        }
        if to.write_all(&data).await.is_err() {
            return;
        }
    }
}

/// Gives a pipe more room, if the kernel lets us and it is one.
fn widen(pipe: &impl AsFd) {
    let size = i32::try_from(LARGEST).unwrap_or(i32::MAX);
    let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(size));
}

/// Until when it makes sense to wait for output: for ever, or for a while after the process's own end. What lies there
/// already is read in any case.
#[derive(Debug, Clone)]
pub(super) struct Patience(watch::Receiver<Option<Instant>>);

impl Patience {
    /// To be told when to give up; dropping the sender is no such word.
    pub(super) fn new(until: &watch::Sender<Option<Instant>>) -> Self {
        Self(until.subscribe())
    }

    async fn ends(&mut self) {
        let until = match self.0.wait_for(Option::is_some).await {
            Ok(until) => *until,
            Err(_) => None,
        };
        match until {
            Some(until) => tokio::time::sleep_until(until).await,
            None => std::future::pending().await,
        }
    }
}

/// What becomes of output that no client takes any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unheard {
    /// It is read and dropped, so that the process can go on.
    Dropped,
    /// It is not read any more.
    Left,
}

/// Sends a process's output to its end, and tells the client of it.
pub(super) async fn carry(
    from: Option<Source>,
    mut to: Option<Output>,
    mut patience: Patience,
    unheard: Unheard,
) {
    if let Some(mut from) = from {
        let (mut buffer, mut is_wide) = (Growing::new(), false);
        loop {
            let data = tokio::select! {
                biased;
                // A terminal has an error for its end.
                read = buffer.read(&mut from) => read.unwrap_or_default(),
                () = patience.ends() => Bytes::new(),
            };
            if data.is_empty() {
                break;
            }
            if !is_wide && buffer.has_grown() {
                is_wide = true;
                widen(&from);
            }
            if let Some(output) = &mut to
                && output.send(data).await.is_err()
            {
                to = None;
            }
            if to.is_none() && unheard == Unheard::Left {
                break;
            }
        }
    }
    if let Some(mut output) = to {
        // It fails only if the client is gone.
        drop(output.finish().await);
    }
}

/// Runs `side` as long as `main` does, or shorter.
pub(super) async fn alongside<T>(main: impl Future<Output = T>, side: impl Future<Output = ()>) -> T {
    let mut main = std::pin::pin!(main);
    tokio::select! {
        done = &mut main => return done,
        () = side => {}
    }
    main.await
}
