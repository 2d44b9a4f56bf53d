//! `pintle-oci`: containers one at a time from the command line, with runc's commands, flags, formats and habits.
//!
//! ```text
//!   main ──▶ args ──▶ one file a command ──▶ crate::container (prepare, start, exec), crate::cgroup
//!                           │
//!                           └─▶ state: <root>/<id>/{state.json, config.json, start.sock}
//! ```
//!
//! `create` ends while the container's init waits on `start.sock`, a listening socket that the init holds; `start`
//! connects to it and hears there whether execve succeeded. So no process of ours stays beside a container.

mod args;
mod bundle;
mod checkpoint;
mod command;
mod console;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod foreground;
mod kill;
mod list;
mod log;
mod pause;
mod process;
mod ps;
mod spec;
mod start;
mod state;
mod update;

use std::ffi::OsString;
use std::path::PathBuf;

use args::{Flag, Given, switch, value};
use command::{Command, find};
use log::Log;

use crate::cgroup;
use crate::container::Cgroups;
use crate::error::{Error, Kind, Result};

/// Where states are kept unless `--root` says otherwise.
const DEFAULT_ROOT: &str = "/run/pintle-oci";

/// What holds for every command.
#[derive(Debug)]
struct Context {
    root: PathBuf,
    is_default_root: bool,
    /// Who makes the cgroups of new containers.
    cgroups: Cgroups,
    log: Log,
    /// As `--criu` has it.
    criu: Option<String>,
}

impl Context {
    /// The program criu.
    fn criu(&self) -> Result<PathBuf> {
        let name = self
            .criu
            .as_deref()
            .filter(|name| !name.is_empty())
            .unwrap_or("criu");
        crate::checkpoint::find_criu(name)
    }
}

const GLOBAL: &[Flag] = &[
    switch("debug", "", "enable debug logging"),
    value("log", "", "set the log file (default: /dev/stderr)"),
    value(
        "log-format",
        "",
        "set the log format: text or json (default: text)",
    ),
    value(
        "root",
        "",
        "folder of the containers' states, on a tmpfs (default: /run/pintle-oci)",
    ),
    switch(
        "systemd-cgroup",
        "",
        "have systemd make the cgroups; cgroupsPath has the form \"slice:prefix:name\"",
    ),
    value("rootless", "", "accepted for compatibility: true, false or auto"),
    value("criu", "", "the program criu (default: the first on PATH)"),
    switch("help", "h", "show help"),
    switch("version", "v", "print the version"),
];

/// Runs the command line; the exit code.
#[must_use]
pub fn run(args: impl Iterator<Item = OsString>) -> i32 {
    let mut words = Vec::new();
    for arg in args {
        match arg.into_string() {
            Ok(word) => words.push(word),
            Err(word) => return usage_error(&format!("argument is not UTF-8: {}", word.display())),
        }
    }
    let global = match Given::parse(GLOBAL, false, words.into_iter()) {
        Ok(given) => given,
        Err(why) => return usage_error(&why),
    };
    if global.is_on("version") {
        println!("{}", command::version());
        return 0;
    }
    let Some((name, rest)) = global.words.split_first().filter(|_| !global.is_on("help")) else {
        print!("{}", command::help(GLOBAL));
        return 0;
    };
    if name == "help" {
        return match rest.first().and_then(|name| find(name)) {
            Some(command) => show(command),
            None => {
                print!("{}", command::help(GLOBAL));
                0
            }
        };
    }
    match find(name) {
        Some(command) => run_command(command, &global, rest),
        None => usage_error(&format!("No help topic for '{name}'")),
    }
}

fn run_command(command: &Command, global: &Given, rest: &[String]) -> i32 {
    let given = match Given::parse(command.flags, command.mixed, rest.iter().cloned()) {
        Ok(given) => given,
        Err(_) if rest.iter().any(|word| word == "--help" || word == "-h") => return show(command),
        Err(why) => {
            eprintln!("Incorrect Usage: {why}\n");
            print!("{}", command::help_of(command));
            Log::plain().error(&why);
            return command.failure;
        }
    };
    let opened = match command.enters {
        true => crate::seal::protect_own_program().and_then(|()| open(global)),
        false => open(global),
    };
    let outcome = opened.map(|mut context| {
        let debug = format!("pintle-oci {} {}", command.name, given.words.join(" "));
        context.log.debug(&debug);
        let outcome = (command.run)(&mut context, &given);
        if let Err(error) = &outcome {
            context.log.error(&told(command.name, error));
        }
        outcome
    });
    match outcome {
        Ok(Ok(code)) => code,
        Ok(Err(_)) => command.failure,
        Err(error) => {
            Log::plain().error(&error.to_string());
            command.failure
        }
    }
}

/// The words around an error by which callers know what sort it is.
fn told(command: &str, error: &Error) -> String {
    match error.kind() {
        Kind::Exec => format!("{command} failed: unable to start container process: {error}"),
        _ => error.to_string(),
    }
}

fn open(global: &Given) -> Result<Context> {
    let log = Log::open(global.get("log"), global.get("log-format"), global.is_on("debug"))?;
    let has_systemd = global.is_on("systemd-cgroup");
    if has_systemd && !cgroup::systemd_is_booted() {
        return Err(Error::invalid(
            "systemd-cgroup",
            "systemd does not run on this host",
        ));
    }
    let root = global.get("root");
    Ok(Context {
        root: std::path::absolute(root.unwrap_or(DEFAULT_ROOT))
            .map_err(|e| Error::io("resolve", root.unwrap_or(DEFAULT_ROOT), e))?,
        is_default_root: root.is_none(),
        cgroups: match has_systemd {
            true => Cgroups::Systemd,
            false => Cgroups::Files,
        },
        log,
        criu: global.get("criu").map(str::to_owned),
    })
}

fn show(command: &Command) -> i32 {
    print!("{}", command::help_of(command));
    0
}

fn usage_error(why: &str) -> i32 {
    Log::plain().error(why);
    1
}

/// A request that can't be met as things are.
fn refused(kind: Kind, message: impl Into<String>) -> Error {
    Error::Refused {
        kind,
        message: message.into(),
    }
}

/// What a flag's value is wrong about.
fn wrong_flag(why: String) -> Error {
    refused(Kind::InvalidArgument, why)
}

/// The only word of a command, a container's id.
fn only_id<'a>(command: &str, given: &'a Given) -> Result<&'a str> {
    match given.words.as_slice() {
        [id] => state::check_id(id),
        [] => Err(refused(
            Kind::InvalidArgument,
            format!("pintle-oci: \"{command}\" requires exactly 1 argument(s)"),
        )),
        _ => Err(refused(
            Kind::InvalidArgument,
            format!(
                "pintle-oci: \"{command}\" requires exactly 1 argument(s), {} were given",
                given.words.len()
            ),
        )),
    }
}
