//! The connection to the daemon.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::proto::admin::images_client::ImagesClient;
use crate::proto::cri::image_service_client::ImageServiceClient;
use crate::proto::cri::runtime_service_client::RuntimeServiceClient;

/// Lists of images may be long.
const MAX_MESSAGE: usize = 64 << 20;

/// Both services that images are asked of.
pub(crate) struct Daemon {
    /// The CRI's.
    pub(crate) cri: ImageServiceClient<Channel>,
    /// Our own.
    pub(crate) images: ImagesClient<Channel>,
}

impl Daemon {
    /// Connects to a daemon's socket.
    pub(crate) async fn connect(socket: &Path) -> Result<Daemon> {
        let channel = channel(socket).await?;
        Ok(Daemon {
            cri: ImageServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE),
            images: ImagesClient::new(channel).max_decoding_message_size(MAX_MESSAGE),
        })
    }
}

/// The CRI's service of pods and containers.
pub(crate) async fn runtime(socket: &Path) -> Result<RuntimeServiceClient<Channel>> {
    Ok(RuntimeServiceClient::new(channel(socket).await?).max_decoding_message_size(MAX_MESSAGE))
}

async fn channel(socket: &Path) -> Result<Channel> {
    let path = socket.to_owned();
    let connector = service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The URI is a formality: the connector goes to the socket.
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await;
    channel.with_context(|| format!("is pintled running? connect to {}", socket.display()))
}

/// The daemon's own words; its code says nothing to a reader.
#[expect(clippy::needless_pass_by_value, reason = "what map_err wants")]
pub(crate) fn said(status: Status) -> anyhow::Error {
    anyhow!("{}", status.message())
}
