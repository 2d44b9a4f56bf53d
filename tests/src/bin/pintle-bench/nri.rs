//! What the Node Resource Interface costs where no plugin is connected: the same daemon with it and without, in turns.

use std::fmt::Write;

use anyhow::{Context, Result};
use pintle_tests::server::{Kind, Setup};
use pintle_tests::world::World;

use crate::measure::{RUN_HOST, RUN_NET, START, Target, UP};

/// The calls that ask plugins.
const ROWS: [&str; 4] = [RUN_HOST, RUN_NET, START, UP];

/// Measures, and tells medians in milliseconds with their ratio.
pub(crate) async fn compare(rounds: usize) -> Result<String> {
    let on = Setup::measured(Kind::Pintle);
    let off = Setup {
        // The harness's configuration ends with this section.
        extra_config: "disable = true".to_owned(),
        ..on.clone()
    };
    let mut on = Target::new("NRI", World::new(on).await?).await?;
    let mut off = Target::new("without", World::new(off).await?).await?;
    for round in 0..rounds + 3 {
        if round == 3 {
            // What comes first fills caches.
            on.forget();
            off.forget();
        }
        // Who goes first in a pair may find the machine otherwise than who goes second.
        let pair = match round % 2 {
            0 => [&mut on, &mut off],
            _ => [&mut off, &mut on],
        };
        for target in pair {
            target.round().await.with_context(|| target.name.clone())?;
        }
    }
    let mut text = String::from(
        "| median, ms | with NRI, no plugin | NRI disabled | ratio |\n| --- | ---: | ---: | ---: |\n",
    );
    for row in ROWS {
        let (on, off) = (on.samples.summary(row), off.samples.summary(row));
        let (on, off) = (on.context(row)?.median, off.context(row)?.median);
        writeln!(text, "| {row} | {on:.2} | {off:.2} | {:.3} |", on / off)?;
    }
    Ok(text)
}
