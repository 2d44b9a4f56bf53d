//! Calls and messages that came to CRI after k8s-cri was last brought up to date, as far as the tests need them; the
//! numbers are those of the published schema.

pub mod checkpoint;

use k8s_cri::v1::{
    Container, ContainerConfig, ContainerFilter, ContainerStatsFilter, ContainerStatusRequest,
    CreateContainerRequest, CreateContainerResponse, Image, ImageFilter, LinuxContainerResources, PodSandbox,
    PodSandboxConfig, PodSandboxFilter, PodSandboxMetrics, PodSandboxStats, PodSandboxStatsFilter,
};
use prost::bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType, skip_field};
use prost::{DecodeError, Message};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// Declares a message of one or two fields.
macro_rules! message {
    ($(#[$doc:meta])* $name:ident { $(#[$field_doc:meta] #[prost($($attribute:tt)*)] $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Message)]
        pub struct $name { $(#[$field_doc] #[prost($($attribute)*)] pub $field: $type,)* }
    };
}

message!(/// `StreamPodSandboxesRequest`.
    PodsRequest { /// As in ListPodSandbox.
        #[prost(message, optional, tag = "1")] filter: Option<PodSandboxFilter>, });
message!(/// `StreamPodSandboxesResponse`.
    PodsPart { /// Some of them.
        #[prost(message, repeated, tag = "1")] items: Vec<PodSandbox>, });
message!(/// `StreamContainersRequest`.
    ContainersRequest { /// As in ListContainers.
        #[prost(message, optional, tag = "1")] filter: Option<ContainerFilter>, });
message!(/// `StreamContainersResponse`.
    ContainersPart { /// Some of them.
        #[prost(message, repeated, tag = "1")] items: Vec<Container>, });
message!(/// `StreamContainerStatsRequest`.
    ContainerStatsRequest { /// As in ListContainerStats.
        #[prost(message, optional, tag = "1")] filter: Option<ContainerStatsFilter>, });
message!(/// `StreamContainerStatsResponse`.
    ContainerStatsPart { /// Some of them.
        #[prost(message, repeated, tag = "1")] items: Vec<ContainerStats>, });
message!(/// `StreamPodSandboxStatsRequest`.
    PodStatsRequest { /// As in ListPodSandboxStats.
        #[prost(message, optional, tag = "1")] filter: Option<PodSandboxStatsFilter>, });
message!(/// `StreamPodSandboxStatsResponse`.
    PodStatsPart { /// Some of them.
        #[prost(message, repeated, tag = "1")] items: Vec<PodSandboxStats>, });
message!(/// `StreamPodSandboxMetricsRequest`.
    MetricsRequest {});
message!(/// `StreamPodSandboxMetricsResponse`.
    MetricsPart { /// Some of them.
        #[prost(message, repeated, tag = "1")] items: Vec<PodSandboxMetrics>, });
message!(/// `StreamImagesRequest`.
    ImagesRequest { /// As in ListImages.
        #[prost(message, optional, tag = "1")] filter: Option<ImageFilter>, });
message!(/// `StreamImagesResponse`.
    ImagesPart { /// Some of them.
        #[prost(message, repeated, tag = "1")] items: Vec<Image>, });
message!(/// `UpdatePodSandboxResourcesRequest`.
    UpdatePodRequest { /// The pod.
        #[prost(string, tag = "1")] pod_sandbox_id: String,
        /// What the sandbox itself costs.
        #[prost(message, optional, tag = "2")] overhead: Option<LinuxContainerResources>,
        /// What its containers have.
        #[prost(message, optional, tag = "3")] resources: Option<LinuxContainerResources>, });
message!(/// An answer without anything in it.
    Nothing {});

message!(/// `ContainerStats`, as far as it is newer.
    ContainerStats { /// Whose they are.
        #[prost(message, optional, tag = "1")] attributes: Option<k8s_cri::v1::ContainerAttributes>,
        /// Of the processor.
        #[prost(message, optional, tag = "2")] cpu: Option<WithPsiAt4>,
        /// Of memory.
        #[prost(message, optional, tag = "3")] memory: Option<WithPsiAt8>,
        /// Of block devices.
        #[prost(message, optional, tag = "6")] io: Option<WithPsiAt2>, });
message!(/// `CpuUsage`.
    WithPsiAt4 { /// Unix time in nanoseconds.
        #[prost(int64, tag = "1")] timestamp: i64,
        /// Pressure.
        #[prost(message, optional, tag = "4")] psi: Option<PsiStats>, });
message!(/// `MemoryUsage`.
    WithPsiAt8 { /// Unix time in nanoseconds.
        #[prost(int64, tag = "1")] timestamp: i64,
        /// Pressure.
        #[prost(message, optional, tag = "8")] psi: Option<PsiStats>, });
message!(/// `IoUsage`.
    WithPsiAt2 { /// Unix time in nanoseconds.
        #[prost(int64, tag = "1")] timestamp: i64,
        /// Pressure.
        #[prost(message, optional, tag = "2")] psi: Option<PsiStats>, });
message!(/// `PsiStats`.
    PsiStats { /// All tasks waited.
        #[prost(message, optional, tag = "1")] full: Option<PsiData>,
        /// Some task waited.
        #[prost(message, optional, tag = "2")] some: Option<PsiData>, });
message!(/// `PsiData`.
    PsiData { /// Nanoseconds.
        #[prost(uint64, tag = "1")] total: u64, });

message!(/// `Mount` of an image.
    ImageMount { /// Where.
        #[prost(string, tag = "1")] container_path: String,
        /// Always.
        #[prost(bool, tag = "3")] readonly: bool,
        /// What.
        #[prost(message, optional, tag = "9")] image: Option<ImageSpec>,
        /// Which part of it.
        #[prost(string, tag = "10")] image_sub_path: String, });
message!(/// `ImageSpec`.
    ImageSpec { /// Its name or id.
        #[prost(string, tag = "1")] image: String,
        /// What it turned out to be.
        #[prost(string, tag = "20")] image_ref: String, });
message!(/// `ContainerConfig`, as far as it is newer.
    ImageMounts { /// The mounts.
        #[prost(message, repeated, tag = "7")] mounts: Vec<ImageMount>, });
message!(/// `CreateContainerRequest`, as far as it is newer.
    CreateRequest { /// Adds to the older part.
        #[prost(message, optional, tag = "2")] config: Option<ImageMounts>, });
message!(/// `ContainerStatus`, as far as it is newer.
    StatusMounts { /// The mounts.
        #[prost(message, repeated, tag = "14")] mounts: Vec<ImageMount>, });
message!(/// `ContainerStatusResponse`, as far as it is newer.
    StatusResponse { /// The status.
        #[prost(message, optional, tag = "1")] status: Option<StatusMounts>, });

impl ImageMount {
    /// An image, or the part of one that `sub_path` names.
    pub fn new(container_path: &str, image: &str, sub_path: &str) -> ImageMount {
        ImageMount {
            container_path: container_path.to_owned(),
            readonly: true,
            image: Some(ImageSpec {
                image: image.to_owned(),
                image_ref: String::new(),
            }),
            image_sub_path: sub_path.to_owned(),
        }
    }
}

/// `CreateContainer` with a mount of an image besides what `config` has; the container's id.
pub async fn create_with_image(
    channel: &Channel,
    pod: &str,
    pod_config: &PodSandboxConfig,
    config: &ContainerConfig,
    mount: ImageMount,
) -> Result<String, Status> {
    let older = CreateContainerRequest {
        pod_sandbox_id: pod.to_owned(),
        config: Some(config.clone()),
        sandbox_config: Some(pod_config.clone()),
    };
    let newer = CreateRequest {
        config: Some(ImageMounts { mounts: vec![mount] }),
    };
    // Messages that stand one after the other are merged by whoever reads them.
    let request = Encoded([older.encode_to_vec(), newer.encode_to_vec()].concat());
    let method = "runtime.v1.RuntimeService/CreateContainer";
    let answer: CreateContainerResponse = unary(channel, method, request).await?;
    Ok(answer.container_id)
}

/// The images that a container has mounted, as its status tells what they turned out to be.
pub async fn mounted_images(channel: &Channel, container: &str) -> Result<Vec<String>, Status> {
    let request = ContainerStatusRequest {
        container_id: container.to_owned(),
        verbose: false,
    };
    let method = "runtime.v1.RuntimeService/ContainerStatus";
    let answer: StatusResponse = unary(channel, method, request).await?;
    let mounts = answer.status.unwrap_or_default().mounts;
    Ok(mounts
        .into_iter()
        .filter_map(|mount| Some(mount.image?.image_ref))
        .collect())
}

/// A message that is encoded already.
#[derive(Debug, Clone, Default)]
struct Encoded(Vec<u8>);

impl Message for Encoded {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        skip_field(wire_type, tag, buf, context)
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// A call that is answered once; `method` as `runtime.v1.RuntimeService/Version`.
pub async fn unary<Q, A>(channel: &Channel, method: &str, request: Q) -> Result<A, Status>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let mut grpc = ready(channel).await?;
    let codec = ProstCodec::<Q, A>::default();
    let answer = grpc.unary(Request::new(request), path(method)?, codec).await?;
    Ok(answer.into_inner())
}

/// A call that is answered in parts: all of them, once the last has come.
pub async fn parts<Q, A>(channel: &Channel, method: &str, request: Q) -> Result<Vec<A>, Status>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let mut grpc = ready(channel).await?;
    let codec = ProstCodec::<Q, A>::default();
    let mut stream = grpc
        .server_streaming(Request::new(request), path(method)?, codec)
        .await?
        .into_inner();
    let mut parts = Vec::new();
    while let Some(part) = stream.message().await? {
        parts.push(part);
    }
    Ok(parts)
}

/// A call with a request of any bytes; whether it was met.
pub async fn raw(channel: &Channel, method: &str, request: Vec<u8>) -> Result<(), Status> {
    let _: Nothing = unary(channel, method, Encoded(request)).await?;
    Ok(())
}

/// As [`raw`], for a call that is answered in parts: whether it was taken. Nothing is read.
pub async fn taken(channel: &Channel, method: &str, request: Vec<u8>) -> Result<(), Status> {
    let mut grpc = ready(channel).await?;
    let codec = ProstCodec::<Encoded, Nothing>::default();
    let request = Request::new(Encoded(request));
    grpc.server_streaming(request, path(method)?, codec)
        .await
        .map(drop)
}

async fn ready(channel: &Channel) -> Result<Grpc<Channel>, Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    Ok(grpc)
}

fn path(method: &str) -> Result<PathAndQuery, Status> {
    PathAndQuery::try_from(format!("/{method}")).map_err(|error| Status::internal(error.to_string()))
}
