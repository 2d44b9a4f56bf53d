//! A small HTTP server on loopback whose answers a closure decides, however wrong they are.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// With the query.
    pub path: String,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What is sent after the headers.
pub enum Body {
    Whole(Vec<u8>),
    /// Less than the stated length, then the connection closes.
    Cut {
        stated: usize,
        sent: Vec<u8>,
    },
    /// Some bytes, and then nothing while the server lives.
    Stall {
        stated: usize,
        sent: Vec<u8>,
    },
    /// All bytes, a little at a time with a pause after each.
    Slow(Vec<u8>, Duration),
    /// The same bytes for ever, without a stated length.
    Endless(Vec<u8>),
}

pub struct Response {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
}

impl Response {
    pub fn new(status: u16) -> Response {
        Response {
            status,
            headers: Vec::new(),
            body: Body::Whole(Vec::new()),
        }
    }

    pub fn ok(body: impl Into<Vec<u8>>) -> Response {
        Response::new(200).body(Body::Whole(body.into()))
    }

    pub fn body(mut self, body: Body) -> Response {
        self.body = body;
        self
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Response {
        self.headers.push((name, value.into()));
        self
    }
}

/// A server; it stops when it is dropped.
pub struct Server {
    /// `127.0.0.1:PORT`
    pub address: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

type Handler = dyn Fn(&Request) -> Response + Send + Sync;

impl Server {
    pub fn start(handler: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stop = Arc::new(AtomicBool::new(false));
        let handler: Arc<Handler> = Arc::new(handler);
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (handler, stopped) = (Arc::clone(&handler), Arc::clone(&stopped));
                if let Ok(stream) = stream {
                    std::thread::spawn(move || serve(stream, &*handler, &stopped));
                }
            }
        });
        Server {
            address,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: TcpStream, handler: &Handler, stop: &AtomicBool) {
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some(request) = read_request(&mut reader) {
        let response = handler(&request);
        let keep = matches!(response.body, Body::Whole(_));
        if write_response(&mut writer, &request, response, stop).is_err() || !keep {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    // A proxy is told the whole URL.
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest[rest.find('/')?..].to_owned(),
        None => target.to_owned(),
    };
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        method,
        path,
        headers,
        body,
    })
}

fn write_response(
    writer: &mut TcpStream,
    request: &Request,
    response: Response,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Status\r\n", response.status);
    for (name, value) in &response.headers {
        head += &format!("{name}: {value}\r\n");
    }
    match &response.body {
        Body::Whole(body) | Body::Slow(body, _) => head += &format!("content-length: {}\r\n", body.len()),
        Body::Cut { stated, .. } | Body::Stall { stated, .. } => {
            head += &format!("content-length: {stated}\r\nconnection: close\r\n");
        }
        Body::Endless(_) => head += "connection: close\r\n",
    }
    writer.write_all(head.as_bytes())?;
    writer.write_all(b"\r\n")?;
    if request.method == "HEAD" {
        return Ok(());
    }
    match response.body {
        Body::Whole(bytes) | Body::Cut { sent: bytes, .. } => writer.write_all(&bytes),
        Body::Slow(bytes, pause) => bytes.chunks(64 << 10).try_for_each(|part| {
            std::thread::sleep(pause);
            writer.write_all(part)
        }),
        Body::Stall { sent, .. } => {
            writer.write_all(&sent)?;
            // Bounded: a client that does not give up fails its test.
            for _ in 0..600 {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(())
        }
        Body::Endless(bytes) => loop {
            if stop.load(Ordering::SeqCst) {
                return Ok(());
            }
            writer.write_all(&bytes)?;
        },
    }
}
