//! A call that takes longer than its caller waits fails with `DeadlineExceeded`, as gRPC wants it and kubelet looks for. tonic
//! ends it at the same moment, with `Cancelled`; which of the two a caller sees depends on whose clock is ahead.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tonic::Status;
use tower::{Layer, Service};

/// The header that says how long the caller waits (gRPC over HTTP/2, "Timeout").
pub(super) const TIMEOUT: &str = "grpc-timeout";

/// The layer that ends calls.
#[derive(Debug, Clone, Copy)]
pub struct Deadline;

impl<S> Layer<S> for Deadline {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited(inner)
    }
}

/// A service whose calls end when their callers give them up.
#[derive(Debug, Clone)]
pub struct Limited<S>(S);

impl<S, B, A> Service<Request<B>> for Limited<S>
where
    S: Service<Request<B>, Response = Response<A>>,
    S::Future: Send + 'static,
    A: Default + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Some(limit) = request.headers().get(TIMEOUT).and_then(read) else {
            return Box::pin(self.0.call(request));
        };
        // Begun here, ours ends before tonic's, which looks at ours first.
        let end = tokio::time::Instant::now() + limit;
        let answer = self.0.call(request);
        Box::pin(async move {
            let late = || Ok(Status::deadline_exceeded(format!("not done within {limit:?}")).into_http());
            tokio::time::timeout_at(end, answer)
                .await
                .unwrap_or_else(|_| late())
        })
    }
}

/// A time limit: at most eight digits and a unit. `None` if it isn't one.
pub(super) fn read(value: impl AsRef<[u8]>) -> Option<Duration> {
    let text = str::from_utf8(value.as_ref()).ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.len() > 8 {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // in tests a failure may panic where it happens

    use std::convert::Infallible;
    use std::future::{pending, ready};

    use tonic::Code;

    use super::*;

    async fn answer<F>(timeout: Option<&str>, inner: F) -> Response<()>
    where
        F: Future<Output = Result<Response<()>, Infallible>> + Send + 'static,
    {
        let mut request = Request::new(());
        if let Some(timeout) = timeout {
            request.headers_mut().insert(TIMEOUT, timeout.parse().unwrap());
        }
        let mut inner = Some(inner);
        let mut service = Deadline.layer(tower::service_fn(move |_| inner.take().unwrap()));
        service.call(request).await.unwrap()
    }

    #[tokio::test]
    async fn a_late_answer_is_none() {
        let response = answer(Some("1m"), pending()).await;
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(status.message(), "not done within 1ms");
    }

    #[tokio::test]
    async fn an_answer_in_time_is_left_as_it_is() {
        for timeout in [None, Some("10S"), Some("99999999H"), Some("nonsense")] {
            let made = Response::builder().header("x", "y").body(()).unwrap();
            let response = answer(timeout, ready(Ok(made))).await;
            assert_eq!(response.headers()["x"], "y");
        }
    }

    #[test]
    fn deadlines_are_read_as_grpc_writes_them() {
        assert_eq!(read("10S"), Some(Duration::from_secs(10)));
        assert_eq!(read("99999999u"), Some(Duration::from_micros(99_999_999)));
        for bad in ["", "S", "1", "1x", "123456789S", "-1S", "ä"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
