//! Durations collected under a name, and what is told of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Samples by what was measured.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    all: BTreeMap<&'static str, Vec<Duration>>,
}

/// What a table shows of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    /// The middle one, in milliseconds.
    pub(crate) median: f64,
    /// 99 in 100 are at most this, in milliseconds; with fewer than 100 samples it is the largest.
    pub(crate) p99: f64,
    /// How many.
    pub(crate) count: usize,
}

impl Samples {
    /// Adds one.
    pub(crate) fn add(&mut self, what: &'static str, duration: Duration) {
        self.all.entry(what).or_default().push(duration);
    }

    /// Adds how long a call took that succeeded.
    pub(crate) async fn time<T, E>(
        &mut self,
        what: &'static str,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T>
    where
        Result<T, E>: Context<T, E>,
    {
        let start = Instant::now();
        let answer = call.await;
        let took = start.elapsed();
        let answer = answer.context(what)?;
        self.add(what, took);
        Ok(answer)
    }

    /// Drops all.
    pub(crate) fn clear(&mut self) {
        self.all.clear();
    }

    /// None if there are no samples of that name.
    pub(crate) fn summary(&self, what: &str) -> Option<Summary> {
        let mut milliseconds: Vec<f64> = self
            .all
            .get(what)?
            .iter()
            .map(|d| d.as_secs_f64() * 1000.0)
            .collect();
        milliseconds.sort_by(f64::total_cmp);
        let count = milliseconds.len();
        let at = |percent: usize| milliseconds.get((count * percent / 100).min(count - 1)).copied();
        Some(Summary {
            median: at(50)?,
            p99: at(99)?,
            count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summarises() {
        let mut samples = Samples::default();
        for milliseconds in 1..=100 {
            samples.add("x", Duration::from_millis(milliseconds));
        }
        assert_eq!(
            samples.summary("x"),
            Some(Summary {
                median: 51.0,
                p99: 100.0,
                count: 100
            })
        );
        assert_eq!(samples.summary("y"), None);
    }
}
