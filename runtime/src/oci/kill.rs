//! `kill`: a signal to a container's init, or to all of its processes.

use std::os::fd::AsFd;
use std::str::FromStr;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill as send};
use oci_spec::runtime::LinuxNamespaceType;

use super::args::Given;
use super::state::{Container, Status, check_id};
use super::{Context, refused};
use crate::error::{Context as _, Kind, Result};
use crate::sys::process::pidfd_kill;

/// The highest signal number.
const LAST: i32 = 64;

pub(super) fn kill(context: &mut Context, given: &Given) -> Result<i32> {
    let (id, name) = match given.words.as_slice() {
        [id] => (id, "SIGTERM"),
        [id, signal] => (id, signal.as_str()),
        _ => {
            return Err(refused(
                Kind::InvalidArgument,
                "pintle-oci: \"kill\" requires a minimum of 1 argument",
            ));
        }
    };
    let container = Container::load(context, check_id(id)?)?;
    let signal = parse(name)?;
    // in a pid namespace that is shared, those that the init has left behind are killed by this alone
    let has_own_pids = container.record.namespaces & LinuxNamespaceType::Pid as i32 != 0;
    let everybody = given.is_on("all") || (signal == Signal::SIGKILL as i32 && !has_own_pids);
    let stopped = container.status() == Status::Stopped;
    if everybody {
        return kill_all(&container, signal, given.is_on("all"), stopped);
    }
    if stopped {
        return Err(not_running());
    }
    pidfd_kill(container.pidfd()?.as_fd(), signal).map_err(|errno| match errno {
        Errno::ESRCH => not_running(),
        other => crate::Error::sys("pidfd_send_signal", other),
    })?;
    if signal == Signal::SIGKILL as i32 && container.cgroup.is_frozen() {
        // on v1 a frozen process dies only once it is thawed
        container.cgroup.freeze(false)?;
    }
    Ok(0)
}

fn not_running() -> crate::Error {
    refused(Kind::InvalidState, "container not running")
}

fn kill_all(container: &Container, signal: i32, asked: bool, stopped: bool) -> Result<i32> {
    let processes = container.cgroup.processes()?;
    if processes.is_empty() && stopped && !asked {
        return Err(not_running());
    }
    if signal == Signal::SIGKILL as i32 {
        container.cgroup.kill_all()?;
        return Ok(0);
    }
    // nobody is left to hear it, which this flag has always taken for success
    if processes.is_empty() {
        return Ok(0);
    }
    let signal = Signal::try_from(signal).map_err(|_| {
        refused(
            Kind::InvalidArgument,
            format!("signal {signal} can only be sent to the init"),
        )
    })?;
    for pid in processes {
        match send(pid, signal) {
            Err(Errno::ESRCH) => {}
            other => other.call("kill")?,
        }
    }
    Ok(0)
}

/// A number, or a name with or without SIG.
fn parse(name: &str) -> Result<i32> {
    let unknown = || refused(Kind::InvalidArgument, format!("unknown signal {name:?}"));
    if let Ok(number) = name.parse::<i32>() {
        return match (0..=LAST).contains(&number) {
            true => Ok(number),
            false => Err(unknown()),
        };
    }
    let upper = name.to_uppercase();
    let full = match upper.starts_with("SIG") {
        true => upper,
        false => format!("SIG{upper}"),
    };
    if let Some(offset) = full.strip_prefix("SIGRTMIN") {
        let offset = if offset.is_empty() {
            Ok(0)
        } else {
            offset.trim_start_matches('+').parse::<i32>()
        };
        return offset
            .ok()
            .map(|n| n + 34)
            .filter(|n| (34..=LAST).contains(n))
            .ok_or_else(unknown);
    }
    Signal::from_str(&full)
        .map(|signal| signal as i32)
        .map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (name, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGTERM", 15),
            ("sighup", 1),
            ("0", 0),
            ("RTMIN+3", 37),
            ("64", 64),
        ] {
            assert_eq!(parse(name).unwrap(), number, "{name}");
        }
        for name in ["", "65", "-1", "NOPE", "SIG", "RTMIN+99", "RTMIN-1"] {
            assert!(parse(name).is_err(), "{name}");
        }
    }
}
