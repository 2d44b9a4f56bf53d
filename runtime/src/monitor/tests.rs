//! The loop with a backend that the tests play: orders of events, refusals, slow and dead daemons.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::backend::Ending;
use super::fake::Pod;
use crate::protocol::*;
use crate::sys::fd::send_with_fds;

/// A daemon without a runtime.
struct Daemon {
    stream: UnixStream,
    decoder: Decoder,
    seq: u64,
}

impl Daemon {
    fn connect(pod: &Pod) -> Self {
        let stream = UnixStream::connect(pod.dir.path().join(SOCKET_NAME)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self {
            stream,
            decoder: Decoder::default(),
            seq: 0,
        }
    }

    fn ask(&mut self, request: Request) -> u64 {
        self.ask_all([request])
    }

    /// Sends requests in one go; the last one's number.
    fn ask_all(&mut self, requests: impl IntoIterator<Item = Request>) -> u64 {
        let mut bytes = Vec::new();
        for request in requests {
            self.seq += 1;
            encode(
                &RequestFrame {
                    seq: self.seq,
                    fds: 0,
                    request,
                },
                &mut bytes,
            )
            .unwrap();
        }
        self.stream.write_all(&bytes).unwrap();
        self.seq
    }

    fn hear(&mut self) -> Option<ToDaemon> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(body) = self.decoder.next_frame().unwrap() {
                return Some(serde_json::from_slice(body).unwrap());
            }
            match self.stream.read(&mut buffer).unwrap() {
                0 => return None,
                n => self.decoder.push(&buffer[..n]),
            }
        }
    }

    /// Asks, and expects the answer to be the next thing heard.
    fn call(&mut self, request: Request) -> Result<Reply, RemoteError> {
        let asked = self.ask(request);
        match self.hear() {
            Some(ToDaemon::Reply { seq, result }) if seq == asked => result,
            other => panic!("no answer, but {other:?}"),
        }
    }

    fn event(&mut self) -> Event {
        match self.hear() {
            Some(ToDaemon::Event(event)) => event,
            other => panic!("no event, but {other:?}"),
        }
    }

    fn run(&mut self, pod: &Pod, id: &str) {
        self.call(Request::Create(pod.container(id))).unwrap();
        self.call(Request::Start { id: id.to_owned() }).unwrap();
    }

    fn exited(&mut self) -> (String, Exit) {
        match self.event() {
            Event::ContainerExited { id, exit } => (id, exit),
            other => panic!("no exit, but {other:?}"),
        }
    }

    fn state(&mut self) -> Vec<ContainerState> {
        match self.call(Request::State {}).unwrap() {
            Reply::State(state) => state.containers,
            other => panic!("no state, but {other:?}"),
        }
    }

    fn shut_down(mut self, pod: Pod) {
        let seq = self.ask(Request::Shutdown {});
        let mut last = None;
        while let Some(message) = self.hear() {
            last = Some(message);
        }
        assert_eq!(
            last,
            Some(ToDaemon::Reply {
                seq,
                result: Ok(Reply::Done {})
            })
        );
        pod.join();
    }
}

fn kind(result: Result<Reply, RemoteError>) -> ErrorKind {
    result.unwrap_err().kind
}

fn id(id: &str) -> String {
    id.to_owned()
}

