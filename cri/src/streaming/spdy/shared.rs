//! What reader, writer and streams of one connection share: the table of streams, windows, and the ways out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};

use super::Violation;
use super::connection::{MAX_STREAMS, WINDOW};
use super::frame::{Outgoing, Reset};
use crate::streaming::inbox::{End, Inbox};
use crate::streaming::link::Link;

/// Control frames that may wait for a client who doesn't read; beyond, nothing is read from him either.
const MAX_CONTROL_WAITING: usize = 256;
/// Bytes that a stream's input may hold for a client that keeps no windows, while there are [few](FEW) streams.
pub(super) const LARGE: usize = 256 << 10;
/// Streams beyond which each holds no more than a window.
const FEW: usize = 16;
/// The largest window (draft 3, section 2.6.8).
const MAX_WINDOW: i64 = 0x7fff_ffff;

/// One connection.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) link: Link,
    table: Mutex<Table>,
    /// Windows grew, or streams ended.
    changed: Notify,
    pub(super) data: mpsc::Sender<Outgoing>,
    control: mpsc::UnboundedSender<Outgoing>,
    control_waiting: AtomicUsize,
    control_written: Notify,
}

#[derive(Debug)]
struct Table {
    streams: HashMap<u32, Entry>,
    last: u32,
    /// The client keeps windows.
    keeps_windows: bool,
    /// What we may send on all streams together.
    credit: i64,
    /// A new stream's credit.
    initial: i64,
    /// Bytes that were used up on all streams since the last WINDOW_UPDATE of stream 0.
    used: u32,
    /// Bytes that the client may still send on all streams together. Below zero it doesn't care, and is told no more.
    allowed: i64,
}

#[derive(Debug)]
struct Entry {
    inbox: Arc<Inbox>,
    credit: i64,
    used: u32,
    /// As the connection's, of this stream.
    allowed: i64,
    we_are_done: bool,
    client_is_done: bool,
}

/// Whether a stream may send now.
pub(super) enum Leave {
    /// So many bytes.
    Yes(usize),
    /// Its window, or the connection's, is shut.
    NotNow,
    /// The stream is over.
    Never,
}

