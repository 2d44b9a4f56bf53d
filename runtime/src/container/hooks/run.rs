//! Running one hook to its end, or to the end of its time.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use oci_spec::runtime::Hook;

use crate::error::Reason;
use crate::sys::process::pidfd_open;

/// As much of what a failing hook printed becomes part of the error.
const MAX_OUTPUT: u64 = 2048;

/// Or why it is a failure, in words.
type Outcome<T> = Result<T, String>;

/// Runs one hook to its end.
pub(super) fn run(hook: &Hook, state: &[u8], environment: &[String]) -> Outcome<()> {
    // files rather than pipes: whatever a hook writes or doesn't read, nobody waits for the other
    let file = |name| memfd_create(name, MFdFlags::MFD_CLOEXEC).map(File::from);
    let text = |errno: Errno| Reason(errno).to_string();
    let mut input = file("state").map_err(text)?;
    let mut output = file("output").map_err(text)?;
    let prepared = input
        .write_all(state)
        .and_then(|()| input.rewind())
        .and_then(|()| output.try_clone());
    let errors = prepared.map_err(|e| e.to_string())?;
    let mut command = Command::new(hook.path());
    let args = hook.args().as_deref().unwrap_or_default();
    if let Some(name) = args.first() {
        command.arg0(name).args(&args[1..]);
    }
    // what names none, and is given none, has that of the runtime
    let named = hook
        .env()
        .as_deref()
        .or((!environment.is_empty()).then_some(environment));
    if let Some(named) = named {
        command.env_clear();
        command.envs(named.iter().filter_map(|entry| entry.split_once('=')));
    }
    command
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(output.try_clone().map_err(|e| e.to_string())?))
        .stderr(Stdio::from(errors))
        .process_group(0);
    let mut child = command
        .spawn()
        .map_err(|e| format!("{}: {}", hook.path().display(), words(&e)))?;
    let limit = hook
        .timeout()
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map(Duration::from_secs);
    let status = wait(&mut child, limit)?;
    if status.success() {
        return Ok(());
    }
    let mut said = String::new();
    let _ = output
        .rewind()
        .and_then(|()| output.take(MAX_OUTPUT).read_to_string(&mut said));
    Err(format!("{}, output: {}", ending(status), said.trim_end()))
}

fn words(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(
        || error.to_string(),
        |raw| Reason(Errno::from_raw(raw)).to_string(),
    )
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal: {}", signal_name(signal)),
        (None, None) => "ended".to_owned(),
    }
}

/// As strsignal(3) has those that hooks are likely to end by.
fn signal_name(signal: i32) -> String {
    let name = match Signal::try_from(signal) {
        Ok(Signal::SIGSYS) => "bad system call",
        Ok(Signal::SIGKILL) => "killed",
        Ok(Signal::SIGSEGV) => "segmentation fault",
        Ok(Signal::SIGABRT) => "aborted",
        Ok(Signal::SIGTERM) => "terminated",
        _ => return signal.to_string(),
    };
    name.to_owned()
}

/// Waits for a child, which is killed with its process group when its time is over.
fn wait(child: &mut Child, limit: Option<Duration>) -> Outcome<ExitStatus> {
    let end = limit.map(|limit| Instant::now() + limit);
    let pidfd = pidfd_open(Pid::from_raw(child.id().cast_signed())).map_err(|e| Reason(e).to_string())?;
    loop {
        let timeout = match end {
            None => PollTimeout::NONE,
            // rounded up, so that the last look is not before the end
            Some(end) => PollTimeout::try_from(end.saturating_duration_since(Instant::now()).as_millis() + 1)
                .unwrap_or(PollTimeout::MAX),
        };
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(1..) => return child.wait().map_err(|e| e.to_string()),
            Ok(_) if end.is_some_and(|end| Instant::now() < end) => {}
            Err(Errno::EINTR) => {}
            Ok(_) | Err(_) => {
                // its group: what it has started, too
                let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
                let _ = child.kill();
                let _ = child.wait();
                return Err("context deadline exceeded: it took longer than its time-out".to_owned());
            }
        }
    }
}
