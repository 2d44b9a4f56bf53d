//! The process of an `exec`: the container's own, changed by flags, or a file.

use std::os::fd::AsFd;
use std::path::Path;

use oci_spec::runtime::{Box, BoxBuilder, Capabilities, Capability, LinuxCapabilities, Process, Spec, User};

use super::args::Given;
use super::{refused, wrong_flag};
use crate::container::lenient;
use crate::error::{Context, Error, Kind, Result};
use crate::sys::term::size;

/// What is to be run.
pub(super) fn build(given: &Given, spec: &Spec, command: &[String]) -> Result<Process> {
    if let Some(path) = given.get("process") {
        return read(Path::new(path));
    }
    if command.is_empty() {
        return Err(refused(Kind::InvalidArgument, "process args cannot be empty"));
    }
    let mut process = spec
        .process()
        .clone()
        .ok_or_else(|| Error::invalid("process", "is missing"))?;
    process.set_args(Some(command.to_vec()));
    process.set_terminal(Some(given.is_on("tty")));
    process.set_console_size(callers_size().filter(|_| given.is_on("tty")));
    if let Some(cwd) = given.get("cwd").filter(|cwd| !cwd.is_empty()) {
        process.set_cwd(cwd.into());
    }
    if let Some(profile) = given.get("apparmor") {
        process.set_apparmor_profile(Some(profile.to_owned()));
    }
    if let Some(label) = given.get("process-label") {
        process.set_selinux_label(Some(label.to_owned()));
    }
    if given.get("no-new-privs").is_some() {
        process.set_no_new_privileges(Some(given.is_on("no-new-privs")));
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(given.all("env").map(str::to_owned));
    process.set_env(Some(env));
    set_user(given, &mut process)?;
    add_capabilities(given, &mut process)?;
    Ok(process)
}

/// The size of the caller's terminal, if he has one.
fn callers_size() -> Option<Box> {
    let (width, height) = size(std::io::stdin().as_fd()).ok()?;
    BoxBuilder::default().width(width).height(height).build().ok()
}

fn read(path: &Path) -> Result<Process> {
    let text = std::fs::read(path).path("open", path)?;
    let read = lenient::read(&text, lenient::Holds::Process);
    read.map(|read| read.value).map_err(|source| Error::Parse {
        path: path.to_owned(),
        source,
    })
}

fn set_user(given: &Given, process: &mut Process) -> Result<()> {
    let mut user: User = process.user().clone();
    if let Some(text) = given.get("user").filter(|text| !text.is_empty()) {
        let (uid, gid) = text
            .split_once(':')
            .map_or((text, None), |(uid, gid)| (uid, Some(gid)));
        let number = |what: &str, text: &str| {
            text.parse::<u32>().map_err(|_| {
                refused(
                    Kind::InvalidArgument,
                    format!("parsing {text} as int for {what} failed"),
                )
            })
        };
        user.set_uid(number("uid", uid)?);
        if let Some(gid) = gid {
            user.set_gid(number("gid", gid)?);
        }
    }
    let mut more = user.additional_gids().clone().unwrap_or_default();
    for gid in given.all("additional-gids") {
        let gid = gid
            .parse()
            .map_err(|_| wrong_flag(format!("invalid value {gid:?} for flag -additional-gids")))?;
        more.push(gid);
    }
    user.set_additional_gids((!more.is_empty()).then_some(more));
    process.set_user(user);
    Ok(())
}

/// Added to all sets but the inheritable one, which would outlive a change of the program; to the ambient one if the
/// container's processes inherit capabilities at all.
fn add_capabilities(given: &Given, process: &mut Process) -> Result<()> {
    let mut added = Capabilities::new();
    for name in given.all("cap") {
        let plain = name.trim_start_matches("CAP_");
        let capability: Capability = plain
            .parse()
            .map_err(|_| refused(Kind::InvalidArgument, format!("unknown capability {name:?}")))?;
        added.insert(capability);
    }
    if added.is_empty() {
        return Ok(());
    }
    let mut all = process.capabilities().clone().unwrap_or_else(none);
    let with = |set: &Option<Capabilities>| -> Option<Capabilities> {
        Some(set.iter().flatten().chain(&added).copied().collect())
    };
    let (bounding, effective, permitted) =
        (with(all.bounding()), with(all.effective()), with(all.permitted()));
    all.set_bounding(bounding);
    all.set_effective(effective);
    all.set_permitted(permitted);
    if all.inheritable().as_ref().is_some_and(|set| !set.is_empty()) {
        all.set_ambient(with(all.ambient()));
    }
    process.set_capabilities(Some(all));
    Ok(())
}

fn none() -> LinuxCapabilities {
    let mut caps = LinuxCapabilities::default();
    caps.set_bounding(None);
    caps.set_effective(None);
    caps.set_inheritable(None);
    caps.set_permitted(None);
    caps.set_ambient(None);
    caps
}

#[cfg(test)]
mod tests {
    use super::super::args::{switch, value};
    use super::*;

    fn given(line: &str) -> Given {
        let flags = [
            value("user", "u", ""),
            value("env", "e", ""),
            value("cap", "c", ""),
            value("additional-gids", "g", ""),
            switch("tty", "t", ""),
            switch("no-new-privs", "", ""),
        ];
        Given::parse(&flags, false, line.split(' ').map(str::to_owned)).unwrap()
    }

    fn spec() -> Spec {
        serde_json::from_str(
            r#"{"ociVersion":"1.0.0","process":{"args":["sh"],"cwd":"/","env":["A=1"],"user":{"uid":1,"gid":2},
            "capabilities":{"bounding":["CAP_CHOWN"]},"noNewPrivileges":true}}"#,
        )
        .unwrap()
    }

    #[test]
    fn flags_change_the_containers_own_process() {
        let line = "-u 7:8 -g 9 -e A=2 -c CAP_KILL -t --no-new-privs=false c id";
        let process = build(&given(line), &spec(), &["id".to_owned()]).unwrap();
        assert_eq!(process.args().as_deref(), Some(&["id".to_owned()][..]));
        assert_eq!((process.user().uid(), process.user().gid()), (7, 8));
        assert_eq!(process.user().additional_gids().as_deref(), Some(&[9][..]));
        assert_eq!(
            process.env().as_deref(),
            Some(&["A=1".to_owned(), "A=2".to_owned()][..])
        );
        assert_eq!(
            (process.terminal(), process.no_new_privileges()),
            (Some(true), Some(false))
        );
        let bounding = process
            .capabilities()
            .as_ref()
            .unwrap()
            .bounding()
            .clone()
            .unwrap();
        assert!(bounding.contains(&Capability::Kill) && bounding.contains(&Capability::Chown));
    }

    #[test]
    fn what_is_no_user_or_no_capability_is_refused() {
        for line in ["-u x c id", "-u 1:y c id", "-c CAP_NOPE c id", "-g z c id"] {
            build(&given(line), &spec(), &["id".to_owned()]).unwrap_err();
        }
        build(&given("c"), &spec(), &[]).unwrap_err();
    }
}
