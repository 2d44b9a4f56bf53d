//! The loop: waits for something to happen and hands it to whom it concerns.

use std::collections::BTreeMap;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::backend::Backend;
use super::connection::{Connection, Gone};
use super::container::{Container, Progress, Scratch};
use super::execs::Exec;
use super::lives::Making;
use super::note::note;
use super::poller::{Interest, Poller, Ready, Token};
use super::requests::Asker;
use crate::error::Result;
use crate::log::Stream;
use crate::protocol::{Event, ToDaemon, encode};

/// How long a monitor without a daemon waits before there ever was a sandbox. Afterwards it waits for ever.
const LONELY: Duration = Duration::from_secs(10);

/// How long after a burst of output its buffers are given back.
const IDLE: Duration = Duration::from_secs(1);

/// How long a shutdown waits for the killed to end.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// The pause after a connection that couldn't be accepted.
const SHORTAGE: Duration = Duration::from_millis(10);

/// Connections beyond this are closed at once.
const MOST_CONNECTIONS: usize = 64;

/// What a registration stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Exits,
    Listener,
    Connection,
    /// A container in the making.
    Making(String),
    /// A container that is being started.
    Starting(String),
    /// An exec in the making.
    Entering(String),
    /// An output of a container.
    Output(String, Stream),
    /// A container's input that waits for the container.
    Input(String),
    /// What an attachment sends, by its number.
    Feed(String, u64),
    /// Where an attachment's output goes.
    Sink(String, u64, Stream),
}

/// The pod's own part.
#[derive(Debug, Default)]
pub(super) struct Sandbox {
    pub(super) is_set_up: bool,
    pub(super) init: Option<i32>,
}

/// A shutdown under way.
#[derive(Debug)]
pub(super) struct Shutdown {
    asker: Asker,
    deadline: Instant,
}

/// A pod's monitor.
pub(crate) struct Monitor<B: Backend> {
    pub(super) backend: B,
    pub(super) dir: PathBuf,
    pub(super) sandbox: Sandbox,
    pub(super) containers: BTreeMap<String, Container<B::Container>>,
    pub(super) makings: BTreeMap<String, Making<B::Making>>,
    pub(super) execs: BTreeMap<String, Exec<B::Entering>>,
    pub(super) shutdown: Option<Shutdown>,
    /// The number of the latest attachment.
    pub(super) last_attachment: u64,
    pub(super) poller: Poller,
    pub(super) sources: BTreeMap<Token, Source>,
    listener: UnixListener,
    connections: BTreeMap<Token, Connection>,
    pub(super) scratch: Scratch,
    lonely_since: Option<Instant>,
    is_over: bool,
}

impl<B: Backend> Monitor<B> {
    pub(crate) fn new(backend: B, dir: PathBuf, listener: UnixListener) -> Result<Self> {
        let mut poller = Poller::new()?;
        let mut sources = BTreeMap::new();
        sources.insert(poller.add(backend.exits(), Interest::EPOLLIN)?, Source::Exits);
        sources.insert(poller.add(&listener, Interest::EPOLLIN)?, Source::Listener);
        Ok(Self {
            backend,
            dir,
            sandbox: Sandbox::default(),
            containers: BTreeMap::new(),
            makings: BTreeMap::new(),
            execs: BTreeMap::new(),
            shutdown: None,
            last_attachment: 0,
            poller,
            sources,
            listener,
            connections: BTreeMap::new(),
            scratch: Scratch::new(),
            lonely_since: Some(Instant::now()),
            is_over: false,
        })
    }

    /// Runs until a shutdown is done or nobody will ever come.
    pub(crate) fn run(&mut self) -> Result<()> {
        while !self.is_over {
            for ready in self.poller.wait(self.next_deadline())? {
                self.dispatch(ready);
            }
            self.meet_deadlines(Instant::now());
        }
        Ok(())
    }

