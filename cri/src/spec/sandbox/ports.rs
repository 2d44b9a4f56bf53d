//! Port mappings.

use std::net::IpAddr;

use super::SpecError;
use crate::proto::{PortMapping, Protocol};

/// Entries without a host port map nothing and are as they are.
pub(super) fn validate(mappings: &[PortMapping]) -> Result<(), SpecError> {
    for mapping in mappings {
        if Protocol::try_from(mapping.protocol).is_err() {
            return Err(SpecError::invalid(
                "port_mappings.protocol",
                mapping.protocol,
                "no such protocol",
            ));
        }
        if !(0..=65535).contains(&mapping.host_port) {
            return Err(SpecError::invalid(
                "port_mappings.host_port",
                mapping.host_port,
                "not a port",
            ));
        }
        let least = i32::from(mapping.host_port > 0);
        if !(least..=65535).contains(&mapping.container_port) {
            return Err(SpecError::invalid(
                "port_mappings.container_port",
                mapping.container_port,
                "not a port",
            ));
        }
        if !mapping.host_ip.is_empty() && mapping.host_ip.parse::<IpAddr>().is_err() {
            return Err(SpecError::invalid(
                "port_mappings.host_ip",
                &mapping.host_ip,
                "not an IP address",
            ));
        }
    }
    Ok(())
}
