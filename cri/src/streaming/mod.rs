//! The streaming server: exec, attach and port-forward, for kubelet on loopback.
//!
//! ```text
//!   RPC ──▶ token in a URL ──▶ client ──▶ server ──▶ negotiate ──▶ SPDY or WebSocket
//!                                                                     │
//!                                             session (exec, attach) ◀┴▶ forward (port-forward)
//! ```
//!
//! An RPC only hands out a URL with a token that is good once and for a minute. Whoever comes with it gets what it was
//! issued for. Both carriers turn into the same [`io::Input`]s and [`io::Output`]s, so exec, attach and port-forward
//! are written once.
//!
//! **Back-pressure** goes from end to end: what a client doesn't take in stays in a pipe or socket, and what a process
//! doesn't read isn't read from the client. On the way lie a few fixed buffers. Clients may be hostile: everything that
//! they can make grow has a bound, and everything they can stall has an end.

mod attach;
mod error;
mod exec;
mod forward;
mod growing;
mod inbox;
mod io;
mod link;
mod negotiate;
mod pump;
mod server;
mod session;
mod spdy;
mod status;
mod tls;
mod tokens;
mod websocket;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

pub use error::StreamError;
pub(crate) use server::serve;
pub use spdy::Violation;

use self::tls::Identity;
use self::tokens::Tokens;
use crate::config::StreamingConfig;
use crate::error::{IoContext as _, Result};
use crate::proto::{AttachRequest, ExecRequest, PortForwardRequest};

/// What a URL is good for.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// A process in a container.
    Exec(ExecRequest),
    /// The streams of a container.
    Attach(AttachRequest),
    /// Ports of a pod.
    PortForward(PortForwardRequest),
}

impl Target {
    /// The first part of its URL's path.
    fn word(&self) -> &'static str {
        match self {
            Self::Exec(_) => "exec",
            Self::Attach(_) => "attach",
            Self::PortForward(_) => "portforward",
        }
    }
}

/// The streaming server's public side: it issues URLs. [`serve`] answers them.
#[derive(Debug)]
pub struct Streaming {
    listener: TcpListener,
    identity: Option<Identity>,
    base: String,
    tokens: Tokens<Target>,
}

impl Streaming {
    /// Listens. Blocking.
    ///
    /// # Errors
    /// The address is taken, or certificate and key can't be used.
    pub fn bind(config: &StreamingConfig) -> Result<Self> {
        let address = config.address;
        let identity = config.tls.as_ref().map(Identity::load).transpose()?;
        let listener = TcpListener::bind(address).io("listen at", address.to_string())?;
        listener.set_nonblocking(true).io("watch", address.to_string())?;
        let bound = listener.local_addr().io("look at", address.to_string())?;
        let scheme = if identity.is_some() { "https" } else { "http" };
        Ok(Self {
            listener,
            identity,
            base: format!("{scheme}://{}", reachable(bound)),
            tokens: Tokens::default(),
        })
    }

    /// A URL by which a client gets what `target` says, once, within the next minute.
    ///
    /// # Errors
    /// [`StreamError::TooManyWaiting`].
    pub fn issue(&self, target: Target) -> Result<String> {
        let word = target.word();
        Ok(format!("{}/{word}/{}", self.base, self.tokens.issue(target)?))
    }
}

/// Where kubelet, on this host, finds a server that may listen everywhere.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_absolute_and_name_an_address_that_can_be_reached() {
        let config = crate::config::Config::from_toml("").unwrap();
        let streaming = Streaming::bind(config.streaming()).unwrap();
        let url = streaming
            .issue(Target::PortForward(PortForwardRequest::default()))
            .unwrap();
        let port = streaming.listener.local_addr().unwrap().port();
        let token = url
            .strip_prefix(&format!("http://127.0.0.1:{port}/portforward/"))
            .unwrap();
        assert!(matches!(
            streaming.tokens.redeem(token),
            Some(Target::PortForward(_))
        ));
        assert_eq!(reachable("0.0.0.0:7".parse().unwrap()).to_string(), "127.0.0.1:7");
        assert_eq!(reachable("[::]:7".parse().unwrap()).to_string(), "[::1]:7");
    }
}