fn exec_request(container: &str, exec_id: &str) -> ExecRequest {
    let process = serde_json::from_str(r#"{"user":{"uid":0,"gid":0},"args":["sh"],"cwd":"/"}"#).unwrap();
    ExecRequest {
        container: id(container),
        exec_id: id(exec_id),
        process,
        seccomp_filter: None,
    }
}

#[test]
fn a_container_lives_logs_and_exits() {
    let pod = Pod::new();
    let mut daemon = Daemon::connect(&pod);
    daemon.call(Request::Hello { version: 99 }).unwrap();
    daemon
        .call(Request::SetupSandbox(SandboxSetup::default()))
        .unwrap();
    daemon.call(Request::Create(pod.container("c"))).unwrap();
    assert_eq!(daemon.state()[0].status, ContainerStatus::Created);
    assert!(!pod.log_path("c").exists());
    daemon.call(Request::Start { id: id("c") }).unwrap();
    assert_eq!(
        pod.log("c"),
        [""; 0],
        "the log exists once the container is started"
    );
    pod.write("c", false, b"out\nno end");
    pod.write("c", true, b"err\n");
    pod.end("c", Ending::Code(3));
    let (name, exit) = daemon.exited();
    assert_eq!(
        (name.as_str(), exit.code, exit.signal, exit.oom_killed),
        ("c", 3, None, false)
    );
    let mut log = pod.log("c");
    log.sort();
    assert_eq!(
        log,
        ["stderr F err", "stdout F out", "stdout P no end"],
        "complete when the exit is told"
    );
    let record = std::fs::read(pod.dir.path().join("c").join(EXIT_FILE)).unwrap();
    assert_eq!(serde_json::from_slice::<Exit>(&record).unwrap(), exit);
    assert_eq!(daemon.state()[0].exit, Some(exit));
    daemon.call(Request::Delete { id: id("c") }).unwrap();
    assert_eq!(daemon.state(), []);
    daemon.shut_down(pod);
}

#[test]
fn signals_and_lack_of_memory_are_told_apart() {
    let pod = Pod::new();
    let mut daemon = Daemon::connect(&pod);
    daemon.run(&pod, "oom");
    pod.end("oom", Ending::Signal(9));
    let (_, exit) = daemon.exited();
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (137, Some(9), true));
    daemon.run(&pod, "term");
    daemon
        .call(Request::Kill {
            id: id("term"),
            signal: 15,
            scope: KillScope::Init,
        })
        .unwrap();
    let (_, exit) = daemon.exited();
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (143, Some(15), false));
    daemon.shut_down(pod);
}

#[test]
fn what_the_state_does_not_allow_is_refused() {
    let pod = Pod::new();
    let mut daemon = Daemon::connect(&pod);
    let start = |id: &str| Request::Start { id: id.to_owned() };
    let kill = |id: &str, signal| Request::Kill {
        id: id.to_owned(),
        signal,
        scope: KillScope::All,
    };
    assert_eq!(kind(daemon.call(start("nobody"))), ErrorKind::NotFound);
    assert_eq!(kind(daemon.call(kill("nobody", 9))), ErrorKind::NotFound);
    assert_eq!(
        kind(daemon.call(Request::Delete { id: id("nobody") })),
        ErrorKind::NotFound
    );
    assert_eq!(
        kind(daemon.call(Request::ReopenLog { id: id("nobody") })),
        ErrorKind::NotFound
    );
    assert_eq!(
        kind(daemon.call(Request::KillExec {
            exec_id: id("nobody")
        })),
        ErrorKind::NotFound
    );
    let nameless = CreateContainer {
        id: String::new(),
        ..pod.container("x")
    };
    assert_eq!(
        kind(daemon.call(Request::Create(nameless))),
        ErrorKind::InvalidArgument
    );
    let relative = CreateContainer {
        bundle: "b".into(),
        ..pod.container("x")
    };
    assert_eq!(
        kind(daemon.call(Request::Create(relative))),
        ErrorKind::InvalidArgument
    );
    assert_eq!(
        kind(daemon.call(Request::Create(pod.container("bad-create")))),
        ErrorKind::InvalidArgument
    );
    assert_eq!(daemon.state(), []);

    daemon.call(Request::Create(pod.container("c"))).unwrap();
    assert_eq!(
        kind(daemon.call(Request::Create(pod.container("c")))),
        ErrorKind::AlreadyExists
    );
    assert_eq!(
        kind(daemon.call(Request::ReopenLog { id: id("c") })),
        ErrorKind::InvalidState
    );
    assert!(!pod.log_path("c").exists());
    daemon.call(start("c")).unwrap();
    assert_eq!(kind(daemon.call(start("c"))), ErrorKind::InvalidState);
    assert_eq!(kind(daemon.call(kill("c", 65))), ErrorKind::InvalidArgument);
    assert_eq!(
        kind(daemon.call(Request::Delete { id: id("c") })),
        ErrorKind::InvalidState
    );
    let without_fds = Request::Exec(Box::new(exec_request("c", "e")));
    assert_eq!(kind(daemon.call(without_fds)), ErrorKind::InvalidArgument);
    pod.end("c", Ending::Code(0));
    daemon.exited();
    assert_eq!(kind(daemon.call(kill("c", 9))), ErrorKind::InvalidState);
    assert_eq!(
        kind(daemon.call(Request::ReopenLog { id: id("c") })),
        ErrorKind::InvalidState
    );
    daemon
        .call(Request::SetupSandbox(SandboxSetup::default()))
        .unwrap();
    assert_eq!(
        kind(daemon.call(Request::SetupSandbox(SandboxSetup::default()))),
        ErrorKind::InvalidState
    );
    daemon.shut_down(pod);
}

