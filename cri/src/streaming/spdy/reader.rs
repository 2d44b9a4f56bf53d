//! The task that alone reads from the connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::Violation;
use super::frame::{self, Control, HEAD, Head, Outgoing, Reset};
use super::headers::{Headers, Inflater};
use super::sender::{Credit, Sender, Stream};
use super::shared::Shared;
use crate::streaming::inbox::{Inbox, Pushed};
use crate::streaming::io::{Input, Output};

/// Bytes read from the connection at once.
const BUFFER: usize = 64 << 10;
/// How often a client is probed while its own data keeps us from reading on.
const PROBE: Duration = Duration::from_secs(10);

/// Reads frames and hands out what they bring.
pub(super) struct Reader<R> {
    from: BufReader<R>,
    shared: Arc<Shared>,
    incoming: mpsc::Sender<Stream>,
    inflater: Inflater,
    /// How long one stream whose input nobody takes may hold up all others; None for ever.
    patience: Option<Duration>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(
        from: R,
        shared: Arc<Shared>,
        incoming: mpsc::Sender<Stream>,
        patience: Option<Duration>,
    ) -> Self {
        Self {
            from: BufReader::with_capacity(BUFFER, from),
            shared,
            incoming,
            inflater: Inflater::new(),
            patience,
        }
    }

    /// Reads until the client leaves, which is no error.
    pub(super) async fn run(&mut self) -> Result<(), Violation> {
        loop {
            self.shared.until_few_answers_wait().await;
            let mut head = [0; HEAD];
            if self.from.read_exact(&mut head).await.is_err() {
                return Ok(());
            }
            let gone = match frame::head(head)? {
                Head::Data { stream, fin, length } => self.data(stream, fin, length).await,
                Head::Control { kind, flags, length } => {
                    let mut body = vec![0; length];
                    match self.from.read_exact(&mut body).await {
                        Ok(_) => {
                            self.control(frame::control(kind, flags, &body)?)?;
                            false
                        }
                        Err(_) => true,
                    }
                }
            };
            if gone {
                return Ok(());
            }
        }
    }

    /// Passes data on piece by piece, however large its frame. Whether the client is gone.
    async fn data(&mut self, stream: u32, fin: bool, mut length: usize) -> bool {
        let inbox = self.shared.inbox(stream);
        while length > 0 {
            let piece = match self.from.fill_buf().await {
                Ok(piece) if !piece.is_empty() => &piece[..piece.len().min(length)],
                _ => return true,
            };
            let count = piece.len();
            self.shared.received(stream, count);
            match &inbox {
                Some(inbox) => deliver(&self.shared, stream, inbox, piece, self.patience).await,
                None => self.shared.used(stream, count),
            }
            self.from.consume(count);
            self.shared.link.touch();
            length -= count;
        }
        if fin {
            self.shared.client_done(stream);
        }
        false
    }

    fn control(&mut self, control: Control<'_>) -> Result<(), Violation> {
        match control {
            Control::SynStream { stream, fin, block } => {
                let headers = self.inflater.read(block)?;
                self.open(stream, fin, headers)?;
            }
            Control::Headers { stream, fin, block } => {
                self.inflater.read(block)?;
                if fin {
                    self.shared.client_done(stream);
                }
            }
            Control::Reset { stream } => {
                self.shared.forget(stream);
            }
            Control::InitialWindow(size) => self.shared.set_initial_window(size),
            Control::WindowUpdate { stream, delta } => self.shared.grow(stream, delta)?,
            // An even id answers a probe of ours.
            Control::Ping { id } if id % 2 == 1 => self.shared.queue_control(Outgoing::Ping { id }),
            Control::Ping { .. } | Control::GoAway | Control::Other => {}
        }
        Ok(())
    }

    fn open(&mut self, id: u32, fin: bool, headers: Headers) -> Result<(), Violation> {
        self.shared.link.touch();
        let refusal = Outgoing::Reset {
            stream: id,
            why: Reset::Refused,
        };
        let Some(inbox) = self.shared.open(id)? else {
            self.shared.queue_control(refusal);
            return Ok(());
        };
        if fin {
            self.shared.client_done(id);
        }
        let shared = || Arc::clone(&self.shared);
        let stream = Stream {
            id,
            headers,
            input: Input::new(inbox, Some(Credit { shared: shared(), id })),
            output: Output::Spdy(Sender {
                shared: shared(),
                id,
                is_done: false,
            }),
            shared: shared(),
        };
        // Nobody takes streams any more, or not this fast: dropped, it is reset.
        drop(self.incoming.try_send(stream));
        Ok(())
    }
}

async fn deliver(shared: &Shared, stream: u32, inbox: &Inbox, mut piece: &[u8], patience: Option<Duration>) {
    let begun = Instant::now();
    loop {
        match inbox.push(piece) {
            Pushed::Dropped => return shared.used(stream, piece.len()),
            Pushed::Kept(count) => piece = &piece[count..],
        }
        if piece.is_empty() {
            return;
        }
        while timeout(PROBE, inbox.room()).await.is_err() {
            shared.probe();
            if shared.has_others() && patience.is_some_and(|patience| begun.elapsed() >= patience) {
                shared.reset(stream, Reset::FlowControl);
            }
        }
    }
}
