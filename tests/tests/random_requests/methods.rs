//! Every RPC with a good request, which the random ones are made from.

use k8s_cri::v1::{
    AttachRequest, AuthConfig, CheckpointContainerRequest, ContainerFilter, ContainerStateValue,
    ContainerStatsFilter, ContainerStatusRequest, CreateContainerRequest, ExecRequest, ExecSyncRequest,
    ImageFilter, ImageStatusRequest, ListContainerStatsRequest, ListContainersRequest, ListImagesRequest,
    ListPodSandboxRequest, ListPodSandboxStatsRequest, NetworkConfig, PodSandboxFilter,
    PodSandboxStatsFilter, PodSandboxStatusRequest, PortForwardRequest, PullImageRequest,
    RunPodSandboxRequest, RuntimeConfig, StatusRequest, StopContainerRequest,
    UpdateContainerResourcesRequest, UpdateRuntimeConfigRequest, VersionRequest,
};
use pintle_tests::cri::spec;
use pintle_tests::mutate::message;
use pintle_tests::newer::UpdatePodRequest;
use prost::Message;

use super::base::Base;
use super::configs::{full_container, full_pod, resources};

/// An RPC.
pub(crate) struct Method {
    /// Service and name.
    pub(crate) path: &'static str,
    /// A request that is met.
    pub(crate) request: fn(&Base) -> Vec<u8>,
    /// It is answered in parts.
    pub(crate) is_stream: bool,
    /// How many random requests it gets, in relation to the others.
    pub(crate) weight: usize,
    /// It may answer that it isn't there.
    pub(crate) may_be_missing: bool,
}

const fn method(path: &'static str, weight: usize, request: fn(&Base) -> Vec<u8>) -> Method {
    Method {
        path,
        request,
        is_stream: false,
        weight,
        may_be_missing: false,
    }
}

const fn stream(path: &'static str, request: fn(&Base) -> Vec<u8>) -> Method {
    Method {
        is_stream: true,
        ..method(path, 1, request)
    }
}

const fn missing(path: &'static str, request: fn(&Base) -> Vec<u8>) -> Method {
    Method {
        may_be_missing: true,
        ..method(path, 1, request)
    }
}

/// A message with one id in its first field: most are no more than that.
fn one(id: &str) -> Vec<u8> {
    message(&[(1, id)])
}

fn containers(base: &Base) -> Vec<u8> {
    let filter = ContainerFilter {
        id: base.running.clone(),
        state: Some(ContainerStateValue { state: 1 }),
        pod_sandbox_id: base.pod.clone(),
        label_selector: [("container".into(), "running".into())].into(),
    };
    ListContainersRequest { filter: Some(filter) }.encode_to_vec()
}

fn pods(base: &Base) -> Vec<u8> {
    let filter = PodSandboxFilter {
        id: base.pod.clone(),
        label_selector: [("app".into(), "base".into())].into(),
        ..Default::default()
    };
    ListPodSandboxRequest { filter: Some(filter) }.encode_to_vec()
}

fn container_stats(base: &Base) -> Vec<u8> {
    let filter = ContainerStatsFilter {
        id: base.running.clone(),
        pod_sandbox_id: base.pod.clone(),
        label_selector: [("container".into(), "running".into())].into(),
    };
    ListContainerStatsRequest { filter: Some(filter) }.encode_to_vec()
}

fn pod_stats(base: &Base) -> Vec<u8> {
    let filter = PodSandboxStatsFilter {
        id: base.pod.clone(),
        label_selector: [("app".into(), "base".into())].into(),
    };
    ListPodSandboxStatsRequest { filter: Some(filter) }.encode_to_vec()
}

fn images(base: &Base) -> Vec<u8> {
    let image = Some(spec(&base.image));
    ListImagesRequest {
        filter: Some(ImageFilter { image }),
    }
    .encode_to_vec()
}

fn nothing(_: &Base) -> Vec<u8> {
    Vec::new()
}

