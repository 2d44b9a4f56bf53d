//! Pods behind other people's policies.
//!
//! A packet must be accepted by every table that looks at it. Where `iptables -P FORWARD DROP` was said (Docker
//! says it, on every node that ever had it), nothing would come from or go to pods. There two rules are appended to that
//! chain: behind all others, so that whatever they refuse stays refused, and only the policy is overruled.

use nix::libc;

use super::Nft;
use super::expr::{Meta, Program, R0, Verdict};
use super::object::{self, Foreign};
use crate::error::Result;
use crate::netlink::wire;

/// iptables' chain, as its nf_tables variant keeps it: `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const CHAINS: [Foreign; 2] = [forward(2), forward(10)];
const NF_DROP: [u8; 4] = [0; 4];

const fn forward(family: u8) -> Foreign {
    Foreign {
        family,
        table: "filter",
        chain: "FORWARD",
    }
}

impl Nft {
    /// Lets pass what comes from these interfaces and goes to them, where iptables' policy for forwarded packets
    /// is to drop them.
    pub(crate) fn let_forward(&mut self, interfaces: &[String]) -> Result<()> {
        for chain in CHAINS {
            if !self.drops(chain)? {
                continue;
            }
            let known = self.tags(chain)?;
            let mut missing = Vec::new();
            for interface in interfaces {
                for (way, direction) in [("from", Meta::IncomingName), ("to", Meta::OutgoingName)] {
                    let tag = super::comment(&format!("{way} pods at {interface}"));
                    if !known.contains(&tag) {
                        missing.push(object::append(chain, accept(direction, interface), &tag));
                    }
                }
            }
            if !missing.is_empty() {
                self.commit(missing)?;
            }
        }
        Ok(())
    }

    fn drops(&mut self, chain: Foreign) -> Result<bool> {
        let policy = self.0.get(&object::get_chain(chain), |payload| {
            let attributes = payload.get(4..).unwrap_or(&[]);
            Ok(wire::find(attributes, object::CHAIN_POLICY) == Some(&NF_DROP[..]))
        });
        match policy {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(false),
            policy => policy,
        }
    }

    fn tags(&mut self, chain: Foreign) -> Result<Vec<Vec<u8>>> {
        let mut tags = Vec::new();
        self.0.dump(&object::list_chain(chain), |payload| {
            let attributes = payload.get(4..).unwrap_or(&[]);
            tags.extend(wire::find(attributes, object::RULE_USERDATA).map(<[u8]>::to_vec));
            Ok(())
        })?;
        Ok(tags)
    }
}

/// The rule as iptables would write it: the name is compared with its end.
fn accept(direction: Meta, interface: &str) -> Program {
    let mut name = interface.as_bytes().to_vec();
    name.push(0);
    Program::default()
        .meta(direction, R0)
        .equals(R0, &name)
        .counter()
        .verdict(Verdict::Accept)
}