impl Shared {
    pub(super) fn new(
        link: Link,
        data: mpsc::Sender<Outgoing>,
        control: mpsc::UnboundedSender<Outgoing>,
    ) -> Self {
        Self {
            link,
            table: Mutex::new(Table {
                streams: HashMap::new(),
                last: 0,
                keeps_windows: false,
                credit: WINDOW.into(),
                initial: WINDOW.into(),
                used: 0,
                allowed: WINDOW.into(),
            }),
            changed: Notify::new(),
            data,
            control,
            control_waiting: AtomicUsize::new(0),
            control_written: Notify::new(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No panic can leave the table half-changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new stream of the client's; its inbox. `Ok(None)` if there are too many.
    pub(super) fn open(&self, id: u32) -> Result<Option<Arc<Inbox>>, Violation> {
        let mut table = self.table();
        if id.is_multiple_of(2) || id <= table.last {
            return Err(Violation::Unexpected("this stream id"));
        }
        table.last = id;
        if table.streams.len() >= MAX_STREAMS {
            return Ok(None);
        }
        let limit = if table.streams.len() < FEW {
            LARGE
        } else {
            WINDOW as usize
        };
        let inbox = Arc::new(Inbox::new(limit));
        let entry = Entry {
            inbox: Arc::clone(&inbox),
            credit: table.initial,
            used: 0,
            allowed: WINDOW.into(),
            we_are_done: false,
            client_is_done: false,
        };
        table.streams.insert(id, entry);
        Ok(Some(inbox))
    }

    /// Where data of this stream goes; None for streams that are over.
    pub(super) fn inbox(&self, id: u32) -> Option<Arc<Inbox>> {
        let table = self.table();
        let entry = table.streams.get(&id)?;
        (!entry.client_is_done).then(|| Arc::clone(&entry.inbox))
    }

    /// The client has no more to send on this stream.
    pub(super) fn client_done(&self, id: u32) {
        let mut table = self.table();
        if let Some(entry) = table.streams.get_mut(&id) {
            entry.client_is_done = true;
            entry.inbox.end(End::Finished);
            if entry.we_are_done {
                table.streams.remove(&id);
            }
        }
    }

    /// We have no more to send on this stream.
    pub(super) fn we_are_done(&self, id: u32) {
        let mut table = self.table();
        if let Some(entry) = table.streams.get_mut(&id) {
            entry.we_are_done = true;
            if entry.client_is_done {
                table.streams.remove(&id);
            }
        }
    }

    /// The stream is over at once, by the client's word. Whether it was there.
    pub(super) fn forget(&self, id: u32) -> bool {
        let removed = self.table().streams.remove(&id);
        let was_there = removed.is_some();
        if let Some(entry) = removed {
            entry.inbox.end(End::Broken);
            self.changed.notify_waiters();
        }
        was_there
    }

    /// Whether there are streams beside this one and its pair's other half.
    pub(super) fn has_others(&self) -> bool {
        self.table().streams.len() > 2
    }

    /// The stream is over at once, by ours.
    pub(super) fn reset(&self, id: u32, why: Reset) {
        if self.forget(id) {
            self.queue_control(Outgoing::Reset { stream: id, why });
        }
    }

    /// The connection is over.
    pub(super) fn forget_all(&self) {
        let streams = std::mem::take(&mut self.table().streams);
        for entry in streams.into_values() {
            entry.inbox.end(End::Broken);
        }
        self.changed.notify_waiters();
    }

    /// Nobody reads any stream's input any more.
    pub(super) fn discard_all(&self) {
        for entry in self.table().streams.values() {
            entry.inbox.discard();
        }
    }

    /// The highest stream id that the client has used.
    pub(super) fn last(&self) -> u32 {
        self.table().last
    }

    /// So many bytes of content have come.
    pub(super) fn received(&self, id: u32, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let mut table = self.table();
        if table.allowed >= 0 {
            table.allowed -= count;
        }
        if let Some(entry) = table.streams.get_mut(&id).filter(|entry| entry.allowed >= 0) {
            entry.allowed -= count;
        }
    }

    /// Bytes of a stream were used up, or dropped; tells the client once it is worth a frame.
    pub(super) fn used(&self, id: u32, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let mut table = self.table();
        let due = |used: &mut u32, allowed: &mut i64| {
            if *allowed < 0 {
                return None;
            }
            *used = used.saturating_add(count);
            let delta = (*used >= WINDOW / 2).then(|| std::mem::take(used))?;
            *allowed += i64::from(delta);
            Some(delta)
        };
        let all = &mut *table;
        let of_all = due(&mut all.used, &mut all.allowed);
        let of_stream = all
            .streams
            .get_mut(&id)
            .filter(|entry| !entry.client_is_done)
            .and_then(|entry| due(&mut entry.used, &mut entry.allowed));
        drop(table);
        for (stream, delta) in [(0, of_all), (id, of_stream)] {
            if let Some(delta) = delta {
                self.queue_control(Outgoing::WindowUpdate { stream, delta });
            }
        }
    }

    /// The client opens a window.
    pub(super) fn grow(&self, id: u32, delta: u32) -> Result<(), Violation> {
        let mut table = self.table();
        table.keeps_windows = true;
        let credit = match id {
            0 => &mut table.credit,
            id => match table.streams.get_mut(&id) {
                Some(entry) => &mut entry.credit,
                None => return Ok(()),
            },
        };
        *credit += i64::from(delta);
        let too_large = *credit > MAX_WINDOW;
        drop(table);
        match (too_large, id) {
            (true, 0) => return Err(Violation::BadWindow),
            (true, id) => self.reset(id, Reset::FlowControl),
            (false, _) => self.changed.notify_waiters(),
        }
        Ok(())
    }

    /// The client says how large new windows are, and by that changes those that are open.
    pub(super) fn set_initial_window(&self, size: u32) {
        let mut table = self.table();
        table.keeps_windows = true;
        let delta = i64::from(size) - table.initial;
        table.initial = i64::from(size);
        for entry in table.streams.values_mut() {
            entry.credit += delta;
        }
        drop(table);
        self.changed.notify_waiters();
    }

    /// How much of `wanted` bytes a stream may send now; with `take` it counts as sent.
    pub(super) fn leave(&self, id: u32, wanted: usize, take: bool) -> Leave {
        let mut table = self.table();
        let (keeps_windows, of_all) = (table.keeps_windows, table.credit);
        let Some(entry) = table.streams.get_mut(&id).filter(|entry| !entry.we_are_done) else {
            return Leave::Never;
        };
        let allowed = match keeps_windows {
            true => usize::try_from(entry.credit.min(of_all)).unwrap_or(0).min(wanted),
            false => wanted,
        };
        if allowed == 0 && wanted > 0 {
            return Leave::NotNow;
        }
        if take {
            // Counted also while windows don't bind: the client's first WINDOW_UPDATE answers what was sent before.
            let sent = i64::try_from(allowed).unwrap_or(i64::MAX);
            entry.credit -= sent;
            table.credit -= sent;
        }
        Leave::Yes(allowed)
    }

    /// Waits until [`Shared::leave`] says more than [`Leave::NotNow`].
    pub(super) async fn until_leave(&self, id: u32, wanted: usize) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if !matches!(self.leave(id, wanted, false), Leave::NotNow) {
                return;
            }
            changed.await;
        }
    }

    /// Queues a frame that is bound by no window. Frames of one stream stay in order also between the two queues.
    pub(super) fn queue_control(&self, frame: Outgoing) {
        self.control_waiting.fetch_add(1, Ordering::Relaxed);
        // The writer may have ended: then so has the connection.
        let _ = self.control.send(frame);
    }

    /// A control frame has been taken out of its queue.
    pub(super) fn control_taken(&self) {
        self.control_waiting.fetch_sub(1, Ordering::Relaxed);
        self.control_written.notify_one();
    }

    /// Waits while too many answers wait for the client.
    pub(super) async fn until_few_answers_wait(&self) {
        loop {
            let written = self.control_written.notified();
            if self.control_waiting.load(Ordering::Relaxed) < MAX_CONTROL_WAITING {
                return;
            }
            written.await;
        }
    }

    /// Writes something that needs no answer, by which a client that has vanished is found out.
    pub(super) fn probe(&self) {
        if self.control_waiting.load(Ordering::Relaxed) < MAX_CONTROL_WAITING {
            self.queue_control(Outgoing::Ping { id: 2 });
        }
    }
}