/// Every RPC of CRI v1.
pub(crate) const METHODS: &[Method] = &[
    method("RuntimeService/Version", 1, |_| {
        VersionRequest {
            version: "0.1.0".into(),
        }
        .encode_to_vec()
    }),
    method("RuntimeService/Status", 1, |_| {
        StatusRequest { verbose: true }.encode_to_vec()
    }),
    method("RuntimeService/RuntimeConfig", 1, nothing),
    method("RuntimeService/UpdateRuntimeConfig", 1, |base| {
        let network_config = Some(NetworkConfig {
            pod_cidr: base.subnet.clone(),
        });
        UpdateRuntimeConfigRequest {
            runtime_config: Some(RuntimeConfig { network_config }),
        }
        .encode_to_vec()
    }),
    method("RuntimeService/RunPodSandbox", 10, |base| {
        RunPodSandboxRequest {
            config: Some(full_pod(base)),
            runtime_handler: String::new(),
        }
        .encode_to_vec()
    }),
    method("RuntimeService/StopPodSandbox", 1, |base| one(&base.pod)),
    method("RuntimeService/RemovePodSandbox", 1, |base| one(&base.pod)),
    method("RuntimeService/PodSandboxStatus", 1, |base| {
        PodSandboxStatusRequest {
            pod_sandbox_id: base.pod.clone(),
            verbose: true,
        }
        .encode_to_vec()
    }),
    method("RuntimeService/ListPodSandbox", 2, pods),
    stream("RuntimeService/StreamPodSandboxes", pods),
    method("RuntimeService/UpdatePodSandboxResources", 2, |base| {
        let (overhead, resources) = (Some(resources()), Some(resources()));
        UpdatePodRequest {
            pod_sandbox_id: base.pod.clone(),
            overhead,
            resources,
        }
        .encode_to_vec()
    }),
    method("RuntimeService/CreateContainer", 20, |base| {
        let (config, sandbox_config) = (Some(full_container(base)), Some(base.config.clone()));
        CreateContainerRequest {
            pod_sandbox_id: base.pod.clone(),
            config,
            sandbox_config,
        }
        .encode_to_vec()
    }),
    method("RuntimeService/StartContainer", 1, |base| one(&base.created)),
    method("RuntimeService/StopContainer", 2, |base| {
        StopContainerRequest {
            container_id: base.running.clone(),
            timeout: 30,
        }
        .encode_to_vec()
    }),
    method("RuntimeService/RemoveContainer", 1, |base| one(&base.running)),
    method("RuntimeService/ContainerStatus", 1, |base| {
        ContainerStatusRequest {
            container_id: base.running.clone(),
            verbose: true,
        }
        .encode_to_vec()
    }),
    method("RuntimeService/ListContainers", 2, containers),
    stream("RuntimeService/StreamContainers", containers),
    method("RuntimeService/UpdateContainerResources", 8, |base| {
        let (container_id, linux) = (base.running.clone(), Some(resources()));
        UpdateContainerResourcesRequest {
            container_id,
            linux,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    method("RuntimeService/ReopenContainerLog", 1, |base| one(&base.running)),
    method("RuntimeService/ExecSync", 4, |base| {
        let cmd = vec!["true".into(), "argument".into()];
        ExecSyncRequest {
            container_id: base.running.clone(),
            cmd,
            timeout: 10,
        }
        .encode_to_vec()
    }),
    method("RuntimeService/Exec", 2, |base| {
        let (container_id, cmd) = (base.running.clone(), vec!["true".into()]);
        ExecRequest {
            container_id,
            cmd,
            stdout: true,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    method("RuntimeService/Attach", 2, |base| {
        AttachRequest {
            container_id: base.running.clone(),
            stdout: true,
            ..Default::default()
        }
        .encode_to_vec()
    }),
    method("RuntimeService/PortForward", 2, |base| {
        PortForwardRequest {
            pod_sandbox_id: base.pod.clone(),
            port: vec![80, 443],
        }
        .encode_to_vec()
    }),
    method("RuntimeService/ContainerStats", 1, |base| one(&base.running)),
    method("RuntimeService/ListContainerStats", 1, container_stats),
    stream("RuntimeService/StreamContainerStats", container_stats),
    method("RuntimeService/PodSandboxStats", 1, |base| one(&base.pod)),
    method("RuntimeService/ListPodSandboxStats", 1, pod_stats),
    stream("RuntimeService/StreamPodSandboxStats", pod_stats),
    method("RuntimeService/ListMetricDescriptors", 1, nothing),
    method("RuntimeService/ListPodSandboxMetrics", 1, nothing),
    stream("RuntimeService/StreamPodSandboxMetrics", nothing),
    stream("RuntimeService/GetContainerEvents", nothing),
    missing("RuntimeService/CheckpointContainer", |base| {
        let (container_id, location) = (base.running.clone(), format!("{}/archive", base.folder));
        CheckpointContainerRequest {
            container_id,
            location,
            timeout: 10,
        }
        .encode_to_vec()
    }),
    missing("RuntimeService/CheckpointPod", |base| {
        message(&[(1, &base.pod), (2, &base.folder), (3, &base.running)])
    }),
    missing("RuntimeService/RestorePod", |base| {
        message(&[(1, &base.folder), (3, "")])
    }),
    method("ImageService/ListImages", 1, images),
    stream("ImageService/StreamImages", images),
    method("ImageService/ImageStatus", 2, |base| {
        ImageStatusRequest {
            image: Some(spec(&base.image)),
            verbose: true,
        }
        .encode_to_vec()
    }),
    method("ImageService/PullImage", 3, |base| {
        let auth = AuthConfig {
            username: "user".into(),
            password: "word".into(),
            ..Default::default()
        };
        let (image, sandbox_config) = (Some(spec(&base.image)), Some(base.config.clone()));
        PullImageRequest {
            image,
            auth: Some(auth),
            sandbox_config,
        }
        .encode_to_vec()
    }),
    method("ImageService/RemoveImage", 2, |base| {
        PullImageRequest {
            image: Some(spec(&base.image)),
            ..Default::default()
        }
        .encode_to_vec()
    }),
    method("ImageService/ImageFsInfo", 1, nothing),
];
