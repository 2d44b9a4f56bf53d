//! A request that asks for another protocol, and its answer.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// What a protocol is spoken over.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// An answer's head, and the connection behind it.
pub struct Answer {
    /// Status code.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// The connection; what follows the head has not been read.
    pub io: Box<dyn Io>,
}

impl Answer {
    /// The first header of that name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// `address:port` and path of a URL.
pub fn split(url: &str) -> Result<(&str, &str)> {
    let rest = url
        .strip_prefix("http://")
        .or(url.strip_prefix("https://"))
        .context("an absolute URL")?;
    let slash = rest.find('/').context("a path")?;
    Ok(rest.split_at(slash))
}

/// Connects to a URL's host, trusting `root` if its scheme is https.
pub async fn connect(url: &str, root: Option<CertificateDer<'static>>) -> Result<Box<dyn Io>> {
    let (host, _) = split(url)?;
    let stream = TcpStream::connect(host)
        .await
        .with_context(|| format!("connect to {host}"))?;
    let Some(root) = root else {
        return Ok(Box::new(stream));
    };
    let mut roots = RootCertStore::empty();
    roots.add(root)?;
    let provider = tokio_rustls::rustls::crypto::ring::default_provider();
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost")?;
    Ok(Box::new(
        TlsConnector::from(Arc::new(config)).connect(name, stream).await?,
    ))
}

/// Sends a request with these headers, and reads the answer's head.
pub async fn request(
    mut io: Box<dyn Io>,
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
) -> Result<Answer> {
    let (host, path) = split(url)?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    io.write_all(format!("{head}\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    // Byte by byte, so that nothing of what follows is taken.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() > 16 << 10 {
            bail!("a head without an end");
        }
        answer.push(io.read_u8().await.context("read the answer's head")?);
    }
    let text = String::from_utf8(answer)?;
    let mut lines = text.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let headers = lines.filter_map(|line| line.split_once(':'));
    Ok(Answer {
        status: status.context("a status line")?.parse()?,
        headers: headers
            .map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()))
            .collect(),
        io,
    })
}
