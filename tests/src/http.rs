//! The little of HTTP/1.1 that pushing to a registry on loopback, and asking on a unix socket, needs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::wait;

/// How long the other side may take.
fn patience() -> Option<Duration> {
    Some(wait::scaled(Duration::from_secs(30)))
}

/// An answer, its header names in lower case.
#[derive(Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// Body as sent; not decoded if chunked.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of that name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

/// One request over a connection of its own to `host` (`address:port`).
pub fn request(host: &str, method: &str, path: &str, content_type: &str, body: &[u8]) -> Result<Response> {
    let mut stream = TcpStream::connect(host).with_context(|| format!("connect to {host}"))?;
    stream.set_read_timeout(patience())?;
    stream.set_write_timeout(patience())?;
    exchange(&mut stream, host, method, path, content_type, body)
}

/// One request without a body over a connection of its own to a unix socket.
pub fn request_unix(socket: &Path, method: &str, path: &str) -> Result<Response> {
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
    stream.set_read_timeout(patience())?;
    stream.set_write_timeout(patience())?;
    exchange(&mut stream, "socket", method, path, "text/plain", b"")
}

fn exchange(
    stream: &mut (impl Read + Write),
    host: &str,
    method: &str,
    path: &str,
    content_type: &str,
    body: &[u8],
) -> Result<Response> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .with_context(|| format!("read the answer to {method} {path}"))?;
    parse(&bytes).with_context(|| format!("{method} {path}"))
}

fn parse(bytes: &[u8]) -> Result<Response> {
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
        bail!("an answer without an end of headers")
    };
    let head = std::str::from_utf8(&bytes[..end])?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .context("a status line")?
        .parse()?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Ok(Response {
        status,
        headers,
        body: bytes[end + 4..].to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_an_answer() {
        let response = parse(b"HTTP/1.1 202 Accepted\r\nLocation: /x?y=1\r\n\r\nbody").expect("an answer");
        assert_eq!(
            (response.status, response.header("location")),
            (202, Some("/x?y=1"))
        );
        assert_eq!(response.body, b"body");
    }
}
