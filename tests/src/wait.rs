//! Bounded waiting: every loop of the tests that waits for something goes through here.

use std::future::Future;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long a test waits for something that normally takes milliseconds; generous, for machines under load.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How much slower this machine is than what the limits were made for: `PINTLE_TEST_PATIENCE`, 1 unless it is set. A
/// machine that is emulated takes ten times as long.
pub(crate) fn slowness() -> u32 {
    static SLOWNESS: OnceLock<u32> = OnceLock::new();
    *SLOWNESS.get_or_init(|| {
        let asked = std::env::var("PINTLE_TEST_PATIENCE").ok();
        asked.and_then(|text| text.parse().ok()).unwrap_or(1)
    })
}

/// A time limit as it is on this machine.
pub fn scaled(limit: Duration) -> Duration {
    limit * slowness()
}

const INTERVAL: Duration = Duration::from_millis(10);

/// Blocks until `done` says yes; an error that names `what` after `limit`.
pub fn until(what: &str, limit: Duration, mut done: impl FnMut() -> bool) -> Result<()> {
    let (start, limit) = (Instant::now(), scaled(limit));
    while !done() {
        if start.elapsed() > limit {
            bail!("timed out after {limit:?} waiting for {what}");
        }
        std::thread::sleep(INTERVAL);
    }
    Ok(())
}

/// As [`until`], for a question that needs the daemon: waits until `ask` answers with a value.
pub async fn until_some<T, F>(what: &str, limit: Duration, mut ask: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Option<T>>,
{
    let (start, limit) = (Instant::now(), scaled(limit));
    loop {
        if let Some(value) = ask().await {
            return Ok(value);
        }
        if start.elapsed() > limit {
            bail!("timed out after {limit:?} waiting for {what}");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
