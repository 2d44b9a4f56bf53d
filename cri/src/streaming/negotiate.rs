//! Which protocol a client is served with, by the headers of its request.

use http::header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::status::Form;

/// The versions of exec's and attach's protocol, and how they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remote {
    /// Error text; no size of a terminal.
    V1,
    /// As the first, with streams that end one by one.
    V2,
    /// Adds the terminal's size.
    V3,
    /// Adds exit codes.
    V4,
    /// Adds the end of input to WebSockets.
    V5,
}

impl Remote {
    /// The words of its error stream.
    pub(super) fn form(self) -> Form {
        match self {
            Self::V1 | Self::V2 | Self::V3 => Form::Text,
            Self::V4 | Self::V5 => Form::Json,
        }
    }

    /// Whether a SPDY client with a terminal opens a stream for its size.
    pub(super) fn has_resize(self) -> bool {
        !matches!(self, Self::V1 | Self::V2)
    }
}

/// How binary content travels in a WebSocket's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    /// As it is, in binary messages.
    Binary,
    /// As base64, in text messages.
    Base64,
}

/// What a connection becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier<P> {
    /// SPDY/3.1 on the connection itself.
    Spdy(P),
    /// Channels of a WebSocket.
    WebSocket(P, Codec),
    /// SPDY/3.1 in a WebSocket's messages.
    Tunnel,
}

/// A carrier, and the headers by which the answer says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen<P> {
    /// What follows.
    pub(super) carrier: Carrier<P>,
    /// The answer's headers.
    pub(super) headers: Vec<(HeaderName, String)>,
}

/// Why a request can't be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The answer's status.
    pub(super) status: StatusCode,
    /// Its text.
    pub(super) reason: &'static str,
    /// Protocols that would have done.
    pub(super) accepted: Vec<&'static str>,
}

/// Carries the protocol's name, both ways, on SPDY connections.
const PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// Names what would have been accepted.
pub(super) const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
const ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");
const SPDY: &str = "SPDY/3.1";

/// A protocol's name and what it means.
type Names<P> = [(&'static str, P)];

/// Over SPDY the fifth version is the fourth.
const REMOTE_SPDY: &Names<Remote> = &[
    ("v4.channel.k8s.io", Remote::V4),
    ("v3.channel.k8s.io", Remote::V3),
    ("v2.channel.k8s.io", Remote::V2),
    ("channel.k8s.io", Remote::V1),
    ("v5.channel.k8s.io", Remote::V5),
];
const REMOTE_WEBSOCKET: &Names<Carrier<Remote>> = &[
    ("v5.channel.k8s.io", Carrier::WebSocket(Remote::V5, Codec::Binary)),
    ("v4.channel.k8s.io", Carrier::WebSocket(Remote::V4, Codec::Binary)),
    (
        "v4.base64.channel.k8s.io",
        Carrier::WebSocket(Remote::V4, Codec::Base64),
    ),
    (
        "base64.channel.k8s.io",
        Carrier::WebSocket(Remote::V1, Codec::Base64),
    ),
    ("channel.k8s.io", Carrier::WebSocket(Remote::V1, Codec::Binary)),
];
const FORWARD_SPDY: &Names<()> = &[("portforward.k8s.io", ())];
const FORWARD_WEBSOCKET: &Names<Carrier<()>> = &[
    ("SPDY/3.1+portforward.k8s.io", Carrier::Tunnel),
    ("v4.channel.k8s.io", Carrier::WebSocket((), Codec::Binary)),
    ("v4.base64.channel.k8s.io", Carrier::WebSocket((), Codec::Base64)),
];

/// For exec and attach.
///
/// # Errors
/// What to answer instead.
pub(super) fn remote(method: &Method, headers: &HeaderMap) -> Result<Chosen<Remote>, Refusal> {
    let no_name = Carrier::WebSocket(Remote::V1, Codec::Binary);
    choose(
        method,
        headers,
        REMOTE_SPDY,
        Remote::V1,
        REMOTE_WEBSOCKET,
        no_name,
    )
}

/// For port-forward.
///
/// # Errors
/// What to answer instead.
pub(super) fn forward(method: &Method, headers: &HeaderMap) -> Result<Chosen<()>, Refusal> {
    let no_name = Carrier::WebSocket((), Codec::Binary);
    choose(method, headers, FORWARD_SPDY, (), FORWARD_WEBSOCKET, no_name)
}

fn choose<P: Copy>(
    method: &Method,
    headers: &HeaderMap,
    spdy: &Names<P>,
    spdy_default: P,
    websocket: &Names<Carrier<P>>,
    websocket_default: Carrier<P>,
) -> Result<Chosen<P>, Refusal> {
    if lists(headers, &CONNECTION, "upgrade") && lists(headers, &UPGRADE, SPDY) {
        return over_spdy(headers, spdy, spdy_default);
    }
    if lists(headers, &CONNECTION, "upgrade") && lists(headers, &UPGRADE, "websocket") {
        return over_websocket(method, headers, websocket, websocket_default);
    }
    Err(refusal(
        StatusCode::BAD_REQUEST,
        "unable to upgrade: missing upgrade headers in request",
        Vec::new(),
    ))
}

fn over_spdy<P: Copy>(headers: &HeaderMap, names: &Names<P>, default: P) -> Result<Chosen<P>, Refusal> {
    let mut answer = vec![(CONNECTION, "Upgrade".to_owned()), (UPGRADE, SPDY.to_owned())];
    // Clients from before there were versions.
    if !headers.contains_key(&PROTOCOL) {
        return Ok(Chosen {
            carrier: Carrier::Spdy(default),
            headers: answer,
        });
    }
    let found = names.iter().find(|(name, _)| lists(headers, &PROTOCOL, name));
    let Some((name, protocol)) = found else {
        let accepted = names.iter().map(|(name, _)| *name).collect();
        let reason = "unable to upgrade: unable to negotiate protocol";
        return Err(refusal(StatusCode::FORBIDDEN, reason, accepted));
    };
    answer.push((PROTOCOL, (*name).to_owned()));
    Ok(Chosen {
        carrier: Carrier::Spdy(*protocol),
        headers: answer,
    })
}

fn over_websocket<P: Copy>(
    method: &Method,
    headers: &HeaderMap,
    names: &Names<Carrier<P>>,
    default: Carrier<P>,
) -> Result<Chosen<P>, Refusal> {
    let bad = |reason| refusal(StatusCode::BAD_REQUEST, reason, Vec::new());
    if method != Method::GET {
        return Err(bad("a WebSocket begins with GET"));
    }
    if headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(bad("only version 13 of the WebSocket protocol is spoken here"));
    }
    let key = headers
        .get(SEC_WEBSOCKET_KEY)
        .ok_or(bad("Sec-WebSocket-Key is missing"))?;
    let mut answer = vec![
        (CONNECTION, "Upgrade".to_owned()),
        (UPGRADE, "websocket".to_owned()),
        (
            ACCEPT,
            tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes()),
        ),
    ];
    if !headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        return Ok(Chosen {
            carrier: default,
            headers: answer,
        });
    }
    let found = names
        .iter()
        .find(|(name, _)| lists(headers, &SEC_WEBSOCKET_PROTOCOL, name));
    let Some((name, carrier)) = found else {
        let accepted = names.iter().map(|(name, _)| *name).collect();
        return Err(Refusal {
            accepted,
            ..bad("none of the WebSocket subprotocols is spoken here")
        });
    };
    answer.push((SEC_WEBSOCKET_PROTOCOL, (*name).to_owned()));
    Ok(Chosen {
        carrier: *carrier,
        headers: answer,
    })
}

