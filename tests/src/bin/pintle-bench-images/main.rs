//! The image benchmark: the same pulls by Pintle and by Debian's containerd, from one registry, taking turns.
//!
//! Each pull is cold, by a new daemon with an empty store. `hack/bench images` builds and calls it.

mod load;
mod process;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pintle_tests::image::Packing;
use pintle_tests::server::{Kind, Setup};
use pintle_tests::world::World;

use process::{Process, disk};

const USAGE: &str = "usage: pintle-bench-images [--rounds N] [--mb N] [--out FILE]";
/// How many images of eight layers are pulled at once in the last row.
const AT_ONCE: usize = 8;

/// What the figures don't say; follows them.
const WHY: &str = "
## Why it is built so

- Each layer is one pass: network, SHA-256, inflate, SHA-256, unpack, on two threads, with some 2 MB of buffers that are used again;
  layers go side by side, the largest first. Nothing compressed is written to the disk and read again; kept compressed layers are a third
  of the other's disk.
- **gzip** is inflated by zlib-rs: no C, and faster than miniz_oxide. libdeflate wants a layer in one piece, compressed
  and not, in memory. ISA-L, the fastest by its makers' figures, needs nasm to be built.
- **zstd** is the reference library; its window is what a layer takes of memory.
- **SHA-256** by sha2 and by ring use the same instructions of the processor; sha2 was there first.
- **tar**: parsing is next to nothing beside the copying, so the best-kept crate does it. What it does not bound is bounded by a reader below it
  (`images/src/unpack/tap.rs`). Its own unpacking is not used: it resolves paths by text, and knows no whiteouts.
- Making, owning and closing files in the kernel is most of the CPU time of a pull.
- A whole image is put on disk by one syncfs(2), not by an fsync(2) a file. It waits for whatever else the file system still
  has to write, so a busy disk shows in the wall time, and only there. Large files are given to the disk while the rest is unpacked.
  On a machine with fast processors the disk is what a pull waits for at its end: 0.6 to 1.1 of 2.2 to 2.9 seconds, in two pulls looked at.
- Of the peak, half is the program itself. It lets go of what its start has needed (`let_go_of_program`), and is linked as one
  piece: with neither the peak was 27 MB.
- ext4 searches long for free inodes for minutes after many were removed: pulls then take several times the CPU, whoever
  pulls. That is why this is measured on a file system of its own, where nothing is removed.
- A layer that names no folders makes the daemon look in all layers below how its folders should be: such an image costs about
  half as much CPU again.
";

struct Options {
    rounds: usize,
    /// Of unpacked files, in MB.
    mb: u64,
    out: Option<PathBuf>,
}

/// What one pull took.
#[derive(Debug, Clone, Copy, Default)]
struct Took {
    wall: Duration,
    /// Until everything was on disk, too.
    stored: Duration,
    cpu: Duration,
    /// In KiB.
    peak: u64,
    /// Bytes that the daemon's folders grew by.
    disk: u64,
}

/// What is pulled.
struct Row {
    name: &'static str,
    /// Pulled before, without being measured.
    before: Option<String>,
    references: Vec<String>,
}

