//! Clients of the streaming server: SPDY and WebSocket, written for the tests alone.

pub mod forward;
pub mod http;
pub mod remote;
pub mod spdy;
pub mod ws;
