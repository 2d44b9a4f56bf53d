//! Checkpoints of pods.

use std::collections::HashMap;
use std::time::Duration;

use k8s_cri::v1::{ContainerConfig, PodSandboxConfig};
use prost::Message;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::{Nothing, path, ready, unary};

/// `CheckpointPodRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct CheckpointPodRequest {
    /// The pod.
    #[prost(string, tag = "1")]
    pub pod_sandbox_id: String,
    /// An empty folder.
    #[prost(string, tag = "2")]
    pub output_path: String,
    /// Which of its containers.
    #[prost(string, repeated, tag = "3")]
    pub container_ids: Vec<String>,
    /// None are known.
    #[prost(map = "string, string", tag = "4")]
    pub options: HashMap<String, String>,
}

/// `RestorePodRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct RestorePodRequest {
    /// What CheckpointPod wrote.
    #[prost(string, tag = "1")]
    pub checkpoint_path: String,
    /// The new pod.
    #[prost(message, optional, tag = "2")]
    pub config: Option<PodSandboxConfig>,
    /// Its handler.
    #[prost(string, tag = "3")]
    pub runtime_handler: String,
    /// None are known.
    #[prost(map = "string, string", tag = "4")]
    pub options: HashMap<String, String>,
    /// Its containers.
    #[prost(message, repeated, tag = "5")]
    pub container_configs: Vec<ContainerConfig>,
}

/// `RestorePodResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct RestorePodResponse {
    /// The new pod.
    #[prost(string, tag = "1")]
    pub pod_sandbox_id: String,
    /// Its containers.
    #[prost(message, repeated, tag = "2")]
    pub restored_containers: Vec<RestoredContainer>,
}

/// `RestoredContainer`.
#[derive(Clone, PartialEq, Message)]
pub struct RestoredContainer {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its id.
    #[prost(string, tag = "2")]
    pub container_id: String,
}

/// `CheckpointPod`, with a deadline or without.
pub async fn checkpoint_pod(
    channel: &Channel,
    request: CheckpointPodRequest,
    deadline: Option<Duration>,
) -> Result<(), Status> {
    let mut grpc: Grpc<Channel> = ready(channel).await?;
    let codec = ProstCodec::<CheckpointPodRequest, Nothing>::default();
    let mut request = Request::new(request);
    if let Some(deadline) = deadline {
        request.set_timeout(deadline);
    }
    grpc.unary(request, path("runtime.v1.RuntimeService/CheckpointPod")?, codec)
        .await
        .map(drop)
}

/// `RestorePod`.
pub async fn restore_pod(
    channel: &Channel,
    request: RestorePodRequest,
) -> Result<RestorePodResponse, Status> {
    unary(channel, "runtime.v1.RuntimeService/RestorePod", request).await
}
