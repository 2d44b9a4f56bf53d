//! What a caller asks for, and what it gets.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Transport protocol of a port map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The number in the IP header.
    pub(crate) fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

impl std::str::FromStr for Protocol {
    type Err = Error;

    /// Case doesn't matter, as in Kubernetes and CNI.
    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            "sctp" => Ok(Protocol::Sctp),
            _ => Err(Error::invalid("protocol", text, "expected tcp, udp or sctp")),
        }
    }
}

/// A port of the host that leads to a port of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortMap {
    /// Transport protocol.
    pub protocol: Protocol,
    /// The host's port; 0 means that there is nothing to map (a CRI port without `host_port`).
    pub host_port: u16,
    /// The pod's port.
    pub container_port: u16,
    /// The host's address; `None` and the unspecified addresses mean all of them (the unspecified ones: of their
    /// family).
    pub host_ip: Option<IpAddr>,
}

impl std::fmt::Display for PortMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host_ip {
            Some(IpAddr::V4(ip)) => write!(f, "{ip}:{}/{}", self.host_port, self.protocol),
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}/{}", self.host_port, self.protocol),
            None => write!(f, "{}/{}", self.host_port, self.protocol),
        }
    }
}

/// A rate and how much may exceed it at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Bits a second, not 0.
    pub bits_per_second: u64,
    /// Bits at once.
    pub burst_bits: u64,
}

/// A pod's bandwidth limits, as the annotations `kubernetes.io/ingress-bandwidth` and
/// `kubernetes.io/egress-bandwidth` ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// To the pod.
    pub ingress: Option<Rate>,
    /// From the pod.
    pub egress: Option<Rate>,
}

impl Bandwidth {
    /// No limit at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.ingress.is_none() && self.egress.is_none()
    }
}

/// A pod to attach to the network.
#[derive(Debug, Clone, Default)]
pub struct AttachRequest {
    /// Identifies the pod for good: letters, digits, `_`, `.`, `-`, at most 128.
    pub id: String,
    /// The pod's network namespace.
    pub netns: PathBuf,
    /// The interface to make in it, such as `eth0`; at most 15 bytes.
    pub ifname: String,
    /// Host ports that lead to the pod. Those with host port 0 are left out.
    pub ports: Vec<PortMap>,
    /// The interface's hardware address; without one it follows from the pod's address.
    pub mac: Option<[u8; 6]>,
    /// Addresses wanted, out of the ranges; `AddressTaken` if one is in use.
    pub ips: Vec<IpAddr>,
    /// Limits.
    pub bandwidth: Bandwidth,
}

impl AttachRequest {
    pub(crate) fn validate(&self) -> Result<()> {
        check_key(&self.id, &self.ifname)?;
        if let Some(mac) = self.mac
            && (mac[0] & 1 == 1 || mac == [0; 6])
        {
            return Err(Error::invalid(
                "mac",
                format_mac(&mac),
                "a unicast address is needed",
            ));
        }
        check_ports(&self.ports)?;
        check_rates(&self.bandwidth)
    }
}

/// The ports that there is something to map of.
pub(crate) fn real_ports(ports: &[PortMap]) -> Vec<PortMap> {
    ports.iter().filter(|port| port.host_port != 0).cloned().collect()
}

/// Checks that each port can be mapped, and none is mapped twice.
pub(crate) fn check_ports(ports: &[PortMap]) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for port in ports.iter().filter(|port| port.host_port != 0) {
        if port.container_port == 0 {
            return Err(Error::invalid(
                "containerPort",
                0,
                format!("host port {port} needs one"),
            ));
        }
        if !seen.insert((port.protocol, port.host_port, port.host_ip)) {
            return Err(Error::invalid("hostPort", port, "mapped twice in one request"));
        }
    }
    Ok(())
}

/// Checks that rates are possible.
pub(crate) fn check_rates(bandwidth: &Bandwidth) -> Result<()> {
    for (name, rate) in [
        ("ingress rate", bandwidth.ingress),
        ("egress rate", bandwidth.egress),
    ] {
        if let Some(rate) = rate
            && rate.bits_per_second < 8
        {
            return Err(Error::invalid(
                name,
                rate.bits_per_second,
                "at least 8 bit/s are needed",
            ));
        }
    }
    Ok(())
}

