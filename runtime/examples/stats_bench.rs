//! What it costs to read a cgroup's statistics: `stats_bench GROUP [ROUNDS]`, for a group that exists.

use std::time::Instant;

use pintle_runtime::cgroup::{Depth, Handle};

const ROUNDS: u32 = 2_000;

fn main() -> pintle_runtime::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let group = arguments.next().unwrap_or_default();
    let rounds: u32 = arguments
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(ROUNDS)
        .max(1);
    let handle = Handle::new(&group)?;
    for depth in [Depth::Usage, Depth::Everything] {
        let mut reader = handle.reader();
        let kept = time(rounds, || reader.stats(depth).map(drop))?;
        let once = time(rounds, || handle.stats(depth).map(drop))?;
        println!("{depth:?}: {kept:.1} us with files kept open, {once:.1} us without");
    }
    Ok(())
}

/// Microseconds a call, after one that isn't counted.
fn time(rounds: u32, mut call: impl FnMut() -> pintle_runtime::Result<()>) -> pintle_runtime::Result<f64> {
    call()?;
    let begun = Instant::now();
    for _ in 0..rounds {
        call()?;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e6 / f64::from(rounds))
}
