//! Stopping and dumping containers, through the helper that survives this process.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::checkpoint::{Checkpoint, HELPER_ARGUMENT, helper::Answer};
use crate::error::{Context, Error, Result};
use crate::seal::Program;

/// An answer is one line with an error's text.
const MAX_ANSWER: u64 = 64 << 10;
/// How long a helper is waited for that was told to give up. criu does so with the next page that it writes down.
const GIVING_UP: Duration = Duration::from_secs(30);

/// Containers that have been dumped and stand still. They go on when this is dropped, or this process ends.
#[derive(Debug)]
pub struct Dumped {
    helper: Child,
    input: ChildStdin,
}

impl Dumped {
    /// Stops and dumps. When `given_up` comes to its end before, the dump is broken off: the containers go on, and
    /// nobody writes into the folders any more when this returns. So it is, but for the waiting, where this future is
    /// dropped.
    ///
    /// # Errors
    /// Nothing is stopped any more then; images may be left half written.
    pub async fn dump(
        program: &Program,
        request: &Checkpoint,
        given_up: impl Future<Output = ()>,
    ) -> Result<Self> {
        let (mut helper, mut input, output) = spawn(program)?;
        let mut line = serde_json::to_vec(request).map_err(|source| Error::Parse {
            path: "request".into(),
            source,
        })?;
        line.push(b'\n');
        input.write_all(&line).await.call("write to checkpoint helper")?;
        input.flush().await.call("write to checkpoint helper")?;
        let answer = tokio::select! {
            answer = answer(output) => answer?,
            () = given_up => {
                drop(input);
                let ended = timeout(GIVING_UP, helper.wait()).await;
                let status = match ended {
                    Ok(status) => status.call("wait for checkpoint helper")?.to_string(),
                    Err(_) => "it is not done with giving up".to_owned(),
                };
                return Err(Error::Ended { what: "checkpoint", status });
            }
        };
        answer.map_err(Error::from).map(|()| Self { helper, input })
    }

    /// Lets them go on; returns once they do.
    ///
    /// # Errors
    /// The helper can't be waited for.
    pub async fn thaw(self) -> Result<()> {
        let Self { mut helper, input } = self;
        drop(input);
        helper.wait().await.call("wait for checkpoint helper")?;
        Ok(())
    }
}

fn gone() -> Error {
    Error::Ended {
        what: "checkpoint helper",
        status: "its pipes are closed".to_owned(),
    }
}

fn spawn(program: &Program) -> Result<(Child, ChildStdin, ChildStdout)> {
    let mut helper = Command::new(program.executable())
        .arg0(program.path())
        .arg(HELPER_ARGUMENT)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // a signal from a terminal is for the daemon
        .process_group(0)
        .spawn()
        .path("execute", program.path())?;
    let input = helper.stdin.take().ok_or_else(gone)?;
    let output = helper.stdout.take().ok_or_else(gone)?;
    Ok((helper, input, output))
}

async fn answer(output: ChildStdout) -> Result<Answer> {
    let mut answer = Vec::new();
    let mut output = output.take(MAX_ANSWER);
    loop {
        let before = answer.len();
        output
            .read_buf(&mut answer)
            .await
            .call("read from checkpoint helper")?;
        if answer.len() == before || answer.ends_with(b"\n") {
            break;
        }
    }
    serde_json::from_slice(&answer).map_err(|_| gone())
}
