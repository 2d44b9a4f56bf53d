//! Attach: a client at the streams of a container's first process.
//!
//! The monitor copies output into our pipes, and reads input from one. A container waits for a client that doesn't keep
//! up, but a few seconds at most, and then goes on without him; closing our ends is all it takes to leave.

use std::sync::Arc;

use tokio::sync::watch;

use super::pump::{self, Patience, Unheard, alongside};
use super::session::{Session, Streams};
use super::status::Outcome;
use crate::container::Container;
use crate::core::Core;
use crate::error::{IoContext as _, Result};
use crate::proto::AttachRequest;

/// Serves one client until the container ends, or the client leaves.
pub(super) async fn run(core: Arc<Core>, request: AttachRequest, (streams, closing): Session) {
    let outcome = match attach(&core, &request, streams).await {
        Ok(()) => Outcome::Success,
        Err(error) => Outcome::Failed(error.to_string()),
    };
    closing.end(&outcome, "attaching to", &[]).await;
}

async fn attach(core: &Core, request: &AttachRequest, streams: Streams) -> Result<()> {
    let container = core.container(&request.container_id)?;
    container.must_run()?;
    let monitor = core.pod(&container.pod_id)?.live_monitor()?;
    let pipe = |wanted: bool| wanted.then(pump::output_pipe).transpose().io("make", "pipe");
    let (stdout, stdout_end) = pipe(streams.stdout.is_some())?.unzip();
    let (stderr, stderr_end) = pipe(streams.stderr.is_some())?.unzip();
    let stdin = streams
        .stdin
        .is_some()
        .then(pump::input_pipe)
        .transpose()
        .io("make", "pipe")?;
    let (stdin, stdin_end) = stdin.unzip();
    monitor
        .attach(&container.id, [stdin_end, stdout_end, stderr_end])
        .await?;
    let Streams {
        stdin: typed,
        stdout: to_stdout,
        stderr: to_stderr,
        mut resize,
        link,
    } = streams;
    let has_output = stdout.is_some() || stderr.is_some();
    let until = watch::Sender::new(None);
    let carry = |from, to| pump::carry(from, to, Patience::new(&until), Unheard::Left);
    // A process may close its outputs and still read.
    let input = async {
        tokio::select! {
            () = pump::feed(typed, stdin) => {}
            () = exit_of(&container) => {}
        }
    };
    let main = async {
        tokio::join!(carry(stdout, to_stdout), carry(stderr, to_stderr), input);
        if !has_output {
            exit_of(&container).await;
        }
    };
    let sizes = async {
        while let Some(size) = next(&mut resize).await {
            if let Err(error) = monitor.resize(&container.id, size.width, size.height).await {
                tracing::debug!(%error, container = container.id, "a terminal keeps its size");
            }
        }
    };
    tokio::select! {
        () = alongside(main, sizes) => {}
        () = link.closed() => {}
    }
    Ok(())
}

async fn exit_of(container: &Container) {
    container.wait_exit().await;
}

async fn next(sizes: &mut Option<super::session::Resizes>) -> Option<super::session::Size> {
    sizes.as_mut()?.next().await
}
