//! A program started by the harness, with its output in a file, that never outlives its owner.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait;

/// A running program; killed and reaped when dropped.
pub struct Child {
    name: String,
    inner: std::process::Child,
    log: PathBuf,
}

impl Child {
    /// Starts `program` in a process group of its own, its output appended to `log`.
    pub fn spawn<A: AsRef<OsStr>>(program: &str, args: &[A], log: &Path) -> Result<Child> {
        let open = || File::options().create(true).append(true).open(log);
        let (out, err) = (open()?, open()?);
        let inner = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {program}"))?;
        Ok(Child {
            name: program.to_owned(),
            inner,
            log: log.to_owned(),
        })
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.inner.id().cast_signed()
    }

    /// Sends a signal; a program that has ended meanwhile is no error.
    pub fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.pid()), signal);
    }

    /// The exit status, if the program has ended.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.inner.try_wait().ok().flatten()
    }

    /// Waits for the end, at most `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let mut status = None;
        wait::until(&format!("the end of {}", self.name), limit, || {
            status = self.try_wait();
            status.is_some()
        })?;
        status.context("exit status")
    }

    /// SIGKILL, and reaps.
    pub fn kill(&mut self) {
        let _ = self.inner.kill();
        let _ = self.inner.wait();
    }

    /// SIGTERM; SIGKILL when that is not enough within `grace`.
    pub fn terminate(&mut self, grace: Duration) {
        if self.try_wait().is_none() {
            self.signal(Signal::SIGTERM);
        }
        if self.wait(grace).is_err() {
            self.kill();
        }
    }

    /// The last `lines` lines of the program's output.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}
