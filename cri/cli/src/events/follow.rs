//! The stream of events, over as many connections as it takes.
//!
//! ```text
//!   connect ──> subscribe after the last event ──> events … ──> broken ─┐
//!      ^             └─ that place is no longer kept: a gap, told       │
//!      └── once the socket is there again, at once if events had come <─┘
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use super::filter::Type;
use super::folder::Folder;
use crate::connect::{self, said};
use crate::proto::cri::runtime_service_client::RuntimeServiceClient;
use crate::proto::cri::{
    ContainerEventResponse, ContainerMetadata, ContainerStatus, GetEventsRequest, ListContainersRequest,
    PodSandboxMetadata,
};

/// A place in the stream, in the metadata of request and answer; the daemon's own addition to the CRI.
const TOKEN: &str = "pintle-resume-token";

/// What there is to say.
#[derive(Debug)]
pub(crate) enum Told {
    /// Something happened.
    Event(Box<Event>),
    /// Something may have happened that nobody can tell any more.
    Gap(Gap),
}

/// Between which times events are lost, in nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap {
    /// The last that was had, or asked for.
    pub(crate) after: i64,
    /// All that is later comes; None for a server that doesn't say.
    pub(crate) until: Option<i64>,
}

/// An event, and what is known of its container.
#[derive(Debug)]
pub(crate) struct Event {
    message: ContainerEventResponse,
    pod: PodSandboxMetadata,
    container: ContainerMetadata,
}

impl Event {
    /// Its place: nanoseconds since the epoch.
    pub(crate) fn place(&self) -> i64 {
        self.message.created_at
    }

    /// What happened.
    pub(crate) fn kind(&self) -> Type {
        Type::of(self.message.container_event_type())
    }

    /// To which container, or pod.
    pub(crate) fn id(&self) -> &str {
        &self.message.container_id
    }

    /// Whether it happened to a container, rather than to a pod.
    pub(crate) fn is_container(&self) -> bool {
        self.id() != self.pod_id()
    }

    /// The pod's id; empty where the server doesn't say.
    pub(crate) fn pod_id(&self) -> &str {
        let pod = self.message.pod_sandbox_status.as_ref();
        pod.map(|pod| pod.id.as_str()).unwrap_or_default()
    }

    /// The pod's name.
    pub(crate) fn pod_name(&self) -> &str {
        &self.pod.name
    }

    /// The pod's namespace.
    pub(crate) fn pod_namespace(&self) -> &str {
        &self.pod.namespace
    }

    /// What else the pod is called.
    pub(crate) fn pod(&self) -> &PodSandboxMetadata {
        &self.pod
    }

    /// The container's name; empty for pods, and for a container that was never heard of before it was deleted.
    pub(crate) fn container_name(&self) -> &str {
        &self.container.name
    }

    /// How often the container was made before.
    pub(crate) fn container_attempt(&self) -> u32 {
        self.container.attempt
    }

    /// The container as of the event; a deleted one has no status.
    pub(crate) fn status(&self) -> Option<&ContainerStatus> {
        let mut all = self.message.containers_statuses.iter();
        all.find(|status| status.id == self.message.container_id)
    }
}

/// Follows the daemon's events.
pub(crate) struct Follower {
    socket: PathBuf,
    folder: Folder,
    stream: Option<Streaming<ContainerEventResponse>>,
    /// That there is one was found out before anybody asked.
    gap: Option<Gap>,
    /// The last event, or where to begin.
    place: Option<i64>,
    /// Whether the last connection has brought anything.
    had_some: bool,
    /// What containers are called, for a deleted one's last event doesn't say.
    names: HashMap<String, ContainerMetadata>,
}

enum Opened {
    Stream,
    Gap(Gap),
}

impl Follower {
    /// Connects to a daemon, which must be there. Events come from now on, or from after `since`.
    pub(crate) async fn start(socket: &Path, since: Option<i64>) -> Result<Follower> {
        let mut follower = Follower {
            socket: socket.to_owned(),
            // Before the connection, so that no start of a daemon after it is missed.
            folder: Folder::watch(socket)?,
            stream: None,
            gap: None,
            place: since,
            had_some: true,
            names: HashMap::new(),
        };
        let mut runtime = connect::runtime(socket).await?;
        if let Opened::Gap(gap) = follower.open(&mut runtime).await.map_err(said)? {
            follower.gap = Some(gap);
        }
        Ok(follower)
    }

    /// What comes next, however long that takes.
    pub(crate) async fn next(&mut self) -> Result<Told> {
        if let Some(gap) = self.gap.take() {
            return Ok(Told::Gap(gap));
        }
        loop {
            if let Some(event) = self.heard().await {
                return Ok(Told::Event(Box::new(self.known(event))));
            }
            if !self.had_some {
                self.folder.changed().await?;
            }
            self.had_some = false;
            let Ok(mut runtime) = connect::runtime(&self.socket).await else {
                continue;
            };
            match self.open(&mut runtime).await {
                Ok(Opened::Stream) => {}
                Ok(Opened::Gap(gap)) => return Ok(Told::Gap(gap)),
                Err(status) if is_final(&status) => return Err(said(status)),
                Err(_) => {}
            }
        }
    }

