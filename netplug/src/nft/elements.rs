//! What a pod, a network or a host port is in the table's sets.

use std::net::IpAddr;

use ipnet::IpNet;

use super::layout::Set;
use super::object::Element;
use crate::request::PortMap;

/// An element and the set it belongs to.
pub(crate) type Entry = (Set, Element);

fn plain(key: Vec<u8>) -> Element {
    Element {
        key,
        data: None,
        end: false,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// A name in an interface name's 16 bytes.
fn name(name: &str) -> Element {
    let mut key = name.as_bytes().to_vec();
    key.resize(16, 0);
    plain(key)
}

/// An interface behind which are pods.
pub(crate) fn bridge(interface: &str) -> Entry {
    (Set::Bridges, name(interface))
}

/// The mark that all elements of a network are there; at most 15 bytes.
pub(crate) fn network(label: &str) -> Entry {
    (Set::Networks, name(label))
}

/// A pod whose traffic to the outside is masqueraded.
pub(crate) fn masquerade(address: IpAddr) -> Entry {
    let set = if address.is_ipv4() {
        Set::Masquerade4
    } else {
        Set::Masquerade6
    };
    (set, plain(octets(address)))
}

/// The set for a family's inner destinations.
pub(crate) fn inside_set(network: IpNet) -> Set {
    if network.addr().is_ipv4() {
        Set::Inside4
    } else {
        Set::Inside6
    }
}

/// A range of addresses from `first` to `last` as interval elements.
pub(crate) fn interval(first: u128, last: u128, v4: bool) -> Vec<Element> {
    let (width, top) = if v4 {
        (4, u128::from(u32::MAX))
    } else {
        (16, u128::MAX)
    };
    let key = |value: u128| value.to_be_bytes()[16 - width..].to_vec();
    let mut elements = vec![plain(key(first))];
    if last < top {
        elements.push(Element {
            end: true,
            ..plain(key(last + 1))
        });
    }
    elements
}

/// The elements of one port map to a pod with these addresses; empty if no address is of its host address' family.
pub(crate) fn port(map: &PortMap, addresses: &[IpAddr]) -> Vec<Entry> {
    if map.host_port == 0 {
        return Vec::new();
    }
    let mut entries = Vec::new();
    for v4 in [true, false] {
        // The first address of each family, as the CNI plugin portmap does.
        let Some(pod) = addresses.iter().find(|address| address.is_ipv4() == v4) else {
            continue;
        };
        let host = match map.host_ip {
            Some(host) if host.is_ipv4() != v4 => continue,
            Some(host) if host.is_unspecified() => None,
            other => other,
        };
        let mut key = host.map(octets).unwrap_or_default();
        key.extend_from_slice(&[map.protocol.number(), 0, 0, 0]);
        key.extend_from_slice(&padded(map.host_port));
        let mut data = octets(*pod);
        data.extend_from_slice(&padded(map.container_port));
        let set = match (host.is_some(), v4) {
            (true, true) => Set::Ports4,
            (true, false) => Set::Ports6,
            (false, true) => Set::AnyPorts4,
            (false, false) => Set::AnyPorts6,
        };
        entries.push((
            set,
            Element {
                key,
                data: Some(data),
                end: false,
            },
        ));
    }
    entries
}

/// Whether a port map's element leads to an address.
pub(crate) fn leads_to(element: &Element, set: Set, address: IpAddr) -> bool {
    let v4 = matches!(set, Set::Ports4 | Set::AnyPorts4);
    let prefix = octets(address);
    address.is_ipv4() == v4
        && element
            .data
            .as_ref()
            .is_some_and(|data| data.starts_with(&prefix))
}

/// A port number in a 4-byte register.
fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Protocol;

    fn map(host_ip: Option<&str>) -> PortMap {
        let host_ip = host_ip.map(|text| text.parse().expect("address"));
        PortMap {
            protocol: Protocol::Tcp,
            host_port: 0x1f90,
            container_port: 80,
            host_ip,
        }
    }

    #[test]
    fn a_port_on_all_addresses_is_an_element_for_each_family() {
        let pod = ["10.0.0.2".parse().expect("v4"), "fd00::2".parse().expect("v6")];
        let entries = port(&map(None), &pod);
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].0, Set::AnyPorts4);
        assert_eq!(entries[0].1.key, [6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(
            entries[0].1.data.as_deref(),
            Some(&[10, 0, 0, 2, 0, 80, 0, 0][..])
        );
        assert_eq!(entries[1].0, Set::AnyPorts6);
        assert_eq!(port(&map(Some("0.0.0.0")), &pod)[..], entries[..1]);
        assert_eq!(port(&map(Some("::")), &pod)[..], entries[1..]);
    }

    #[test]
    fn a_port_of_one_address_is_an_element_of_its_family() {
        let pod = ["10.0.0.2".parse().expect("v4")];
        let entries = port(&map(Some("192.0.2.1")), &pod);
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].0, Set::Ports4);
        assert_eq!(entries[0].1.key, [192, 0, 2, 1, 6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert!(port(&map(Some("fd00::1")), &pod).is_empty());
    }

    #[test]
    fn an_interval_up_to_the_last_address_has_no_end() {
        assert_eq!(interval(0xff00 << 112, u128::MAX, false).len(), 1);
        let v4 = interval(0xe000_0000, 0xefff_ffff, true);
        assert_eq!(v4[0].key, [0xe0, 0, 0, 0]);
        assert_eq!(v4[1].key, [0xf0, 0, 0, 0]);
        assert!(v4[1].end);
    }
}
