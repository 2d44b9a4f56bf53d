//! A container as the monitor keeps it, and the draining of its output.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::attachment::Attachment;
use super::input::Input;
use super::note::note;
use super::poller::Token;
use super::requests::Asker;
use super::state::{Refused, State, Step};
use super::stdio::{Output, Read};
use crate::error::{Context, Result};
use crate::log::{Batch, ContainerLog, Stream, now};
use crate::protocol::{ContainerState, CreateContainer, EXIT_FILE, Exit, LogTarget};

/// How long after the exit silence on an output that is still open counts as its end: what the container's own
/// processes wrote is in the pipe by then, and whoever holds the other end is no part of it.
const SILENCE: Duration = Duration::from_millis(300);

/// How long after the exit output is taken at all.
const DRAIN: Duration = Duration::from_secs(3);

/// Reads of one output between two looks at the others.
const READS: usize = 8;

/// An output that is being read.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) output: Output,
    pub(crate) token: Token,
    /// Not read since then, for an attachment's reader has to catch up.
    pub(crate) held_since: Option<Instant>,
}

/// The one read buffer and the one batch of records that serve all containers.
#[derive(Debug)]
pub(crate) struct Scratch {
    read: Vec<u8>,
    batch: Batch,
    /// When more than the first pages were last touched, if they were since the last release.
    big_use: Option<Instant>,
}

impl Scratch {
    const READ: usize = 64 * 1024;
    const BIG: usize = 16 * 1024;

    pub(crate) fn new() -> Self {
        Self {
            read: Vec::new(),
            batch: Batch::default(),
            big_use: None,
        }
    }

    /// The buffer to read into.
    pub(crate) fn buffer(&mut self) -> &mut [u8] {
        if self.read.is_empty() {
            self.read = vec![0; Self::READ];
        }
        &mut self.read
    }

    /// Notes how much of the buffer was used.
    pub(crate) fn used(&mut self, bytes: usize) {
        if bytes > Self::BIG {
            self.big_use = Some(Instant::now());
        }
    }

    /// The last use of memory that is worth giving back.
    pub(crate) fn big_use(&self) -> Option<Instant> {
        self.big_use
    }

    /// Gives the memory back.
    pub(crate) fn release(&mut self) {
        self.read = Vec::new();
        self.batch.release();
        self.big_use = None;
    }
}

/// How far an output is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There may be more to read now.
    More,
    /// Nothing for now.
    Empty,
    /// It has ended.
    End,
}

/// A start whose outcome isn't known yet.
#[derive(Debug)]
pub(crate) struct Starting {
    pub(crate) asker: Asker,
    pub(crate) token: Option<Token>,
}

#[derive(Debug)]
pub(crate) struct Container<C> {
    pub(crate) id: String,
    pub(crate) pid: i32,
    pub(crate) kernel: C,
    pub(crate) state: State,
    /// Where attachments' input goes, while the container's standard input is kept open.
    pub(crate) input: Option<Input>,
    pub(crate) attachments: BTreeMap<u64, Attachment>,
    pub(crate) stdout: Option<Source>,
    pub(crate) stderr: Option<Source>,
    bundle: PathBuf,
    target: Option<LogTarget>,
    terminal: bool,
    /// The terminal's other end, so that it goes on when the container has closed it and opens `/dev/console` anew.
    pub(crate) peer: Option<OwnedFd>,
    stdin_once: bool,
    /// A start under way.
    pub(crate) starting: Option<Starting>,
    log: Option<ContainerLog>,
    /// While draining: when the outputs are given up, at the latest and for silence.
    deadline: Option<(Instant, Instant)>,
}

impl<C> Container<C> {
    pub(crate) fn new(request: &CreateContainer, pid: i32, kernel: C, terminal: bool) -> Self {
        Self {
            id: request.id.clone(),
            pid,
            kernel,
            state: State::Created,
            input: None,
            attachments: BTreeMap::new(),
            stdout: None,
            stderr: None,
            bundle: request.bundle.clone(),
            target: request.log.clone(),
            terminal,
            peer: None,
            stdin_once: request.stdin_once,
            starting: None,
            log: None,
            deadline: None,
        }
    }

