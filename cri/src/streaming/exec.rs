//! Exec: a further process in a container, its streams at a client.
//!
//! When the client leaves, a process with a terminal is hung up, as by any terminal that goes away; one without goes on,
//! at the end of its input, its output dropped.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use pintle_runtime::client::{ExecHandle, MonitorClient};
use pintle_runtime::protocol;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::watch;
use tokio::time::Instant;

use super::pump::{self, Patience, Unheard, alongside};
use super::session::{Resizes, Session, Streams};
use super::status::Outcome;
use crate::core::{Core, new_id};
use crate::error::{IoContext as _, Result};
use crate::proto::ExecRequest;

/// How long to wait for the end of the output after the process's own end: a child of it may hold the pipe for ever.
const DRAIN: Duration = Duration::from_secs(2);

/// Serves one exec to its end.
pub(super) async fn run(core: Arc<Core>, request: ExecRequest, (streams, closing): Session) {
    let command = request.cmd.clone();
    let ran = match request.tty {
        true => with_terminal(&core, request, streams).await,
        false => with_pipes(&core, request, streams).await,
    };
    let outcome = ran.unwrap_or_else(|error| Outcome::Failed(error.to_string()));
    closing.end(&outcome, "executing command in", &command).await;
}

fn prepare(core: &Core, request: ExecRequest) -> Result<(protocol::ExecRequest, MonitorClient)> {
    let container = core.container(&request.container_id)?;
    container.must_run()?;
    let exec = protocol::ExecRequest {
        container: container.id.clone(),
        exec_id: new_id(),
        process: container.exec_process(core, request.cmd, request.tty)?,
        seccomp_filter: container.cell.get().seccomp_filter.clone(),
    };
    Ok((exec, core.pod(&container.pod_id)?.live_monitor()?))
}

async fn with_pipes(core: &Core, request: ExecRequest, streams: Streams) -> Result<Outcome> {
    let (exec, monitor) = prepare(core, request)?;
    let (stdin, stdin_end) = input(streams.stdin.is_some())?;
    let (stdout, stdout_end) = output(streams.stdout.is_some())?;
    let (stderr, stderr_end) = output(streams.stderr.is_some())?;
    let mut handle = monitor.exec(exec, [stdin_end, stdout_end, stderr_end]).await?;
    let until = watch::Sender::new(None);
    let carry = |from, to| pump::carry(from, to, Patience::new(&until), Unheard::Dropped);
    let running = async {
        let (exit, (), ()) = tokio::join!(
            ended(&mut handle, &until),
            carry(stdout, streams.stdout),
            carry(stderr, streams.stderr)
        );
        exit
    };
    alongside(running, pump::feed(streams.stdin, stdin)).await
}

async fn with_terminal(core: &Core, request: ExecRequest, streams: Streams) -> Result<Outcome> {
    let (exec, monitor) = prepare(core, request)?;
    let (mut handle, master) = monitor.exec_terminal(exec).await?;
    let Streams {
        stdin,
        stdout,
        resize,
        link,
        ..
    } = streams;
    // Whatever uses the terminal lives in this block, so that leaving it hangs up.
    let done = {
        let terminal = master;
        let (from, to) = pump::terminal(&terminal).io("watch", "terminal")?;
        let until = watch::Sender::new(None);
        let carried = pump::carry(Some(from), stdout, Patience::new(&until), Unheard::Dropped);
        let running = async { tokio::join!(ended(&mut handle, &until), carried).0 };
        let side = async {
            tokio::join!(pump::feed(stdin, Some(to)), follow_size(resize, &terminal));
        };
        tokio::select! {
            done = alongside(running, side) => Some(done),
            () = link.closed() => None,
        }
    };
    match done {
        Some(done) => done,
        // Nobody is told, but the process may take its time to end.
        None => outcome(&mut handle).await,
    }
}

async fn follow_size(sizes: Option<Resizes>, terminal: &OwnedFd) {
    let Some(mut sizes) = sizes else {
        return;
    };
    while let Some(size) = sizes.next().await {
        if let Err(error) = pintle_runtime::terminal::resize(terminal.as_fd(), size.width, size.height) {
            tracing::debug!(%error, "a terminal keeps its size");
        }
    }
}

/// Waits for the process, and tells the output's readers then.
async fn ended(handle: &mut ExecHandle, until: &watch::Sender<Option<Instant>>) -> Result<Outcome> {
    let outcome = outcome(handle).await;
    until.send_replace(Some(Instant::now() + DRAIN));
    outcome
}

async fn outcome(handle: &mut ExecHandle) -> Result<Outcome> {
    Ok(match handle.wait().await?.code {
        0 => Outcome::Success,
        code => Outcome::Exit(code),
    })
}

/// Our end of standard input, where it is wanted, and the process's.
fn input(wanted: bool) -> Result<(Option<Sender>, OwnedFd)> {
    if wanted {
        let (ours, theirs) = pump::input_pipe().io("make", "pipe")?;
        return Ok((Some(ours), theirs));
    }
    let null = File::open("/dev/null").io("open", "/dev/null")?;
    Ok((None, null.into()))
}

/// Our end of an output, where it is wanted, and the process's.
fn output(wanted: bool) -> Result<(Option<Receiver>, OwnedFd)> {
    if wanted {
        let (ours, theirs) = pump::output_pipe().io("make", "pipe")?;
        return Ok((Some(ours), theirs));
    }
    let null = File::options()
        .write(true)
        .open("/dev/null")
        .io("open", "/dev/null")?;
    Ok((None, null.into()))
}
