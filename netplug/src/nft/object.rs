//! nf_tables objects as netlink requests. Numbers are those of `linux/netfilter/nf_tables.h`.

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};

use super::expr::Program;
use super::layout::{Hook, Set, TABLE, datatype};
use crate::netlink::Request;
use crate::netlink::wire::Attrs;

/// `NFNL_SUBSYS_NFTABLES << 8`.
const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NFPROTO_INET: u8 = 1;

const NEWTABLE: u16 = SUBSYSTEM;
const DELTABLE: u16 = SUBSYSTEM | 2;
const NEWCHAIN: u16 = SUBSYSTEM | 3;
const GETCHAIN: u16 = SUBSYSTEM | 4;
const NEWRULE: u16 = SUBSYSTEM | 6;
const GETRULE: u16 = SUBSYSTEM | 7;
const DELRULE: u16 = SUBSYSTEM | 8;
const NEWSET: u16 = SUBSYSTEM | 9;
const NEWSETELEM: u16 = SUBSYSTEM | 12;
const GETSETELEM: u16 = SUBSYSTEM | 13;
const DELSETELEM: u16 = SUBSYSTEM | 14;

/// Attribute numbers that reading needs too.
pub(super) const RULE_USERDATA: u16 = 7;
pub(super) const CHAIN_POLICY: u16 = 5;
pub(super) const LIST_ELEM: u16 = 1;
pub(super) const ELEM_LIST_ELEMENTS: u16 = 3;
pub(super) const ELEM_KEY: u16 = 1;
pub(super) const ELEM_DATA: u16 = 2;
pub(super) const ELEM_FLAGS: u16 = 3;
pub(super) const DATA_VALUE: u16 = 1;
/// `NFT_SET_ELEM_INTERVAL_END`.
pub(super) const INTERVAL_END: u32 = 1;

/// `struct nfgenmsg`: family, version 0, resource id.
fn header(family: u8, resource: u16) -> Attrs {
    let id = resource.to_be_bytes();
    Attrs::with_header(&[family, 0, id[0], id[1]])
}

fn object(kind: u16, flags: u16, body: Attrs, what: String) -> Request {
    Request {
        kind,
        flags,
        body: body.into_bytes(),
        what,
    }
}

/// Encloses requests in the marks of one transaction.
pub(super) fn transaction(requests: impl IntoIterator<Item = Request>) -> Vec<Request> {
    let mark = |kind| object(kind, 0, header(0, SUBSYSTEM >> 8), "nf_tables transaction".into());
    let mut all = vec![mark(BATCH_BEGIN)];
    all.extend(requests);
    all.push(mark(BATCH_END));
    all
}

/// Adds the table, or leaves it as it is.
pub(super) fn add_table() -> Request {
    let mut body = header(NFPROTO_INET, 0);
    body.string(1, TABLE);
    object(
        NEWTABLE,
        NLM_F_CREATE,
        body,
        format!("add nf_tables table {TABLE}"),
    )
}

/// Deletes the table with all that is in it.
pub(super) fn delete_table() -> Request {
    let mut body = header(NFPROTO_INET, 0);
    body.string(1, TABLE);
    object(DELTABLE, 0, body, format!("delete nf_tables table {TABLE}"))
}

/// Adds a set, or leaves it as it is if it is declared alike.
pub(super) fn add_set(set: Set, id: u32) -> Request {
    const FLAG_INTERVAL: u32 = 0x4;
    const FLAG_MAP: u32 = 0x8;
    let declaration = set.declaration();
    let mut flags = if declaration.interval { FLAG_INTERVAL } else { 0 };
    if declaration.data.is_some() {
        flags |= FLAG_MAP;
    }
    let mut body = header(NFPROTO_INET, 0);
    body.string(1, TABLE).string(2, set.name()).be32(3, flags);
    body.be32(4, declaration.key_type).be32(5, declaration.key_length);
    if let Some((data_type, length)) = declaration.data {
        body.be32(6, data_type).be32(7, length);
    }
    body.be32(10, id);
    if declaration.key_type == datatype::IFNAME {
        // For nft, which shows names only if it is told their byte order: NFTNL_UDATA_SET_KEYBYTEORDER, 4 bytes, host's.
        body.bytes(13, &[0, 4, 1, 0, 0, 0]);
    }
    object(
        NEWSET,
        NLM_F_CREATE,
        body,
        format!("add nf_tables set {}", set.name()),
    )
}

/// Adds a chain, or leaves it as it is.
pub(super) fn add_chain(name: &str, hook: Option<&Hook>) -> Request {
    let mut body = header(NFPROTO_INET, 0);
    body.string(1, TABLE).string(3, name);
    if let Some(hook) = hook {
        body.nested(4, |inner| {
            inner.be32(1, hook.number).be32(2, hook.priority.cast_unsigned());
        });
        body.string(7, hook.kind);
    }
    object(
        NEWCHAIN,
        NLM_F_CREATE,
        body,
        format!("add nf_tables chain {name}"),
    )
}

