//! Messages exchanged with the bindings of another project (`k8s-cri`): what one encodes, the other decodes.
//!
//! Every message is filled to the last field from the schema itself, so no field is forgotten.

use std::{collections::BTreeSet, fmt::Debug};

use pintle_cri::proto;
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

/// Fields that came to CRI after `k8s-cri` was last brought up to date.
const NEWER_FIELDS: &[(&str, &str)] = &[
    ("ContainerConfig", "stop_signal"),
    ("ContainerStats", "io"),
    ("ContainerStatus", "stop_signal"),
    ("CpuUsage", "psi"),
    ("ImageSpec", "image_ref"),
    // Known there, but still as text.
    ("KeyValue", "value"),
    ("LinuxPodSandboxStats", "io"),
    ("MemoryUsage", "psi"),
    ("Mount", "image_sub_path"),
    ("Mount", "mount_options"),
    ("RuntimeFeatures", "mount_options"),
    ("RuntimeFeatures", "user_namespaces_host_network"),
];

/// Messages that `k8s-cri` does not have yet.
const NEWER_MESSAGES: &[&str] = &[
    "CheckpointPodRequest",
    "CheckpointPodResponse",
    "IoUsage",
    "PsiData",
    "PsiStats",
    "RestorePodRequest",
    "RestorePodResponse",
    "RestoredContainer",
    "StreamContainerStatsRequest",
    "StreamContainerStatsResponse",
    "StreamContainersRequest",
    "StreamContainersResponse",
    "StreamImagesRequest",
    "StreamImagesResponse",
    "StreamPodSandboxMetricsRequest",
    "StreamPodSandboxMetricsResponse",
    "StreamPodSandboxStatsRequest",
    "StreamPodSandboxStatsResponse",
    "StreamPodSandboxesRequest",
    "StreamPodSandboxesResponse",
    "UpdatePodSandboxResourcesRequest",
    "UpdatePodSandboxResourcesResponse",
];

/// Exchanges each of the named messages, and tells their names.
macro_rules! exchange {
    ($schema:expr, $($message:ident),* $(,)?) => {
        [$({
            exchange::<proto::$message, k8s_cri::v1::$message>($schema, stringify!($message));
            stringify!($message)
        }),*]
    };
}

