//! The HTTP side: connections, tokens, upgrades.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::negotiate::{self, ACCEPTED, Carrier, Chosen, Refusal, Remote};
use super::session::{self, Session, Wanted};
use super::spdy::{Connection, Limits};
use super::{Target, attach, exec, forward, websocket};
use crate::core::Core;
use crate::error::{IoContext as _, Result};
use crate::proto::PortForwardRequest;
use crate::streaming::link::Link;

/// Connections that haven't said yet what they want.
const MAX_STRANGERS: usize = 512;
/// How long such a connection may take, for TLS and for its request each.
const HELLO: Duration = Duration::from_secs(10);
/// Bytes of a request's head.
const MAX_HEAD: usize = 16 << 10;
/// Pause after a connection that could not be accepted, mostly for want of descriptors.
const RESPITE: Duration = Duration::from_millis(100);
/// How long a connection into a pod that takes nothing in may hold up the others of its client.
const STUCK: Duration = Duration::from_secs(60);

type Io = TokioIo<Upgraded>;

/// Answers the URLs that [`super::Streaming::issue`] hands out, until it is dropped.
///
/// # Errors
/// The listener can't be used.
pub(crate) async fn serve(core: Arc<Core>) -> Result<()> {
    let listener = core
        .streaming
        .listener
        .try_clone()
        .io("share", "streaming listener")?;
    let listener = TcpListener::from_std(listener).io("watch", "streaming listener")?;
    let strangers = Arc::new(Semaphore::new(MAX_STRANGERS));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&strangers).acquire_owned().await else {
            return Ok(());
        };
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(greet(Arc::clone(&core), stream, peer, place));
            }
            Err(error) => {
                tracing::warn!(%error, "a streaming client can't be accepted");
                sleep(RESPITE).await;
            }
        }
    }
}

async fn greet(core: Arc<Core>, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
    // Without it single keystrokes wait for one another.
    drop(stream.set_nodelay(true));
    let served = match core.streaming.identity.is_some() {
        false => http(&core, stream).await,
        true => {
            let of = Arc::clone(&core);
            let accepted = crate::task::blocking("looking at certificates", move || {
                Ok::<_, crate::error::Error>(
                    of.streaming.identity.as_ref().map(super::tls::Identity::acceptor),
                )
            })
            .await;
            let Ok(Some(acceptor)) = accepted else { return };
            match timeout(HELLO, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => http(&core, stream).await,
                Ok(Err(error)) => return tracing::debug!(%peer, %error, "no TLS"),
                Err(_) => return tracing::debug!(%peer, "TLS took too long"),
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "a streaming client's request broke off");
    }
    // What was upgraded goes on in a task of its own.
    drop(place);
}

async fn http<T>(core: &Arc<Core>, stream: T) -> hyper::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HELLO)
        .max_buf_size(MAX_HEAD)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(core, request)))),
        )
        .with_upgrades()
        .await
}

fn answer(core: &Arc<Core>, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::POST {
        let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "GET or POST");
        answer
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, POST"));
        return answer;
    }
    let Some(target) = redeem(core, request.uri().path()) else {
        return plain(
            StatusCode::NOT_FOUND,
            "no such request, or it was served or has expired",
        );
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let core = Arc::clone(core);
    let (method, headers) = (request.method(), request.headers());
    let switched = match target {
        Target::Exec(exec) => negotiate::remote(method, headers).map(|chosen| {
            switch(chosen, upgrade, move |io, carrier| {
                run_exec(core, exec, io, carrier)
            })
        }),
        Target::Attach(attach) => negotiate::remote(method, headers).map(|chosen| {
            switch(chosen, upgrade, move |io, carrier| {
                run_attach(core, attach, io, carrier)
            })
        }),
        Target::PortForward(mut ports) => negotiate::forward(method, headers).map(|chosen| {
            if ports.port.is_empty() {
                ports.port = asked_ports(request.uri().query().unwrap_or_default());
            }
            switch(chosen, upgrade, move |io, carrier| {
                run_forward(core, ports, io, carrier)
            })
        }),
    };
    switched.unwrap_or_else(refuse)
}

fn redeem(core: &Core, path: &str) -> Option<Target> {
    let (word, token) = path.strip_prefix('/')?.split_once('/')?;
    core.streaming
        .tokens
        .redeem(token)
        .filter(|target| target.word() == word)
}

