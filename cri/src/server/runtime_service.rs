//! The table of RuntimeService: each RPC leads to the file of its name. What isn't done yet answers `Unimplemented`.

use tonic::{Request, Response, Status};

use super::{
    Service, attach, container_status, create_container, exec, exec_sync, list_containers, list_pod_sandbox,
    pod_sandbox_status, port_forward, remove_container, remove_pod_sandbox, reopen_container_log,
    run_pod_sandbox, runtime_config, start_container, status, stop_container, stop_pod_sandbox, version,
};
use crate::error::Result;
use crate::proto::runtime_service_server::RuntimeService;
use crate::proto::*;

/// The streams of RPCs that aren't done yet.
type NoStream<T> = tokio_stream::Empty<Result<T, Status>>;
type Answer<T> = Result<Response<T>, Status>;

fn reply<T>(done: Result<T>) -> Answer<T> {
    done.map(Response::new).map_err(Status::from)
}

fn not_done<T>(rpc: &str) -> Result<T, Status> {
    Err(Status::unimplemented(format!("{rpc} is not done yet")))
}

#[tonic::async_trait]
impl RuntimeService for Service {
    async fn version(&self, request: Request<VersionRequest>) -> Answer<VersionResponse> {
        reply(version::version(&self.core, request.into_inner()).await)
    }

    async fn run_pod_sandbox(&self, request: Request<RunPodSandboxRequest>) -> Answer<RunPodSandboxResponse> {
        reply(run_pod_sandbox::run_pod_sandbox(&self.core, request.into_inner()).await)
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<StopPodSandboxRequest>,
    ) -> Answer<StopPodSandboxResponse> {
        reply(stop_pod_sandbox::stop_pod_sandbox(&self.core, request.into_inner()).await)
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<RemovePodSandboxRequest>,
    ) -> Answer<RemovePodSandboxResponse> {
        reply(remove_pod_sandbox::remove_pod_sandbox(&self.core, request.into_inner()).await)
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<PodSandboxStatusRequest>,
    ) -> Answer<PodSandboxStatusResponse> {
        reply(pod_sandbox_status::pod_sandbox_status(&self.core, request.into_inner()).await)
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<ListPodSandboxRequest>,
    ) -> Answer<ListPodSandboxResponse> {
        reply(list_pod_sandbox::list_pod_sandbox(&self.core, request.into_inner()).await)
    }

    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Answer<CreateContainerResponse> {
        reply(create_container::create_container(&self.core, request.into_inner()).await)
    }

    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Answer<StartContainerResponse> {
        reply(start_container::start_container(&self.core, request.into_inner()).await)
    }

    async fn stop_container(&self, request: Request<StopContainerRequest>) -> Answer<StopContainerResponse> {
        reply(stop_container::stop_container(&self.core, request.into_inner()).await)
    }

    async fn remove_container(
        &self,
        request: Request<RemoveContainerRequest>,
    ) -> Answer<RemoveContainerResponse> {
        reply(remove_container::remove_container(&self.core, request.into_inner()).await)
    }

    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Answer<ListContainersResponse> {
        reply(list_containers::list_containers(&self.core, request.into_inner()).await)
    }

    async fn container_status(
        &self,
        request: Request<ContainerStatusRequest>,
    ) -> Answer<ContainerStatusResponse> {
        reply(container_status::container_status(&self.core, request.into_inner()).await)
    }

    async fn reopen_container_log(
        &self,
        request: Request<ReopenContainerLogRequest>,
    ) -> Answer<ReopenContainerLogResponse> {
        reply(reopen_container_log::reopen_container_log(&self.core, request.into_inner()).await)
    }

    async fn exec_sync(&self, request: Request<ExecSyncRequest>) -> Answer<ExecSyncResponse> {
        reply(exec_sync::exec_sync(&self.core, request.into_inner()).await)
    }

    async fn update_runtime_config(
        &self,
        request: Request<UpdateRuntimeConfigRequest>,
    ) -> Answer<UpdateRuntimeConfigResponse> {
        reply(runtime_config::update(&self.core, request.into_inner()).await)
    }

    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusResponse> {
        reply(status::status(&self.core, request.into_inner()).await)
    }

