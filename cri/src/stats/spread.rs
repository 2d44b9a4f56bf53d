//! Reading many things at once: the kernel makes up each figure when it is read, which is most of the time a list takes.

use std::num::NonZero;
use std::sync::OnceLock;
use std::thread;

/// Fewer than this are read by the caller alone.
const MANY: usize = 32;

/// Enough to be quick, and few enough to leave a node its processors.
const MOST_THREADS: usize = 4;

/// What `read` makes of each, in order; of many, by several threads. Blocking.
pub(super) fn map<T: Sync, R: Send>(all: &[T], read: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if all.len() < MANY || threads() == 1 {
        return all.iter().map(read).collect();
    }
    let threads = threads();
    let (mine, others) = all.split_at(all.len().div_ceil(threads));
    let read = &read;
    thread::scope(|scope| {
        let parts: Vec<_> = others
            .chunks(others.len().div_ceil(threads - 1))
            .map(|part| {
                let work = move || part.iter().map(read).collect::<Vec<R>>();
                // Where no thread is to be had the caller does its part as well.
                let builder = thread::Builder::new().name("pintled-stats".to_owned());
                builder.spawn_scoped(scope, work).map_err(|_| part)
            })
            .collect();
        let mut answers: Vec<R> = mine.iter().map(read).collect();
        for part in parts {
            match part {
                Ok(thread) => match thread.join() {
                    Ok(read) => answers.extend(read),
                    Err(panic) => std::panic::resume_unwind(panic),
                },
                Err(part) => answers.extend(part.iter().map(read)),
            }
        }
        answers
    })
}

/// How many may read at once. Asked once: the answer costs a walk through the daemon's own cgroups.
fn threads() -> usize {
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| {
        thread::available_parallelism()
            .map_or(1, NonZero::get)
            .min(MOST_THREADS)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_stays_however_many_there_are() {
        for count in [0, 1, MANY - 1, MANY, MANY + 1, 1000] {
            let all: Vec<usize> = (0..count).collect();
            let doubled: Vec<usize> = all.iter().map(|n| n * 2).collect();
            assert_eq!(map(&all, |n| n * 2), doubled);
        }
    }
}
