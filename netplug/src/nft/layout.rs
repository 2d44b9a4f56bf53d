//! The table: its sets, maps, chains and rules. All static; pods are elements.
//!
//! ```text
//! table inet pintle {
//!   set networks { ifname }                    labels of networks whose elements are all there
//!   set bridges { ifname }                     interfaces behind which are pods
//!   set masq4, masq6 { address }               pods whose traffic to the outside is masqueraded
//!   set inside4, inside6 { address interval }  destinations that aren't outside
//!   map ports4, ports6 { address . protocol . port : address . port }   host ports of one host address
//!   map anyports4, anyports6 { protocol . port : address . port }       host ports of every host address
//!
//!   chain guard       raw prerouting      no 127.0.0.0/8 from a pod (route_localnet would let it in)
//!   chain prerouting  nat prerouting      to a local address: goto ports
//!   chain output      nat output          the same for what the host itself sends
//!   chain ports       from a bridge or from loopback: goto marked; else DNAT by the maps
//!   chain marked      DNAT by the maps, and mark the packet
//!   chain postrouting nat postrouting     marked, or masq -> outside: masquerade
//! }
//! ```
//!
//! A connection that comes from a pod of this node, or from 127.0.0.1, is masqueraded when a port map sends it
//! to a pod: the pod would answer the other pod directly, and can't answer 127.0.0.1 at all. The mark is set after
//! the look-up in the map, so that it meets no packet that isn't ours.

use super::expr::{Field, Meta, Program, R0, Verdict};

/// The table's name.
pub(crate) const TABLE: &str = "pintle";
/// The bit of the packet mark that means "masquerade this"; the same as the upstream CNI plugin portmap's.
const MARK: u32 = 0x2000;

const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const RTN_LOCAL: u32 = 2;

/// A set or map of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Set {
    Networks,
    Bridges,
    Masquerade4,
    Masquerade6,
    Inside4,
    Inside6,
    Ports4,
    Ports6,
    AnyPorts4,
    AnyPorts6,
}

/// nft's numbers of data types, so that `nft list` can show the sets; concatenations are made of 6-bit digits.
pub(super) mod datatype {
    pub(in crate::nft) const IPV4: u32 = 7;
    pub(in crate::nft) const IPV6: u32 = 8;
    pub(in crate::nft) const PROTOCOL: u32 = 12;
    pub(in crate::nft) const SERVICE: u32 = 13;
    pub(in crate::nft) const IFNAME: u32 = 41;
    pub(in crate::nft) const fn join(first: u32, second: u32) -> u32 {
        first << 6 | second
    }
}

/// How a set is declared.
pub(crate) struct Declaration {
    pub(crate) key_type: u32,
    pub(crate) key_length: u32,
    /// Type and length of the values, for maps.
    pub(crate) data: Option<(u32, u32)>,
    pub(crate) interval: bool,
}

impl Set {
    pub(crate) const ALL: [Set; 10] = [
        Set::Networks,
        Set::Bridges,
        Set::Masquerade4,
        Set::Masquerade6,
        Set::Inside4,
        Set::Inside6,
        Set::Ports4,
        Set::Ports6,
        Set::AnyPorts4,
        Set::AnyPorts6,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Set::Networks => "networks",
            Set::Bridges => "bridges",
            Set::Masquerade4 => "masq4",
            Set::Masquerade6 => "masq6",
            Set::Inside4 => "inside4",
            Set::Inside6 => "inside6",
            Set::Ports4 => "ports4",
            Set::Ports6 => "ports6",
            Set::AnyPorts4 => "anyports4",
            Set::AnyPorts6 => "anyports6",
        }
    }

    pub(crate) fn declaration(self) -> Declaration {
        use datatype::{IFNAME, IPV4, IPV6, PROTOCOL, SERVICE, join};
        let set = |key_type, key_length| Declaration {
            key_type,
            key_length,
            data: None,
            interval: false,
        };
        let interval = |key_type, key_length| Declaration {
            interval: true,
            ..set(key_type, key_length)
        };
        let map = |key_type, key_length, data_type, data_length| Declaration {
            data: Some((data_type, data_length)),
            ..set(key_type, key_length)
        };
        let port = join(PROTOCOL, SERVICE);
        let host_port = |address| join(join(address, PROTOCOL), SERVICE);
        match self {
            Set::Networks | Set::Bridges => set(IFNAME, 16),
            Set::Masquerade4 => set(IPV4, 4),
            Set::Masquerade6 => set(IPV6, 16),
            Set::Inside4 => interval(IPV4, 4),
            Set::Inside6 => interval(IPV6, 16),
            Set::Ports4 => map(host_port(IPV4), 12, join(IPV4, SERVICE), 8),
            Set::Ports6 => map(host_port(IPV6), 24, join(IPV6, SERVICE), 20),
            Set::AnyPorts4 => map(port, 8, join(IPV4, SERVICE), 8),
            Set::AnyPorts6 => map(port, 8, join(IPV6, SERVICE), 20),
        }
    }
}

