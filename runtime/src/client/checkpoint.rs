//! Stopping and dumping containers, through the helper that survives this process.

use std::process::Stdio;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};

use crate::checkpoint::{Checkpoint, HELPER_ARGUMENT, helper::Answer};
use crate::error::{Context, Error, Result};
use crate::seal::Program;

/// An answer is one line with an error's text.
const MAX_ANSWER: u64 = 64 << 10;

/// Containers that have been dumped and stand still. They go on when this is dropped, or this process ends.
#[derive(Debug)]
pub struct Dumped {
    helper: Child,
    input: ChildStdin,
}

impl Dumped {
    /// Stops and dumps. A future that is dropped meanwhile lets the containers go on once criu is done with the one it is
    /// at.
    ///
    /// # Errors
    /// Nothing is stopped any more then; images may be left half written.
    pub async fn dump(program: &Program, request: &Checkpoint) -> Result<Self> {
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
        let gone = || Error::Ended {
            what: "checkpoint helper",
            status: "its pipes are closed".to_owned(),
        };
        let mut input = helper.stdin.take().ok_or_else(gone)?;
        let output = helper.stdout.take().ok_or_else(gone)?;
        let mut line = serde_json::to_vec(request).map_err(|source| Error::Parse {
            path: "request".into(),
            source,
        })?;
        line.push(b'\n');
        input.write_all(&line).await.call("write to checkpoint helper")?;
        input.flush().await.call("write to checkpoint helper")?;
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
        let outcome: Answer = serde_json::from_slice(&answer).map_err(|_| gone())?;
        match outcome {
            Ok(()) => Ok(Self { helper, input }),
            Err(error) => Err(error.into()),
        }
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