#[test]
fn every_message_is_understood_both_ways() {
    let schema = Schema::new();
    #[rustfmt::skip]
    let exchanged = exchange!(
        &schema,
        AttachRequest, AttachResponse, AuthConfig, CdiDevice, Capability, CheckpointContainerRequest,
        CheckpointContainerResponse, Container, ContainerAttributes, ContainerConfig,
        ContainerEventResponse, ContainerFilter, ContainerMetadata, ContainerMetrics, ContainerResources,
        ContainerStateValue, ContainerStats, ContainerStatsFilter, ContainerStatsRequest,
        ContainerStatsResponse, ContainerStatus, ContainerStatusRequest, ContainerStatusResponse,
        ContainerUser, CpuUsage, CreateContainerRequest, CreateContainerResponse, DnsConfig, Device,
        ExecRequest, ExecResponse, ExecSyncRequest, ExecSyncResponse, FilesystemIdentifier, FilesystemUsage,
        GetEventsRequest, HugepageLimit, IdMapping, Image, ImageFilter, ImageFsInfoRequest,
        ImageFsInfoResponse, ImageSpec, ImageStatusRequest, ImageStatusResponse, Int64Value, KeyValue,
        LinuxContainerConfig, LinuxContainerResources, LinuxContainerSecurityContext, LinuxContainerUser,
        LinuxPodSandboxConfig, LinuxPodSandboxStats, LinuxPodSandboxStatus, LinuxRuntimeConfiguration,
        LinuxSandboxSecurityContext, ListContainerStatsRequest, ListContainerStatsResponse,
        ListContainersRequest, ListContainersResponse, ListImagesRequest, ListImagesResponse,
        ListMetricDescriptorsRequest, ListMetricDescriptorsResponse, ListPodSandboxMetricsRequest,
        ListPodSandboxMetricsResponse, ListPodSandboxRequest, ListPodSandboxResponse,
        ListPodSandboxStatsRequest, ListPodSandboxStatsResponse, MemoryUsage, Metric, MetricDescriptor,
        Mount, Namespace, NamespaceOption, NetworkConfig, NetworkInterfaceUsage, NetworkUsage, PodIp,
        PodSandbox, PodSandboxAttributes, PodSandboxConfig, PodSandboxFilter, PodSandboxMetadata,
        PodSandboxMetrics, PodSandboxNetworkStatus, PodSandboxStateValue, PodSandboxStats,
        PodSandboxStatsFilter, PodSandboxStatsRequest, PodSandboxStatsResponse, PodSandboxStatus,
        PodSandboxStatusRequest, PodSandboxStatusResponse, PortForwardRequest, PortForwardResponse,
        PortMapping, ProcessUsage, PullImageRequest, PullImageResponse, RemoveContainerRequest,
        RemoveContainerResponse, RemoveImageRequest, RemoveImageResponse, RemovePodSandboxRequest,
        RemovePodSandboxResponse, ReopenContainerLogRequest, ReopenContainerLogResponse,
        RunPodSandboxRequest, RunPodSandboxResponse, RuntimeCondition, RuntimeConfig, RuntimeConfigRequest,
        RuntimeConfigResponse, RuntimeFeatures, RuntimeHandler, RuntimeHandlerFeatures, RuntimeStatus,
        SeLinuxOption, SecurityProfile, StartContainerRequest, StartContainerResponse, StatusRequest,
        StatusResponse, StopContainerRequest, StopContainerResponse, StopPodSandboxRequest,
        StopPodSandboxResponse, SwapUsage, UInt64Value, UpdateContainerResourcesRequest,
        UpdateContainerResourcesResponse, UpdateRuntimeConfigRequest, UpdateRuntimeConfigResponse,
        UserNamespace, VersionRequest, VersionResponse, WindowsContainerConfig, WindowsContainerResources,
        WindowsContainerSecurityContext, WindowsContainerStats, WindowsCpuGroupAffinity, WindowsCpuUsage,
        WindowsFilesystemUsage, WindowsMemoryUsage, WindowsNamespaceOption, WindowsNetworkInterfaceUsage,
        WindowsNetworkUsage, WindowsPodSandboxConfig, WindowsPodSandboxStats, WindowsProcessUsage,
        WindowsSandboxSecurityContext,
    );
    let known: BTreeSet<_> = exchanged
        .iter()
        .chain(NEWER_MESSAGES)
        .map(|m| m.to_lowercase())
        .collect();
    let all: BTreeSet<_> = schema.messages().map(|m| m.name().to_lowercase()).collect();
    assert_eq!(known, all);
}

#[test]
fn newer_fields_are_really_unknown_there() {
    // Where this fails, k8s-cri has learnt the field: take it off the list.
    let schema = Schema::new();
    let mut spec = Vec::new();
    schema.fill("ImageSpec", &[], &mut spec);
    let there = k8s_cri::v1::ImageSpec::decode(&spec[..]).expect("decodes there");
    let back = proto::ImageSpec::decode(&there.encode_to_vec()[..]).expect("decodes here");
    assert_eq!(back.image_ref, "");
    assert!(!back.image.is_empty());
}

#[test]
fn a_pod_request_keeps_its_meaning() {
    let there = k8s_cri::v1::RunPodSandboxRequest {
        config: Some(k8s_cri::v1::PodSandboxConfig {
            metadata: Some(k8s_cri::v1::PodSandboxMetadata {
                name: "web".to_owned(),
                uid: "u-1".to_owned(),
                namespace: "default".to_owned(),
                attempt: 2,
            }),
            port_mappings: vec![k8s_cri::v1::PortMapping {
                protocol: k8s_cri::v1::Protocol::Udp.into(),
                container_port: 53,
                host_port: 5353,
                host_ip: "127.0.0.1".to_owned(),
            }],
            ..Default::default()
        }),
        runtime_handler: "test-handler".to_owned(),
    };
    let here = proto::RunPodSandboxRequest::decode(&there.encode_to_vec()[..]).expect("decodes here");
    assert_eq!(here.runtime_handler, "test-handler");
    let config = here.config.expect("a config");
    let metadata = config.metadata.expect("metadata");
    assert_eq!((metadata.name.as_str(), metadata.uid.as_str()), ("web", "u-1"));
    assert_eq!((metadata.namespace.as_str(), metadata.attempt), ("default", 2));
    assert_eq!(config.port_mappings[0].protocol(), proto::Protocol::Udp);
    assert_eq!(config.port_mappings[0].host_port, 5353);
}