#[test]
fn a_failed_start_is_an_exit_with_128() {
    let pod = Pod::new();
    let mut daemon = Daemon::connect(&pod);
    daemon.call(Request::Create(pod.container("bad-start"))).unwrap();
    let error = daemon.call(Request::Start { id: id("bad-start") }).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Exec);
    assert!(error.message.contains("executable file not found"), "{error}");
    let (_, exit) = daemon.exited();
    assert_eq!(exit.code, 128);
    let state = daemon.state();
    assert_eq!(
        (state[0].status, state[0].exit, state[0].started_at),
        (ContainerStatus::Exited, Some(exit), None)
    );
    daemon.call(Request::Delete { id: id("bad-start") }).unwrap();
    daemon.shut_down(pod);
}

#[test]
fn a_created_container_can_be_deleted() {
    let pod = Pod::new();
    let mut daemon = Daemon::connect(&pod);
    daemon.call(Request::Create(pod.container("c"))).unwrap();
    daemon.call(Request::Delete { id: id("c") }).unwrap();
    assert!(pod.shared().calls.contains(&id("remove c")));
    daemon.shut_down(pod);
}

#[test]
fn a_writer_that_outlives_its_container_cannot_hold_back_the_exit() {
    let pod = Pod::new();
    let mut daemon = Daemon::connect(&pod);
    daemon.run(&pod, "c");
    let leaked = pod.output("c", false);
    pod.write("c", false, b"last\n");
    pod.end("c", Ending::Code(0));
    daemon.exited();
    assert_eq!(pod.log("c"), ["stdout F last"]);
    let error = nix::unistd::write(&leaked, b"too late\n").unwrap_err();
    assert_eq!(error, nix::errno::Errno::EPIPE, "nobody reads any more");
    daemon.shut_down(pod);
}

#[test]
fn a_writer_that_never_stops_cannot_hold_back_the_exit_either() {
    let pod = Pod::new();
    let mut daemon = Daemon::connect(&pod);
    daemon.run(&pod, "c");
    let leaked = pod.output("c", false);
    let writer = std::thread::spawn(move || while nix::unistd::write(&leaked, b"still here\n").is_ok() {});
    pod.end("c", Ending::Code(0));
    daemon.exited();
    writer.join().unwrap();
    daemon.shut_down(pod);
}

#[test]
fn events_go_to_every_daemon_and_a_new_one_learns_the_rest_from_the_state() {
    let pod = Pod::new();
    let (mut one, mut two) = (Daemon::connect(&pod), Daemon::connect(&pod));
    two.call(Request::Hello { version: 1 }).unwrap();
    one.run(&pod, "a");
    one.run(&pod, "b");
    pod.end("a", Ending::Code(1));
    assert_eq!(one.exited(), two.exited());
    drop((one, two));
    pod.write("b", false, b"while nobody listens\n");
    pod.end("b", Ending::Code(2));
    let mut three = Daemon::connect(&pod);
    let codes = |state: &[ContainerState]| state.iter().map(|c| c.exit.map(|e| e.code)).collect::<Vec<_>>();
    let mut state = three.state();
    if codes(&state) != [Some(1), Some(2)] {
        three.exited();
        state = three.state();
    }
    assert_eq!(codes(&state), [Some(1), Some(2)]);
    assert_eq!(pod.log("b"), ["stdout F while nobody listens"]);
    three.shut_down(pod);
}

#[test]
fn a_daemon_that_does_not_read_blocks_nobody() {
    let pod = Pod::new();
    let (mut deaf, mut daemon) = (Daemon::connect(&pod), Daemon::connect(&pod));
    daemon.run(&pod, "c");
    // Far more answers than socket and monitor will keep; the monitor closes the connection at some point.
    let mut question = Vec::new();
    encode(
        &RequestFrame {
            seq: 1,
            fds: 0,
            request: Request::State {},
        },
        &mut question,
    )
    .unwrap();
    let refused = (0..200_000).any(|_| deaf.stream.write_all(&question).is_err());
    assert!(refused, "it is still kept");
    pod.write("c", false, b"goes on\n");
    pod.end("c", Ending::Code(0));
    daemon.exited();
    assert_eq!(pod.log("c"), ["stdout F goes on"]);
    daemon.shut_down(pod);
}

