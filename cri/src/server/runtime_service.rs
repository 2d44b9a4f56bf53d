//! The table of RuntimeService: each RPC leads to the file of its name.

use tonic::{Request, Response, Status};

use super::stream_lists::Parts;
use super::{
    Service, attach, checkpoint_container, checkpoint_pod, container_stats, container_status,
    create_container, exec, exec_sync, get_container_events, list_containers, list_pod_sandbox,
    pod_sandbox_metrics, pod_sandbox_stats, pod_sandbox_status, port_forward, remove_container,
    remove_pod_sandbox, reopen_container_log, restore_pod, run_pod_sandbox, runtime_config, start_container,
    status, stop_container, stop_pod_sandbox, stream_lists, update_container_resources,
    update_pod_sandbox_resources, version,
};
use crate::error::Result;
use crate::proto::runtime_service_server::RuntimeService;
use crate::proto::*;

type Answer<T> = Result<Response<T>, Status>;

fn reply<T>(done: Result<T>) -> Answer<T> {
    done.map(Response::new).map_err(Status::from)
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

    type StreamPodSandboxesStream = Parts<StreamPodSandboxesResponse>;
    async fn stream_pod_sandboxes(
        &self,
        request: Request<StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        reply(stream_lists::pod_sandboxes(&self.core, request.into_inner()).await)
    }

    type StreamContainersStream = Parts<StreamContainersResponse>;
    async fn stream_containers(
        &self,
        request: Request<StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        reply(stream_lists::containers(&self.core, request.into_inner()).await)
    }

    async fn update_container_resources(
        &self,
        request: Request<UpdateContainerResourcesRequest>,
    ) -> Answer<UpdateContainerResourcesResponse> {
        reply(update_container_resources::update_container_resources(&self.core, request.into_inner()).await)
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

    async fn container_stats(
        &self,
        request: Request<ContainerStatsRequest>,
    ) -> Answer<ContainerStatsResponse> {
        reply(container_stats::container_stats(&self.core, request.into_inner()).await)
    }

    async fn list_container_stats(
        &self,
        request: Request<ListContainerStatsRequest>,
    ) -> Answer<ListContainerStatsResponse> {
        reply(container_stats::list_container_stats(&self.core, request.into_inner()).await)
    }

    type StreamContainerStatsStream = Parts<StreamContainerStatsResponse>;
    async fn stream_container_stats(
        &self,
        request: Request<StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        reply(stream_lists::container_stats(&self.core, request.into_inner()).await)
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<PodSandboxStatsRequest>,
    ) -> Answer<PodSandboxStatsResponse> {
        reply(pod_sandbox_stats::pod_sandbox_stats(&self.core, request.into_inner()).await)
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<ListPodSandboxStatsRequest>,
    ) -> Answer<ListPodSandboxStatsResponse> {
        reply(pod_sandbox_stats::list_pod_sandbox_stats(&self.core, request.into_inner()).await)
    }

    type StreamPodSandboxStatsStream = Parts<StreamPodSandboxStatsResponse>;
    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        reply(stream_lists::pod_sandbox_stats(&self.core, request.into_inner()).await)
    }

    async fn checkpoint_container(
        &self,
        request: Request<CheckpointContainerRequest>,
    ) -> Answer<CheckpointContainerResponse> {
        reply(checkpoint_container::checkpoint_container(&self.core, request.into_inner()).await)
    }

    async fn checkpoint_pod(&self, request: Request<CheckpointPodRequest>) -> Answer<CheckpointPodResponse> {
        let (headers, _, request) = request.into_parts();
        reply(checkpoint_pod::checkpoint_pod(&self.core, &headers, request).await)
    }

    async fn restore_pod(&self, request: Request<RestorePodRequest>) -> Answer<RestorePodResponse> {
        reply(restore_pod::restore_pod(&self.core, request.into_inner()).await)
    }

    type GetContainerEventsStream = get_container_events::EventStream;
    async fn get_container_events(
        &self,
        request: Request<GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        get_container_events::get_container_events(&self.core, request.metadata()).map_err(Status::from)
    }

    async fn list_metric_descriptors(
        &self,
        request: Request<ListMetricDescriptorsRequest>,
    ) -> Answer<ListMetricDescriptorsResponse> {
        reply(pod_sandbox_metrics::list_metric_descriptors(&self.core, request.into_inner()).await)
    }

    async fn list_pod_sandbox_metrics(
        &self,
        request: Request<ListPodSandboxMetricsRequest>,
    ) -> Answer<ListPodSandboxMetricsResponse> {
        reply(pod_sandbox_metrics::list_pod_sandbox_metrics(&self.core, request.into_inner()).await)
    }

    type StreamPodSandboxMetricsStream = Parts<StreamPodSandboxMetricsResponse>;
    async fn stream_pod_sandbox_metrics(
        &self,
        request: Request<StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        reply(stream_lists::pod_sandbox_metrics(&self.core, request.into_inner()).await)
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<UpdatePodSandboxResourcesRequest>,
    ) -> Answer<UpdatePodSandboxResourcesResponse> {
        reply(
            update_pod_sandbox_resources::update_pod_sandbox_resources(&self.core, request.into_inner())
                .await,
        )
    }
}