    fn dispatch(&mut self, ready: Ready) {
        // An event of the same batch may have ended what this one is for.
        match self.sources.get(&ready.token).cloned() {
            Some(Source::Exits) => self.reap(),
            Some(Source::Listener) => self.accept(),
            Some(Source::Connection) => self.serve(ready),
            Some(Source::Making(id)) => self.advance_making(&id),
            Some(Source::Starting(id)) => self.advance_start(&id, false),
            Some(Source::Entering(exec_id)) => self.advance_exec(&exec_id),
            Some(Source::Output(id, stream)) => self.pump(&id, stream),
            Some(Source::Input(id)) => self.flush_input(&id),
            Some(Source::Feed(id, number)) => self.feed(&id, number),
            Some(Source::Sink(id, number, stream)) => self.flush_sink(&id, number, stream, ready.events),
            None => {}
        }
    }

    // Connections

    fn accept(&mut self) {
        match self.listener.accept() {
            Ok((stream, _)) if self.connections.len() < MOST_CONNECTIONS => self.connect(stream),
            Ok(_) => note(format_args!(
                "a connection is refused: there are {MOST_CONNECTIONS}"
            )),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => {
                note(format_args!("accept: {error}"));
                // Whatever is short (descriptors, memory) won't come back by asking again at once.
                std::thread::sleep(SHORTAGE);
            }
        }
    }

    /// Takes a daemon's connection.
    pub(crate) fn connect(&mut self, stream: UnixStream) {
        let registered = Connection::new(stream)
            .map_err(|error| crate::Error::io("set up connection in", &self.dir, error))
            .and_then(|connection| Ok((self.poller.add(&connection, Interest::EPOLLIN)?, connection)));
        match registered {
            Ok((token, connection)) => {
                self.sources.insert(token, Source::Connection);
                self.connections.insert(token, connection);
                self.lonely_since = None;
            }
            Err(error) => note(format_args!("{error}")),
        }
    }

    fn serve(&mut self, ready: Ready) {
        let token = ready.token;
        if let Err(gone) = self.serve_connection(token, ready.events) {
            self.disconnect(token, &gone);
        }
    }

    fn serve_connection(&mut self, token: Token, events: Interest) -> std::result::Result<(), Gone> {
        let Some(connection) = self.connections.get_mut(&token) else {
            return Ok(());
        };
        if events.contains(Interest::EPOLLOUT) {
            connection.flush()?;
            self.watch_for_room(token);
        }
        let Some(connection) = self.connections.get_mut(&token) else {
            return Ok(());
        };
        if events.intersects(Interest::EPOLLIN | Interest::EPOLLHUP | Interest::EPOLLERR) {
            connection.receive(self.scratch.buffer())?;
        }
        // A request may have ended the connection that it came by.
        while let Some(incoming) = self
            .connections
            .get_mut(&token)
            .map(Connection::next)
            .transpose()?
            .flatten()
        {
            self.handle(token, incoming);
        }
        Ok(())
    }

    fn disconnect(&mut self, token: Token, gone: &Gone) {
        if let Gone::Broken(why) = gone {
            note(format_args!("connection closed: {why}"));
        }
        if let Some(connection) = self.connections.remove(&token) {
            self.poller.remove(&connection);
            self.sources.remove(&token);
            self.end_works_of(token);
        }
        if self.connections.is_empty() {
            self.lonely_since = Some(Instant::now());
        }
    }

    /// Whether this connection is still there.
    pub(super) fn is_connected(&self, token: Token) -> bool {
        self.connections.contains_key(&token)
    }

    /// Something has used memory that is worth giving back once it is quiet.
    pub(super) fn used_memory(&mut self) {
        self.scratch.used(usize::MAX);
    }

    /// Sends one daemon something.
    pub(super) fn send(&mut self, token: Token, message: &ToDaemon) {
        let mut frame = Vec::new();
        match encode(message, &mut frame) {
            Ok(()) => self.send_frame(token, &frame),
            Err(error) => note(format_args!("{error}")),
        }
    }

    /// Tells every daemon.
    pub(super) fn broadcast(&mut self, event: Event) {
        let mut frame = Vec::new();
        if let Err(error) = encode(&ToDaemon::Event(event), &mut frame) {
            return note(format_args!("{error}"));
        }
        let all: Vec<Token> = self.connections.keys().copied().collect();
        for token in all {
            self.send_frame(token, &frame);
        }
    }

