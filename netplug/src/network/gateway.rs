//! The gateways: the host's addresses in the ranges, and what lets it forward.

use ipnet::IpNet;
use nix::libc;

use super::{Host, Network};
use crate::error::{Error, Result};
use crate::ipam::pool::Pool;
use crate::ipam::range::Span;
use crate::rt::addr::{self, Address};
use crate::sysctl;

impl Network {
    /// Gives the interface the gateway addresses of the pools, and takes from it those of former ones that no pod
    /// uses any more.
    pub(super) fn set_up_gateways(
        &self,
        host: &mut Host,
        index: u32,
        interface: &str,
        pools: &[Pool],
    ) -> Result<()> {
        let present = host.route.addresses(index)?;
        let spans: Vec<&Span> = pools.iter().flat_map(|pool| &pool.0).collect();
        self.remove_former(host, index, interface, &spans, &present)?;
        for span in spans {
            if span.is_ipv4() {
                sysctl::forward_ipv4()?;
                // For host ports reached through 127.0.0.1; the table's guard chain keeps pods out of 127.0.0.0/8.
                sysctl::set_interface("ipv4", interface, "route_localnet", "1")?;
            } else {
                sysctl::forward_ipv6()?;
                sysctl::enable_ipv6(interface)?;
            }
            self.add_gateway(host, index, interface, span, &present)?;
        }
        Ok(())
    }

    fn add_gateway(
        &self,
        host: &mut Host,
        index: u32,
        interface: &str,
        span: &Span,
        present: &[Address],
    ) -> Result<()> {
        let Some(gateway) = gateway_of(span) else {
            return Ok(());
        };
        if present.iter().any(|address| address.net == gateway) {
            return Ok(());
        }
        if let Some(other) = present
            .iter()
            .map(|one| one.net)
            .find(|net| net.trunc() == span.subnet)
        {
            if !self.0.config.force_address {
                let reason = format!("{interface} already has {other} in that range");
                return Err(Error::invalid("gateway", gateway, reason));
            }
            host.route.run(&[addr::delete(index, interface, other)])?;
        }
        match host.route.run(&[addr::add_gateway(index, interface, gateway)]) {
            Err(error) if error.errno() == Some(libc::EEXIST) => Ok(()),
            done => done,
        }
    }

    /// A gateway address that stays behind would keep a range to this host that may be another node's by now.
    fn remove_former(
        &self,
        host: &mut Host,
        index: u32,
        interface: &str,
        spans: &[&Span],
        present: &[Address],
    ) -> Result<()> {
        let wanted = |net: IpNet| spans.iter().any(|span| gateway_of(span) == Some(net));
        let former: Vec<IpNet> = present
            .iter()
            .filter(|one| one.ours && !wanted(one.net))
            .map(|one| one.net)
            .collect();
        if former.is_empty() {
            return Ok(());
        }
        let records = self.0.store.records()?;
        let used = |net: &IpNet| records.iter().any(|record| record.gateways.contains(&net.addr()));
        for net in former.into_iter().filter(|net| !used(net)) {
            host.route.run(&[addr::delete(index, interface, net)])?;
        }
        Ok(())
    }
}

fn gateway_of(span: &Span) -> Option<IpNet> {
    IpNet::new(span.gateway, span.subnet.prefix_len()).ok()
}
