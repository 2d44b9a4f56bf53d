//! The loop with a backend that the tests play, and a daemon without a runtime to ask it.

mod connections;
mod containers;
mod slow;

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