    fn send_frame(&mut self, token: Token, frame: &[u8]) {
        // The daemon that asked may have gone meanwhile.
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        let had_unsent = connection.has_unsent();
        match connection.send(frame) {
            Err(gone) => self.disconnect(token, &gone),
            Ok(()) if connection.has_unsent() != had_unsent => self.watch_for_room(token),
            Ok(()) => {}
        }
    }

    fn watch_for_room(&mut self, token: Token) {
        let Some(connection) = self.connections.get(&token) else {
            return;
        };
        let room = if connection.has_unsent() {
            Interest::EPOLLOUT
        } else {
            Interest::empty()
        };
        if let Err(error) = self.poller.change(connection, token, Interest::EPOLLIN | room) {
            self.disconnect(token, &Gone::Broken(error.to_string()));
        }
    }

    // Outputs

    /// Registers an output of a container.
    pub(super) fn watch_output(
        &mut self,
        id: &str,
        stream: Stream,
        output: super::stdio::Output,
    ) -> Result<super::container::Source> {
        let token = self.poller.add(&output, Interest::EPOLLIN)?;
        self.sources.insert(token, Source::Output(id.to_owned(), stream));
        Ok(super::container::Source {
            output,
            token,
            held_since: None,
        })
    }

    /// Closes an output.
    pub(super) fn unwatch_output(&mut self, source: &super::container::Source) {
        self.poller.remove(&source.output);
        self.sources.remove(&source.token);
    }

    fn pump(&mut self, id: &str, stream: Stream) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        if container.pump(stream, &mut self.scratch) == Progress::End {
            self.end_output(id, stream);
            self.finish_if_drained(id, false);
        } else {
            self.settle_attachments(id);
        }
    }

    // Deadlines

    fn next_deadline(&self) -> Option<Instant> {
        let draining = self.containers.values().filter_map(Container::deadline);
        let shutdown = self.shutdown.as_ref().map(|s| s.deadline);
        draining
            .chain(shutdown)
            .chain(self.lonely_deadline())
            .chain(self.idle_deadline())
            .chain(self.hold_deadline())
            .min()
    }

    /// When to give up waiting for a daemon.
    fn lonely_deadline(&self) -> Option<Instant> {
        let is_pod = self.sandbox.is_set_up || !self.containers.is_empty() || !self.makings.is_empty();
        self.lonely_since.filter(|_| !is_pod).map(|since| since + LONELY)
    }

    fn idle_deadline(&self) -> Option<Instant> {
        self.scratch.big_use().map(|at| at + IDLE)
    }

    fn meet_deadlines(&mut self, now: Instant) {
        let due = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= now);
        let drained: Vec<String> = self
            .containers
            .values()
            .filter(|c| due(c.deadline()))
            .map(|c| c.id.clone())
            .collect();
        for id in drained {
            self.finish_if_drained(&id, true);
        }
        if due(self.hold_deadline()) {
            self.end_holds(now);
        }
        if due(self.idle_deadline()) {
            self.scratch.release();
            crate::sys::daemon::trim_heap();
        }
        if due(self.lonely_deadline()) {
            self.is_over = true;
        }
        let nothing_lives = self.is_nothing_alive();
        if let Some(shutdown) = self.shutdown.take_if(|s| nothing_lives || s.deadline <= now) {
            self.end(&shutdown);
        }
    }

    fn is_nothing_alive(&self) -> bool {
        self.sandbox.init.is_none()
            && self.execs.is_empty()
            && self.makings.is_empty()
            && self.containers.values().all(Container::is_over)
    }

    /// Kills everything, and ends when all of that has.
    pub(super) fn begin_shutdown(&mut self, asker: Asker) {
        self.shutdown = Some(Shutdown {
            asker,
            deadline: Instant::now() + SHUTDOWN,
        });
        self.kill_everything();
    }

    fn end(&mut self, shutdown: &Shutdown) {
        let result = self.remove_everything();
        self.reply(shutdown.asker, result);
        self.is_over = true;
    }
}
