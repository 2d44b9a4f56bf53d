//! Exec and attach: URLs, and sessions over SPDY.

use anyhow::{Context, Result};
use k8s_cri::v1::{AttachRequest, ExecRequest};
use serde_json::Value;
use tonic::Status;

use super::spdy::{Spdy, Stream};
use crate::cri::Cri;

/// The protocol that clients of today speak.
pub const V4: &str = "v4.channel.k8s.io";

/// An exec of a command with all three streams.
pub fn exec_request(container: &str, command: &[&str]) -> ExecRequest {
    ExecRequest {
        container_id: container.to_owned(),
        cmd: command.iter().map(|&word| word.to_owned()).collect(),
        tty: false,
        stdin: true,
        stdout: true,
        stderr: true,
    }
}

/// The same, on a terminal.
pub fn on_terminal(request: ExecRequest) -> ExecRequest {
    ExecRequest {
        tty: true,
        stderr: false,
        ..request
    }
}

/// An attach with all three streams.
pub fn attach_request(container: &str) -> AttachRequest {
    AttachRequest {
        container_id: container.to_owned(),
        stdin: true,
        tty: false,
        stdout: true,
        stderr: true,
    }
}

/// The URL of an exec.
pub async fn exec_url(cri: &Cri, request: ExecRequest) -> Result<String, Status> {
    Ok(cri.runtime.clone().exec(request).await?.into_inner().url)
}

/// The URL of an attach.
pub async fn attach_url(cri: &Cri, request: AttachRequest) -> Result<String, Status> {
    Ok(cri.runtime.clone().attach(request).await?.into_inner().url)
}

/// A session's streams; those that its request didn't name are missing.
pub struct Session {
    /// The connection.
    pub spdy: Spdy,
    /// How it ended.
    pub error: Stream,
    /// Input.
    pub stdin: Option<Stream>,
    /// Output.
    pub stdout: Option<Stream>,
    /// Errors.
    pub stderr: Option<Stream>,
    /// The terminal's size.
    pub resize: Option<Stream>,
}

/// Which streams a session has.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Input.
    pub stdin: bool,
    /// A terminal, rather than two outputs.
    pub tty: bool,
}

impl Session {
    /// Runs an exec.
    pub async fn exec(cri: &Cri, request: ExecRequest) -> Result<Session> {
        let kind = Kind {
            stdin: request.stdin,
            tty: request.tty,
        };
        let url = exec_url(cri, request).await.context("Exec")?;
        Self::open(Spdy::connect(&url, &[V4]).await?, kind).await
    }

    /// Attaches.
    pub async fn attach(cri: &Cri, request: AttachRequest) -> Result<Session> {
        let kind = Kind {
            stdin: request.stdin,
            tty: request.tty,
        };
        let url = attach_url(cri, request).await.context("Attach")?;
        Self::open(Spdy::connect(&url, &[V4]).await?, kind).await
    }

    /// Opens the streams of a session.
    pub async fn open(mut spdy: Spdy, kind: Kind) -> Result<Session> {
        let mut open = async |name: &str, wanted: bool| match wanted {
            true => spdy.open(&[("streamtype", name)]).await.map(Some),
            false => Ok(None),
        };
        let error = open("error", true).await?.context("an error stream")?;
        let stdin = open("stdin", kind.stdin).await?;
        let stdout = open("stdout", true).await?;
        let stderr = open("stderr", !kind.tty).await?;
        let resize = open("resize", kind.tty).await?;
        Ok(Session {
            spdy,
            error,
            stdin,
            stdout,
            stderr,
            resize,
        })
    }

    /// Standard input.
    pub fn stdin(&mut self) -> Result<&mut Stream> {
        self.stdin.as_mut().context("stdin was not asked for")
    }

    /// Standard output.
    pub fn stdout(&mut self) -> Result<&mut Stream> {
        self.stdout.as_mut().context("stdout was not asked for")
    }

    /// Tells the terminal's size.
    pub async fn resize(&mut self, width: u16, height: u16) -> Result<()> {
        let size = format!("{{\"Width\":{width},\"Height\":{height}}}\n");
        self.resize
            .as_mut()
            .context("a terminal")?
            .write(size.as_bytes())
            .await
    }

    /// Reads everything to the end: output, errors, and the exit code that the error stream tells.
    pub async fn finish(mut self) -> Result<(Vec<u8>, Vec<u8>, i32)> {
        // One after the other will do: the client takes in what comes on all of them at once.
        let stdout = self.stdout()?.read_to_end().await.context("stdout")?;
        let stderr = match &mut self.stderr {
            Some(stderr) => stderr.read_to_end().await.context("stderr")?,
            None => Vec::new(),
        };
        let status = self.error.read_to_end().await.context("the error stream")?;
        Ok((stdout, stderr, exit_code(&status)?))
    }
}

/// The exit code in a `Status` object.
pub fn exit_code(status: &[u8]) -> Result<i32> {
    let text = String::from_utf8_lossy(status);
    let status: Value = serde_json::from_slice(status).with_context(|| format!("{text:?}"))?;
    if status["status"] == "Success" {
        return Ok(0);
    }
    let cause = &status["details"]["causes"][0];
    anyhow::ensure!(
        status["reason"] == "NonZeroExitCode" && cause["reason"] == "ExitCode",
        "{text}"
    );
    Ok(cause["message"]
        .as_str()
        .with_context(|| text.to_string())?
        .parse()?)
}
