//! The configuration's keys as they are written: our own, and those of the upstream plugins bridge, host-local,
//! portmap and bandwidth.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::ipam::{Ipam, RangeConf};

/// The keys, as they are written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Keys {
    // Everybody's.
    pub(crate) cni_version: String,
    pub(crate) name: String,
    #[serde(rename = "type")]
    _kind: String,
    #[serde(rename = "capabilities")]
    _capabilities: Option<BTreeMap<String, bool>>,
    pub(crate) prev_result: Option<Value>,
    pub(crate) runtime_config: RuntimeConfig,
    pub(crate) args: Args,
    pub(crate) dns: Option<Value>,
    // Our own.
    pub(crate) ranges: Option<Vec<String>>,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) masquerade_except: Vec<String>,
    // bridge's. Those that change nothing here are read so that they are known.
    pub(crate) bridge: Option<String>,
    pub(crate) is_gateway: Option<bool>,
    pub(crate) is_default_gateway: Option<bool>,
    pub(crate) force_address: bool,
    pub(crate) ip_masq: Option<bool>,
    #[serde(rename = "ipMasqBackend")]
    _ip_masq_backend: Option<String>,
    pub(crate) mtu: u32,
    pub(crate) hairpin_mode: Option<bool>,
    pub(crate) promisc_mode: bool,
    pub(crate) vlan: u16,
    pub(crate) preserve_default_vlan: Option<bool>,
    pub(crate) vlan_trunk: Vec<Value>,
    pub(crate) enabledad: bool,
    pub(crate) macspoofchk: bool,
    pub(crate) disable_container_interface: bool,
    pub(crate) port_isolation: bool,
    pub(crate) ipam: Option<Ipam>,
    // portmap's.
    pub(crate) snat: Option<bool>,
    #[serde(rename = "masqAll")]
    _masq_all: Option<bool>,
    #[serde(rename = "markMasqBit")]
    _mark_masq_bit: Option<u8>,
    #[serde(rename = "externalSetMarkChain")]
    _external_set_mark_chain: Option<String>,
    #[serde(rename = "backend")]
    _backend: Option<String>,
    #[serde(rename = "conditionsV4")]
    pub(crate) conditions_v4: Option<Vec<String>>,
    #[serde(rename = "conditionsV6")]
    pub(crate) conditions_v6: Option<Vec<String>>,
    // bandwidth's.
    #[serde(flatten)]
    pub(crate) rates: Rates,
    pub(crate) unshaped_subnets: Vec<String>,
    pub(crate) shaped_subnets: Vec<String>,
    /// For GC.
    #[serde(rename = "cni.dev/valid-attachments")]
    pub(crate) valid_attachments: Vec<Attachment>,
    /// All others.
    #[serde(flatten)]
    pub(crate) unknown: Map<String, Value>,
}

/// What the runtime adds for declared capabilities. It may add what we know nothing of.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RuntimeConfig {
    #[serde(deserialize_with = "nullable")]
    pub(crate) port_mappings: Vec<PortMapping>,
    pub(crate) bandwidth: Option<Rates>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) ips: Vec<String>,
    pub(crate) mac: Option<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) ip_ranges: Vec<Vec<RangeConf>>,
    pub(crate) dns: Option<Value>,
}

/// `args.cni`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Args {
    pub(crate) cni: CniArgs,
}

/// Older ways to ask for what capabilities ask for now.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CniArgs {
    pub(crate) ips: Vec<String>,
    pub(crate) mac: Option<String>,
}

/// An entry of the capability `portMappings`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PortMapping {
    pub(crate) host_port: u16,
    pub(crate) container_port: u16,
    pub(crate) protocol: String,
    #[serde(rename = "hostIP")]
    pub(crate) host_ip: String,
}

/// The plugin bandwidth's keys, which are those of the capability too. Bits a second, and bits.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Rates {
    pub(crate) ingress_rate: u64,
    pub(crate) ingress_burst: u64,
    pub(crate) egress_rate: u64,
    pub(crate) egress_burst: u64,
}

/// An interface that lives.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Attachment {
    #[serde(rename = "containerID")]
    pub(crate) container_id: String,
    pub(crate) ifname: String,
}

fn nullable<'de, D, T>(deserializer: D) -> std::result::Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
