//! What of NRI the tests speak, written down for them alone: numbers and types of the published schema.

mod adjust;

use prost::Message;

pub use adjust::*;

/// A ttrpc request.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// The service.
    #[prost(string, tag = "1")]
    pub service: String,
    /// Its method.
    #[prost(string, tag = "2")]
    pub method: String,
    /// The method's request.
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
    /// Nanoseconds.
    #[prost(int64, tag = "4")]
    pub timeout: i64,
}

/// A ttrpc response.
#[derive(Clone, PartialEq, Message)]
pub struct Response {
    /// None for success.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// The method's response.
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
}

/// gRPC's code and a message.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// 0 for success.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For people.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// `RegisterPluginRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct Register {
    /// The plugin's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Two digits.
    #[prost(string, tag = "2")]
    pub index: String,
}

/// `ConfigureRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct Configure {
    /// The plugin's configuration.
    #[prost(string, tag = "1")]
    pub config: String,
    /// The runtime's name.
    #[prost(string, tag = "2")]
    pub runtime: String,
    /// Milliseconds.
    #[prost(int64, tag = "5")]
    pub request_timeout: i64,
}

/// `ConfigureResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct Configured {
    /// Events wanted, as bits; 0 for all.
    #[prost(int32, tag = "2")]
    pub events: i32,
}

/// `SynchronizeRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct Synchronize {
    /// The pods.
    #[prost(message, repeated, tag = "1")]
    pub pods: Vec<Pod>,
    /// The containers.
    #[prost(message, repeated, tag = "2")]
    pub containers: Vec<Container>,
    /// Not the last part.
    #[prost(bool, tag = "3")]
    pub more: bool,
}

/// `SynchronizeResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct Synchronized {
    /// New limits.
    #[prost(message, repeated, tag = "1")]
    pub update: Vec<Update>,
    /// As in the request.
    #[prost(bool, tag = "2")]
    pub more: bool,
}

/// `PodSandbox`.
#[derive(Clone, PartialEq, Message)]
pub struct Pod {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Its namespace.
    #[prost(string, tag = "4")]
    pub namespace: String,
    /// Its addresses.
    #[prost(string, repeated, tag = "10")]
    pub ips: Vec<String>,
}

/// `Container`.
#[derive(Clone, PartialEq, Message)]
pub struct Container {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its pod.
    #[prost(string, tag = "2")]
    pub pod: String,
    /// Its name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// 1 created, 3 running, 4 stopped.
    #[prost(int32, tag = "4")]
    pub state: i32,
    /// Its arguments.
    #[prost(string, repeated, tag = "7")]
    pub args: Vec<String>,
    /// Its environment.
    #[prost(string, repeated, tag = "8")]
    pub env: Vec<String>,
    /// How it ended.
    #[prost(int32, tag = "17")]
    pub exit_code: i32,
}

/// The request of all events but StateChange: a pod, a container, and limits where they change.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// The pod.
    #[prost(message, optional, tag = "1")]
    pub pod: Option<Pod>,
    /// The container.
    #[prost(message, optional, tag = "2")]
    pub container: Option<Container>,
}

/// `StateChangeEvent`.
#[derive(Clone, PartialEq, Message)]
pub struct StateChange {
    /// The number of the event.
    #[prost(int32, tag = "1")]
    pub event: i32,
    /// The pod.
    #[prost(message, optional, tag = "2")]
    pub pod: Option<Pod>,
    /// The container.
    #[prost(message, optional, tag = "3")]
    pub container: Option<Container>,
}

/// `CreateContainerResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct Created {
    /// What is to be different.
    #[prost(message, optional, tag = "1")]
    pub adjust: Option<Adjustment>,
    /// New limits for others.
    #[prost(message, repeated, tag = "2")]
    pub update: Vec<Update>,
    /// Containers to end.
    #[prost(message, repeated, tag = "3")]
    pub evict: Vec<Evict>,
}

/// `UpdateContainerResponse`, and `StopContainerResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct Updated {
    /// New limits.
    #[prost(message, repeated, tag = "1")]
    pub update: Vec<Update>,
}

/// `ContainerUpdate`.
#[derive(Clone, PartialEq, Message)]
pub struct Update {
    /// Whose.
    #[prost(string, tag = "1")]
    pub container: String,
    /// `LinuxContainerUpdate`.
    #[prost(message, optional, tag = "2")]
    pub linux: Option<LinuxUpdate>,
    /// It may fail.
    #[prost(bool, tag = "3")]
    pub ignore_failure: bool,
}

/// `LinuxContainerUpdate`.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxUpdate {
    /// Limits.
    #[prost(message, optional, tag = "1")]
    pub resources: Option<Resources>,
}

/// `ContainerEviction`.
#[derive(Clone, PartialEq, Message)]
pub struct Evict {
    /// Whom.
    #[prost(string, tag = "1")]
    pub container: String,
    /// Why.
    #[prost(string, tag = "2")]
    pub reason: String,
}

/// `UpdateContainersRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct UpdateContainers {
    /// New limits.
    #[prost(message, repeated, tag = "1")]
    pub update: Vec<Update>,
    /// Containers to end.
    #[prost(message, repeated, tag = "2")]
    pub evict: Vec<Evict>,
}

/// `UpdateContainersResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct UpdatesFailed {
    /// What could not be changed.
    #[prost(message, repeated, tag = "1")]
    pub failed: Vec<Update>,
}

/// New limits of a container, by a weight and by memory in bytes; 0 to leave one.
pub fn limits(container: &str, shares: i64, memory: i64) -> Update {
    let number = |value: i64| (value != 0).then_some(Number { value });
    Update {
        container: container.to_owned(),
        linux: Some(LinuxUpdate {
            resources: Some(Resources {
                memory: Some(Memory {
                    limit: number(memory),
                }),
                cpu: Some(Cpu {
                    shares: number(shares),
                }),
                pids: None,
            }),
        }),
        ignore_failure: false,
    }
}
