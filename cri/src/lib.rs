//! The CRI daemon of Pintle: gRPC server, records of pods and containers, and the way from CRI to OCI.

pub mod admin;
pub mod apparmor;
pub mod cni;
pub mod config;
pub mod container;
pub mod core;
pub mod daemon;
pub mod error;
pub mod events;
mod grpc;
pub mod images;
pub mod metrics;
pub mod network;
pub mod nri;
pub mod paths;
pub mod pod;
pub mod proto;
pub mod recover;
pub mod server;
pub mod spec;
pub mod stats;
pub mod store;
pub mod streaming;
pub mod sweep;
mod task;
mod time;
