//! Running a plugin: environment, configuration on stdin, result on stdout, a time limit.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::error::{CniError, Result};

/// More than any result; a plugin that goes on writing is stopped.
const MAX_OUTPUT: u64 = 8 << 20;
/// As much of a failed plugin's words as an error message bears.
const MAX_MESSAGE: usize = 2048;

/// One run of a plugin.
#[derive(Debug)]
pub(super) struct Invocation<'a> {
    /// The plugin's type.
    pub(super) plugin: &'a str,
    /// `CNI_COMMAND`.
    pub(super) command: &'static str,
    /// Further `CNI_*` variables.
    pub(super) env: Vec<(&'static str, String)>,
    /// The configuration.
    pub(super) stdin: Value,
    pub(super) limit: Duration,
}

/// The error that plugins write to stdout.
#[derive(Deserialize)]
struct PluginError {
    #[serde(default)]
    code: u32,
    msg: String,
    #[serde(default)]
    details: String,
}

/// Finds a plugin's program.
pub(super) fn find(plugin: &str, dirs: &[PathBuf]) -> Result<PathBuf> {
    let executable = |path: &Path| {
        path.metadata()
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    dirs.iter()
        .map(|dir| dir.join(plugin))
        .find(|path| executable(path))
        .ok_or_else(|| CniError::PluginNotFound {
            plugin: plugin.to_owned(),
            dirs: join(dirs),
        })
}

/// Folders as `CNI_PATH` has them.
pub(super) fn join(dirs: &[PathBuf]) -> String {
    dirs.iter()
        .map(|dir| dir.to_string_lossy())
        .collect::<Vec<_>>()
        .join(":")
}

impl Invocation<'_> {
    /// Runs the plugin; its result is `Null` where it writes none.
    pub(super) async fn run(&self, program: &Path) -> Result<Value> {
        let mut command = Command::new(program);
        command
            .env("CNI_COMMAND", self.command)
            .envs(self.env.iter().map(|(key, value)| (*key, value.as_str())))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that what the plugin has started can be killed with it.
            .process_group(0);
        let mut child = Group::new(command.spawn().map_err(CniError::io("run", program))?);
        let outcome = tokio::time::timeout(self.limit, self.talk(&mut child.0)).await;
        let (status, stdout, stderr) = match outcome {
            Ok(done) => done.map_err(CniError::io("talk to", program))?,
            Err(_) => {
                child.kill().await;
                let (plugin, command) = (self.plugin.to_owned(), self.command);
                return Err(CniError::TimedOut {
                    plugin,
                    command,
                    limit: self.limit,
                });
            }
        };
        self.judge(status, &stdout, &stderr)
    }

    async fn talk(&self, child: &mut Child) -> std::io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let conf = self.stdin.to_string();
        let feed = async move {
            if let Some(mut stdin) = stdin {
                // A plugin need not read its configuration.
                let _ = stdin.write_all(conf.as_bytes()).await;
            }
        };
        let ((), stdout, stderr) = tokio::join!(feed, read(stdout), read(stderr));
        Ok((child.wait().await?, stdout?, stderr?))
    }

    fn judge(&self, status: ExitStatus, stdout: &[u8], stderr: &[u8]) -> Result<Value> {
        let (plugin, command) = (self.plugin.to_owned(), self.command);
        if status.success() {
            if stdout.iter().all(u8::is_ascii_whitespace) {
                return Ok(Value::Null);
            }
            return serde_json::from_slice(stdout).map_err(|error| CniError::BadResult {
                plugin,
                reason: error.to_string(),
            });
        }
        if let Ok(PluginError { code, msg, details }) = serde_json::from_slice(stdout) {
            return Err(CniError::Plugin {
                plugin,
                command,
                code,
                msg,
                details,
            });
        }
        let words = if stderr.is_empty() { stdout } else { stderr };
        let words = &words[words.len().saturating_sub(MAX_MESSAGE)..];
        let output = String::from_utf8_lossy(words).trim().to_owned();
        Err(CniError::Failed {
            plugin,
            command,
            status: status.to_string(),
            output,
        })
    }
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(MAX_OUTPUT).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// A plugin with its process group; killed unless it has ended.
struct Group(Child);

impl Group {
    fn new(child: Child) -> Self {
        Group(child)
    }

    fn signal(&self) {
        // `id` is `None` once the child was waited for: its number may be another's then.
        if let Some(pid) = self.0.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    async fn kill(&mut self) {
        self.signal();
        let _ = self.0.wait().await;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal();
    }
}

#[cfg(test)]
#[path = "invoke/tests.rs"]
mod tests;
