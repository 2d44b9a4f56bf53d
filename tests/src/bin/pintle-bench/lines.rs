//! How fast a container's output gets into its log: many short lines, each of which becomes a record.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::ContainerState;
use pintle_tests::pod;

use crate::measure::{Target, down};

/// Bytes of a line, its end included.
const LINE: usize = 100;

/// Lines in the file that the container shows, so that its own work is next to nothing.
const LINES: usize = (64 << 20) / LINE;

/// How often it shows the file: 1 GiB in all.
const TIMES: usize = 16;

/// No log of 1 GiB takes longer.
const LONGEST: Duration = Duration::from_secs(300);

/// Megabytes a second from the container's start to its exit. All lines are in the log then, none is missing.
pub(crate) async fn throughput(target: &mut Target) -> Result<f64> {
    let source = target.world.slot.root().join("lines");
    let mut file = File::create(&source).with_context(|| format!("create {}", source.display()))?;
    file.write_all(format!("{}\n", "x".repeat(LINE - 1)).repeat(LINES).as_bytes())?;
    drop(file);
    let config = target.pod();
    let script = format!("for i in $(seq {TIMES}); do cat /lines; done");
    let container = pod::shell("lines", target.image(), &script);
    let container = pod::with_mount(container, &source.to_string_lossy(), "/lines", true);
    let log = PathBuf::from(&config.log_directory).join(&container.log_path);
    let cri = target.world.cri.clone();
    let id = cri.run_pod(&config).await?;
    let created = cri.create(&id, &config, &container).await?;
    let begun = Instant::now();
    cri.start(&created).await?;
    while cri.status(&created).await?.state() != ContainerState::ContainerExited {
        ensure!(begun.elapsed() < LONGEST, "the container still writes lines");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = begun.elapsed();
    let records = BufReader::new(File::open(&log).with_context(|| format!("open {}", log.display()))?);
    let count = records.split(b'\n').count();
    down(&cri, &id).await?;
    for path in [&log, &source] {
        fs::remove_file(path).with_context(|| format!("remove {}", path.display()))?;
    }
    ensure!(
        count == LINES * TIMES,
        "{count} of {} lines are in the log",
        LINES * TIMES
    );
    Ok((LINE * LINES * TIMES) as f64 / 1e6 / took.as_secs_f64())
}