fn refusal(status: StatusCode, reason: &'static str, accepted: Vec<&'static str>) -> Refusal {
    Refusal {
        status,
        reason,
        accepted,
    }
}

/// Whether a header that may be repeated, or hold a list, holds `word`.
fn lists(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    fn spdy(protocols: &[&'static str]) -> Result<Chosen<Remote>, Refusal> {
        let mut pairs = vec![("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
        pairs.extend(protocols.iter().map(|p| ("x-stream-protocol-version", *p)));
        remote(&Method::POST, &headers(&pairs))
    }

    #[test]
    fn spdy_gets_the_best_version_that_both_speak() {
        let carrier = |protocols: &[&'static str]| spdy(protocols).unwrap().carrier;
        assert_eq!(
            carrier(&["channel.k8s.io", "v4.channel.k8s.io"]),
            Carrier::Spdy(Remote::V4)
        );
        assert_eq!(
            carrier(&["v5.channel.k8s.io, v2.channel.k8s.io"]),
            Carrier::Spdy(Remote::V2)
        );
        assert_eq!(carrier(&["v5.channel.k8s.io"]), Carrier::Spdy(Remote::V5));
        assert_eq!(carrier(&[]), Carrier::Spdy(Remote::V1));
        let refusal = spdy(&["v9.channel.k8s.io"]).unwrap_err();
        assert_eq!(refusal.status, StatusCode::FORBIDDEN);
        assert!(refusal.accepted.contains(&"v4.channel.k8s.io"));
    }

    fn websocket(method: &Method, protocols: &[&'static str]) -> Result<Chosen<()>, Refusal> {
        let mut pairs = vec![
            ("connection", "keep-alive, upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        pairs.extend(protocols.iter().map(|p| ("sec-websocket-protocol", *p)));
        forward(method, &headers(&pairs))
    }

    #[test]
    fn websockets_name_their_subprotocol_and_prove_that_they_are_meant() {
        let chosen = websocket(&Method::GET, &["SPDY/3.1+portforward.k8s.io"]).unwrap();
        assert_eq!(chosen.carrier, Carrier::Tunnel);
        // The example of RFC 6455, section 1.3.
        let accept = (ACCEPT, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned());
        assert!(chosen.headers.contains(&accept), "{:?}", chosen.headers);
        let none = websocket(&Method::GET, &[]).unwrap();
        assert!(
            !none
                .headers
                .iter()
                .any(|(name, _)| name == SEC_WEBSOCKET_PROTOCOL)
        );
        assert_eq!(
            websocket(&Method::GET, &["chat"]).unwrap_err().status,
            StatusCode::BAD_REQUEST
        );
        assert!(websocket(&Method::POST, &[]).is_err());
    }

    #[test]
    fn whoever_does_not_upgrade_is_told_so() {
        for pairs in [
            &[][..],
            &[("upgrade", "SPDY/3.1")],
            &[("connection", "upgrade"), ("upgrade", "h2c")],
        ] {
            let refusal = remote(&Method::GET, &headers(pairs)).unwrap_err();
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
        }
    }
}
