//! A registry that serves whatever it is told to, true or not, and keeps count of what it was asked for.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;

use crate::image::Image;

/// What the registry answers for one path.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: String,
    /// The body that is sent.
    pub body: Vec<u8>,
    /// `Content-Length`, where it shall not be the body's length: the connection closes after the body.
    pub claimed_length: Option<usize>,
    /// How long the registry thinks before it answers.
    pub delay: Duration,
}

impl Answer {
    fn ok(content_type: &str, body: Vec<u8>) -> Answer {
        let content_type = content_type.to_owned();
        Answer {
            status: 200,
            content_type,
            body,
            claimed_length: None,
            delay: Duration::ZERO,
        }
    }
}

#[derive(Default)]
struct Shared {
    answers: Mutex<HashMap<String, Answer>>,
    requests: Mutex<Vec<String>>,
    stop: AtomicBool,
}

/// A running registry; ended when dropped.
pub struct MemRegistry {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl MemRegistry {
    /// Listens on a free loopback port, with nothing to serve but `/v2/`.
    pub fn start() -> Result<MemRegistry> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || serve(&listener, &for_thread));
        let registry = MemRegistry {
            address,
            shared,
            thread: Some(thread),
        };
        registry.answer("/v2/", Answer::ok("application/json", b"{}".to_vec()));
        Ok(registry)
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Serves an image honestly under `repository:tag` and by digest; answers with the full reference.
    pub fn serve(&self, image: &Image, repository: &str, tag: &str) -> String {
        for blob in &image.blobs {
            self.answer(
                &blob_path(repository, &blob.digest),
                Answer::ok(OCTETS, blob.bytes.clone()),
            );
        }
        for manifest in &image.manifests {
            let answer = Answer::ok(&manifest.media_type, manifest.bytes.clone());
            self.answer(&manifest_path(repository, &manifest.digest), answer);
        }
        let top = image.top();
        self.answer(
            &manifest_path(repository, tag),
            Answer::ok(&top.media_type, top.bytes.clone()),
        );
        format!("{}/{repository}:{tag}", self.host())
    }

    /// Sets the answer for a path.
    pub fn answer(&self, path: &str, answer: Answer) {
        lock(&self.shared.answers).insert(path.to_owned(), answer);
    }

    /// Changes the answer for a path that is served already.
    pub fn tamper(&self, path: &str, change: impl FnOnce(&mut Answer)) {
        if let Some(answer) = lock(&self.shared.answers).get_mut(path) {
            change(answer);
        }
    }

    /// The `GET` and `HEAD` lines received so far, as `METHOD path`.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.shared.requests).clone()
    }
}

impl Drop for MemRegistry {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // Wakes the thread out of its accept.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

const OCTETS: &str = "application/octet-stream";

/// The path under which a registry serves a blob.
pub fn blob_path(repository: &str, digest: &str) -> String {
    format!("/v2/{repository}/blobs/{digest}")
}

/// The path under which a registry serves a manifest, by tag or digest.
pub fn manifest_path(repository: &str, reference: &str) -> String {
    format!("/v2/{repository}/manifests/{reference}")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming().flatten() {
        if shared.stop.load(Ordering::Acquire) {
            return;
        }
        let shared = Arc::clone(shared);
        // A client that goes away in the middle is part of the tests.
        std::thread::spawn(move || drop(converse(&stream, &shared)));
    }
}

/// Answers requests on one connection until the client closes it.
fn converse(stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        while {
            let mut header = String::new();
            reader.read_line(&mut header)? > 2
        } {}
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        lock(&shared.requests).push(format!("{method} {path}"));
        let answer = lock(&shared.answers).get(path).cloned().unwrap_or_else(not_found);
        std::thread::sleep(answer.delay);
        if !send(stream, method, &answer)? {
            return Ok(());
        }
    }
}

fn not_found() -> Answer {
    let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"not here"}]}"#.to_vec();
    Answer {
        status: 404,
        ..Answer::ok("application/json", body)
    }
}

/// Sends one answer; false if the connection cannot be used any further.
fn send(mut stream: &TcpStream, method: &str, answer: &Answer) -> std::io::Result<bool> {
    let length = answer.claimed_length.unwrap_or(answer.body.len());
    let head = format!(
        "HTTP/1.1 {} X\r\nContent-Type: {}\r\nContent-Length: {length}\r\n\r\n",
        answer.status, answer.content_type
    );
    stream.write_all(head.as_bytes())?;
    if method != "HEAD" {
        stream.write_all(&answer.body)?;
    }
    Ok(answer.claimed_length.is_none())
}
