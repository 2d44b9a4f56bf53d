//! One log line an RPC: its name, how long it took, and its error if it had one. Handlers return errors, and log none.

use std::task::{Context, Poll};
use std::time::Instant;

use http::{HeaderMap, Request, Response};
use std::future::Future;
use std::pin::Pin;
use tower::{Layer, Service};

/// The layer that logs.
#[derive(Debug, Clone, Copy)]
pub struct RpcLog;

impl<S> Layer<S> for RpcLog {
    type Service = Logged<S>;

    fn layer(&self, inner: S) -> Logged<S> {
        Logged(inner)
    }
}

/// A service whose answers are logged.
#[derive(Debug, Clone)]
pub struct Logged<S>(S);

impl<S, B, A> Service<Request<B>> for Logged<S>
where
    S: Service<Request<B>, Response = Response<A>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let path = request.uri().path().to_owned();
        let begun = Instant::now();
        let answer = self.0.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            log(&path, begun, answer.headers());
            Ok(answer)
        })
    }
}

/// A failed unary call has its status in the headers; a good one has none there.
fn log(path: &str, begun: Instant, headers: &HeaderMap) {
    let rpc = path.rsplit('/').next().unwrap_or(path);
    let ms = begun.elapsed().as_secs_f64() * 1e3;
    match tonic::Status::from_header_map(headers) {
        Some(status) if status.code() != tonic::Code::Ok => {
            tracing::warn!(rpc, ms, code = ?status.code(), error = status.message(), "failed");
        }
        _ => tracing::debug!(rpc, ms, "done"),
    }
}
