//! The plugin as the one that makes a pod's interface.

use std::net::IpAddr;

use netplug::{AttachRequest, Config, IpNet, Network, PodRoute, Range, parse_mac};
use serde_json::Value;

use crate::call::{Call, Command};
use crate::conf::{Conf, address, network};
use crate::error::{Failure, Result};
use crate::ipam::{self, Ipam};
use crate::{reply, sweep};

/// The upstream plugin's default.
const BRIDGE: &str = "cni0";

pub(crate) fn run(call: &Call, conf: &Conf) -> Result<Value> {
    match call.command {
        Command::Add => add(call, conf),
        Command::Del => {
            let network = bare(conf)?;
            network.cut_off(&call.id, call.netns.as_deref(), &call.ifname)?;
            sweep::start(&[&network])?;
            Ok(Value::Null)
        }
        Command::Check => {
            open(conf)?.check(&call.id, call.netns()?, &call.ifname)?;
            Ok(Value::Null)
        }
        Command::Status => {
            open(conf)
                .and_then(|network| Ok(network.ready()?))
                .map_err(Failure::not_ready)?;
            Ok(Value::Null)
        }
        Command::Gc => {
            bare(conf)?.gc_interfaces(&conf.live())?;
            Ok(Value::Null)
        }
        Command::Version => Ok(Value::Null),
    }
}

fn add(call: &Call, conf: &Conf) -> Result<Value> {
    if conf.keys.prev_result.is_some() {
        let reason = "a plugin that makes the interface must be the first of its list";
        return Err(Failure::conf("prevResult", "", reason));
    }
    let config = config(conf)?;
    let bridge = config.bridge.clone();
    let routes = routes_of_result(&config);
    let network = Network::new(config)?;
    let attachment = network.attach(&AttachRequest {
        id: call.id.clone(),
        netns: call.netns()?.clone(),
        ifname: call.ifname.clone(),
        ports: conf.ports()?,
        mac: requested_mac(call, conf)?,
        ips: requested_ips(call, conf)?,
        bandwidth: conf.bandwidth(),
    })?;
    reply::attached(call, conf, &attachment, &bridge, &routes)
}

/// The network with all of its configuration.
fn open(conf: &Conf) -> Result<Network> {
    Ok(Network::new(config(conf)?)?)
}

/// The network's state only: enough to take things away, even if the configuration isn't valid any more.
fn bare(conf: &Conf) -> Result<Network> {
    Ok(Network::new(Config {
        state_dir: conf.state_dir(),
        ..Config::default()
    })?)
}

fn config(conf: &Conf) -> Result<Config> {
    let keys = &conf.keys;
    // A configuration in our own keys wants the whole; the upstream plugin's defaults are another's.
    let own = keys.ranges.is_some();
    let default_route = keys.is_default_gateway.unwrap_or(own);
    let networks = |key: &str, texts: &[String]| -> Result<Vec<IpNet>> {
        texts.iter().map(|text| network(key, text)).collect()
    };
    let nothing = Ipam::default();
    let ipam = keys.ipam.as_ref().unwrap_or(&nothing);
    ipam.check_kind()?;
    Ok(Config {
        bridge: keys.bridge.clone().unwrap_or_else(|| BRIDGE.into()),
        mtu: Some(keys.mtu).filter(|mtu| *mtu != 0),
        ranges: Vec::new(),
        pools: pools(conf, ipam)?,
        reserved: ipam.reserved()?,
        masquerade: keys.ip_masq.unwrap_or(own),
        masquerade_except: networks("masqueradeExcept", &keys.masquerade_except)?,
        hairpin: keys.hairpin_mode.unwrap_or(own && !keys.promisc_mode),
        promiscuous: keys.promisc_mode,
        gateway: default_route || keys.is_gateway.unwrap_or(own),
        default_route,
        routes: ipam.routes()?,
        vlan: Some(keys.vlan).filter(|vlan| *vlan != 0),
        force_address: keys.force_address,
        duplicate_detection: keys.enabledad,
        host_local_dir: Some(ipam.host_local_dir(&keys.name)),
        state_dir: conf.state_dir(),
    })
}

/// The runtime's ranges, then those of `ipam`, then our own key's.
fn pools(conf: &Conf, ipam: &Ipam) -> Result<Vec<Vec<Range>>> {
    let mut pools = ipam::to_pools(&conf.keys.runtime_config.ip_ranges)?;
    pools.extend(ipam.pools()?);
    for v4 in [true, false] {
        let ranges = conf
            .keys
            .ranges
            .iter()
            .flatten()
            .map(|text| network("ranges", text));
        let ranges = ranges.collect::<Result<Vec<IpNet>>>()?;
        let pool: Vec<Range> = ranges
            .into_iter()
            .filter(|net| net.addr().is_ipv4() == v4)
            .map(Range::from)
            .collect();
        if !pool.is_empty() {
            pools.push(pool);
        }
    }
    Ok(pools)
}

/// What is said of routes in the result: those that were asked for, and the default ones.
fn routes_of_result(config: &Config) -> Vec<PodRoute> {
    let mut routes = config.routes.clone();
    if config.default_route {
        for default in ["0.0.0.0/0", "::/0"] {
            let Ok(destination) = default.parse::<IpNet>() else {
                continue;
            };
            if !routes.iter().any(|route| route.destination == destination) {
                routes.push(PodRoute {
                    destination,
                    gateway: None,
                });
            }
        }
    }
    routes
}

fn requested_mac(call: &Call, conf: &Conf) -> Result<Option<[u8; 6]>> {
    let keys = &conf.keys;
    let text = keys
        .runtime_config
        .mac
        .as_deref()
        .or(keys.args.cni.mac.as_deref())
        .or(call.argument("MAC"));
    Ok(text.filter(|text| !text.is_empty()).map(parse_mac).transpose()?)
}

fn requested_ips(call: &Call, conf: &Conf) -> Result<Vec<IpAddr>> {
    let keys = &conf.keys;
    let runtime = keys.runtime_config.ips.iter().map(String::as_str);
    let args = keys.args.cni.ips.iter().map(String::as_str);
    let env = call.argument("IP").into_iter().flat_map(|text| text.split(','));
    let all = runtime.chain(args).chain(env).filter(|text| !text.is_empty());
    // With a prefix length too, which is the range's in any case.
    all.map(|text| address("ips", text.split('/').next().unwrap_or(text)))
        .collect()
}
