//! The program that runs one pod's monitor: `pintle-monitor --dir <pod's folder> --id <pod>`.

use std::ffi::OsString;
use std::process::ExitCode;

use pintle_runtime::monitor::{self, Options};

const USAGE: &str = "usage: pintle-monitor --dir <pod's folder> --id <pod>";

fn main() -> ExitCode {
    if let Err(error) = pintle_runtime::seal::protect_own_program() {
        eprintln!("pintle-monitor: {error}");
        return ExitCode::FAILURE;
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
