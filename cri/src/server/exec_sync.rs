//! ExecSync: one command in a running container, its output and its exit code.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pintle_runtime::client::ExecHandle;
use pintle_runtime::protocol::{ExecRequest, Exit};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::container::Container;
use crate::core::{Core, new_id};
use crate::error::{Error, IoContext as _, Result};
use crate::proto::{ExecSyncRequest, ExecSyncResponse};

/// What both streams may hold together: kubelet receives messages of 16 MiB at most. The rest is read and dropped, so that
/// the command goes on.
const OUTPUT_LIMIT: usize = (16 << 20) - (64 << 10);
/// How long to wait for the end of the output after the command's own end: a child of it may hold the pipe for ever.
const DRAIN: Duration = Duration::from_secs(2);
/// How long a killed command may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn exec_sync(core: &Arc<Core>, request: ExecSyncRequest) -> Result<ExecSyncResponse> {
    let container = core.container(&request.container_id)?;
    let limit = u64::try_from(request.timeout)
        .map_err(|_| Error::invalid("timeout", format!("{} is negative", request.timeout)))?;
    if request.cmd.is_empty() {
        return Err(Error::invalid("cmd", "is empty"));
    }
    container.must_run()?;
    let budget = Arc::new(AtomicUsize::new(OUTPUT_LIMIT));
    let (stdout, stdout_end) = Output::new(&budget)?;
    let (stderr, stderr_end) = Output::new(&budget)?;
    let stdin = File::open("/dev/null").io("open", "/dev/null")?;
    let handle = start(
        core,
        &container,
        request.cmd,
        [stdin.into(), stdout_end, stderr_end],
    )
    .await?;
    let exit = wait(handle, limit, request.timeout).await?;
    Ok(ExecSyncResponse {
        exit_code: exit.code,
        stdout: stdout.finish().await,
        stderr: stderr.finish().await,
    })
}

async fn start(
    core: &Core,
    container: &Container,
    cmd: Vec<String>,
    stdio: [OwnedFd; 3],
) -> Result<ExecHandle> {
    let request = ExecRequest {
        container: container.id.clone(),
        exec_id: new_id(),
        process: container.exec_process(core, cmd, false)?,
        seccomp_filter: container.cell.get().seccomp_filter.clone(),
    };
    let monitor = core.pod(&container.pod_id)?.live_monitor()?;
    Ok(monitor.exec(request, stdio).await?)
}

/// Dropped before its end, as by a caller that goes away, a command is killed.
async fn wait(mut command: ExecHandle, limit: u64, seconds: i64) -> Result<Exit> {
    if limit == 0 {
        return Ok(command.wait().await?);
    }
    if let Ok(exit) = timeout(Duration::from_secs(limit), command.wait()).await {
        return Ok(exit?);
    }
    command.kill().await?;
    // Clients look for the process right after the answer.
    if timeout(KILL_PATIENCE, command.wait()).await.is_err() {
        tracing::warn!(pid = command.pid(), "a command does not exit after SIGKILL");
    }
    Err(Error::ExecTimeout { seconds })
}

/// One output stream, read in the background.
struct Output {
    text: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Output {
    /// The stream, and the end for the command.
    fn new(budget: &Arc<AtomicUsize>) -> Result<(Self, OwnedFd)> {
        let (ours, theirs) = io::pipe().io("make", "pipe")?;
        let ours = pipe::Receiver::from_owned_fd(ours.into()).io("watch", "pipe")?;
        let text = Arc::default();
        let reader = tokio::spawn(read(ours, Arc::clone(&text), Arc::clone(budget)));
        Ok((Self { text, reader }, theirs.into()))
    }

    /// What came until the end of the stream, or until waiting for it is pointless.
    async fn finish(mut self) -> Vec<u8> {
        if timeout(DRAIN, &mut self.reader).await.is_err() {
            self.reader.abort();
        }
        std::mem::take(&mut *self.text.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn read(mut from: pipe::Receiver, text: Arc<Mutex<Vec<u8>>>, budget: Arc<AtomicUsize>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let left = budget.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| {
            Some(left.saturating_sub(count))
        });
        let kept = count.min(left.unwrap_or_default());
        text.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(&buffer[..kept]);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn both_streams_share_one_limit_and_are_read_to_their_end() {
        let budget = Arc::new(AtomicUsize::new(100_000));
        let (out, out_end) = Output::new(&budget).unwrap();
        let (err, err_end) = Output::new(&budget).unwrap();
        tokio::task::spawn_blocking(move || {
            File::from(out_end).write_all(&vec![b'o'; 90_000]).unwrap();
            File::from(err_end).write_all(&vec![b'e'; 90_000]).unwrap();
        })
        .await
        .unwrap();
        let (out, err) = (out.finish().await, err.finish().await);
        assert_eq!(out.len() + err.len(), 100_000);
        assert!(out.iter().all(|&b| b == b'o') && err.iter().all(|&b| b == b'e'));
    }

    #[tokio::test(start_paused = true)]
    async fn a_leaked_writer_does_not_hold_the_answer() {
        let (out, end) = Output::new(&Arc::new(AtomicUsize::new(100))).unwrap();
        let mut end = File::from(end);
        end.write_all(b"done").unwrap();
        tokio::task::yield_now().await;
        assert_eq!(out.finish().await, b"done");
        drop(end);
    }
}
