//! The HTTP side: two requests, answered from memory.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::answer;
use super::socket::Socket;
use crate::core::Core;

/// Connections at a time; cAdvisor has a few.
const MAX_CLIENTS: usize = 64;
/// How long a client may take for a request's head, or keep silent between two.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of a request's head.
const MAX_HEAD: usize = 16 << 10;
/// Pause after a connection that could not be accepted, mostly for want of descriptors.
const RESPITE: Duration = Duration::from_millis(100);

/// Accepts and answers until it is dropped, and its connections with it.
pub(super) async fn serve(core: &Arc<Core>, socket: &Socket) {
    let places = Arc::new(Semaphore::new(MAX_CLIENTS));
    let mut clients = JoinSet::new();
    // The semaphore is never closed.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        while clients.try_join_next().is_some() {}
        match socket.listener().accept().await {
            Ok((stream, _)) => {
                let core = Arc::clone(core);
                clients.spawn(async move {
                    if let Err(error) = converse(&core, stream).await {
                        tracing::debug!(%error, "an inspecting client broke off");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "an inspecting client can't be accepted");
                sleep(RESPITE).await;
            }
        }
    }
}

async fn converse(core: &Arc<Core>, stream: UnixStream) -> hyper::Result<()> {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(core, &request)))),
        )
        .await
}

fn answer<B>(core: &Core, request: &Request<B>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "GET only".to_owned());
        refusal
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET"));
        return refusal;
    }
    let path = request.uri().path();
    if path == "/info" {
        return json(&answer::info(core));
    }
    match path.strip_prefix("/containers/").filter(|id| is_id(id)) {
        Some(id) => match answer::entry(core, id) {
            Some(entry) => json(&entry),
            None => text(
                StatusCode::NOT_FOUND,
                format!("can't find the container with id {id}"),
            ),
        },
        None => text(
            StatusCode::NOT_FOUND,
            "there are /info and /containers/<id>, which is 64 hexadecimal digits".to_owned(),
        ),
    }
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn json(of: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(of) {
        Ok(body) => response(StatusCode::OK, "application/json", body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", text.into_bytes())
}

fn response(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