    /// The stream's next event; None once it is broken, or where there is none.
    async fn heard(&mut self) -> Option<ContainerEventResponse> {
        match self.stream.as_mut()?.message().await {
            Ok(Some(event)) => {
                self.had_some = true;
                self.place = Some(event.created_at);
                return Some(event);
            }
            // The daemon lives, but we were too slow for it.
            Err(status) if status.code() == Code::ResourceExhausted => self.had_some = true,
            Ok(None) | Err(_) => {}
        }
        self.stream = None;
        None
    }

    async fn open(&mut self, runtime: &mut RuntimeServiceClient<Channel>) -> Result<Opened, Status> {
        let mut request = Request::new(GetEventsRequest {});
        if let Some(place) = self.place {
            request.metadata_mut().insert(TOKEN, MetadataValue::from(place));
        }
        let answer = match runtime.get_container_events(request).await {
            Ok(answer) => answer,
            Err(status) if status.code() == Code::OutOfRange => {
                let until = token(status.metadata());
                let gap = self.place.map(|after| Gap { after, until });
                self.place = until;
                // It is there, and the next time it has what is asked for.
                self.had_some = true;
                return gap.map(Opened::Gap).ok_or(status);
            }
            Err(status) => return Err(status),
        };
        let begin = token(answer.metadata());
        self.stream = Some(answer.into_inner());
        self.learn_all(runtime).await?;
        match (self.place, begin) {
            // It is one that knows of no places.
            (Some(after), None) => {
                self.place = None;
                Ok(Opened::Gap(Gap { after, until: None }))
            }
            _ => {
                self.place = begin;
                Ok(Opened::Stream)
            }
        }
    }

    async fn learn_all(&mut self, runtime: &mut RuntimeServiceClient<Channel>) -> Result<(), Status> {
        let listed = runtime.list_containers(ListContainersRequest::default()).await?;
        let all = listed.into_inner().containers.into_iter();
        self.names = all
            .filter_map(|container| Some((container.id, container.metadata?)))
            .collect();
        Ok(())
    }

    /// An event with what is known of its container; forgets what is deleted.
    fn known(&mut self, message: ContainerEventResponse) -> Event {
        for status in &message.containers_statuses {
            if let Some(metadata) = &status.metadata {
                self.names.insert(status.id.clone(), metadata.clone());
            }
        }
        let container = match Type::of(message.container_event_type()) {
            Type::Deleted => self.names.remove(&message.container_id),
            _ => self.names.get(&message.container_id).cloned(),
        };
        let pod = message.pod_sandbox_status.as_ref();
        Event {
            pod: pod.and_then(|pod| pod.metadata.clone()).unwrap_or_default(),
            container: container.unwrap_or_default(),
            message,
        }
    }
}

fn token(metadata: &MetadataMap) -> Option<i64> {
    metadata.get(TOKEN)?.to_str().ok()?.parse().ok()
}

/// Whether asking again would change nothing.
fn is_final(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::Unimplemented
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::OutOfRange
    )
}

#[cfg(test)]
pub(super) mod testing {
    //! Events to look at.

    use super::*;
    use crate::proto::cri::{ContainerEventType, ContainerState, PodSandboxStatus};

    fn message(kind: Type, id: &str) -> ContainerEventResponse {
        let kind = match kind {
            Type::Created => ContainerEventType::ContainerCreatedEvent,
            Type::Started => ContainerEventType::ContainerStartedEvent,
            Type::Stopped => ContainerEventType::ContainerStoppedEvent,
            Type::Deleted => ContainerEventType::ContainerDeletedEvent,
        };
        ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind.into(),
            created_at: 1_700_000_000_000_000_001,
            pod_sandbox_status: Some(PodSandboxStatus {
                id: "00dd11223344556677".to_owned(),
                ..PodSandboxStatus::default()
            }),
            containers_statuses: Vec::new(),
        }
    }

    fn event(message: ContainerEventResponse, container: &str) -> Event {
        Event {
            message,
            pod: PodSandboxMetadata {
                name: "web".to_owned(),
                namespace: "default".to_owned(),
                uid: "u".to_owned(),
                attempt: 0,
            },
            container: ContainerMetadata {
                name: container.to_owned(),
                attempt: 2,
            },
        }
    }

    /// Of a pod.
    pub(in super::super) fn pod(kind: Type) -> Event {
        event(message(kind, "00dd11223344556677"), "")
    }

    /// Of a container, which has been killed.
    pub(in super::super) fn container(kind: Type) -> Event {
        let mut message = message(kind, "cc1122334455667788");
        if kind != Type::Deleted {
            message.containers_statuses.push(ContainerStatus {
                id: message.container_id.clone(),
                state: ContainerState::ContainerExited.into(),
                exit_code: 137,
                reason: "OOMKilled".to_owned(),
                ..ContainerStatus::default()
            });
        }
        event(message, "main")
    }
}
