//! A pod's network: the built-in bridge, or CNI programs where a configuration of theirs is installed; a runtime handler may
//! name one of its own.

use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ipnet::IpNet;
use netplug::{AttachRequest, Bandwidth, Network, PortMap, Protocol, Rate};

use crate::cni::{self, BURST_BITS, Cni, Limits};
use crate::config::Config;
use crate::error::{Error, IoContext as _, Result};
use crate::paths::{Paths, PodDir};
use crate::pod::{PodNetworkRecord, PodRecord};
use crate::proto;
use crate::task::blocking;

/// The interface in the pod, by the CRI's custom.
const IFNAME: &str = "eth0";

/// Both kinds of network.
#[derive(Debug)]
pub struct PodNetwork {
    builtin: Network,
    cni: Cni,
    /// Those of handlers with a configuration of their own, by the handlers' names.
    own: HashMap<String, Cni>,
    /// The handler of pods that name none.
    default_handler: String,
    /// The pod CIDR that kubelet told last: it tells it once, and a new daemon must still know.
    pod_cidr: PathBuf,
    last_cidr: Mutex<String>,
}

impl PodNetwork {
    /// Opens the networks' state. Nothing is made in the kernel yet. Blocking.
    ///
    /// # Errors
    /// A configuration that can't be, or state that can't be read.
    pub fn open(whole: &Config, paths: &Paths) -> Result<Self> {
        let config = whole.network();
        let pod_cidr = paths.root().join("pod-cidr");
        let told = fs::read_to_string(&pod_cidr).unwrap_or_default();
        let ranges = if told.is_empty() {
            config.ranges.clone()
        } else {
            parse_cidrs(&told)?
        };
        let builtin = Network::new(netplug::Config {
            bridge: config.bridge.clone(),
            mtu: config.mtu,
            ranges,
            masquerade: config.masquerade,
            hairpin: config.hairpin,
            state_dir: paths.net(),
            ..netplug::Config::default()
        })?;
        let cni = Cni::new(
            config.cni_conf_dir.clone(),
            config.cni_bin_dirs.clone(),
            paths.cni(),
        );
        let mut folders: HashMap<&Path, Cni> = HashMap::new();
        let mut own = HashMap::new();
        for handler in whole.handlers() {
            let Some(folder) = &handler.cni_conf_dir else {
                continue;
            };
            let networks = folders
                .entry(folder)
                .or_insert_with(|| cni.beside(folder.clone()));
            own.insert(handler.name.clone(), networks.clone());
        }
        let default = whole.handlers().first();
        Ok(Self {
            builtin,
            own,
            default_handler: default.map(|handler| handler.name.clone()).unwrap_or_default(),
            cni,
            pod_cidr,
            last_cidr: Mutex::new(told),
        })
    }

    /// Who is to make the network of this handler's next pod. A folder of the handler's own was named on purpose: there is no
    /// falling back to the bridge.
    pub fn choose(&self, handler: &str) -> PodNetworkRecord {
        if self.own_of(handler).is_some() || self.cni.is_configured() {
            PodNetworkRecord::Cni
        } else {
            PodNetworkRecord::Builtin
        }
    }

    fn own_of(&self, handler: &str) -> Option<&Cni> {
        let name = match handler {
            "" => &self.default_handler,
            name => name,
        };
        self.own.get(name)
    }

    /// Whether pods of the default handler can be connected. Cheap.
    ///
    /// # Errors
    /// Why not.
    pub async fn status(&self) -> Result<()> {
        match self.choose("") {
            PodNetworkRecord::Cni => Ok(self.own_of("").unwrap_or(&self.cni).status().await?),
            _ => {
                let builtin = self.builtin.clone();
                blocking("looking at the bridge", move || builtin.ready()).await
            }
        }
    }

    /// Takes over the node's pod CIDR, one network or one of each family with a comma between.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no network, or a file that can't be written.
    pub fn set_pod_cidr(&self, cidrs: &str) -> Result<()> {
        let mut last = self.last_cidr.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == cidrs {
            return Ok(());
        }
        self.builtin.set_ranges(parse_cidrs(cidrs)?)?;
        let new = self.pod_cidr.with_extension("new");
        fs::write(&new, cidrs)
            .and_then(|()| fs::rename(&new, &self.pod_cidr))
            .io("write", &self.pod_cidr)?;
        cidrs.clone_into(&mut last);
        Ok(())
    }

