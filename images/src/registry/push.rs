//! Writing to a registry (distribution-spec 1.1, "Push").

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Body, Method, Response, StatusCode, Url};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::exchange::Request;
use super::http;
use super::session::Session;
use crate::digest::Digest;
use crate::error::{Error, Result};

/// What is said for every blob and manifest that is sent.
const BINARY: &str = "application/octet-stream";
/// How often it is looked whether an upload gets on, within the time that it may stand still.
const LOOKS: u32 = 8;

/// The bytes of a blob on their way up.
pub(crate) struct Upload {
    /// What comes out of here is sent; an error breaks the upload off.
    pub(crate) bytes: mpsc::Receiver<io::Result<Bytes>>,
    /// Their number, where it is known.
    pub(crate) size: Option<u64>,
    /// Counts what was handed to the connection.
    pub(crate) sent: Arc<AtomicU64>,
}

impl Session {
    /// Whether the repository has a blob.
    pub(crate) async fn has_blob(&self, digest: &Digest) -> Result<bool> {
        let what = format!("blob {digest} of {}", self.path());
        let url = self.url(self.registry(), "blobs", &digest.to_string())?;
        self.has(url, &what).await
    }

    async fn has(&self, url: Url, what: &str) -> Result<bool> {
        let request = Request {
            method: Method::HEAD,
            url,
            what,
            accept: Some(crate::manifest::ACCEPT),
            from: 0,
            to: None,
        };
        match self.registry().send(&request).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Begins an upload; with `mount`, asks to take the blob over from another repository of this registry instead.
    /// `None` if that was done.
    pub(crate) async fn begin_upload(&self, mount: Option<(&Digest, &str)>) -> Result<Option<Url>> {
        let registry = self.registry();
        let what = format!("upload to {}", self.path());
        let mut url = self.url(registry, "blobs", "uploads/")?;
        if let Some((digest, from)) = mount {
            url.query_pairs_mut()
                .append_pair("mount", &digest.to_string())
                .append_pair("from", from);
        }
        let request = Request {
            method: Method::POST,
            url: url.clone(),
            what: &what,
            accept: None,
            from: 0,
            to: None,
        };
        let response = registry.send(&request).await?;
        if response.status() == StatusCode::CREATED {
            return Ok(None);
        }
        self.location(&response, &url, &what).map(Some)
    }

    fn location(&self, response: &Response, from: &Url, what: &str) -> Result<Url> {
        let location = response.headers().get(LOCATION);
        let location = location.and_then(|location| location.to_str().ok());
        let url = location.and_then(|location| from.join(location).ok());
        let url = url.ok_or_else(|| self.registry().protocol(what, "it names no place to send to"))?;
        // Credentials go there.
        if url.origin() != from.origin() && url.scheme() != "https" {
            return Err(self
                .registry()
                .protocol(what, "it wants to be sent to elsewhere in the clear"));
        }
        Ok(url)
    }

    /// Sends a blob whose digest is known, in one request.
    pub(crate) async fn put_blob(&self, mut url: Url, digest: &Digest, upload: Upload) -> Result<()> {
        let what = format!("blob {digest} of {}", self.path());
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        self.send_up(Method::PUT, url, &what, upload).await.map(drop)
    }

    /// Sends a blob whose digest is not known before its end; gives back where [`Session::close_upload`] ends it.
    pub(crate) async fn patch_blob(&self, url: Url, upload: Upload) -> Result<Url> {
        let what = format!("upload to {}", self.path());
        let response = self.send_up(Method::PATCH, url.clone(), &what, upload).await?;
        self.location(&response, &url, &what)
    }

    /// Ends what [`Session::patch_blob`] has sent.
    pub(crate) async fn close_upload(&self, mut url: Url, digest: &Digest) -> Result<()> {
        let what = format!("blob {digest} of {}", self.path());
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let message = self
            .registry()
            .upload(Method::PUT, url)
            .await
            .header(CONTENT_LENGTH, 0);
        let response = tokio::time::timeout(self.registry().patience(), message.send()).await;
        let response = response.map_err(|_| self.registry().stalled(&what))?;
        let response = response.map_err(|error| http::unavailable(self.registry().host(), &error))?;
        self.registry().accept(response, &what).map(drop)
    }

    /// Sends a manifest under a tag or its digest.
    pub(crate) async fn put_manifest(&self, target: &str, media_type: &str, bytes: &[u8]) -> Result<()> {
        let what = format!("manifest {target} of {}", self.path());
        let registry = self.registry();
        let url = self.url(registry, "manifests", target)?;
        let message = registry
            .upload(Method::PUT, url)
            .await
            .header(CONTENT_TYPE, media_type)
            .body(bytes.to_vec());
        let response = tokio::time::timeout(registry.patience(), message.send()).await;
        let response = response.map_err(|_| registry.stalled(&what))?;
        let response = response.map_err(|error| http::unavailable(registry.host(), &error))?;
        registry.accept(response, &what).map(drop)
    }

    async fn send_up(&self, method: Method, url: Url, what: &str, upload: Upload) -> Result<Response> {
        let registry = self.registry();
        let Upload { bytes, size, sent } = upload;
        let count = Arc::clone(&sent);
        let stream = ReceiverStream::new(bytes).map(move |chunk| {
            let length = chunk.as_ref().map_or(0, |chunk: &Bytes| chunk.len() as u64);
            count.fetch_add(length, Ordering::Relaxed);
            chunk
        });
        let mut message = registry
            .upload(method, url)
            .await
            .header(CONTENT_TYPE, BINARY)
            .body(Body::wrap_stream(stream));
        if let Some(size) = size {
            message = message.header(CONTENT_LENGTH, size);
        }
        let response = tokio::select! {
            response = message.send() => response,
            () = stands_still(&sent, registry.patience()) => return Err(registry.stalled(what)),
        };
        let response = response.map_err(|error| http::unavailable(registry.host(), &error))?;
        registry.accept(response, what)
    }
}

/// Ends once nothing was sent for so long.
async fn stands_still(sent: &AtomicU64, patience: Duration) {
    let mut looks = tokio::time::interval(patience / LOOKS);
    let (mut last, mut still) = (0, 0);
    while still <= LOOKS {
        looks.tick().await;
        let now = sent.load(Ordering::Relaxed);
        still = if now == last { still + 1 } else { 0 };
        last = now;
    }
}