/// Where a base chain hooks in: chain type, hook, priority.
pub(crate) struct Hook {
    pub(crate) kind: &'static str,
    pub(crate) number: u32,
    pub(crate) priority: i32,
}

const PREROUTING: u32 = 0;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

/// Every chain, those that are jumped to first.
pub(crate) fn chains() -> [(&'static str, Option<Hook>); 6] {
    let nat = |number, priority| {
        Some(Hook {
            kind: "nat",
            number,
            priority,
        })
    };
    [
        ("marked", None),
        ("ports", None),
        (
            "guard",
            Some(Hook {
                kind: "filter",
                number: PREROUTING,
                priority: -300,
            }),
        ),
        ("prerouting", nat(PREROUTING, -100)),
        ("output", nat(OUTPUT, -100)),
        ("postrouting", nat(POSTROUTING, 100)),
    ]
}

/// Every rule with its chain, in order.
pub(crate) fn rules() -> Vec<(&'static str, Program)> {
    let mut rules = Vec::with_capacity(24);
    for chain in ["marked", "ports"] {
        if chain == "ports" {
            rules.push((chain, from_bridge().verdict(Verdict::Goto("marked"))));
            rules.push((
                chain,
                v4(Field::SourceV4)
                    .equals_loopback()
                    .verdict(Verdict::Goto("marked")),
            ));
            let loopback = std::net::Ipv6Addr::LOCALHOST.octets();
            rules.push((
                chain,
                v6(Field::SourceV6)
                    .equals(R0, &loopback)
                    .verdict(Verdict::Goto("marked")),
            ));
        }
        for (map, with_address) in [
            (Set::Ports4, true),
            (Set::Ports6, true),
            (Set::AnyPorts4, false),
            (Set::AnyPorts6, false),
        ] {
            rules.push((chain, port_map(map, with_address, chain == "marked")));
        }
    }
    // Every packet comes by: what fails for nearly all stands first, the set last.
    let guard = |field| {
        v4(field)
            .equals_loopback()
            .meta(Meta::IncomingName, R0)
            .within(Set::Bridges, R0)
            .verdict(Verdict::Drop)
    };
    rules.push(("guard", guard(Field::DestinationV4)));
    rules.push(("guard", guard(Field::SourceV4)));
    for chain in ["prerouting", "output"] {
        let local = Program::default()
            .destination_kind(R0)
            .equals(R0, &RTN_LOCAL.to_ne_bytes());
        rules.push((chain, local.verdict(Verdict::Goto("ports"))));
    }
    let marked = Program::default()
        .meta(Meta::Mark, R0)
        .bitwise(R0, MARK, 0)
        .equals(R0, &MARK.to_ne_bytes());
    rules.push(("postrouting", marked.masquerade()));
    let outside4 = v4(Field::SourceV4)
        .within(Set::Masquerade4, R0)
        .load(Field::DestinationV4, R0);
    rules.push(("postrouting", outside4.outside(Set::Inside4, R0).masquerade()));
    let outside6 = v6(Field::SourceV6)
        .within(Set::Masquerade6, R0)
        .load(Field::DestinationV6, R0);
    rules.push(("postrouting", outside6.outside(Set::Inside6, R0).masquerade()));
    rules
}

/// DNAT by a map whose keys are `[address .] protocol . port`.
fn port_map(map: Set, with_address: bool, mark: bool) -> Program {
    let is_v4 = matches!(map, Set::Ports4 | Set::AnyPorts4);
    let (family, address, words) = if is_v4 {
        (NFPROTO_IPV4, Field::DestinationV4, 1)
    } else {
        (NFPROTO_IPV6, Field::DestinationV6, 4)
    };
    let mut program = Program::default().family(family);
    let mut next = R0;
    if with_address {
        program = program.load(address, next);
        next += words;
    }
    program = program
        .meta(Meta::Protocol, next)
        .load(Field::DestinationPort, next + 1)
        .map(map, R0);
    if mark {
        // Behind the values that the map has just given.
        let free = R0 + words + 1;
        program = program
            .meta(Meta::Mark, free)
            .bitwise(free, !MARK, MARK)
            .set_mark(free);
    }
    program.destination_nat(u32::from(family), R0, R0 + words)
}

fn from_bridge() -> Program {
    Program::default()
        .meta(Meta::IncomingName, R0)
        .within(Set::Bridges, R0)
}

fn v4(field: Field) -> Program {
    Program::default().family(NFPROTO_IPV4).load(field, R0)
}

fn v6(field: Field) -> Program {
    Program::default().family(NFPROTO_IPV6).load(field, R0)
}

impl Program {
    fn family(self, family: u8) -> Self {
        self.meta(Meta::Family, R0).equals(R0, &[family])
    }

    /// Goes on only if the address in the first register is in 127.0.0.0/8.
    fn equals_loopback(self) -> Self {
        self.bitwise(R0, u32::from_ne_bytes([255, 0, 0, 0]), 0)
            .equals(R0, &[127, 0, 0, 0])
    }
}
