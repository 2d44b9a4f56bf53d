//! One run of the other runtime's program, with an end to its time.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::SIGKILL;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use serde::Deserialize;

use super::failed;
use crate::error::{Context, Error, Kind, Reason, Result};
use crate::monitor::exec::kill_tree;
use crate::protocol::ForeignRuntime;
use crate::sys::fd::close_all_but;
use crate::sys::process::{Forked, exit_now, fork, pidfd_open, reset_signals, set_parent_death_signal, wait};

/// Where the program's helpers are found; nothing else of our environment is its business.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// As much of what a failing program said is read.
const MAX_OUTPUT: u64 = 64 << 10;
/// As much of it becomes part of the error.
const MAX_WORDS: usize = 2048;
/// The exit code of a child that could not execute the program.
const NOT_EXECUTED: i32 = 127;

/// How a child ended, or why it didn't in words.
type Outcome = std::result::Result<WaitStatus, String>;

/// What the program's standard streams are.
#[derive(Debug)]
pub(super) enum Streams {
    /// The container's.
    Given([OwnedFd; 3]),
    /// Nothing to read; what it says is for the error.
    Captured,
}

/// What is run, and how.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) runtime: &'a ForeignRuntime,
    /// Its working folder, where it also keeps its log for as long as it runs; None for neither.
    pub(super) folder: Option<&'a Path>,
    pub(super) limit: Duration,
    pub(super) streams: Streams,
}

/// Where the program writes what it has to say.
struct Said {
    log: Option<PathBuf>,
    output: Option<File>,
}

impl Call<'_> {
    /// Runs a command to its end, in a process that has one thread. The program ends with the caller, if that is killed.
    pub(super) fn run(self, args: &[&OsStr]) -> Result<String> {
        let (runtime, limit) = (self.runtime, self.limit);
        let verb = verb(args);
        let (mut command, said) = self.command(args)?;
        let begun = match fork().call("fork")? {
            Forked::Parent(pid) => pid,
            Forked::Child(_child) => {
                reset_signals();
                // if the caller was killed before this, so is whoever waits for it: its limit holds
                let _ = set_parent_death_signal(SIGKILL);
                // returns only if it failed
                let _ = command.exec();
                exit_now(NOT_EXECUTED);
            }
        };
        drop(command);
        said.judge(runtime, &verb, finish(begun, limit))
    }

    /// As [`Call::run`], in a process with several threads.
    pub(super) fn run_threaded(self, args: &[&OsStr]) -> Result<String> {
        let (runtime, limit) = (self.runtime, self.limit);
        let verb = verb(args);
        let (mut command, said) = self.command(args)?;
        let spawned = command.spawn();
        drop(command);
        match spawned {
            Ok(child) => said.judge(
                runtime,
                &verb,
                finish(Pid::from_raw(child.id().cast_signed()), limit),
            ),
            Err(error) => Err(failed(runtime, &verb, Kind::Kernel, &error.to_string())),
        }
    }

    fn command(self, args: &[&OsStr]) -> Result<(Command, Said)> {
        let program = &self.runtime.program;
        let about = fs::metadata(program).path("find runtime", program)?;
        if !about.is_file() {
            return Err(Error::io("execute runtime", program, Errno::EACCES));
        }
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", PATH)
            .current_dir(self.folder.unwrap_or(Path::new("/")))
            .process_group(0);
        command.arg("--root").arg(&self.runtime.root);
        let log = self.folder.map(|folder| folder.join(log_name()));
        if let Some(log) = &log {
            command.arg("--log").arg(log).args(["--log-format", "json"]);
        }
        let output = match self.streams {
            Streams::Given([stdin, stdout, stderr]) => {
                command.stdin(stdin).stdout(stdout).stderr(stderr);
                None
            }
            Streams::Captured => {
                let output = File::from(memfd_create("output", MFdFlags::MFD_CLOEXEC).call("memfd_create")?);
                let copy = || output.try_clone().call("dup output");
                command
                    .stdin(Stdio::null())
                    .stdout(Stdio::from(copy()?))
                    .stderr(Stdio::from(copy()?));
                Some(output)
            }
        };
        command.args(&self.runtime.options).args(args);
        Ok((command, Said { log, output }))
    }
}

impl Said {
    /// What the program printed, or its failure in its own words.
    fn judge(self, runtime: &ForeignRuntime, verb: &str, ended: Outcome) -> Result<String> {
        let how = match ended {
            Ok(WaitStatus::Exited(_, 0)) => return Ok(self.printed()),
            Ok(WaitStatus::Exited(_, NOT_EXECUTED)) => "the program can't be executed".to_owned(),
            Ok(WaitStatus::Exited(_, code)) => format!("exit status {code}"),
            Ok(WaitStatus::Signaled(_, signal, _)) => format!("ended by {signal}"),
            Ok(other) => format!("{other:?}"),
            Err(words) => words,
        };
        let words = last_error(&self.logged())
            .or_else(|| last_error(&self.printed()))
            .unwrap_or(how);
        Err(failed(runtime, verb, Kind::Kernel, &words))
    }

