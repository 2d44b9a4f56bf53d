//! A connection to the system bus, to speak with systemd's manager: one call at a time, and waiting for its jobs.
//!
//! ```text
//!   connect ── AUTH EXTERNAL, BEGIN ──▶ OK            (D-Bus specification, "Authentication Protocol")
//!   Hello, AddMatch JobRemoved ───────▶ returns
//!   StartTransientUnit … ─────────────▶ a job's path
//!           ◀── signal JobRemoved: job, unit, how it ended
//! ```
//!
//! This is code of our own: libraries for D-Bus bring an async runtime, libdbus, or much more of the protocol than these
//! five calls into a program that lies in memory once a pod.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::geteuid;

use super::wire::{self, Address, FIXED, Message, Reader, Type, Writer};
use crate::error::{Context, Error, Result};

/// The system bus (D-Bus specification, "System message bus").
pub(super) const SOCKET: &str = "/run/dbus/system_bus_socket";

/// The bus itself.
const BUS: Address = Address {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
};

/// systemd's manager (org.freedesktop.systemd1(5)).
const MANAGER: Address = Address {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};

/// The same object's properties.
const PROPERTIES: Address = Address {
    interface: "org.freedesktop.DBus.Properties",
    ..MANAGER
};

const ENDED_JOBS: &str = "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',\
                          interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";

/// How long a connection may take in all: a manager that is being reloaded answers late.
const PATIENCE: Duration = Duration::from_secs(30);

/// Jobs that are remembered as ended while the answer is awaited that names ours.
const MOST_ENDED: usize = 1024;

/// A connection.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
    until: Instant,
    /// What came after the answer that was awaited last: jobs and how they ended.
    ended: Vec<(String, String)>,
}

impl Bus {
    /// Connects to the system's bus.
    pub(super) fn system() -> Result<Self> {
        Self::connect(Path::new(SOCKET))
    }

    /// Connects to the bus at a socket.
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).path("connect to", socket)?;
        let mut bus = Self {
            stream,
            serial: 0,
            until: Instant::now() + PATIENCE,
            ended: Vec::new(),
        };
        bus.authenticate()?;
        bus.call(BUS, "Hello", "", &[])?;
        let mut rule = Writer::default();
        rule.text(ENDED_JOBS);
        bus.call(BUS, "AddMatch", "s", &rule.into_bytes())?;
        Ok(bus)
    }

    /// The bus sees who connects; all that has to be said is that this is to count.
    fn authenticate(&mut self) -> Result<()> {
        let uid: String = geteuid()
            .to_string()
            .bytes()
            .map(|b| format!("{b:02x}"))
            .collect();
        self.send(format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n").as_bytes())?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            if line.len() > 512 {
                return Err(protocol());
            }
            let mut byte = [0];
            self.receive(&mut byte)?;
            line.push(byte[0]);
        }
        match line.starts_with(b"OK ") {
            true => Ok(()),
            false => Err(Error::sys("authenticate to the system bus", Errno::EACCES)),
        }
    }

    /// Calls a method of systemd's manager; the answer's body.
    pub(super) fn manager(&mut self, member: &'static str, signature: &str, body: &[u8]) -> Result<Vec<u8>> {
        self.call(MANAGER, member, signature, body)
    }

    /// As [`Bus::manager`] for a method that begins a job; returns when that is over, with how it ended (`done`, …).
    pub(super) fn job(&mut self, member: &'static str, signature: &str, body: &[u8]) -> Result<String> {
        let answer = self.manager(member, signature, body)?;
        let job = Reader::new(&answer).text().ok_or_else(protocol)?.to_owned();
        loop {
            if let Some((_, how)) = self.ended.iter().find(|(ended, _)| *ended == job) {
                return Ok(how.clone());
            }
            let message = self.next()?;
            self.note(&message);
        }
    }

    /// The manager's major version, the number in `252.39-1~deb12u1`.
    pub(super) fn version(&mut self) -> Result<u32> {
        let mut body = Writer::default();
        body.text(MANAGER.interface);
        body.text("Version");
        let answer = self.call(PROPERTIES, "Get", "ss", &body.into_bytes())?;
        let mut answer = Reader::new(&answer);
        let text = match answer.signature() {
            Some("s") => answer.text().ok_or_else(protocol)?,
            _ => return Err(protocol()),
        };
        let digits = text.trim_start_matches('v');
        let digits = &digits[..digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len())];
        digits.parse().map_err(|_| protocol())
    }

    fn call(&mut self, to: Address, member: &'static str, signature: &str, body: &[u8]) -> Result<Vec<u8>> {
        self.serial += 1;
        let serial = self.serial;
        self.send(&wire::call(to, member, serial, signature, body))?;
        loop {
            let message = self.next()?;
            match message.kind {
                Type::Return if message.reply_to == Some(serial) => return Ok(message.body),
                Type::Error if message.reply_to == Some(serial) => {
                    let reason = Reader::new(&message.body).text().unwrap_or_default().to_owned();
                    return Err(Error::Bus {
                        call: member,
                        name: message.error_name,
                        reason,
                    });
                }
                _ => self.note(&message),
            }
        }
    }

    /// Remembers the end of a job, of which the signal may be here before the answer that names it.
    fn note(&mut self, message: &Message) {
        if message.kind != Type::Signal || message.member != "JobRemoved" {
            return;
        }
        let mut body = Reader::new(&message.body);
        let mut ended = || {
            body.u32()?;
            let job = body.text()?.to_owned();
            body.text()?;
            Some((job, body.text()?.to_owned()))
        };
        if let Some(ended) = ended() {
            if self.ended.len() == MOST_ENDED {
                self.ended.remove(0);
            }
            self.ended.push(ended);
        }
    }

    /// The next message of a type that is of interest.
    fn next(&mut self) -> Result<Message> {
        loop {
            let mut fixed = [0; FIXED];
            self.receive(&mut fixed)?;
            let mut bytes = vec![0; wire::size(&fixed).ok_or_else(protocol)?];
            bytes[..FIXED].copy_from_slice(&fixed);
            self.receive(&mut bytes[FIXED..])?;
            if let Some(message) = wire::parse(&bytes) {
                return Ok(message);
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream
            .set_write_timeout(Some(self.left()?))
            .and_then(|()| self.stream.write_all(bytes))
            .map_err(late)
            .call("write to the system bus")
    }

    fn receive(&mut self, mut into: &mut [u8]) -> Result<()> {
        while !into.is_empty() {
            let timeout = Some(self.left()?);
            let read = self
                .stream
                .set_read_timeout(timeout)
                .and_then(|()| self.stream.read(into));
            match read.map_err(late) {
                Ok(0) => return Err(Error::sys("read from the system bus", Errno::ECONNRESET)),
                Ok(n) => into = &mut into[n..],
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e).call("read from the system bus"),
            }
        }
        Ok(())
    }

    fn left(&self) -> Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(Error::sys("wait for systemd", Errno::ETIMEDOUT)),
            false => Ok(left),
        }
    }
}

/// A socket's time-out reads as EAGAIN, which says nothing to people.
fn late(error: std::io::Error) -> std::io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => Errno::ETIMEDOUT.into(),
        _ => error,
    }
}

fn protocol() -> Error {
    Error::sys("understand the system bus", Errno::EPROTO)
}
