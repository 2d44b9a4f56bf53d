//! A blob as a stream of chunks, resumed where a connection breaks.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{ACCEPT_RANGES, CONTENT_RANGE};
use reqwest::{Response, StatusCode, Url};
use tokio::sync::Semaphore;

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
    /// Where the wanted part ends; the size, if it is the whole blob that is wanted.
    end: u64,
    /// The answers tell that parts may be asked for.
    ranges: bool,
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
            end: size,
            ranges: false,
            elsewhere: elsewhere.iter().filter_map(|url| Url::parse(url).ok()).collect(),
            what: format!("blob {digest}"),
            received: 0,
            resumes: 0,
            current: None,
        }
    }

    /// The part of the blob from byte `begin` to byte `end`.
    pub(super) fn part(&self, begin: u64, end: u64) -> BlobStream {
        BlobStream {
            session: Arc::clone(&self.session),
            digest: self.digest,
            size: self.size,
            end: end.min(self.size),
            ranges: false,
            elsewhere: self.elsewhere.clone(),
            what: self.what.clone(),
            received: begin,
            resumes: 0,
            current: None,
        }
    }

    /// Ends here what was to go on to the blob's end.
    pub(super) fn end_at(&mut self, end: u64) {
        self.end = end.min(self.size);
    }

    /// How many bytes have come, counted from the blob's beginning.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// The slots of pieces that wait in memory.
    pub(super) fn pieces(&self) -> &Arc<Semaphore> {
        &self.session.pieces
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether the host that answers gives parts of blobs.
    pub(super) fn has_ranges(&self) -> bool {
        self.ranges
    }

    /// The next bytes; `None` once all of them have come.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.is_part() && self.received == self.end {
                return Ok(None);
            }
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

    fn is_part(&self) -> bool {
        self.end < self.size
    }

    async fn open(&mut self) -> Result<Current> {
        let range = (self.received, self.is_part().then_some(self.end));
        let opened = self
            .session
            .open_blob(&self.digest, range, &self.elsewhere, &self.what)
            .await;
        let (host, response) = opened?;
        self.ranges = response.status() == StatusCode::PARTIAL_CONTENT
            || response
                .headers()
                .get(ACCEPT_RANGES)
                .is_some_and(|unit| unit == "bytes");
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
        if self.is_part() {
            // The host may know no ranges, or this stream may have been told late where to end.
            let left = usize::try_from(self.end - self.received).unwrap_or(usize::MAX);
            chunk.truncate(left);
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