fn main() -> Result<()> {
    let options = parse(std::env::args().skip(1))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let text = runtime.block_on(run(&options))?;
    print!("{text}");
    match &options.out {
        Some(path) => std::fs::write(path, text).with_context(|| format!("write {}", path.display())),
        None => Ok(()),
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options {
        rounds: 3,
        mb: 600,
        out: None,
    };
    while let Some(argument) = arguments.next() {
        let value = arguments
            .next()
            .with_context(|| format!("{argument} needs a value\n{USAGE}"))?;
        match argument.as_str() {
            "--rounds" => options.rounds = value.parse()?,
            "--mb" => options.mb = value.parse()?,
            "--out" => options.out = Some(value.into()),
            _ => anyhow::bail!("{argument}\n{USAGE}"),
        }
    }
    Ok(options)
}

async fn run(options: &Options) -> Result<String> {
    // The registry that serves all; its daemon does nothing.
    let host = World::new(Setup::measured(Kind::Pintle)).await?;
    let content = load::from_host(options.mb << 20)?;
    let (rows, about) = push_all(&host, &content)?;
    let mut text = head(&about);
    // Kept until the end: a file system is slow to make files soon after many were removed.
    let mut worlds = Vec::new();
    for row in &rows {
        let kinds = [Kind::Pintle, Kind::ContainerdRunc];
        let mut took = vec![Vec::new(); kinds.len()];
        for round in 0..options.rounds {
            for (number, kind) in kinds.iter().enumerate() {
                let mut world = World::new(Setup::measured(*kind)).await?;
                let one = measure(&world, row).await;
                let one = one.with_context(|| format!("{} by {}", row.name, kind.name()))?;
                eprintln!("{} {} {round}: {one:?}", row.name, kind.name());
                took[number].push(one);
                world.server.kill();
                worlds.push(world);
            }
        }
        for (kind, took) in kinds.iter().zip(took) {
            line(&mut text, row.name, kind.name(), &took, content.unpacked)?;
        }
    }
    text.push_str(&limits(&host, &content)?);
    text.push_str(WHY);
    Ok(text)
}

/// What the machine can do at most, by the program that `PINTLE_LIMITS` names.
fn limits(world: &World, content: &load::Content) -> Result<String> {
    let Some(program) = std::env::var_os("PINTLE_LIMITS") else {
        return Ok(String::new());
    };
    let folder = world.slot.root().join("limits");
    std::fs::create_dir_all(&folder)?;
    let mut arguments = vec![folder.clone()];
    for (packing, name) in [(Packing::Gzip, "gzip"), (Packing::Zstd, "zstd")] {
        if packing == Packing::Zstd {
            arguments.push("--".into());
        }
        for (number, blob) in content.image(packing, 0)?.blobs.iter().skip(1).enumerate() {
            let path = folder.join(format!("{name}{number}"));
            std::fs::write(&path, &blob.bytes)?;
            arguments.push(path);
        }
    }
    let output = std::process::Command::new(program).args(arguments).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(
        output.status.success(),
        "the limits could not be measured: {error}"
    );
    let lines = String::from_utf8(output.stdout)?;
    Ok(format!(
        "\n## What the machine can do at most\n\n\
         The steps of that pull one by one, of the same layers from memory, on one core; rates are of unpacked bytes.\n\n\
         | step | by | s | MB/s |\n| --- | --- | ---: | ---: |\n{lines}"
    ))
}

fn push_all(world: &World, content: &load::Content) -> Result<(Vec<Row>, String)> {
    let registry = &world.registry;
    let gzip = content.image(Packing::Gzip, 0)?;
    let sizes: Vec<usize> = gzip.blobs.iter().skip(1).map(|blob| blob.bytes.len()).collect();
    let zstd = content.image(Packing::Zstd, 0)?;
    let gzip_reference = registry.push(&gzip, "gzip", "1")?;
    let zstd_reference = registry.push(&zstd, "zstd", "1")?;
    let sharing = registry.push(&content.image(Packing::Gzip, 1)?, "sharing", "1")?;
    let mut eight = Vec::new();
    for number in 0..AT_ONCE {
        eight.push(registry.push(&content.slice(number, AT_ONCE)?, &format!("slice{number}"), "1")?);
    }
    let about = format!(
        "{} layers, {} files, {} MB unpacked, {} MB as gzip",
        sizes.len(),
        content.files,
        content.unpacked >> 20,
        sizes.iter().sum::<usize>() >> 20
    );
    let row = |name, before, references| Row {
        name,
        before,
        references,
    };
    let rows = vec![
        row("gzip", None, vec![gzip_reference.clone()]),
        row("zstd", None, vec![zstd_reference]),
        row("shares all layers but one", Some(gzip_reference), vec![sharing]),
        row("eight images at once, gzip", None, eight),
    ];
    Ok((rows, about))
}

async fn measure(world: &World, row: &Row) -> Result<Took> {
    let root = world.slot.root();
    if let Some(before) = &row.before {
        world.cri.pull(before).await?;
    }
    let registry = root.join("registry");
    let at_first = disk(&root, &registry);
    let process = Process(world.server.pid()?);
    process.forget_peak()?;
    let (cpu, begin) = (process.cpu()?, Instant::now());
    let mut pulls = tokio::task::JoinSet::new();
    for reference in row.references.clone() {
        let cri = world.cri.clone();
        pulls.spawn(async move { cri.pull(&reference).await });
    }
    while let Some(pulled) = pulls.join_next().await {
        pulled??;
    }
    let wall = begin.elapsed();
    let (cpu, peak) = (process.cpu()? - cpu, process.peak()?);
    // What the disk still has to write shall not fall on the next one either.
    nix::unistd::sync();
    Ok(Took {
        wall,
        stored: begin.elapsed(),
        cpu,
        peak,
        disk: disk(&root, &registry).saturating_sub(at_first),
    })
}

fn head(about: &str) -> String {
    format!(
        "# Benchmarks of the image service\n\n\
         `hack/bench images` writes this table: medians of pulls over the CRI by `pintled` and by Debian's containerd, in turns, from one\n\
         docker-registry on the same machine. The image is made of files of the machine's own /usr: {about}.\n\
         CPU is the daemon's, peak the largest resident memory of its process during the pull (VmHWM, its program's own pages included, after\n\
         a reset), disk what its folders grew by. Neither has children that pull.\n\
         Pintle has put everything on disk when a pull answers (syncfs), containerd has not: \"on disk\" is the time until a sync(2) after the\n\
         answer has returned.\n\n\
         | pull | by | wall, s | on disk, s | CPU, s | peak, MB | disk / unpacked |\n| --- | --- | ---: | ---: | ---: | ---: | ---: |\n"
    )
}

fn line(text: &mut String, row: &str, by: &str, took: &[Took], unpacked: u64) -> Result<()> {
    let median = |of: fn(&Took) -> f64| {
        let mut all: Vec<f64> = took.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
    let share = median(|took| took.disk as f64) / unpacked as f64;
    #[expect(clippy::cast_precision_loss, reason = "shown without digits")]
    let peak = median(|took| took.peak as f64 / 1024.0);
    writeln!(
        text,
        "| {row} | {by} | {:.2} | {:.2} | {:.2} | {peak:.0} | {share:.2} |",
        median(|took| took.wall.as_secs_f64()),
        median(|took| took.stored.as_secs_f64()),
        median(|took| took.cpu.as_secs_f64()),
    )?;
    Ok(())
}