#[test]
fn environment_values_may_be_any_bytes() {
    let there = k8s_cri::v1::KeyValue {
        key: "K".to_owned(),
        value: "text".to_owned(),
    };
    let here = proto::KeyValue::decode(&there.encode_to_vec()[..]).expect("decodes here");
    assert_eq!(here.value, b"text");

    let value = proto::KeyValue {
        key: "K".to_owned(),
        value: vec![0xff, 0xfe],
    };
    let json = serde_json::to_string(&value).expect("to JSON");
    assert_eq!(
        serde_json::from_str::<proto::KeyValue>(&json).expect("from JSON"),
        value
    );
}

/// Filled by the schema, through the other project's type, and back.
fn exchange<Here: Message + Default + PartialEq + Debug, There: Message + Default + Debug>(
    schema: &Schema,
    name: &str,
) {
    let mut bytes = Vec::new();
    schema.fill(name, NEWER_FIELDS, &mut bytes);
    let there = There::decode(&bytes[..]).unwrap_or_else(|e| panic!("{name} does not decode there: {e}"));
    let here = Here::decode(&bytes[..]).unwrap_or_else(|e| panic!("{name} does not decode here: {e}"));

    let from_there = Here::decode(&there.encode_to_vec()[..]).expect("decodes here");
    assert!(
        from_there == here,
        "{name} changes on the way through k8s-cri:\n{here:#?}\n{from_there:#?}"
    );
    assert_eq!(here.encoded_len(), there.encoded_len(), "{name}");
    assert_names_agree(name, &format!("{there:#?}"), &format!("{here:#?}"));
}

/// Every line that they print (field names, values, enum names) is in ours, in the same order; but for the one value
/// that is text there and bytes here.
fn assert_names_agree(name: &str, theirs: &str, ours: &str) {
    let mut rest = ours.lines();
    for line in theirs.lines().filter(|l| l.trim() != "value: \"\",") {
        assert!(rest.any(|l| l == line), "{name}: `{line}` is not in\n{ours}");
    }
}

/// The compiled schema, and the bytes of messages in which every field is set.
struct Schema(FileDescriptorSet);

impl Schema {
    fn new() -> Self {
        Self(FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).expect("the descriptor set decodes"))
    }

    fn messages(&self) -> impl Iterator<Item = &DescriptorProto> {
        self.0.file[0].message_type.iter()
    }

    /// By the name in the schema, or by the Rust type's (`IDMapping`, `IdMapping`).
    fn fill(&self, name: &str, without: &[(&str, &str)], out: &mut Vec<u8>) {
        let message = self
            .messages()
            .find(|m| m.name().eq_ignore_ascii_case(name))
            .expect("a message of the schema");
        for field in message
            .field
            .iter()
            .filter(|f| !without.contains(&(message.name(), f.name())))
        {
            self.field(message, field, without, out);
        }
    }

    /// Numbers are the field's own, so that fields that are swapped are seen.
    fn field(
        &self,
        message: &DescriptorProto,
        field: &FieldDescriptorProto,
        without: &[(&str, &str)],
        out: &mut Vec<u8>,
    ) {
        let tag = u32::try_from(field.number()).expect("a positive number");
        let type_name = field.type_name().rsplit('.').next().unwrap_or_default();
        match field.r#type() {
            Type::String | Type::Bytes => {
                delimited(tag, format!("{}-{tag}", field.name()).as_bytes(), out);
            }
            Type::Message => {
                let mut inner = Vec::new();
                match message.nested_type.iter().find(|n| n.name() == type_name) {
                    Some(entry) => {
                        entry
                            .field
                            .iter()
                            .for_each(|f| self.field(entry, f, without, &mut inner));
                    }
                    None => self.fill(type_name, without, &mut inner),
                }
                delimited(tag, &inner, out);
            }
            Type::Double => {
                encode_key(tag, WireType::SixtyFourBit, out);
                out.extend_from_slice(&(f64::from(tag) + 0.5).to_le_bytes());
            }
            Type::Bool | Type::Enum => varint(tag, 1, field, out),
            _ => varint(tag, u64::from(tag) + 1000, field, out),
        }
    }
}

fn delimited(tag: u32, value: &[u8], out: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// Repeated numbers are packed, as proto3 has them.
fn varint(tag: u32, value: u64, field: &FieldDescriptorProto, out: &mut Vec<u8>) {
    if field.label() == Label::Repeated {
        let mut packed = Vec::new();
        encode_varint(value, &mut packed);
        delimited(tag, &packed, out);
    } else {
        encode_key(tag, WireType::Varint, out);
        encode_varint(value, out);
    }
}
