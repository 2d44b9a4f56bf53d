//! How many cores are in use at present, from what was used in all at two moments.
//!
//! Nothing runs by itself for it: the moments are those at which somebody asks, so that a node that nobody watches
//! does no work. kubelet asks every ten seconds.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shorter than this nothing is measured: the counters of the kernel move in steps.
const WINDOW: Duration = Duration::from_secs(1);

/// The use of one group over time.
#[derive(Debug, Default)]
pub struct Rate(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    begun: Option<(Instant, u64)>,
    cores: Option<u64>,
}

impl Rate {
    /// Takes note of the nanoseconds used up to `now`. Returns billionths of a core over the last full window (`nano
    /// cores` of the CRI); None until there is one.
    pub fn note(&self, now: Instant, used: u64) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.begun {
            // The group was made anew.
            Some((_, before)) if used < before => *state = State::default(),
            Some((begun, _)) if now.saturating_duration_since(begun) < WINDOW => return state.cores,
            Some((begun, before)) => {
                let elapsed = now.saturating_duration_since(begun).as_nanos();
                let cores = u128::from(used - before) * 1_000_000_000 / elapsed;
                state.cores = u64::try_from(cores).ok();
            }
            None => {}
        }
        state.begun = Some((now, used));
        state.cores
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_moments_make_a_rate() {
        let rate = Rate::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(rate.note(at(0), 1_000), None, "one moment says nothing");
        assert_eq!(rate.note(at(10), 2_000), None, "too short a time");
        assert_eq!(rate.note(at(2_000), 1_000_001_000), Some(500_000_000));
        assert_eq!(
            rate.note(at(2_500), 9_000_000_000),
            Some(500_000_000),
            "the last one stands"
        );
        assert_eq!(rate.note(at(4_000), 1_000_001_000), Some(0));
        assert_eq!(rate.note(at(6_000), 5), None, "a counter that fell begins anew");
        assert_eq!(rate.note(at(7_000), 1_000_000_005), Some(1_000_000_000));
    }
}
