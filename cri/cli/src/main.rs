//! `pintle`: what an administrator asks of a running daemon.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a program")]

mod archive;
mod connect;
mod events;
mod image;
mod progress;
mod proto;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Asks a running Pintle daemon.
#[derive(Parser)]
#[command(name = "pintle", version)]
struct Cli {
    /// The daemon's socket.
    #[arg(
        long,
        global = true,
        env = "PINTLE_SOCKET",
        default_value = "/run/pintle/pintle.sock"
    )]
    socket: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Images: get them, look at them, pass them on, clear them away.
    #[command(subcommand)]
    Image(image::Command),
    /// Shows what happens to pods and containers, as it happens.
    Events(events::Command),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pintle: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async move {
        match cli.command {
            Command::Image(command) => {
                let daemon = connect::Daemon::connect(&cli.socket).await?;
                image::run(daemon, command).await
            }
            Command::Events(command) => events::run(&cli.socket, command).await,
        }
    })
}
