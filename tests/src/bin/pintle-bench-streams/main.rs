//! The benchmark of streams: 1 GiB through exec, attach and port-forward, in and out, by Pintle and by Debian's
//! containerd, in turns, each byte compared. `hack/bench streams` builds and calls it.

mod carry;
mod client;
mod content;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use pintle_tests::server::{Kind, Setup};
use pintle_tests::world::World;

use carry::{Target, Way};
use client::Transport;
use content::Content;

const USAGE: &str = "usage: pintle-bench-streams [--rounds N] [--mb N] [--only pintle] [--out FILE]";

struct Options {
    rounds: usize,
    mb: u64,
    /// Whether containerd is measured, too.
    compare: bool,
    out: Option<PathBuf>,
}

/// A column of the table.
struct Column {
    name: String,
    /// Which of the daemons.
    target: usize,
    transport: Transport,
}

fn main() -> Result<()> {
    let options = parse(std::env::args().skip(1))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let text = runtime.block_on(run(&options));
    // A thread that waits for a container's answer is not waited for.
    runtime.shutdown_background();
    let text = text?;
    print!("{text}");
    match &options.out {
        Some(path) => std::fs::write(path, text).with_context(|| format!("write {}", path.display())),
        None => Ok(()),
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options {
        rounds: 5,
        mb: 1024,
        compare: true,
        out: None,
    };
    while let Some(argument) = arguments.next() {
        let value = arguments
            .next()
            .with_context(|| format!("{argument} needs a value\n{USAGE}"))?;
        match (argument.as_str(), value.as_str()) {
            ("--rounds", _) => options.rounds = value.parse().with_context(|| format!("--rounds {value}"))?,
            ("--mb", _) => options.mb = value.parse().with_context(|| format!("--mb {value}"))?,
            ("--only", "pintle") => options.compare = false,
            ("--out", _) => options.out = Some(value.into()),
            _ => anyhow::bail!("{argument} {value}\n{USAGE}"),
        }
    }
    Ok(options)
}

async fn run(options: &Options) -> Result<String> {
    let content = Content::new(options.mb << 20);
    let mut targets = vec![Target::new(World::new(Setup::measured(Kind::Pintle)).await?, &content).await?];
    let column = |kind: Kind, transport, target| Column {
        name: format!(
            "{}, {}",
            kind.name(),
            if transport == Transport::Spdy {
                "SPDY"
            } else {
                "WebSocket"
            }
        ),
        target,
        transport,
    };
    let mut columns = vec![
        column(Kind::Pintle, Transport::Spdy, 0),
        column(Kind::Pintle, Transport::WebSocket, 0),
    ];
    if options.compare {
        let world = World::new(Setup::measured(Kind::ContainerdRunc)).await?;
        targets.push(Target::new(world, &content).await?);
        // Debian's knows no WebSocket by which a client could end its input.
        columns.push(column(Kind::ContainerdRunc, Transport::Spdy, 1));
    }
    let mut bare = Vec::new();
    let mut rows = vec![vec![Vec::new(); columns.len()]; Way::ALL.len()];
    for round in 0..options.rounds {
        bare.push(carry::bare(&content).await?);
        for (way, row) in Way::ALL.into_iter().zip(&mut rows) {
            for (column, cell) in columns.iter().zip(row) {
                let took = targets[column.target].carry(way, column.transport).await;
                let took = took.with_context(|| format!("{} by {}", way.name(), column.name))?;
                eprintln!(
                    "{round}: {}, {}: {:.0} MB/s",
                    way.name(),
                    column.name,
                    rate(&content, took)
                );
                cell.push(took);
            }
        }
    }
    table(&content, &columns, &rows, &bare)
}

/// Megabytes a second.
fn rate(content: &Content, took: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "shown without digits")]
    let megabytes = content.length as f64 / 1e6;
    megabytes / took.as_secs_f64()
}

fn median(content: &Content, all: &[Duration]) -> f64 {
    let mut all = all.to_vec();
    all.sort();
    rate(content, all[all.len() / 2])
}

fn table(
    content: &Content,
    columns: &[Column],
    rows: &[Vec<Vec<Duration>>],
    bare: &[Duration],
) -> Result<String> {
    let mut text = format!(
        "# Benchmarks of streams\n\n\
         `hack/bench streams` writes this table: MB/s of {} MiB, medians of {} rounds in turns, client and daemons on the same machine. The client is\n\
         one of the tests' own that does as little as it can (`tests/src/bin/pintle-bench-streams`): what is measured is the server, with the\n\
         processes in its pods. Each byte is compared where it arrives.\n\n\
         One TCP connection from end to end, with nothing between, carries {:.0} MB/s here.\n\n",
        content.length >> 20,
        bare.len(),
        median(content, bare),
    );
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    writeln!(text, "| | {} |", names.join(" | "))?;
    writeln!(text, "| --- |{}", " ---: |".repeat(columns.len()))?;
    for (way, row) in Way::ALL.iter().zip(rows) {
        let cells: Vec<String> = row
            .iter()
            .map(|cell| format!("{:.0}", median(content, cell)))
            .collect();
        writeln!(text, "| {} | {} |", way.name(), cells.join(" | "))?;
    }
    Ok(text)
}
