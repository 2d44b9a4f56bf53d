//! The program that runs one pod's monitor: `pintle-monitor --dir <pod's folder> --id <pod>`.
//!
//! `pintle-monitor checkpoint` is the helper that stops and dumps containers ([`checkpoint::run_helper`]).

use std::ffi::OsString;
use std::process::ExitCode;

use pintle_runtime::checkpoint;
use pintle_runtime::monitor::{self, Options};

const USAGE: &str = "usage: pintle-monitor --dir <pod's folder> --id <pod>";

fn main() -> ExitCode {
    if let Err(error) = pintle_runtime::seal::protect_own_program() {
        eprintln!("pintle-monitor: {error}");
        return ExitCode::FAILURE;
    }
    if std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == checkpoint::HELPER_ARGUMENT)
    {
        return checkpoint::run_helper();
    }
    let options = match parse(std::env::args_os().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("pintle-monitor: {why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match monitor::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pintle-monitor[{}]: {error}", options.id);
            ExitCode::FAILURE
        }
    }
}

fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Options, String> {
    let (mut dir, mut id) = (None, None);
    while let Some(name) = args.next() {
        let value = args
            .next()
            .ok_or_else(|| format!("{} needs a value", name.display()))?;
        match name.to_str() {
            Some("--dir") => dir = Some(value.into()),
            Some("--id") => id = value.into_string().ok(),
            _ => return Err(format!("unknown option {}", name.display())),
        }
    }
    match (dir, id) {
        (Some(dir), Some(id)) => Ok(Options { dir, id }),
        _ => Err("--dir and --id are needed".to_owned()),
    }
}