/// What [`Network::attach`](crate::Network::attach) made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The pod's addresses with their prefix lengths, in the order of the pools.
    pub ips: Vec<IpNet>,
    /// For each address its gateway.
    pub gateways: Vec<IpAddr>,
    /// The pod's hardware address, `aa:bb:cc:dd:ee:ff`.
    pub mac: String,
    /// The host's end of the pair.
    pub host_interface: String,
    /// The host's end's hardware address.
    pub host_mac: String,
    /// MTU of the pod's interface.
    pub mtu: u32,
}

/// Checks what becomes part of file and interface names.
pub(crate) fn check_key(id: &str, ifname: &str) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if id.is_empty() || id.len() > 128 || !id.as_bytes()[0].is_ascii_alphanumeric() || !id.bytes().all(good) {
        return Err(Error::invalid(
            "container id",
            id,
            "expected [A-Za-z0-9][A-Za-z0-9_.-]*",
        ));
    }
    check_ifname("interface name", ifname)
}

/// Checks an interface name by the kernel's rules.
pub(crate) fn check_ifname(field: &'static str, name: &str) -> Result<()> {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.contains(bad) {
        return Err(Error::invalid(
            field,
            name,
            "not a valid interface name (1 to 15 bytes, no '/', ':', space)",
        ));
    }
    Ok(())
}

pub(crate) fn format_mac(mac: &[u8]) -> String {
    mac.iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(":")
}

/// Reads a hardware address, `aa:bb:cc:dd:ee:ff`.
///
/// # Errors
/// [`Error::Invalid`] if it isn't six hexadecimal bytes.
pub fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text
        .split([':', '-'])
        .map(|part| u8::from_str_radix(part, 16).ok())
        .collect();
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| Error::invalid("mac", text, "expected six hexadecimal bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> AttachRequest {
        AttachRequest {
            id: "a1".into(),
            ifname: "eth0".into(),
            ..AttachRequest::default()
        }
    }

    #[test]
    fn names_that_are_no_names_are_refused() {
        assert!(request().validate().is_ok());
        for id in ["", "../x", "a/b", "-a", "a b"] {
            assert!(
                AttachRequest {
                    id: id.into(),
                    ..request()
                }
                .validate()
                .is_err(),
                "{id:?}"
            );
        }
        for ifname in ["", "..", "a/b", "a:b", "sixteen-bytes-xx"] {
            assert!(
                AttachRequest {
                    ifname: ifname.into(),
                    ..request()
                }
                .validate()
                .is_err(),
                "{ifname:?}"
            );
        }
    }

    #[test]
    fn a_port_mapped_twice_is_refused() {
        let port = PortMap {
            protocol: Protocol::Tcp,
            host_port: 80,
            container_port: 80,
            host_ip: None,
        };
        let mut twice = request();
        twice.ports = vec![port.clone(), port.clone()];
        let error = twice.validate().expect_err("same port twice").to_string();
        assert!(error.contains("80/tcp"), "{error}");
        twice.ports[1].host_ip = Some(IpAddr::from([127, 0, 0, 1]));
        assert!(twice.validate().is_ok(), "another host address is another port");
        twice.ports[1] = PortMap {
            protocol: Protocol::Udp,
            ..port
        };
        assert!(twice.validate().is_ok());
    }

    #[test]
    fn hardware_addresses() {
        assert_eq!(
            parse_mac("0a:58:0A:58:00:05").expect("valid"),
            [0x0a, 0x58, 0x0a, 0x58, 0, 5]
        );
        assert!(parse_mac("0a:58:0a:58:00").is_err());
        assert!(parse_mac("0a:58:0a:58:00:zz").is_err());
        assert!(
            AttachRequest {
                mac: Some([1, 0, 0, 0, 0, 0]),
                ..request()
            }
            .validate()
            .is_err()
        );
    }
}
