//! `pintled`: the CRI daemon.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pintle_cri::config::Config;
use pintle_cri::daemon;

const USAGE: &str = "\
pintled: a Kubernetes container runtime (CRI v1)

usage: pintled [--config FILE]     serve the CRI until SIGTERM or SIGINT
       pintled --check-config [--config FILE]
                                   say what is wrong with the configuration, and end
       pintled --help-config       print every setting with its default, as a configuration file
       pintled --version | --help

Without --config, /etc/pintle/config.toml is read where it exists.";

enum Command {
    Serve,
    CheckConfig,
    Print(String),
}

fn main() -> ExitCode {
    match parse().and_then(|(command, config)| run(&command, config.as_deref())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pintled: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse() -> anyhow::Result<(Command, Option<PathBuf>)> {
    let mut command = Command::Serve;
    let mut config = None;
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--config") => {
                let file = arguments
                    .next()
                    .ok_or_else(|| anyhow::anyhow!("--config needs a file"))?;
                config = Some(PathBuf::from(file));
            }
            Some("--check-config") => command = Command::CheckConfig,
            Some("--help-config") => command = Command::Print(Config::documented_defaults()),
            Some("--version") => command = Command::Print(format!("pintled {}", env!("CARGO_PKG_VERSION"))),
            Some("--help" | "-h") => command = Command::Print(USAGE.to_owned()),
            _ => anyhow::bail!("unknown argument {}\n{USAGE}", argument.display()),
        }
    }
    Ok((command, config))
}

fn run(command: &Command, config: Option<&Path>) -> anyhow::Result<()> {
    if let Command::Print(text) = command {
        println!("{}", text.trim_end());
        return Ok(());
    }
    let config = Config::load(config)?;
    if matches!(command, Command::CheckConfig) {
        println!("the configuration is fine");
        return Ok(());
    }
    let filter = tracing_subscriber::EnvFilter::try_new(config.log_level())?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    pintle_runtime::keep_heap_small();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("pintled")
        .build()?;
    runtime.block_on(daemon::serve(config))?;
    // What still runs in the background (a stop, a creation) is taken up again by the next daemon.
    runtime.shutdown_timeout(daemon::SHUTDOWN_GRACE);
    Ok(())
}
