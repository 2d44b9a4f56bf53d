//! Connections to ports inside a pod.
//!
//! A socket belongs to the network namespace in which it was made, for good. So a thread of its own enters the pod's
//! namespace, makes the sockets, hands them out and ends; the daemon's other threads never leave theirs.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream as StdStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;

use crate::streaming::error::StreamError;

/// Connects to one pod.
#[derive(Debug, Clone)]
pub(super) struct Dialer {
    /// The pod's network namespace; None for the host's.
    pub(super) netns: Option<PathBuf>,
}

/// A socket for each address of `localhost`, in the order in which they are tried; those of families that this kernel
/// lacks are missing.
type Sockets = Vec<(SocketAddr, TcpSocket)>;

impl Dialer {
    /// Connects to `localhost`, by IPv4 first.
    ///
    /// # Errors
    /// [`StreamError::Connect`].
    pub(super) async fn connect(&self, port: u16) -> Result<TcpStream, StreamError> {
        let failed = |source| StreamError::Connect { port, source };
        let sockets = match self.netns.clone() {
            Some(netns) => sockets_inside(netns, port).await,
            None => sockets(port),
        };
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for (address, socket) in sockets.map_err(failed)? {
            match socket.connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(failed)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }
}

async fn sockets_inside(netns: PathBuf, port: u16) -> io::Result<Sockets> {
    let (done, made) = oneshot::channel();
    std::thread::Builder::new()
        .name("pintled-netns".to_owned())
        .stack_size(64 << 10)
        .spawn(move || {
            // Whoever waited may have gone.
            drop(done.send(enter(&netns).and_then(|()| sockets(port))));
        })?;
    made.await
        .unwrap_or_else(|_| Err(io::Error::other("the thread ended")))
}

/// Only for a thread that ends soon.
fn enter(netns: &Path) -> io::Result<()> {
    let namespace = File::open(netns)?;
    Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?)
}

fn sockets(port: u16) -> io::Result<Sockets> {
    let mut sockets = Vec::with_capacity(2);
    for address in [
        SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
    ] {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::Inet,
            SocketAddr::V6(_) => AddressFamily::Inet6,
        };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        match socket(family, SockType::Stream, flags, None) {
            Ok(socket) => sockets.push((address, TcpSocket::from_std_stream(StdStream::from(socket)))),
            Err(Errno::EAFNOSUPPORT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(sockets)
}