    /// Opens the log file, so that it exists when the process starts.
    pub(crate) fn open_log(&mut self) -> Result<()> {
        self.log = Some(ContainerLog::open(self.target.as_ref(), self.terminal)?);
        Ok(())
    }

    /// Opens the log file anew.
    pub(crate) fn reopen_log(&mut self) -> Result<()> {
        self.log.as_mut().map_or(Ok(()), ContainerLog::reopen)
    }

    /// Goes to the state after `step`.
    pub(crate) fn step(&mut self, step: Step) -> std::result::Result<(), Refused> {
        self.state = self.state.transition(step)?;
        if let State::Draining { .. } = self.state {
            let now = Instant::now();
            self.deadline = Some((now + DRAIN, now + SILENCE));
        }
        Ok(())
    }

    /// The slot of a stream.
    pub(crate) fn source(&mut self, stream: Stream) -> &mut Option<Source> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// Moves what a stream has to say into the log, as far as is fair to the others.
    pub(crate) fn pump(&mut self, stream: Stream, scratch: &mut Scratch) -> Progress {
        // between two reads the readers of attachments are to have a chance
        let reads = if self.attachments.is_empty() { READS } else { 1 };
        for _ in 0..reads {
            let Some(source) = self.source(stream) else {
                return Progress::End;
            };
            match source.output.read(scratch.buffer()) {
                Read::Data(n) => {
                    scratch.used(n);
                    self.append(stream, n, scratch);
                    if n < Scratch::READ {
                        return Progress::More;
                    }
                }
                Read::Empty => return Progress::Empty,
                Read::End => return Progress::End,
            }
        }
        Progress::More
    }

    fn append(&mut self, stream: Stream, n: usize, scratch: &mut Scratch) {
        if let Some((last, _)) = self.deadline {
            self.deadline = Some((last, Instant::now() + SILENCE));
        }
        for attachment in self.attachments.values_mut() {
            attachment.offer(stream, &scratch.read[..n]);
        }
        let Some(log) = &mut self.log else { return };
        if let Some(error) = log.write(stream, &scratch.read[..n], now(), &mut scratch.batch) {
            note(format_args!(
                "container {}: {error}; log records are dropped until it works again",
                self.id
            ));
        }
    }

    /// Ends a stream's part of the log.
    pub(crate) fn finish(&mut self, stream: Stream, scratch: &mut Scratch) {
        let Some(log) = &mut self.log else { return };
        if let Some(error) = log.finish(stream, now(), &mut scratch.batch) {
            note(format_args!("container {}: {error}", self.id));
        }
    }

    /// For messages.
    pub(crate) fn doing(&self) -> &'static str {
        match self.starting {
            Some(_) => "starting",
            None => self.state.name(),
        }
    }

    pub(crate) fn has_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether the end of an attachment's input is the end of the container's.
    pub(crate) fn closes_stdin(&self) -> bool {
        self.stdin_once && !self.terminal
    }

    /// Whether it has ended, and only what it left behind is read.
    pub(crate) fn is_draining(&self) -> bool {
        self.deadline.is_some()
    }

    /// When draining has to be looked at again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline.map(|(last, silence)| last.min(silence))
    }

    /// Writes the exit record, so that it appears whole or not at all. /run is a tmpfs: nothing is synced.
    pub(crate) fn record_exit(&mut self, exit: &Exit) {
        self.deadline = None;
        self.log = None;
        if let Err(error) = write_exit(&self.bundle, exit) {
            note(format_args!("container {}: {error}", self.id));
        }
    }

    /// As the daemon sees it.
    pub(crate) fn report(&self) -> ContainerState {
        ContainerState {
            id: self.id.clone(),
            pid: self.pid,
            status: self.state.status(),
            started_at: self.state.started_at(),
            exit: self.state.exit(),
            terminal: self.terminal,
            stdin: self.input.as_ref().is_some_and(Input::is_open),
        }
    }
}

fn write_exit(bundle: &Path, exit: &Exit) -> Result<()> {
    let path = bundle.join(EXIT_FILE);
    let new = path.with_extension("json.new");
    let text = serde_json::to_vec(exit).map_err(|source| crate::Error::Parse {
        path: path.clone(),
        source,
    })?;
    fs::write(&new, text).path("write", &new)?;
    fs::rename(&new, &path).path("rename to", &path)
}
