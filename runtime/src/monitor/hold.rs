//! Holding a container back while the reader of an attachment catches up.
//!
//! Its output isn't read then, so a container that goes on writing waits at its full pipe, as it would for a terminal.
//! That takes [`PATIENCE`] at most: then the attachment is closed, and the container goes on. So `attach` sees all of a
//! long output, and nobody who stops reading can stop a container. The log never misses anything.

use std::time::{Duration, Instant};

use super::attach::STREAMS;
use super::backend::Backend;
use super::event_loop::Monitor;
use super::note::note;
use super::poller::Interest;

/// How long a container waits for one reader to take what waits for him: long enough for a network that has to send
/// something again.
const PATIENCE: Duration = Duration::from_secs(5);

impl<B: Backend> Monitor<B> {
    /// Stops or goes on reading a container's outputs, as the readers of its attachments need it. One that has ended is
    /// always read: what it left behind is bounded by its pipes.
    pub(super) fn hold_or_release(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let may_hold = !container.is_draining();
        for stream in STREAMS {
            let Some(is_held) = container.source(stream).as_ref().map(|s| s.held_since.is_some()) else {
                continue;
            };
            let is_to_be = may_hold
                && container
                    .attachments
                    .values_mut()
                    .any(|attachment| attachment.lags(stream, is_held));
            let Some(source) = container.source(stream).as_mut().filter(|_| is_to_be != is_held) else {
                continue;
            };
            let interest = if is_to_be {
                Interest::empty()
            } else {
                Interest::EPOLLIN
            };
            source.held_since = is_to_be.then(Instant::now);
            if let Err(error) = self.poller.change(&source.output, source.token, interest) {
                note(format_args!("container {id}: {error}"));
            }
        }
    }

    /// When the first of those who are waited for has had his time.
    pub(super) fn hold_deadline(&self) -> Option<Instant> {
        self.containers
            .values()
            .flat_map(|container| [&container.stdout, &container.stderr])
            .filter_map(|source| source.as_ref()?.held_since)
            .min()
            .map(|since| since + PATIENCE)
    }

    /// Closes the attachments that were waited for long enough.
    pub(super) fn end_holds(&mut self, now: Instant) {
        let is_due = |since: Option<Instant>| since.is_some_and(|since| since + PATIENCE <= now);
        let mut due = Vec::new();
        for (id, container) in &mut self.containers {
            for stream in STREAMS {
                if !is_due(container.source(stream).as_ref().and_then(|s| s.held_since)) {
                    continue;
                }
                let attachments = container.attachments.iter_mut();
                let late = attachments.filter_map(|(number, a)| a.lags(stream, true).then_some(*number));
                due.push((id.clone(), late.collect::<Vec<_>>()));
            }
        }
        for (id, late) in due {
            for number in late {
                note(format_args!(
                    "container {id}: an attachment reads too slowly and is closed"
                ));
                self.drop_streams(&id, number);
                self.forget_if_empty(&id, number);
            }
            self.hold_or_release(&id);
        }
    }
}
