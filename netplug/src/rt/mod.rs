//! Typed verbs over a route netlink socket: links, addresses, routes, traffic control.
//!
//! Requests are built with netlink-packet-route's types. Answers are read attribute by attribute instead: only
//! what is needed, so that attributes which a newer kernel adds can't make an answer unreadable.

pub(crate) mod addr;
pub(crate) mod doom;
pub(crate) mod link;
pub(crate) mod make;
pub(crate) mod port;
pub(crate) mod route;
pub(crate) mod tc;

use netlink_packet_core::Emitable;
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::error::Result;
use crate::netlink::{Refusal, Request, Socket};

/// A route netlink socket in one network namespace.
pub(crate) struct Route(Socket);

impl Route {
    /// In the calling thread's network namespace.
    pub(crate) fn open() -> Result<Route> {
        Socket::open(NETLINK_ROUTE).map(Route)
    }

    /// Carries out all requests in one system call; fails with the first refusal, the later requests having been
    /// tried all the same.
    pub(crate) fn run(&mut self, requests: &[Request]) -> Result<()> {
        self.0.request(requests)
    }

    /// Like [`Route::run`], telling every refusal.
    pub(crate) fn try_all(&mut self, requests: &[Request]) -> Result<Vec<Refusal>> {
        self.0.batch(requests)
    }
}

fn request(kind: u16, flags: u16, message: &impl Emitable, what: String) -> Request {
    let mut body = vec![0; message.buffer_len()];
    message.emit(&mut body);
    Request {
        kind,
        flags,
        body,
        what,
    }
}
