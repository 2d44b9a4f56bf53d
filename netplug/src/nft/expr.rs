//! nf_tables expressions: the little programs of which rules consist.
//!
//! Registers are 4 bytes each and hold keys laid out one field behind another, every field padded
//! to 4 bytes. Numbers are those of `linux/netfilter/nf_tables.h`.

use super::layout::Set;
use crate::netlink::wire::Attrs;

/// The first 4-byte register (`NFT_REG32_00`).
pub(crate) const R0: u32 = 8;

const LIST_ELEM: u16 = 1;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
/// `NFT_REG_VERDICT`.
const VERDICT_REGISTER: u32 = 0;
const CMP_EQ: u32 = 0;

/// What a rule does with a packet in the end.
#[derive(Clone, Copy)]
pub(crate) enum Verdict {
    Accept,
    Drop,
    Goto(&'static str),
}

/// What `meta` reads.
#[derive(Clone, Copy)]
pub(crate) enum Meta {
    Mark = 3,
    IncomingName = 6,
    OutgoingName = 7,
    Family = 15,
    Protocol = 16,
}

/// A part of the packet.
#[derive(Clone, Copy)]
pub(crate) enum Field {
    SourceV4,
    DestinationV4,
    SourceV6,
    DestinationV6,
    /// The destination port of TCP, UDP, SCTP alike.
    DestinationPort,
}

impl Field {
    /// Header (network 1, transport 2), offset, length.
    fn place(self) -> (u32, u32, u32) {
        match self {
            Field::SourceV4 => (1, 12, 4),
            Field::DestinationV4 => (1, 16, 4),
            Field::SourceV6 => (1, 8, 16),
            Field::DestinationV6 => (1, 24, 16),
            Field::DestinationPort => (2, 2, 2),
        }
    }
}

/// A rule's expressions, in the order in which a packet meets them; the first that doesn't match ends the rule.
#[derive(Default)]
pub(crate) struct Program(Attrs);

impl Program {
    /// The encoded list, for `NFTA_RULE_EXPRESSIONS`.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0.into_bytes()
    }

    fn push(mut self, name: &str, fill: impl FnOnce(&mut Attrs)) -> Self {
        self.0.nested(LIST_ELEM, |element| {
            element.string(EXPR_NAME, name).nested(EXPR_DATA, fill);
        });
        self
    }

    /// Loads packet metadata into a register.
    pub(crate) fn meta(self, key: Meta, register: u32) -> Self {
        self.push("meta", |data| {
            data.be32(1, register).be32(2, key as u32);
        })
    }

    /// Writes the packet's mark out of a register.
    pub(crate) fn set_mark(self, register: u32) -> Self {
        self.push("meta", |data| {
            data.be32(2, Meta::Mark as u32).be32(3, register);
        })
    }

    /// Loads a header field into registers.
    pub(crate) fn load(self, field: Field, register: u32) -> Self {
        let (base, offset, length) = field.place();
        self.push("payload", |data| {
            data.be32(1, register)
                .be32(2, base)
                .be32(3, offset)
                .be32(4, length);
        })
    }

    /// Goes on only if the register holds `value`.
    pub(crate) fn equals(self, register: u32, value: &[u8]) -> Self {
        self.push("cmp", |data| {
            data.be32(1, register).be32(2, CMP_EQ).nested(3, |inner| {
                inner.bytes(DATA_VALUE, value);
            });
        })
    }

    /// `register = (register & mask) ^ xor`, in the host's byte order.
    pub(crate) fn bitwise(self, register: u32, mask: u32, xor: u32) -> Self {
        self.push("bitwise", |data| {
            data.be32(1, register).be32(2, register).be32(3, 4);
            data.nested(4, |inner| {
                inner.bytes(DATA_VALUE, &mask.to_ne_bytes());
            });
            data.nested(5, |inner| {
                inner.bytes(DATA_VALUE, &xor.to_ne_bytes());
            });
        })
    }

    /// Goes on only if the set holds the key in the registers.
    pub(crate) fn within(self, set: Set, register: u32) -> Self {
        self.push("lookup", |data| {
            data.string(1, set.name()).be32(2, register);
        })
    }

    /// Goes on only if the set doesn't hold the key in the registers.
    pub(crate) fn outside(self, set: Set, register: u32) -> Self {
        const INVERT: u32 = 1;
        self.push("lookup", |data| {
            data.string(1, set.name()).be32(2, register).be32(5, INVERT);
        })
    }

    /// Replaces the key in the registers by what the map holds for it; goes on only if there is such an entry.
    pub(crate) fn map(self, set: Set, register: u32) -> Self {
        self.push("lookup", |data| {
            data.string(1, set.name()).be32(2, register).be32(3, register);
        })
    }

    /// Loads the kind of the destination address (`RTN_*`), as this host's routing sees it.
    pub(crate) fn destination_kind(self, register: u32) -> Self {
        const RESULT_ADDRTYPE: u32 = 3;
        const FLAG_DADDR: u32 = 1 << 1;
        self.push("fib", |data| {
            data.be32(1, register)
                .be32(2, RESULT_ADDRTYPE)
                .be32(3, FLAG_DADDR);
        })
    }

    /// Rewrites the destination to address and port in the registers. Ends the rule.
    pub(crate) fn destination_nat(self, family: u32, address: u32, port: u32) -> Self {
        const DNAT: u32 = 1;
        self.push("nat", |data| {
            data.be32(1, DNAT).be32(2, family).be32(3, address).be32(5, port);
        })
    }

    /// Rewrites the source to the outgoing interface's address. Ends the rule.
    pub(crate) fn masquerade(self) -> Self {
        self.push("masq", |_| {})
    }

    /// Counts packets and bytes.
    pub(crate) fn counter(self) -> Self {
        self.push("counter", |_| {})
    }

    /// Ends the rule.
    pub(crate) fn verdict(self, verdict: Verdict) -> Self {
        const NF_DROP: u32 = 0;
        const NF_ACCEPT: u32 = 1;
        const NFT_GOTO: u32 = -4_i32 as u32;
        self.push("immediate", |data| {
            data.be32(1, VERDICT_REGISTER).nested(2, |inner| {
                inner.nested(DATA_VERDICT, |parts| match verdict {
                    Verdict::Accept => {
                        parts.be32(VERDICT_CODE, NF_ACCEPT);
                    }
                    Verdict::Drop => {
                        parts.be32(VERDICT_CODE, NF_DROP);
                    }
                    Verdict::Goto(chain) => {
                        parts.be32(VERDICT_CODE, NFT_GOTO).string(VERDICT_CHAIN, chain);
                    }
                });
            });
        })
    }
}
