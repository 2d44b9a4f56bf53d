//! The plugin behind another one: host ports and limits for an interface that is there already.

use std::net::IpAddr;

use netplug::{AdoptRequest, Config, Network};
use serde_json::Value;

use crate::call::{Call, Command};
use crate::conf::{Conf, address};
use crate::error::{Failure, Result};
use crate::sweep;

pub(crate) fn run(call: &Call, conf: &Conf) -> Result<Value> {
    match call.command {
        Command::Add => add(call, conf),
        Command::Del => {
            let networks = [ports(conf)?, limits(conf)?];
            for network in &networks {
                network.cut_off(&call.id, call.netns.as_deref(), &call.ifname)?;
            }
            sweep::start(&[&networks[0], &networks[1]])?;
            Ok(Value::Null)
        }
        Command::Check => {
            if !conf.ports()?.is_empty() {
                ports(conf)?.check(&call.id, call.netns()?, &call.ifname)?;
            }
            Ok(Value::Null)
        }
        Command::Gc => {
            for network in [ports(conf)?, limits(conf)?] {
                network.gc_interfaces(&conf.live())?;
            }
            Ok(Value::Null)
        }
        Command::Status | Command::Version => Ok(Value::Null),
    }
}

fn add(call: &Call, conf: &Conf) -> Result<Value> {
    let Some(previous) = &conf.keys.prev_result else {
        let reason =
            "neither ipam nor ranges are there to make an interface, and no earlier plugin has made one";
        return Err(Failure::conf("prevResult", "", reason));
    };
    let request = AdoptRequest {
        id: call.id.clone(),
        ifname: call.ifname.clone(),
        addresses: addresses(previous)?,
        host_interface: host_interface(previous),
        ..AdoptRequest::default()
    };
    let (maps, bandwidth) = (conf.ports()?, conf.bandwidth());
    if maps.iter().any(|port| port.host_port != 0) {
        ports(conf)?.adopt(&AdoptRequest {
            ports: maps,
            ..request.clone()
        })?;
    }
    if bandwidth.ingress.is_some() || bandwidth.egress.is_some() {
        limits(conf)?.adopt(&AdoptRequest { bandwidth, ..request })?;
    }
    // A chained plugin hands on the result that it got.
    let mut result = previous.clone();
    result["cniVersion"] = conf.version.to_string().into();
    Ok(result)
}

/// Ports and limits may be two entries of one list, so each has state of its own.
fn ports(conf: &Conf) -> Result<Network> {
    part(conf, "ports")
}

fn limits(conf: &Conf) -> Result<Network> {
    part(conf, "limits")
}

fn part(conf: &Conf, name: &str) -> Result<Network> {
    Ok(Network::new(Config {
        state_dir: conf.state_dir().join(name),
        ..Config::default()
    })?)
}

/// The pod's addresses out of the earlier plugins' result.
fn addresses(previous: &Value) -> Result<Vec<IpAddr>> {
    let text = |ip: &Value| ip["address"].as_str().unwrap_or_default().to_owned();
    let list = previous["ips"].as_array().into_iter().flatten().map(text);
    list.map(|text| address("prevResult address", text.split('/').next().unwrap_or_default()))
        .collect()
}

/// The host's end of the pod's pair: the last interface outside the pod (a bridge comes before its ports).
fn host_interface(previous: &Value) -> Option<String> {
    let outside = |interface: &&Value| interface["sandbox"].as_str().unwrap_or_default().is_empty();
    let last = previous["interfaces"].as_array()?.iter().rfind(outside)?;
    last["name"].as_str().map(str::to_owned)
}