/// Deletes every rule of the table.
pub(super) fn delete_rules() -> Request {
    let mut body = header(NFPROTO_INET, 0);
    body.string(1, TABLE);
    object(
        DELRULE,
        0,
        body,
        format!("delete the rules of nf_tables table {TABLE}"),
    )
}

/// Appends a rule; `tag` is kept with it by the kernel and told in dumps.
pub(super) fn add_rule(chain: &str, program: Program, tag: &[u8]) -> Request {
    const EXPRESSIONS: u16 = 4;
    let mut body = header(NFPROTO_INET, 0);
    body.string(1, TABLE).string(2, chain);
    body.bytes(EXPRESSIONS | 1 << 15, &program.into_bytes())
        .bytes(RULE_USERDATA, tag);
    object(
        NEWRULE,
        NLM_F_CREATE | NLM_F_APPEND,
        body,
        format!("add a rule to nf_tables chain {chain}"),
    )
}

/// A chain that isn't ours.
#[derive(Clone, Copy)]
pub(super) struct Foreign {
    /// `NFPROTO_*`.
    pub(super) family: u8,
    pub(super) table: &'static str,
    pub(super) chain: &'static str,
}

/// Asks for somebody else's chain; `ENOENT` if there is none.
pub(super) fn get_chain(of: Foreign) -> Request {
    let mut body = header(of.family, 0);
    body.string(1, of.table).string(3, of.chain);
    object(GETCHAIN, 0, body, format!("look up chain {}", of.chain))
}

/// Lists the rules of somebody else's chain.
pub(super) fn list_chain(of: Foreign) -> Request {
    let mut body = header(of.family, 0);
    body.string(1, of.table).string(2, of.chain);
    object(GETRULE, 0, body, format!("list the rules of chain {}", of.chain))
}

/// Appends a rule to somebody else's chain.
pub(super) fn append(of: Foreign, program: Program, tag: &[u8]) -> Request {
    const EXPRESSIONS: u16 = 4;
    let mut body = header(of.family, 0);
    body.string(1, of.table).string(2, of.chain);
    body.bytes(EXPRESSIONS | 1 << 15, &program.into_bytes())
        .bytes(RULE_USERDATA, tag);
    object(
        NEWRULE,
        NLM_F_CREATE | NLM_F_APPEND,
        body,
        format!("add a rule to chain {}", of.chain),
    )
}

/// Lists the table's rules.
pub(super) fn list_rules() -> Request {
    let mut body = header(NFPROTO_INET, 0);
    body.string(1, TABLE);
    object(
        GETRULE,
        0,
        body,
        format!("list the rules of nf_tables table {TABLE}"),
    )
}

/// One element of a set or map, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) key: Vec<u8>,
    /// For maps.
    pub(crate) data: Option<Vec<u8>>,
    /// In interval sets: the first key that is outside again.
    pub(crate) end: bool,
}

fn elements(kind: u16, flags: u16, set: Set, list: &[Element], what: String) -> Request {
    let mut body = header(NFPROTO_INET, 0);
    body.string(1, TABLE)
        .string(2, set.name())
        .nested(ELEM_LIST_ELEMENTS, |outer| {
            for element in list {
                outer.nested(LIST_ELEM, |inner| {
                    inner.nested(ELEM_KEY, |key| {
                        key.bytes(DATA_VALUE, &element.key);
                    });
                    if let Some(data) = &element.data {
                        inner.nested(ELEM_DATA, |value| {
                            value.bytes(DATA_VALUE, data);
                        });
                    }
                    if element.end {
                        inner.be32(ELEM_FLAGS, INTERVAL_END);
                    }
                });
            }
        });
    object(kind, flags, body, what)
}

/// Adds elements. One that is there alike is left alone; a map's with another value is `EEXIST` (or `EBUSY`).
pub(super) fn add_elements(set: Set, list: &[Element]) -> Request {
    elements(
        NEWSETELEM,
        NLM_F_CREATE,
        set,
        list,
        format!("add to nf_tables set {}", set.name()),
    )
}

/// Deletes elements; one that isn't there is `ENOENT`.
pub(super) fn delete_elements(set: Set, list: &[Element]) -> Request {
    elements(
        DELSETELEM,
        0,
        set,
        list,
        format!("delete from nf_tables set {}", set.name()),
    )
}

/// Asks for an element; `ENOENT` if it isn't there.
pub(super) fn get_element(set: Set, element: &Element) -> Request {
    elements(
        GETSETELEM,
        0,
        set,
        std::slice::from_ref(element),
        format!("look into nf_tables set {}", set.name()),
    )
}

/// Lists a set's elements.
pub(super) fn list_elements(set: Set) -> Request {
    let mut body = header(NFPROTO_INET, 0);
    body.string(1, TABLE).string(2, set.name());
    object(GETSETELEM, 0, body, format!("list nf_tables set {}", set.name()))
}