    /// Connects a pod. Returns its addresses, the primary one first.
    ///
    /// # Errors
    /// Of the network; the caller detaches then too, for what may be half done.
    pub async fn attach(&self, pod: &PodRecord, dir: &PodDir) -> Result<Vec<IpAddr>> {
        let netns = dir.namespace("net");
        let limits = Limits::from_annotations(&pod.config.annotations)?;
        if pod.network == PodNetworkRecord::Cni {
            let handler = pod.runtime_handler.as_str();
            netplug::loopback_up(&netns)?;
            let pod = cni::Pod {
                bandwidth: limits,
                ..cni_pod(pod, dir)
            };
            let networks = self.own_of(handler).unwrap_or(&self.cni);
            return Ok(networks.add(&pod).await?.ips);
        }
        let (builtin, request) = (self.builtin.clone(), request(pod, netns, limits)?);
        let attach = move || -> Result<Vec<IpAddr>> {
            netplug::loopback_up(&request.netns)?;
            Ok(builtin.attach(&request)?.ips.iter().map(IpNet::addr).collect())
        };
        blocking("connecting a pod", attach).await
    }

    /// Disconnects a pod, also one whose namespace is gone or that was never quite connected.
    ///
    /// # Errors
    /// Of the network; another call goes on.
    pub async fn detach(&self, pod: &PodRecord, dir: &PodDir) -> Result<()> {
        if pod.network == PodNetworkRecord::Cni {
            return Ok(self.cni.del(&cni_pod(pod, dir)).await?);
        }
        let (builtin, id, netns) = (self.builtin.clone(), pod.id.clone(), dir.namespace("net"));
        blocking("disconnecting a pod", move || {
            builtin.detach(&id, Some(&netns), IFNAME)
        })
        .await
    }

    /// Frees what belongs to none of the pods that live.
    ///
    /// # Errors
    /// Of the network.
    pub async fn gc(&self, live: Vec<String>) -> Result<()> {
        self.cni.gc(&live).await?;
        // A network's plugins may keep more than what the cache knows of.
        for networks in self.own.values() {
            networks.gc(&live).await?;
        }
        let builtin = self.builtin.clone();
        let freed = blocking("collecting addresses", move || builtin.gc(&live)).await?;
        if !freed.is_empty() {
            tracing::info!(pods = freed.len(), "addresses of lost pods were freed");
        }
        Ok(())
    }
}

fn parse_cidrs(cidrs: &str) -> Result<Vec<IpNet>> {
    let parse = |cidr: &str| {
        cidr.trim()
            .parse()
            .map_err(|_| Error::invalid("network_config.pod_cidr", format!("{cidr:?} is no network")))
    };
    cidrs.split(',').map(parse).collect()
}

fn request(pod: &PodRecord, netns: PathBuf, limits: Limits) -> Result<AttachRequest> {
    let rate = |bits_per_second| Rate {
        bits_per_second,
        burst_bits: BURST_BITS,
    };
    let ports = pod
        .config
        .port_mappings
        .iter()
        .filter(|port| port.host_port > 0)
        .map(port_map);
    Ok(AttachRequest {
        id: pod.id.clone(),
        netns,
        ifname: IFNAME.to_owned(),
        ports: ports.collect::<Result<_>>()?,
        bandwidth: Bandwidth {
            ingress: limits.ingress.map(rate),
            egress: limits.egress.map(rate),
        },
        ..AttachRequest::default()
    })
}

fn port_map(port: &proto::PortMapping) -> Result<PortMap> {
    let number = |field: &str, value: i32| {
        u16::try_from(value)
            .map_err(|_| Error::invalid(format!("port_mappings.{field}"), format!("{value} is no port")))
    };
    let host_ip = match port.host_ip.as_str() {
        "" => None,
        ip => Some(
            ip.parse()
                .map_err(|_| Error::invalid("port_mappings.host_ip", format!("{ip:?} is no address")))?,
        ),
    };
    Ok(PortMap {
        protocol: match port.protocol() {
            proto::Protocol::Tcp => Protocol::Tcp,
            proto::Protocol::Udp => Protocol::Udp,
            proto::Protocol::Sctp => Protocol::Sctp,
        },
        host_port: number("host_port", port.host_port)?,
        container_port: number("container_port", port.container_port)?,
        host_ip,
    })
}

fn cni_pod(pod: &PodRecord, dir: &PodDir) -> cni::Pod {
    let metadata = pod.metadata();
    let netns = dir.namespace("net");
    let port = |port: &proto::PortMapping| {
        Some(cni::Port {
            host_port: u16::try_from(port.host_port).ok().filter(|port| *port > 0)?,
            container_port: u16::try_from(port.container_port).ok()?,
            protocol: port.protocol().as_str_name().to_owned(),
            host_ip: port.host_ip.parse().ok(),
        })
    };
    cni::Pod {
        id: pod.id.clone(),
        netns: netns.exists().then_some(netns),
        ifname: IFNAME.to_owned(),
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        ports: pod.config.port_mappings.iter().filter_map(port).collect(),
        dns: pod.config.dns_config.as_ref().map(|dns| cni::Dns {
            servers: dns.servers.clone(),
            searches: dns.searches.clone(),
            options: dns.options.clone(),
        }),
        cgroup_path: Some(pod.cgroup_parent.clone()),
        annotations: pod.config.annotations.clone(),
        ..cni::Pod::default()
    }
}