    async fn runtime_config(&self, request: Request<RuntimeConfigRequest>) -> Answer<RuntimeConfigResponse> {
        reply(runtime_config::get(&self.core, request.into_inner()).await)
    }

    type StreamPodSandboxesStream = NoStream<StreamPodSandboxesResponse>;
    async fn stream_pod_sandboxes(
        &self,
        _: Request<StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        not_done("StreamPodSandboxes")
    }

    type StreamContainersStream = NoStream<StreamContainersResponse>;
    async fn stream_containers(
        &self,
        _: Request<StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        not_done("StreamContainers")
    }

    async fn update_container_resources(
        &self,
        _: Request<UpdateContainerResourcesRequest>,
    ) -> Answer<UpdateContainerResourcesResponse> {
        not_done("UpdateContainerResources")
    }

    async fn exec(&self, request: Request<ExecRequest>) -> Answer<ExecResponse> {
        reply(exec::exec(&self.core, request.into_inner()).await)
    }

    async fn attach(&self, request: Request<AttachRequest>) -> Answer<AttachResponse> {
        reply(attach::attach(&self.core, request.into_inner()).await)
    }

    async fn port_forward(&self, request: Request<PortForwardRequest>) -> Answer<PortForwardResponse> {
        reply(port_forward::port_forward(&self.core, request.into_inner()).await)
    }

    async fn container_stats(&self, _: Request<ContainerStatsRequest>) -> Answer<ContainerStatsResponse> {
        not_done("ContainerStats")
    }

    async fn list_container_stats(
        &self,
        _: Request<ListContainerStatsRequest>,
    ) -> Answer<ListContainerStatsResponse> {
        not_done("ListContainerStats")
    }

    type StreamContainerStatsStream = NoStream<StreamContainerStatsResponse>;
    async fn stream_container_stats(
        &self,
        _: Request<StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        not_done("StreamContainerStats")
    }

    async fn pod_sandbox_stats(&self, _: Request<PodSandboxStatsRequest>) -> Answer<PodSandboxStatsResponse> {
        not_done("PodSandboxStats")
    }

    async fn list_pod_sandbox_stats(
        &self,
        _: Request<ListPodSandboxStatsRequest>,
    ) -> Answer<ListPodSandboxStatsResponse> {
        not_done("ListPodSandboxStats")
    }

    type StreamPodSandboxStatsStream = NoStream<StreamPodSandboxStatsResponse>;
    async fn stream_pod_sandbox_stats(
        &self,
        _: Request<StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        not_done("StreamPodSandboxStats")
    }

    async fn checkpoint_container(
        &self,
        _: Request<CheckpointContainerRequest>,
    ) -> Answer<CheckpointContainerResponse> {
        not_done("CheckpointContainer")
    }

    async fn checkpoint_pod(&self, _: Request<CheckpointPodRequest>) -> Answer<CheckpointPodResponse> {
        not_done("CheckpointPod")
    }

    async fn restore_pod(&self, _: Request<RestorePodRequest>) -> Answer<RestorePodResponse> {
        not_done("RestorePod")
    }

    type GetContainerEventsStream = NoStream<ContainerEventResponse>;
    async fn get_container_events(
        &self,
        _: Request<GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        not_done("GetContainerEvents")
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<ListMetricDescriptorsRequest>,
    ) -> Answer<ListMetricDescriptorsResponse> {
        not_done("ListMetricDescriptors")
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<ListPodSandboxMetricsRequest>,
    ) -> Answer<ListPodSandboxMetricsResponse> {
        not_done("ListPodSandboxMetrics")
    }

    type StreamPodSandboxMetricsStream = NoStream<StreamPodSandboxMetricsResponse>;
    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        not_done("StreamPodSandboxMetrics")
    }

    async fn update_pod_sandbox_resources(
        &self,
        _: Request<UpdatePodSandboxResourcesRequest>,
    ) -> Answer<UpdatePodSandboxResourcesResponse> {
        not_done("UpdatePodSandboxResources")
    }
}