    fn logged(&self) -> String {
        self.log
            .as_ref()
            .and_then(|log| File::open(log).ok())
            .map(beginning)
            .unwrap_or_default()
    }

    fn printed(&self) -> String {
        let whole = self.output.as_ref().and_then(|output| {
            let mut output = output.try_clone().ok()?;
            output.rewind().ok()?;
            Some(output)
        });
        whole.map(beginning).unwrap_or_default()
    }
}

impl Drop for Said {
    fn drop(&mut self) {
        if let Some(log) = &self.log {
            // it may not have come to write one
            let _ = fs::remove_file(log);
        }
    }
}

/// What can't be read can't be told.
fn beginning(file: File) -> String {
    let mut bytes = Vec::new();
    let _ = file.take(MAX_OUTPUT).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// No other call has this name at the same time.
fn log_name() -> String {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    format!("runtime-{}-{serial}.log", std::process::id())
}

/// The last thing that was wrong: an entry of a log in JSON, or a line as it is.
fn last_error(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        level: String,
        msg: String,
    }
    let line = |line: &str| match serde_json::from_str::<Entry>(line) {
        Ok(entry) if matches!(entry.level.as_str(), "debug" | "info" | "warning") => None,
        Ok(entry) => Some(entry.msg),
        Err(_) => Some(line.trim().to_owned()).filter(|line| !line.is_empty()),
    };
    let mut words = text.lines().rev().find_map(line)?;
    let end = (0..=MAX_WORDS.min(words.len()))
        .rev()
        .find(|at| words.is_char_boundary(*at))?;
    words.truncate(end);
    Some(words)
}

fn verb(args: &[&OsStr]) -> String {
    args.first()
        .map(|verb| verb.display().to_string())
        .unwrap_or_default()
}

/// Waits for a child of the caller, which is killed with its descendants when its time is over.
fn finish(child: Pid, limit: Duration) -> Outcome {
    let end = Instant::now() + limit;
    let words = |errno: Errno| Reason(errno).to_string();
    let pidfd = pidfd_open(child).map_err(words)?;
    loop {
        let left = end.saturating_duration_since(Instant::now()).as_millis();
        // rounded up, so that the last look is not before the end
        let timeout = PollTimeout::try_from(left + 1).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(1..) => return wait(child).map_err(words),
            Ok(_) if Instant::now() < end => {}
            Err(Errno::EINTR) => {}
            Ok(_) | Err(_) => {
                // with what it has started, which would go on without it
                kill_tree(child.as_raw());
                let _ = wait(child);
                return Err(format!(
                    "it took longer than {} s and was killed",
                    limit.as_secs()
                ));
            }
        }
    }
}

/// Runs `work` in a child that nobody waits for; its failure is noted on standard error.
pub(super) fn detached(work: impl FnOnce() -> Result<String>) -> Result<Pid> {
    match fork().call("fork")? {
        Forked::Parent(pid) => Ok(pid),
        Forked::Child(_child) => {
            // nothing of ours is to be kept open by it
            let done = close_all_but(&[]).call("close_range").and_then(|()| work());
            if let Err(error) = done {
                eprintln!("{error}");
            }
            exit_now(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_what_is_told() {
        let log = r#"{"level":"warning","msg":"first","time":"t"}
{"level":"error","msg":"exec: \"x\": executable file not found in $PATH","time":"t"}
{"level":"debug","msg":"last","time":"t"}"#;
        assert_eq!(
            last_error(log).unwrap(),
            "exec: \"x\": executable file not found in $PATH"
        );
        assert_eq!(last_error("one\ntwo\n\n").unwrap(), "two");
        assert_eq!(last_error(""), None);
        assert_eq!(last_error(&"ä".repeat(5000)).unwrap().len(), MAX_WORDS);
    }

    #[test]
    fn a_program_that_hangs_is_ended_and_one_that_is_missing_is_named() {
        let tmp = tempfile::tempdir().unwrap();
        let script = tmp.path().join("hangs");
        fs::write(&script, "#!/bin/sh\nsleep 1000\n").unwrap();
        let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        fs::set_permissions(&script, mode).unwrap();
        let runtime = |program: &Path| ForeignRuntime {
            program: program.to_owned(),
            root: tmp.path().to_owned(),
            ..ForeignRuntime::default()
        };
        let call = |runtime: &ForeignRuntime| {
            Call {
                runtime,
                folder: Some(tmp.path()),
                limit: Duration::from_millis(200),
                streams: Streams::Captured,
            }
            .run_threaded(&["state".as_ref()])
            .unwrap_err()
            .to_string()
        };
        let hung = call(&runtime(&script));
        assert!(hung.starts_with("hangs state failed: it took longer"), "{hung}");
        let missing = call(&runtime(Path::new("/nowhere/runc")));
        assert_eq!(missing, "find runtime /nowhere/runc: no such file or directory");
    }
}
