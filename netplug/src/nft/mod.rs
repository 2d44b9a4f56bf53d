//! The nf_tables side: one table of our own, changed in transactions.

mod conntrack;
pub(crate) mod elements;
mod expr;
mod forward;
mod inside;
mod layout;
mod object;

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::libc;

use self::elements::Entry;
use self::layout::Set;
use self::object::Element;
use crate::error::{Error, Result};
use crate::netlink::{Request, Socket, decode, wire};

/// Elements in one message; attribute lengths are 16 bits.
const CHUNK: usize = 256;

/// A netfilter netlink socket in one network namespace.
pub(crate) struct Nft(Socket);

impl Nft {
    /// In the calling thread's network namespace.
    pub(crate) fn open() -> Result<Nft> {
        Socket::open(NETLINK_NETFILTER).map(Nft)
    }

    /// Another descriptor of the socket. Closing the last one waits until the kernel has done away with what was
    /// deleted by it, some 10 ms.
    pub(crate) fn hold(&self) -> Result<OwnedFd> {
        self.0.hold()
    }

    /// Whether the table's rules are just those that belong there.
    pub(crate) fn is_whole(&mut self) -> Result<bool> {
        let expected: Vec<Vec<u8>> = tagged_rules().into_iter().map(|(_, _, tag)| tag).collect();
        let mut found: Vec<Vec<u8>> = Vec::new();
        let listed = self.0.dump(&object::list_rules(), |payload| {
            let attributes = payload.get(4..).unwrap_or(&[]);
            let tag = wire::find(attributes, object::RULE_USERDATA)
                .unwrap_or_default()
                .to_vec();
            if tag.is_empty() || !found.contains(&tag) {
                found.push(tag);
            }
            Ok(())
        });
        match listed {
            Ok(()) => {
                found.sort();
                let mut expected = expected;
                expected.sort();
                Ok(found == expected)
            }
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes the table whole in one transaction, whatever is left of it; elements stay as they are.
    pub(crate) fn build(&mut self) -> Result<()> {
        match self.commit(build_requests()) {
            // Sets of another shape have our names: an older version's. Its networks put theirs back themselves.
            Err(error)
                if matches!(
                    error.errno(),
                    Some(libc::EEXIST | libc::EOPNOTSUPP | libc::EINVAL)
                ) =>
            {
                let mut requests = vec![object::add_table(), object::delete_table()];
                requests.extend(build_requests());
                self.commit(requests)
            }
            done => done,
        }
    }

    /// Whether an element is there, a map's with the same value.
    pub(crate) fn contains(&mut self, entry: &Entry) -> Result<bool> {
        let found = self.0.get(&object::get_element(entry.0, &entry.1), |payload| {
            let list = wire::find(payload.get(4..).unwrap_or(&[]), object::ELEM_LIST_ELEMENTS);
            let element = list
                .and_then(|list| wire::find(list, object::LIST_ELEM))
                .and_then(parse_element);
            Ok(element.is_some_and(|element| element.data == entry.1.data))
        });
        match found {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(false),
            found => found,
        }
    }

    /// Adds elements in one transaction, all or none; those that are there already are left alone.
    /// On a conflict tells the index of the entry at fault.
    pub(crate) fn add(&mut self, entries: &[Entry]) -> Result<(), (Option<usize>, Error)> {
        if entries.is_empty() {
            return Ok(());
        }
        // One element a message, so that a refusal tells which.
        let requests = entries
            .iter()
            .map(|(set, element)| object::add_elements(*set, std::slice::from_ref(element)));
        let requests = object::transaction(requests);
        let refusals = self.0.transaction(&requests).map_err(|error| (None, error))?;
        match refusals.into_iter().next() {
            // Message 0 is the transaction's begin.
            Some(refusal) => Err((refusal.index.checked_sub(1), refusal.error)),
            None => Ok(()),
        }
    }

    /// Adds many elements, in messages of many elements each.
    pub(crate) fn add_many(&mut self, entries: &[Entry]) -> Result<()> {
        for set in Set::ALL {
            let list: Vec<Element> = entries
                .iter()
                .filter(|(of, _)| *of == set)
                .map(|(_, element)| element.clone())
                .collect();
            for chunk in list.chunks(CHUNK) {
                self.commit(vec![object::add_elements(set, chunk)])?;
            }
        }
        Ok(())
    }

    /// Deletes elements; those that aren't there are no error, nor is a table that is gone. A map's element with
    /// another value is another's and stays.
    pub(crate) fn delete(&mut self, entries: &[Entry]) -> Result<()> {
        let mut own = Vec::with_capacity(entries.len());
        for entry in entries {
            // The kernel would delete by key alone.
            if entry.1.data.is_none() || self.contains(entry)? {
                own.push(entry);
            }
        }
        self.delete_by_key(&own)
    }

    fn delete_by_key(&mut self, entries: &[&Entry]) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let single = |(set, element): &&Entry| object::delete_elements(*set, std::slice::from_ref(element));
        match self.commit(entries.iter().map(single).collect()) {
            Err(error) if error.errno() == Some(libc::ENOENT) && entries.len() > 1 => {
                entries.iter().try_for_each(|entry| self.delete_by_key(&[entry]))
            }
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(()),
            done => done,
        }
    }

    /// Deletes whatever leads to or stands for these addresses, however it came there.
    pub(crate) fn delete_addresses(&mut self, addresses: &[IpAddr]) -> Result<()> {
        if addresses.is_empty() {
            return Ok(());
        }
        let mut entries: Vec<Entry> = addresses
            .iter()
            .map(|address| elements::masquerade(*address))
            .collect();
        for set in [Set::Ports4, Set::Ports6, Set::AnyPorts4, Set::AnyPorts6] {
            let leads = |element: &Element| {
                addresses
                    .iter()
                    .any(|address| elements::leads_to(element, set, *address))
            };
            entries.extend(
                self.list(set)?
                    .into_iter()
                    .filter(leads)
                    .map(|element| (set, element)),
            );
        }
        self.delete(&entries)
    }

    /// What a set holds; nothing if there is no such set.
    pub(crate) fn list(&mut self, set: Set) -> Result<Vec<Element>> {
        let mut found = Vec::new();
        let listed = self.0.dump(&object::list_elements(set), |payload| {
            let list = wire::find(payload.get(4..).unwrap_or(&[]), object::ELEM_LIST_ELEMENTS);
            for (_, element) in wire::AttrIter(list.unwrap_or(&[])) {
                let element = parse_element(element).ok_or_else(|| decode("list set", "torn element"))?;
                if !found.contains(&element) {
                    found.push(element);
                }
            }
            Ok(())
        });
        match listed {
            Ok(()) => Ok(found),
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn commit(&mut self, requests: Vec<Request>) -> Result<()> {
        match self
            .0
            .transaction(&object::transaction(requests))?
            .into_iter()
            .next()
        {
            Some(refusal) => Err(refusal.error),
            None => Ok(()),
        }
    }
}

fn build_requests() -> Vec<Request> {
    let mut requests = vec![object::add_table()];
    requests.extend((1..).zip(Set::ALL).map(|(id, set)| object::add_set(set, id)));
    requests.extend(
        layout::chains()
            .iter()
            .map(|(name, hook)| object::add_chain(name, hook.as_ref())),
    );
    requests.push(object::delete_rules());
    requests.extend(
        tagged_rules()
            .into_iter()
            .map(|(chain, program, tag)| object::add_rule(chain, program, &tag)),
    );
    requests
}

/// Every rule with a tag by which it is known again: its number and the fingerprint of all of them, in the form
/// of nft's comments.
fn tagged_rules() -> Vec<(&'static str, expr::Program, Vec<u8>)> {
    let mut fingerprint = 0xcbf2_9ce4_8422_2325_u64;
    for (chain, program) in layout::rules() {
        for byte in chain.bytes().chain(program.into_bytes()) {
            fingerprint = (fingerprint ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    let tag = |number: usize| comment(&format!("{:08x}.{number}", fingerprint >> 32));
    let number = |(number, (chain, program))| (chain, program, tag(number));
    layout::rules().into_iter().enumerate().map(number).collect()
}

/// A rule's comment, as nft and iptables write it.
fn comment(text: &str) -> Vec<u8> {
    let mut tag = vec![0, u8::try_from(text.len() + 1).unwrap_or(u8::MAX)];
    tag.extend_from_slice(text.as_bytes());
    tag.push(0);
    tag
}

fn parse_element(attributes: &[u8]) -> Option<Element> {
    let value = |kind| wire::find(wire::find(attributes, kind)?, object::DATA_VALUE).map(<[u8]>::to_vec);
    let flags = wire::find(attributes, object::ELEM_FLAGS)
        .and_then(|raw| raw.try_into().ok())
        .map_or(0, u32::from_be_bytes);
    Some(Element {
        key: value(object::ELEM_KEY)?,
        data: value(object::ELEM_DATA),
        end: flags & object::INTERVAL_END != 0,
    })
}
