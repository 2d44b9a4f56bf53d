//! What is said over the bus, with a bus of the test's own at the other end.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::JoinHandle;

use serde_json::json;

use super::wire::{FIXED, Message, Reader, Type, parse, size};
use super::*;

/// What the bus does when a method is called.
enum Answer {
    /// An empty answer, or one that holds this text.
    Returns(&'static str),
    /// An answer that holds a variant with this text.
    Property(&'static str),
    /// A job that ends like this: told before the answer, or after it.
    Job {
        how: &'static str,
        told_first: bool,
    },
    Fails(&'static str),
    /// The connection ends.
    HangsUp,
}

/// A bus that expects calls in this order and no others; it tells what their bodies were.
struct FakeBus {
    socket: PathBuf,
    thread: JoinHandle<Vec<Message>>,
    _folder: tempfile::TempDir,
}

impl FakeBus {
    fn new(script: Vec<(&'static str, Answer)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("bus");
        let listener = UnixListener::bind(&socket).unwrap();
        let thread = std::thread::spawn(move || serve(&listener.accept().unwrap().0, script));
        Self {
            socket,
            thread,
            _folder: folder,
        }
    }

    fn connect(&self) -> Bus {
        Bus::connect(&self.socket).unwrap()
    }

    /// The calls that came, when the connection is over.
    fn heard(self) -> Vec<Message> {
        self.thread.join().unwrap()
    }
}

fn serve(stream: &UnixStream, script: Vec<(&'static str, Answer)>) -> Vec<Message> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let uid: String = geteuid_in_hex();
    assert_eq!(line, format!("\0AUTH EXTERNAL {uid}\r\n"));
    send(stream, b"OK 0123456789abcdef0123456789abcdef\r\n");
    line.clear();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "BEGIN\r\n");
    let greeting = [
        ("Hello", Answer::Returns(":1.7")),
        ("AddMatch", Answer::Returns("")),
    ];
    let mut heard = Vec::new();
    for (serial, (member, answer)) in (1..).zip(greeting.into_iter().chain(script)) {
        let Some(message) = receive(&mut reader) else {
            break;
        };
        assert_eq!(message.member, member);
        heard.push(message);
        match answer {
            Answer::Returns("") => send(stream, &reply(Type::Return, serial, "", &[])),
            Answer::Returns(text) => send(stream, &reply(Type::Return, serial, "s", &texts(&[text]))),
            Answer::Property(text) => {
                let mut body = Writer::default();
                body.signature("s");
                body.text(text);
                send(stream, &reply(Type::Return, serial, "v", &body.into_bytes()));
            }
            Answer::Fails(name) => send(
                stream,
                &reply_named(Type::Error, serial, name, "s", &texts(&["no"])),
            ),
            Answer::HangsUp => break,
            Answer::Job { how, told_first } => {
                // another's job ends, too
                send(stream, &job_removed("/job/9", "failed"));
                let job = reply(Type::Return, serial, "o", &texts(&["/job/1"]));
                let both = [job, job_removed("/job/1", how)];
                let order = if told_first { [1, 0] } else { [0, 1] };
                order.iter().for_each(|i| send(stream, &both[*i]));
            }
        }
    }
    heard.drain(..2);
    heard
}

fn geteuid_in_hex() -> String {
    let uid = nix::unistd::geteuid().to_string();
    uid.bytes().map(|b| format!("{b:02x}")).collect()
}

fn send(mut stream: &UnixStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
}

fn receive(reader: &mut impl Read) -> Option<Message> {
    let mut fixed = [0; FIXED];
    reader.read_exact(&mut fixed).ok()?;
    let mut bytes = vec![0; size(&fixed).unwrap()];
    bytes[..FIXED].copy_from_slice(&fixed);
    reader.read_exact(&mut bytes[FIXED..]).unwrap();
    parse(&bytes)
}

fn texts(all: &[&str]) -> Vec<u8> {
    let mut w = Writer::default();
    all.iter().for_each(|text| w.text(text));
    w.into_bytes()
}

fn reply(kind: Type, to: u32, signature: &str, body: &[u8]) -> Vec<u8> {
    reply_named(kind, to, "", signature, body)
}

/// As a bus sends it, with its unique names beside what matters.
fn reply_named(kind: Type, to: u32, name: &str, signature: &str, body: &[u8]) -> Vec<u8> {
    let mut w = Writer::default();
    [b'l', kind as u8, 1, 1].iter().for_each(|b| w.byte(*b));
    w.u32(u32::try_from(body.len()).unwrap());
    w.u32(77);
    w.array(8, |w| {
        let mut text = |code: u8, kind: &str, text: &str| {
            w.align(8);
            w.byte(code);
            w.signature(kind);
            match kind {
                "g" => w.signature(text),
                _ => w.text(text),
            }
        };
        text(7, "s", "org.freedesktop.systemd1");
        text(6, "s", ":1.7");
        match kind {
            Type::Signal => text(3, "s", name),
            Type::Error => text(4, "s", name),
            _ => {}
        }
        if !signature.is_empty() {
            text(8, "g", signature);
        }
        if kind != Type::Signal {
            w.align(8);
            w.byte(5);
            w.signature("u");
            w.u32(to);
        }
    });
    w.align(8);
    let mut bytes = w.into_bytes();
    bytes.extend(body);
    bytes
}

fn job_removed(job: &str, how: &str) -> Vec<u8> {
    let mut body = Writer::default();
    body.u32(1);
    [job, "x.scope", how].iter().for_each(|text| body.text(text));
    reply_named(Type::Signal, 0, "JobRemoved", "uoss", &body.into_bytes())
}

fn scope() -> Scope {
    Scope::parse("a-b.slice:pintle:c1").unwrap().unwrap()
}

fn has(message: &Message, text: &str) -> bool {
    let needle = text.as_bytes();
    message.body.windows(needle.len()).any(|window| window == needle)
}

const PID: Pid = Pid::from_raw(4321);

#[test]
fn a_scope_is_started_and_awaited_whenever_its_end_is_told() {
    for told_first in [false, true] {
        let bus = FakeBus::new(vec![(
            "StartTransientUnit",
            Answer::Job {
                how: "done",
                told_first,
            },
        )]);
        start_on(&mut bus.connect(), &scope(), PID, &LinuxResources::default()).unwrap();
        let heard = bus.heard();
        let mut body = Reader::new(&heard[0].body);
        assert_eq!(
            (body.text(), body.text()),
            (Some("pintle-c1.scope"), Some("replace"))
        );
        for text in ["Slice", "a-b.slice", "PIDs", "Delegate", "CollectMode"] {
            assert!(has(&heard[0], text), "{text}");
        }
        let pids = [
            b"\x02au\0".as_slice(),
            &4_u32.to_le_bytes(),
            &4321_u32.to_le_bytes(),
        ]
        .concat();
        let at = heard[0]
            .body
            .windows(4)
            .position(|window| window == &pids[..4])
            .unwrap();
        // padding before the length depends on where it lies
        assert_eq!(heard[0].body[(at + 4).next_multiple_of(4)..][..8], pids[4..]);
    }
}

#[test]
fn a_scope_whose_job_fails_is_stopped_and_said_to_have_failed() {
    let failed = Answer::Job {
        how: "failed",
        told_first: true,
    };
    let stopped = Answer::Job {
        how: "done",
        told_first: false,
    };
    let bus = FakeBus::new(vec![("StartTransientUnit", failed), ("StopUnit", stopped)]);
    let error = start_on(&mut bus.connect(), &scope(), PID, &LinuxResources::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "systemd: StartTransientUnit: the job ended as \"failed\""
    );
    assert_eq!(bus.heard().len(), 2);
}

#[test]
fn a_name_that_has_failed_before_is_forgotten_and_one_in_use_refused() {
    let done = Answer::Job {
        how: "done",
        told_first: false,
    };
    let script = vec![
        ("StartTransientUnit", Answer::Fails(EXISTS)),
        ("ResetFailedUnit", Answer::Returns("")),
        ("StartTransientUnit", done),
    ];
    let bus = FakeBus::new(script);
    start_on(&mut bus.connect(), &scope(), PID, &LinuxResources::default()).unwrap();
    assert_eq!(bus.heard().len(), 3);

    let script = vec![
        ("StartTransientUnit", Answer::Fails(EXISTS)),
        ("ResetFailedUnit", Answer::Fails(NO_SUCH_UNIT)),
        ("StartTransientUnit", Answer::Fails(EXISTS)),
    ];
    let bus = FakeBus::new(script);
    let error = start_on(&mut bus.connect(), &scope(), PID, &LinuxResources::default()).unwrap_err();
    assert_eq!(error.to_string(), "systemd: StartTransientUnit: no");
    // nothing that is another's is stopped
    assert_eq!(bus.heard().len(), 3);
}

#[test]
fn a_unit_that_is_gone_is_stopped_already() {
    let bus = FakeBus::new(vec![("StopUnit", Answer::Fails(NO_SUCH_UNIT))]);
    end(&mut bus.connect(), "x.scope").unwrap();
    assert!(has(&bus.heard()[0], "x.scope"));
    let bus = FakeBus::new(vec![("StopUnit", Answer::HangsUp)]);
    assert_eq!(
        end(&mut bus.connect(), "x.scope").unwrap_err().errno(),
        Some(nix::errno::Errno::ECONNRESET)
    );
}

#[test]
fn limits_are_set_as_properties_for_this_boot() {
    let resources: LinuxResources = serde_json::from_value(json!({"pids": {"limit": 7}})).unwrap();
    let script = vec![
        ("Get", Answer::Property("252.39-1~deb12u1")),
        ("SetUnitProperties", Answer::Returns("")),
    ];
    let bus = FakeBus::new(script);
    limit_on(&mut bus.connect(), &scope(), &resources).unwrap();
    let heard = bus.heard();
    let mut body = Reader::new(&heard[1].body);
    assert_eq!((body.text(), body.u32()), (Some("pintle-c1.scope"), Some(1)));
    assert!(has(&heard[1], "TasksMax"));

    // without limits there is nothing to be said
    let bus = FakeBus::new(vec![("Get", Answer::Property("v257"))]);
    limit_on(&mut bus.connect(), &scope(), &LinuxResources::default()).unwrap();
    assert_eq!(bus.heard().len(), 1);
}
