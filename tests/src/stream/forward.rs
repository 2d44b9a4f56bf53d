//! Port-forward: URLs, pairs of streams over SPDY, and listeners inside pods.

use std::fs::File;
use std::io;

use anyhow::{Context, Result};
use k8s_cri::v1::PortForwardRequest;
use nix::sched::{CloneFlags, setns};
use tonic::Status;

use super::spdy::{Spdy, Stream};
use crate::cri::Cri;

/// The one protocol of port-forward.
pub const PROTOCOL: &str = "portforward.k8s.io";

/// The URL of a port-forward.
pub async fn url(cri: &Cri, pod: &str, ports: &[i32]) -> Result<String, Status> {
    let request = PortForwardRequest {
        pod_sandbox_id: pod.to_owned(),
        port: ports.to_vec(),
    };
    Ok(cri.runtime.clone().port_forward(request).await?.into_inner().url)
}

/// A connection for forwarding.
pub async fn connect(cri: &Cri, pod: &str) -> Result<Spdy> {
    Spdy::connect(&url(cri, pod, &[]).await.context("PortForward")?, &[PROTOCOL]).await
}

/// The streams of one forwarded connection.
pub struct Pair {
    /// Bytes to and from the port.
    pub data: Stream,
    /// Why it can't be.
    pub error: Stream,
}

impl Pair {
    /// Opens a pair, as kubectl does.
    pub async fn open(spdy: &mut Spdy, port: u16, id: &str) -> Result<Pair> {
        let port = port.to_string();
        let headers = |kind| [("streamtype", kind), ("port", port.as_str()), ("requestid", id)];
        let mut error = spdy.open(&headers("error")).await?;
        error.finish().await?;
        Ok(Pair {
            data: spdy.open(&headers("data")).await?,
            error,
        })
    }

    /// Sends `content`, half-closes, and reads what comes back.
    pub async fn exchange(&mut self, content: &[u8]) -> Result<Vec<u8>> {
        self.data.write(content).await?;
        self.data.finish().await?;
        self.data.read_to_end().await
    }
}

/// Runs `work` in the network namespace of a process, on a thread of its own.
pub fn inside<T: Send + 'static>(
    pid: i32,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let thread = std::thread::spawn(move || {
        let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        work()
    });
    Ok(thread
        .join()
        .map_err(|_| anyhow::anyhow!("the thread panicked"))??)
}