#[test]
fn garbage_ends_its_connection_only() {
    let pod = Pod::new();
    let mut daemon = Daemon::connect(&pod);
    for garbage in [&b"\xff\xff\xff\xffxxxx"[..], b"\x04\0\0\0nope", b"\x02\0\0\0{}"] {
        let mut other = Daemon::connect(&pod);
        other.stream.write_all(garbage).unwrap();
        assert_eq!(other.hear(), None);
    }
    let mut other = Daemon::connect(&pod);
    other.stream.write_all(b"\x00\0").unwrap();
    drop(other);
    daemon.seq += 1;
    let body = format!(r#"{{"seq":{},"request":{{"op":"of_the_future"}}}}"#, daemon.seq);
    daemon
        .stream
        .write_all(&[&(body.len() as u32).to_le_bytes(), body.as_bytes()].concat())
        .unwrap();
    let Some(ToDaemon::Reply {
        result: Err(error), ..
    }) = daemon.hear()
    else {
        panic!("no refusal")
    };
    assert_eq!(error.kind, ErrorKind::Unsupported);
    daemon.shut_down(pod);
}

#[test]
fn an_exec_gets_its_descriptors_though_frames_before_it_had_others() {
    let pod = Pod::new();
    let mut daemon = Daemon::connect(&pod);
    daemon.run(&pod, "c");
    let (ours, theirs) = std::io::pipe().unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let send = |request: &str, seq: u64, fds: &[i32]| {
        let body = format!(r#"{{"seq":{seq},"fds":{},"request":{request}}}"#, fds.len());
        let frame = [&(body.len() as u32).to_le_bytes(), body.as_bytes()].concat();
        let sent = send_with_fds(daemon.stream.as_fd(), &frame, fds).unwrap();
        assert_eq!(sent, frame.len());
    };
    send(
        r#"{"op":"of_the_future"}"#,
        11,
        &[null.as_raw_fd(), null.as_raw_fd()],
    );
    send(r#"{"op":"state"}"#, 12, &[]);
    let exec = serde_json::to_string(&Request::Exec(Box::new(exec_request("c", "e")))).unwrap();
    send(
        &exec,
        13,
        &[null.as_raw_fd(), theirs.as_raw_fd(), null.as_raw_fd()],
    );
    drop(theirs);
    let seqs: Vec<_> = (0..3)
        .map(|_| match daemon.hear() {
            Some(ToDaemon::Reply { seq, result }) => (seq, result.is_ok()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(seqs, [(11, false), (12, true), (13, true)]);
    pod.write("e", false, b"hello");
    daemon.call(Request::KillExec { exec_id: id("e") }).unwrap();
    let Event::ExecExited { exec_id, exit } = daemon.event() else {
        panic!("no exit")
    };
    assert_eq!((exec_id.as_str(), exit.code), ("e", 137));
    let mut text = String::new();
    { ours }.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello", "and the monitor keeps no copy of them");
    daemon.shut_down(pod);
}

#[test]
fn a_shutdown_kills_records_removes_and_ends() {
    let pod = Pod::new();
    let mut daemon = Daemon::connect(&pod);
    daemon
        .call(Request::SetupSandbox(SandboxSetup {
            shared_pid: true,
            ..Default::default()
        }))
        .unwrap();
    daemon.run(&pod, "running");
    daemon.call(Request::Create(pod.container("created"))).unwrap();
    let refused = daemon.ask_all([Request::Shutdown {}, Request::Create(pod.container("late"))]);
    let asked = refused - 1;
    let mut heard = Vec::new();
    while let Some(message) = daemon.hear() {
        heard.push(message);
    }
    let exits = heard
        .iter()
        .filter(|m| matches!(m, ToDaemon::Event(Event::ContainerExited { .. })))
        .count();
    assert_eq!(exits, 2, "{heard:?}");
    assert!(
        heard
            .iter()
            .any(|m| matches!(m, ToDaemon::Event(Event::SandboxInitExited { .. })))
    );
    assert!(heard.iter().any(
        |m| matches!(m, ToDaemon::Reply { seq, result: Err(e) } if *seq == refused
            && e.kind == ErrorKind::InvalidState)
    ));
    assert_eq!(
        heard.last(),
        Some(&ToDaemon::Reply {
            seq: asked,
            result: Ok(Reply::Done {})
        })
    );
    assert!(pod.dir.path().join("running").join(EXIT_FILE).exists());
    let calls = pod.shared().calls.clone();
    assert!(
        calls.contains(&id("remove running")) && calls.contains(&id("remove created")),
        "{calls:?}"
    );
    pod.join();
}
