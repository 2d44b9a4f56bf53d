//! `ps`: the processes of a container, as pids or as ps(1) shows them.

use std::collections::BTreeSet;
use std::process::Command;

use super::args::Given;
use super::list::put;
use super::state::Container;
use super::{Context, refused};
use crate::error::{Context as _, Error, Kind, Result};

pub(super) fn ps(context: &mut Context, given: &Given) -> Result<i32> {
    let (words, format) = late_flags(given);
    let Some((id, options)) = words.split_first() else {
        return Err(refused(
            Kind::InvalidArgument,
            "pintle-oci: \"ps\" requires a minimum of 1 argument",
        ));
    };
    let container = Container::load(context, id)?;
    let pids: BTreeSet<i32> = container
        .cgroup
        .processes()?
        .into_iter()
        .map(nix::unistd::Pid::as_raw)
        .collect();
    match format.as_deref().unwrap_or("table") {
        "json" => {
            let text = serde_json::to_string(&pids).map_err(|source| Error::Parse {
                path: "ps".into(),
                source,
            })?;
            put(&format!("{text}\n"))?;
        }
        "table" => put(&table(&pids, options)?)?,
        other => {
            return Err(refused(
                Kind::InvalidArgument,
                format!("invalid format option {other:?}"),
            ));
        }
    }
    Ok(0)
}

/// The words after the id are ps's, but the format may also stand there.
fn late_flags(given: &Given) -> (Vec<String>, Option<String>) {
    let mut words = given.words.clone();
    let mut format = given.get("format").map(str::to_owned);
    if let [_, flag, value] = words.as_slice()
        && matches!(flag.as_str(), "-f" | "--format")
        && matches!(value.as_str(), "json" | "table")
    {
        format = Some(value.clone());
        words.truncate(1);
    }
    (words, format)
}

fn table(pids: &BTreeSet<i32>, options: &[String]) -> Result<String> {
    let default = ["-ef".to_owned()];
    let options = if options.is_empty() { &default } else { options };
    let output = Command::new("ps").args(options).output().path("execute", "ps")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(refused(Kind::InvalidArgument, format!("ps: {}", why.trim())));
    }
    filter(&text, pids).ok_or_else(|| refused(Kind::InvalidArgument, "couldn't find PID field in ps output"))
}

/// The head, and the lines of these processes.
fn filter(text: &str, pids: &BTreeSet<i32>) -> Option<String> {
    let mut lines = text.lines();
    let head = lines.next()?;
    let column = head.split_ascii_whitespace().position(|name| name == "PID")?;
    let is_one = |line: &&str| {
        let pid = line.split_ascii_whitespace().nth(column);
        pid.and_then(|pid| pid.parse().ok())
            .is_some_and(|pid: i32| pids.contains(&pid))
    };
    let mut out = format!("{head}\n");
    for line in lines.filter(is_one) {
        out += line;
        out.push('\n');
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_processes_are_shown() {
        let text = "UID  PID CMD\nroot   7 a 8\nroot   8 b\nroot  78 c\n";
        assert_eq!(
            filter(text, &BTreeSet::from([8])).unwrap(),
            "UID  PID CMD\nroot   8 b\n"
        );
        assert_eq!(filter("UID CMD\n", &BTreeSet::new()), None);
    }
}
