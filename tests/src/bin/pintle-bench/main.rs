//! The benchmark: Pintle and Debian's containerd, with runc and with crun, side by side in one run.
//!
//! All daemons run at once and take turns call by call, so that the machine's noise falls on all alike. Each is
//! measured over one gRPC connection that stays open. `hack/bench` builds and calls it.

mod crowd;
mod floor;
mod lines;
mod machine;
mod measure;
mod memory;
mod nri;
mod report;
mod samples;

use std::path::PathBuf;

use anyhow::{Context, Result};
use pintle_tests::server::{Kind, Setup};
use pintle_tests::world::World;

use measure::Target;
use samples::Samples;

/// What the command line asks for.
struct Options {
    rounds: usize,
    out: Option<PathBuf>,
    kinds: Vec<Kind>,
    /// How many idle pods there are while calls are measured, one size after the other.
    crowds: Vec<usize>,
    /// Only what the Node Resource Interface costs, in so many rounds.
    nri: Option<usize>,
}

/// Pintle with the others' network.
const WITH_CNI: &str = "Pintle, CNI programs";

const USAGE: &str = "usage: pintle-bench [--rounds N] [--out FILE] [--only pintle|containerd-runc|containerd-crun]... \
     [--crowds N,N,...] [--nri N]";

fn main() -> Result<()> {
    let options = parse(std::env::args().skip(1))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let text = match options.nri {
        Some(rounds) => runtime.block_on(nri::compare(rounds))?,
        None => runtime.block_on(run(&options))?,
    };
    match &options.out {
        Some(path) => std::fs::write(path, text).with_context(|| format!("write {}", path.display())),
        None => {
            print!("{text}");
            Ok(())
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options {
        rounds: 50,
        out: None,
        kinds: Vec::new(),
        crowds: vec![10, 100, 500],
        nri: None,
    };
    while let Some(argument) = arguments.next() {
        let value = arguments
            .next()
            .with_context(|| format!("{argument} needs a value\n{USAGE}"))?;
        match (argument.as_str(), value.as_str()) {
            ("--rounds", _) => options.rounds = value.parse().with_context(|| format!("--rounds {value}"))?,
            ("--out", _) => options.out = Some(value.into()),
            ("--only", "pintle") => options.kinds.push(Kind::Pintle),
            ("--only", "containerd-runc") => options.kinds.push(Kind::ContainerdRunc),
            ("--only", "containerd-crun") => options.kinds.push(Kind::ContainerdCrun),
            ("--nri", _) => options.nri = Some(value.parse().with_context(|| format!("--nri {value}"))?),
            ("--crowds", _) => {
                let sizes = value.split(',').map(str::parse).collect::<Result<_, _>>();
                options.crowds = sizes.with_context(|| format!("--crowds {value}"))?;
                anyhow::ensure!(
                    options.crowds.is_sorted(),
                    "--crowds {value}: from small to large"
                );
            }
            _ => anyhow::bail!("{argument} {value}\n{USAGE}"),
        }
    }
    if options.kinds.is_empty() {
        options.kinds = vec![Kind::Pintle, Kind::ContainerdRunc, Kind::ContainerdCrun];
    }
    Ok(options)
}

/// The daemons that are compared. Pintle comes twice: with its own network, and with the others' CNI programs.
async fn targets(kinds: &[Kind]) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    for kind in kinds {
        let plain = Setup::measured(*kind);
        targets.push(Target::new(kind.name(), World::new(plain.clone()).await?).await?);
        if *kind == Kind::Pintle {
            let with_cni = Setup { cni: true, ..plain };
            targets.push(Target::new(WITH_CNI, World::new(with_cni).await?).await?);
        }
    }
    Ok(targets)
}

async fn run(options: &Options) -> Result<String> {
    let mut targets = targets(&options.kinds).await?;
    // Caches fill, and the kernel's one-time work is done, before anything counts.
    for _ in 0..3 {
        for target in &mut targets {
            target.round().await.with_context(|| target.name.clone())?;
        }
    }
    for target in &mut targets {
        target.forget();
    }
    let mut kernel = Samples::default();
    for round in 0..options.rounds {
        for target in &targets[..1] {
            floor::round(&mut kernel, &target.world.slot.cgroup())?;
        }
        for target in &mut targets {
            target.round().await.with_context(|| target.name.clone())?;
        }
        eprint!("\rround {}/{}", round + 1, options.rounds);
    }
    eprintln!();
    for target in &mut targets {
        eprintln!("throughput: {}", target.name);
        target.throughput().await.with_context(|| target.name.clone())?;
    }
    // What the network costs is shown already: the programs would only hide the rest.
    let mut crowded: Vec<&mut Target> = targets.iter_mut().filter(|t| t.name != WITH_CNI).collect();
    crowd::measure(&mut crowded, &options.crowds).await?;
    report::markdown(&targets, &kernel, options.rounds)
}
