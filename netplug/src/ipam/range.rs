//! Ranges of addresses: checking them, and walking through them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::error::{Error, Result};

/// A range of addresses out of which pods get theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The network; its prefix length becomes that of the pods' addresses.
    pub subnet: IpNet,
    /// First address given to pods; by default the first of the network that is neither its own nor the gateway's.
    pub first: Option<IpAddr>,
    /// Last address given to pods; by default the last of the network that isn't the broadcast address.
    pub last: Option<IpAddr>,
    /// The bridge's address in it; by default the network's first.
    pub gateway: Option<IpAddr>,
}

impl From<IpNet> for Range {
    fn from(subnet: IpNet) -> Self {
        Range {
            subnet,
            first: None,
            last: None,
            gateway: None,
        }
    }
}

/// A checked range, its addresses as numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) subnet: IpNet,
    pub(crate) gateway: IpAddr,
    first: u128,
    last: u128,
}

impl Span {
    pub(crate) fn new(range: &Range) -> Result<Span> {
        let subnet = range.subnet.trunc();
        let v4 = subnet.addr().is_ipv4();
        let bad = |reason: &str| Error::invalid("subnet", range.subnet, reason);
        if subnet.prefix_len() > subnet.max_prefix_len() - 2 {
            return Err(bad("too small: at least four addresses are needed"));
        }
        if !v4 && subnet.prefix_len() == 0 || v4 && subnet.prefix_len() < 8 {
            return Err(bad("too large"));
        }
        let network = number(subnet.network());
        // The last address is the broadcast address in IPv4; in IPv6 it is an address like others.
        let top = number(subnet.broadcast()) - u128::from(v4);
        let inside = |field: &'static str, address: Option<IpAddr>, default: u128| match address {
            None => Ok(default),
            Some(address) if !subnet.contains(&address) => {
                Err(Error::invalid(field, address, format!("not in {subnet}")))
            }
            Some(address) => Ok(number(address)),
        };
        let gateway = inside("gateway", range.gateway, network + 1)?;
        let first = inside("rangeStart", range.first, network + 1)?.max(network + 1);
        let last = inside("rangeEnd", range.last, top)?.min(top);
        if first > last {
            let reason = format!("begins behind its end, {}", address(last, v4));
            return Err(Error::invalid("rangeStart", address(first, v4), reason));
        }
        if first == last && first == gateway {
            return Err(bad("holds nothing but the gateway"));
        }
        Ok(Span {
            subnet,
            gateway: address(gateway, v4),
            first,
            last,
        })
    }

    pub(crate) fn is_ipv4(&self) -> bool {
        self.subnet.addr().is_ipv4()
    }

    /// Whether pods may get this address.
    pub(crate) fn offers(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_ipv4()
            && (self.first..=self.last).contains(&number(address))
            && address != self.gateway
    }

    pub(crate) fn overlaps(&self, other: &Span) -> bool {
        self.is_ipv4() == other.is_ipv4() && self.first <= other.last && other.first <= self.last
    }

    /// The first and the last address given to pods.
    pub(crate) fn bounds(&self) -> (IpAddr, IpAddr) {
        (
            address(self.first, self.is_ipv4()),
            address(self.last, self.is_ipv4()),
        )
    }

    /// Whether the address lies between the first and the last.
    pub(crate) fn spans(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_ipv4() && (self.first..=self.last).contains(&number(address))
    }

    /// The addresses behind `after` (from the first on without one), the gateway left out.
    pub(crate) fn behind(&self, after: Option<IpAddr>) -> impl Iterator<Item = IpAddr> + '_ {
        let start = after.map_or(self.first, |address| number(address).saturating_add(1));
        self.walk(start, self.last)
    }

    /// The addresses up to `last`, the gateway left out.
    pub(crate) fn up_to(&self, last: IpAddr) -> impl Iterator<Item = IpAddr> + '_ {
        self.walk(self.first, number(last))
    }

    fn walk(&self, first: u128, last: u128) -> impl Iterator<Item = IpAddr> + '_ {
        let v4 = self.is_ipv4();
        (first..=last)
            .map(move |value| address(value, v4))
            .filter(move |address| *address != self.gateway)
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (first, last) = self.bounds();
        write!(f, "{first}-{last}")
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn address(number: u128, v4: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(low) if v4 => Ipv4Addr::from(low).into(),
        _ => Ipv6Addr::from(number).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(subnet: &str) -> Span {
        Span::new(&Range::from(subnet.parse::<IpNet>().expect("subnet"))).expect("valid range")
    }

    #[test]
    fn network_gateway_and_broadcast_are_not_given_away() {
        let span = span("10.1.2.0/29");
        let all: Vec<String> = span.behind(None).map(|a| a.to_string()).collect();
        assert_eq!(all, ["10.1.2.2", "10.1.2.3", "10.1.2.4", "10.1.2.5", "10.1.2.6"]);
        assert_eq!(span.gateway.to_string(), "10.1.2.1");
    }

    #[test]
    fn an_ipv6_range_goes_to_its_last_address() {
        let all: Vec<String> = span("fd00::/126").behind(None).map(|a| a.to_string()).collect();
        assert_eq!(all, ["fd00::2", "fd00::3"]);
    }

    #[test]
    fn unusable_ranges_are_refused_with_their_value() {
        let range = |subnet: &str, first: Option<&str>, last: Option<&str>, gateway: Option<&str>| {
            let parse = |text: Option<&str>| text.map(|text| text.parse().expect("address"));
            Span::new(&Range {
                subnet: subnet.parse().expect("subnet"),
                first: parse(first),
                last: parse(last),
                gateway: parse(gateway),
            })
        };
        assert!(range("10.0.0.0/31", None, None, None).is_err());
        assert!(range("fd00::1/128", None, None, None).is_err());
        assert!(range("0.0.0.0/0", None, None, None).is_err());
        let error = range("10.0.0.0/24", Some("10.0.1.1"), None, None)
            .expect_err("outside")
            .to_string();
        assert!(
            error.contains("10.0.1.1") && error.contains("rangeStart"),
            "{error}"
        );
        let error = range("10.0.0.0/24", Some("10.0.0.9"), Some("10.0.0.8"), None).expect_err("reversed");
        assert!(error.to_string().contains("10.0.0.9"), "{error}");
        assert!(range("10.0.0.0/24", Some("10.0.0.1"), Some("10.0.0.1"), None).is_err());
        assert!(range("10.0.0.0/24", None, None, Some("fd00::1")).is_err());
    }
}
