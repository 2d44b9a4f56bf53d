//! The result of ADD.

use std::net::IpAddr;

use netplug::{Attachment, PodRoute};
use serde_json::{Value, json};

use crate::call::Call;
use crate::conf::Conf;
use crate::error::Result;
use crate::version::Version;

/// Place of the pod's interface in the result's list.
const POD: u32 = 2;

/// The result of making an interface, in the configuration's version.
pub(crate) fn attached(
    call: &Call,
    conf: &Conf,
    attachment: &Attachment,
    bridge: &str,
    routes: &[PodRoute],
) -> Result<Value> {
    let mut interfaces = vec![
        json!({"name": bridge}),
        json!({"name": attachment.host_interface, "mac": attachment.host_mac}),
        json!({"name": call.ifname, "mac": attachment.mac, "sandbox": call.netns()?}),
    ];
    if conf.version >= Version::V1_1_0 {
        for interface in &mut interfaces[1..] {
            interface["mtu"] = json!(attachment.mtu);
        }
    }
    let ips: Vec<Value> = attachment
        .ips
        .iter()
        .zip(&attachment.gateways)
        .map(|(ip, gateway)| {
            let mut value = json!({"address": ip, "gateway": gateway, "interface": POD});
            if conf.version < Version::V1_0_0 {
                value["version"] = json!(if gateway.is_ipv4() { "4" } else { "6" });
            }
            value
        })
        .collect();
    let mut result = json!({
        "cniVersion": conf.version.to_string(),
        "interfaces": interfaces,
        "ips": ips,
        "routes": routes_json(routes, &attachment.gateways),
    });
    let dns = match (&conf.keys.runtime_config.dns, &conf.keys.ipam) {
        // The capability's keys are named otherwise than the result's.
        (Some(dns), _) => Some(json!({
            "nameservers": dns["servers"], "search": dns["searches"], "options": dns["options"],
        })),
        (None, Some(ipam)) => ipam.dns()?,
        (None, None) => None,
    };
    result["dns"] = dns.or_else(|| conf.keys.dns.clone()).unwrap_or_else(|| json!({}));
    Ok(result)
}

/// Routes of the families that the pod has addresses of.
fn routes_json(routes: &[PodRoute], gateways: &[IpAddr]) -> Vec<Value> {
    let mut list = Vec::new();
    for route in routes {
        let v4 = route.destination.addr().is_ipv4();
        let own = gateways.iter().copied().find(|gateway| gateway.is_ipv4() == v4);
        if let Some(gateway) = route.gateway.or(own) {
            list.push(json!({"dst": route.destination, "gw": gateway}));
        }
    }
    list
}
