//! The CRI client: k8s-cri's generated one over the daemon's socket, with the calls the tests make most spelt short.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{
    Container, ContainerConfig, ContainerStatus, ContainerStatusRequest, CreateContainerRequest,
    ExecSyncRequest, ExecSyncResponse, Image, ImageSpec, ImageStatusRequest, ListContainersRequest,
    ListImagesRequest, ListPodSandboxRequest, PodSandbox, PodSandboxConfig, PodSandboxStatus,
    PodSandboxStatusRequest, PullImageRequest, RemoveContainerRequest, RemoveImageRequest,
    RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest, StopContainerRequest,
    StopPodSandboxRequest,
};
use tokio::net::UnixStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::wait;

/// What kubelet and crictl allow per message.
const MAX_MESSAGE: usize = 16 << 20;

/// No call of the tests may take longer.
const CALL_LIMIT: Duration = Duration::from_secs(120);

/// A connected client of both services; clones share the connection.
#[derive(Debug, Clone)]
pub struct Cri {
    /// The connection itself, for calls and messages that k8s-cri doesn't have.
    pub channel: Channel,
    /// All of `RuntimeService`.
    pub runtime: RuntimeServiceClient<Channel>,
    /// All of `ImageService`.
    pub images: ImageServiceClient<Channel>,
}

impl Cri {
    /// Connects to a unix socket.
    pub async fn connect(socket: &Path) -> Result<Cri> {
        let path = socket.to_owned();
        let connector = service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The URI is a formality: the connector goes to the socket.
        let endpoint = Endpoint::from_static("http://localhost").timeout(wait::scaled(CALL_LIMIT));
        let channel = endpoint
            .connect_with_connector(connector)
            .await
            .with_context(|| format!("connect to {}", socket.display()))?;
        Ok(Cri {
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
            images: ImageServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
            channel,
        })
    }

    /// `PullImage` without credentials; the answer's `image_ref`.
    pub async fn pull(&self, reference: &str) -> Result<String, Status> {
        let request = PullImageRequest {
            image: Some(spec(reference)),
            ..Default::default()
        };
        Ok(self
            .images
            .clone()
            .pull_image(request)
            .await?
            .into_inner()
            .image_ref)
    }

    /// `ImageStatus`; none if the image is not there.
    pub async fn image(&self, reference: &str) -> Result<Option<Image>, Status> {
        let request = ImageStatusRequest {
            image: Some(spec(reference)),
            verbose: false,
        };
        Ok(self
            .images
            .clone()
            .image_status(request)
            .await?
            .into_inner()
            .image)
    }

    /// `ListImages` without a filter.
    pub async fn image_list(&self) -> Result<Vec<Image>, Status> {
        Ok(self
            .images
            .clone()
            .list_images(ListImagesRequest::default())
            .await?
            .into_inner()
            .images)
    }

    /// `RemoveImage`.
    pub async fn remove_image(&self, reference: &str) -> Result<(), Status> {
        let request = RemoveImageRequest {
            image: Some(spec(reference)),
        };
        self.images.clone().remove_image(request).await.map(drop)
    }

    /// `RunPodSandbox` with the default handler; the pod's id.
    pub async fn run_pod(&self, config: &PodSandboxConfig) -> Result<String, Status> {
        self.run_pod_on("", config).await
    }

    /// `RunPodSandbox` with a runtime handler; the pod's id.
    pub async fn run_pod_on(&self, handler: &str, config: &PodSandboxConfig) -> Result<String, Status> {
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: handler.to_owned(),
        };
        Ok(self
            .runtime
            .clone()
            .run_pod_sandbox(request)
            .await?
            .into_inner()
            .pod_sandbox_id)
    }

    /// `StopPodSandbox`.
    pub async fn stop_pod(&self, id: &str) -> Result<(), Status> {
        let request = StopPodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        self.runtime.clone().stop_pod_sandbox(request).await.map(drop)
    }

    /// `RemovePodSandbox`.
    pub async fn remove_pod(&self, id: &str) -> Result<(), Status> {
        let request = RemovePodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        self.runtime.clone().remove_pod_sandbox(request).await.map(drop)
    }

    /// `PodSandboxStatus`.
    pub async fn pod_status(&self, id: &str) -> Result<PodSandboxStatus, Status> {
        let request = PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
            verbose: false,
        };
        let response = self
            .runtime
            .clone()
            .pod_sandbox_status(request)
            .await?
            .into_inner();
        response
            .status
            .ok_or_else(|| Status::internal("PodSandboxStatus without a status"))
    }

    /// The pod's first address; empty for a pod on the host's network.
    pub async fn pod_ip(&self, id: &str) -> Result<String, Status> {
        Ok(self
            .pod_status(id)
            .await?
            .network
            .map(|n| n.ip)
            .unwrap_or_default())
    }

    /// `ListPodSandbox` without a filter.
    pub async fn pods(&self) -> Result<Vec<PodSandbox>, Status> {
        Ok(self
            .runtime
            .clone()
            .list_pod_sandbox(ListPodSandboxRequest::default())
            .await?
            .into_inner()
            .items)
    }

    /// `CreateContainer`; the container's id.
    pub async fn create(
        &self,
        pod: &str,
        pod_config: &PodSandboxConfig,
        config: &ContainerConfig,
    ) -> Result<String, Status> {
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config.clone()),
            sandbox_config: Some(pod_config.clone()),
        };
        Ok(self
            .runtime
            .clone()
            .create_container(request)
            .await?
            .into_inner()
            .container_id)
    }

    /// `StartContainer`.
    pub async fn start(&self, id: &str) -> Result<(), Status> {
        let request = StartContainerRequest {
            container_id: id.to_owned(),
        };
        self.runtime.clone().start_container(request).await.map(drop)
    }

    /// `StopContainer` with a grace period in seconds.
    pub async fn stop(&self, id: &str, timeout: i64) -> Result<(), Status> {
        let request = StopContainerRequest {
            container_id: id.to_owned(),
            timeout,
        };
        self.runtime.clone().stop_container(request).await.map(drop)
    }

    /// `RemoveContainer`.
    pub async fn remove(&self, id: &str) -> Result<(), Status> {
        let request = RemoveContainerRequest {
            container_id: id.to_owned(),
        };
        self.runtime.clone().remove_container(request).await.map(drop)
    }

    /// `ContainerStatus`.
    pub async fn status(&self, id: &str) -> Result<ContainerStatus, Status> {
        let request = ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: false,
        };
        let response = self.runtime.clone().container_status(request).await?.into_inner();
        response
            .status
            .ok_or_else(|| Status::internal("ContainerStatus without a status"))
    }

    /// `ListContainers` without a filter.
    pub async fn containers(&self) -> Result<Vec<Container>, Status> {
        Ok(self
            .runtime
            .clone()
            .list_containers(ListContainersRequest::default())
            .await?
            .into_inner()
            .containers)
    }

    /// `ExecSync`, with a time limit in seconds; 0 is none.
    pub async fn exec(&self, id: &str, command: &[&str], timeout: i64) -> Result<ExecSyncResponse, Status> {
        let cmd = command.iter().map(|&word| word.to_owned()).collect();
        let request = ExecSyncRequest {
            container_id: id.to_owned(),
            cmd,
            timeout,
        };
        Ok(self.runtime.clone().exec_sync(request).await?.into_inner())
    }
}

/// The image as requests name it.
pub fn spec(reference: &str) -> ImageSpec {
    ImageSpec {
        image: reference.to_owned(),
        ..Default::default()
    }
}
