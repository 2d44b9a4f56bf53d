//! Integration tests of the image service. They need root, and Debian's docker-registry.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod archive;
mod auth;
mod crash;
mod hosts;
mod lies;
mod life;
mod node;
mod powercut;
mod pull;
mod push;
mod ranges;
mod real;
mod signature;
mod support;
mod view;
