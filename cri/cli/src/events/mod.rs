//! `pintle events`: what happens to pods and containers, as it happens.
//!
//! ```text
//! follow.rs  the stream: goes on where it stopped when the daemon is started anew, and says what was lost
//! folder.rs  waits for a daemon's socket to appear
//! moment.rs  where to begin: --since
//! filter.rs  which events are shown
//! show.rs    how they are shown
//! ```

mod filter;
mod folder;
mod follow;
mod moment;
mod show;

use std::io::{ErrorKind, Write as _};
use std::path::Path;

use anyhow::Result;
use clap::Args;

use self::filter::Filter;
use self::follow::{Follower, Told};
use self::moment::Moment;
use self::show::Output;

#[derive(Args)]
pub(crate) struct Command {
    #[command(flatten)]
    filter: Filter,
    /// Begins in the past: a token out of --output json, a time (RFC 3339), or how long ago it was (90s, 15m, 2h).
    #[arg(long, value_name = "MOMENT")]
    since: Option<Moment>,
    /// How events are shown; json is one object a line.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Ends after so many events.
    #[arg(short = 'n', long, value_name = "NUMBER")]
    count: Option<u64>,
}

/// Shows events until there are enough of them, or nobody reads them any more.
pub(crate) async fn run(socket: &Path, command: Command) -> Result<()> {
    let mut follower = Follower::start(socket, command.since.map(Moment::token)).await?;
    let mut left = command.count;
    while left != Some(0) {
        let told = follower.next().await?;
        if let Told::Event(event) = &told {
            if !command.filter.fits(event) {
                continue;
            }
            left = left.map(|left| left - 1);
        }
        match print(command.output, &told) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            printed => printed?,
        }
    }
    Ok(())
}

/// What is no event is for whoever looks on, unless a program reads along.
fn print(output: Output, told: &Told) -> std::io::Result<()> {
    let line = output.line(told)?;
    match (output, told) {
        (Output::Json, _) | (_, Told::Event(_)) => {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{line}")?;
            // Whoever reads a pipe wants each event when it comes.
            out.flush()
        }
        (Output::Text, Told::Gap(_)) => writeln!(std::io::stderr(), "pintle: {line}"),
    }
}
