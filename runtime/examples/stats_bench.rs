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
        handle.stats(depth)?; // warm
        let begun = Instant::now();
        for _ in 0..rounds {
            handle.stats(depth)?;
        }
        println!(
            "{depth:?}: {:.1} us",
            begun.elapsed().as_secs_f64() * 1e6 / f64::from(rounds)
        );
    }
    Ok(())
}
