//! One forwarded connection: a data stream to a port, and an error stream that says why not.

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::dial::Dialer;
use crate::streaming::error::StreamError;
use crate::streaming::growing::Growing;
use crate::streaming::inbox::{End, Taken};
use crate::streaming::io::{Input, Output};

/// A client's streams for one connection.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) port: u16,
    pub(super) from_client: Input,
    pub(super) to_client: Output,
    pub(super) errors: Output,
}

impl Pair {
    /// Connects, and carries bytes until both sides have no more, or either breaks off. What goes wrong is this pair's
    /// trouble alone: kubectl gives up all pairs of its connection at the first word on an error stream, so there is
    /// one only if nothing could be connected to.
    pub(super) async fn run(self, dialer: Dialer) {
        let Self {
            port,
            from_client,
            to_client,
            mut errors,
        } = self;
        match dialer.connect(port).await {
            Ok(mut pod) => {
                let (from_pod, to_pod) = pod.split();
                let both =
                    async { tokio::try_join!(outward(from_client, to_pod), inward(from_pod, to_client)) };
                if let Err(error) = both.await {
                    tracing::debug!(%error, port, "a forwarded connection broke off");
                    cut_off(&pod);
                }
            }
            Err(error) => {
                drop(errors.send(Bytes::from(error.to_string())).await);
            }
        }
        drop(errors.finish().await);
    }
}

/// Client to pod; the client's end of input is passed on, and the other direction goes on.
async fn outward(mut from: Input, mut to: WriteHalf<'_>) -> Result<(), StreamError> {
    loop {
        match from.next().await {
            Taken::Data(data) => to.write_all(&data).await.map_err(|_| StreamError::Closed)?,
            Taken::End(End::Finished) => return to.shutdown().await.map_err(|_| StreamError::Closed),
            Taken::End(End::Broken) => return Err(StreamError::Closed),
        }
    }
}

/// Pod to client. What the pod sent before it broke off still arrives.
async fn inward(mut from: ReadHalf<'_>, mut to: Output) -> Result<(), StreamError> {
    let mut buffer = Growing::new();
    loop {
        match buffer.read(&mut from).await {
            Ok(data) if data.is_empty() => return to.finish().await,
            Ok(data) => to.send(data).await?,
            Err(_) => {
                to.reset().await;
                return Err(StreamError::Closed);
            }
        }
    }
}

/// The pod's side learns that its peer broke off, and didn't just come to an end.
fn cut_off(pod: &TcpStream) {
    // Refused for a connection that is gone already.
    drop(pod.set_zero_linger());
}
