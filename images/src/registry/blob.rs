//! A blob as a stream of chunks, resumed where a connection breaks.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode, Url};

use super::http;
use super::session::Session;
use crate::digest::Digest;
use crate::error::{Error, Result};

/// How often a blob's connection may break.
const RESUMES: u32 = 8;

/// A blob on its way. Its size is checked here, its digest where the bytes are used.
pub(crate) struct BlobStream {
    session: Arc<Session>,
    digest: Digest,
    size: u64,
    /// Where it may lie if the registry does not have it.
    elsewhere: Vec<Url>,
    what: String,
    received: u64,
    resumes: u32,
    current: Option<Current>,
}

/// An answer that is being read.
struct Current {
    /// Which of the session's hosts sends it.
    host: usize,
    response: Response,
    /// Bytes that a host without ranges sends once more.
    skip: u64,
}

impl BlobStream {
    /// Nothing is sent before the first chunk is asked for. `elsewhere` are further places, best first, that never
    /// see credentials.
    pub(crate) fn new(session: Arc<Session>, digest: Digest, size: u64, elsewhere: &[String]) -> BlobStream {
        BlobStream {
            session,
            digest,
            size,
            elsewhere: elsewhere.iter().filter_map(|url| Url::parse(url).ok()).collect(),
            what: format!("blob {digest}"),
            received: 0,
            resumes: 0,
            current: None,
        }
    }

    /// The next bytes; `None` once all of them have come.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.current.is_none() {
                self.current = Some(self.open().await?);
            }
            let Some(current) = &mut self.current else {
                continue;
            };
            let exchange = self.session.exchange(current.host);
            match exchange.chunk(&mut current.response, &self.what).await {
                Ok(Ok(Some(chunk))) => {
                    if let Some(chunk) = self.take(chunk)? {
                        return Ok(Some(chunk));
                    }
                }
                Ok(Ok(None)) if self.received == self.size => return Ok(None),
                Ok(Ok(None)) => self.resume(Error::SizeMismatch {
                    digest: self.digest,
                    expected: self.size,
                })?,
                Ok(Err(error)) => {
                    let error = http::unavailable(exchange.host(), &error);
                    self.resume(error)?;
                }
                // A mirror that stalls is left; a registry that does is given up.
                Err(stalled) if exchange.has_next() => self.resume(stalled)?,
                Err(stalled) => return Err(stalled),
            }
        }
    }

    async fn open(&self) -> Result<Current> {
        let opened = self
            .session
            .open_blob(&self.digest, self.received, &self.elsewhere, &self.what)
            .await;
        let (host, response) = opened?;
        let mut skip = 0;
        if self.received > 0 && !starts_at(&response, self.received) {
            if response.status() == StatusCode::PARTIAL_CONTENT {
                let reason = "it sends another range than asked for";
                return Err(self.session.exchange(host).protocol(&self.what, reason));
            }
            skip = self.received;
        }
        Ok(Current { host, response, skip })
    }

    /// Counts a chunk; `None` if nothing of it is new.
    fn take(&mut self, mut chunk: Bytes) -> Result<Option<Bytes>> {
        if let Some(current) = &mut self.current {
            let known = usize::try_from(current.skip)
                .unwrap_or(usize::MAX)
                .min(chunk.len());
            current.skip -= known as u64;
            chunk = chunk.split_off(known);
        }
        self.received += chunk.len() as u64;
        if self.received > self.size {
            return Err(Error::SizeMismatch {
                digest: self.digest,
                expected: self.size,
            });
        }
        Ok(Some(chunk).filter(|chunk| !chunk.is_empty()))
    }

    /// Goes on with a new connection, unless that has happened too often.
    fn resume(&mut self, because: Error) -> Result<()> {
        self.current = None;
        self.resumes += 1;
        if self.resumes <= RESUMES {
            Ok(())
        } else {
            Err(because)
        }
    }
}

fn starts_at(response: &Response, offset: u64) -> bool {
    let range = response
        .headers()
        .get(CONTENT_RANGE)
        .and_then(|range| range.to_str().ok());
    let start = range.and_then(|range| {
        range
            .strip_prefix("bytes ")?
            .split('-')
            .next()?
            .parse::<u64>()
            .ok()
    });
    response.status() == StatusCode::PARTIAL_CONTENT && start == Some(offset)
}
