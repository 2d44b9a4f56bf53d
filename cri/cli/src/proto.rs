//! The messages and clients of the socket's services.
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::all,
    clippy::pedantic,
    reason = "generated"
)]

/// CRI v1.
pub mod cri {
    tonic::include_proto!("runtime.v1");
}

/// What the daemon offers beyond the CRI.
pub mod admin {
    tonic::include_proto!("pintle.v1");
}