/// `port=80&port=81` or `port=80,81`; what is no number becomes a port that can't be.
fn asked_ports(query: &str) -> Vec<i32> {
    query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("port="))
        .flat_map(|ports| ports.split([',']))
        .map(|port| port.parse().unwrap_or(0))
        .collect()
}

/// Answers with 101, and goes on with `work` once that is out.
fn switch<P, W, F>(chosen: Chosen<P>, upgrade: OnUpgrade, work: W) -> Response<Full<Bytes>>
where
    P: Send + 'static,
    W: FnOnce(Io, Carrier<P>) -> F + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in chosen.headers {
        // All of them are words of ours.
        if let Ok(value) = HeaderValue::from_str(&value) {
            answer.headers_mut().append(name, value);
        }
    }
    tokio::spawn(async move {
        match timeout(HELLO, upgrade).await {
            Ok(Ok(io)) => work(TokioIo::new(io), chosen.carrier).await,
            Ok(Err(error)) => tracing::debug!(%error, "a streaming client left before its answer"),
            Err(_) => tracing::debug!("a streaming client does not take its answer"),
        }
    });
    answer
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    answer
}

fn refuse(refusal: Refusal) -> Response<Full<Bytes>> {
    let mut answer = plain(refusal.status, refusal.reason);
    for name in refusal.accepted {
        answer
            .headers_mut()
            .append(ACCEPTED, HeaderValue::from_static(name));
    }
    answer
}

async fn run_exec(core: Arc<Core>, request: crate::proto::ExecRequest, io: Io, carrier: Carrier<Remote>) {
    let wanted = Wanted {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        tty: request.tty,
    };
    if let Some(session) = open(&core, io, carrier, wanted).await {
        exec::run(core, request, session).await;
    }
}

async fn run_attach(core: Arc<Core>, request: crate::proto::AttachRequest, io: Io, carrier: Carrier<Remote>) {
    let wanted = Wanted {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        tty: request.tty,
    };
    if let Some(session) = open(&core, io, carrier, wanted).await {
        attach::run(core, request, session).await;
    }
}

async fn open(core: &Core, io: Io, carrier: Carrier<Remote>, wanted: Wanted) -> Option<Session> {
    let config = core.config.streaming();
    let link = Link::new();
    let opened = match carrier {
        Carrier::Spdy(protocol) => {
            let limits = Limits {
                idle: config.idle_timeout,
                stuck: None,
            };
            let connection = Connection::start(io, link.clone(), limits);
            session::over_spdy(connection, link, protocol, wanted, config.creation_timeout).await
        }
        Carrier::WebSocket(protocol, codec) => {
            let socket = websocket::accept(io).await;
            let idle = config.idle_timeout;
            session::over_websocket(socket, link, (protocol, codec), wanted, idle).await
        }
        // Only port-forward's table has it.
        Carrier::Tunnel => return None,
    };
    opened
        .inspect_err(|error| tracing::info!(%error, "a streaming session did not begin"))
        .ok()
}

async fn run_forward(core: Arc<Core>, request: PortForwardRequest, io: Io, carrier: Carrier<()>) {
    let config = core.config.streaming();
    let (idle, creation) = (config.idle_timeout, config.creation_timeout);
    let limits = Limits {
        idle,
        stuck: Some(STUCK),
    };
    let pod = request.pod_sandbox_id;
    let link = Link::new();
    let forwarded = match carrier {
        Carrier::Spdy(()) => {
            let connection = Connection::start(io, link, limits);
            forward::over_spdy(core, &pod, connection, creation).await
        }
        Carrier::Tunnel => {
            let io = websocket::tunnel(websocket::accept(io).await, link.clone());
            let connection = Connection::start(io, link, limits);
            forward::over_spdy(core, &pod, connection, creation).await
        }
        Carrier::WebSocket((), codec) => {
            let ports: Vec<u16> = request
                .port
                .iter()
                .map(|port| u16::try_from(*port).unwrap_or(0))
                .collect();
            let socket = websocket::accept(io).await;
            forward::over_websocket(core, (&pod, &ports), socket, link, codec, idle).await
        }
    };
    if let Err(error) = forwarded {
        tracing::info!(%error, "a port-forward did not begin");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_a_query() {
        assert_eq!(asked_ports("port=80&x=1&port=81,82"), [80, 81, 82]);
        assert_eq!(asked_ports("port=x"), [0]);
        assert!(asked_ports("").is_empty());
    }
}
