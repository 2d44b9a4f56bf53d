//! The pod as plugins get to know it: arguments and capabilities.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::bandwidth::Limits;
use super::conf::Plugin;
use super::error::{CniError, Result};

/// A pod to be attached.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// The sandbox's id.
    pub id: String,
    /// Its network namespace; `None` when it is gone.
    pub netns: Option<PathBuf>,
    /// The interface to make; empty means `eth0`.
    pub ifname: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.uid`.
    pub uid: String,
    /// CRI `port_mappings`; those without a host port are left out.
    pub ports: Vec<Port>,
    /// Out of the bandwidth annotations.
    pub bandwidth: Limits,
    /// CRI `dns_config`.
    pub dns: Option<Dns>,
    /// The pod's cgroup.
    pub cgroup_path: Option<String>,
    /// The pod's annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A host port.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Port {
    /// The host's port; 0 for none.
    pub host_port: u16,
    /// The pod's port.
    pub container_port: u16,
    /// `tcp`, `udp`, `sctp`, in any case.
    pub protocol: String,
    /// The host's address, `None` for all.
    pub host_ip: Option<IpAddr>,
}

/// Name resolution.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Dns {
    /// Servers' addresses.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

impl Pod {
    pub(super) fn interface(&self) -> &str {
        if self.ifname.is_empty() {
            "eth0"
        } else {
            &self.ifname
        }
    }

    /// Checks what becomes part of file names and of `CNI_ARGS`.
    pub(super) fn validate(&self) -> Result<()> {
        check_id(&self.id)?;
        for (field, value) in [
            ("name", &self.name),
            ("namespace", &self.namespace),
            ("uid", &self.uid),
        ] {
            if value.contains([';', '=', '\0', '\n']) {
                return Err(CniError::invalid(field, value, "can't be handed to CNI plugins"));
            }
        }
        let ifname = self.interface();
        if ifname.len() > 15 || ifname == "." || ifname == ".." || ifname.contains(['/', ':', ' ', '\0']) {
            return Err(CniError::invalid("ifname", ifname, "not an interface name"));
        }
        Ok(())
    }

    /// `CNI_ARGS`.
    pub(super) fn args(&self) -> String {
        format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
            self.namespace, self.name, self.id, self.uid
        )
    }

    /// `runtimeConfig` for a plugin: the capabilities it has and the pod has a use for.
    pub(super) fn runtime_config(&self, plugin: &Plugin) -> Map<String, Value> {
        plugin
            .capabilities
            .iter()
            .filter_map(|name| Some((name.clone(), self.capability(name)?)))
            .collect()
    }

    fn capability(&self, name: &str) -> Option<Value> {
        match name {
            "portMappings" => {
                let ports: Vec<Value> = self
                    .ports
                    .iter()
                    .filter(|port| port.host_port != 0)
                    .map(Port::to_json)
                    .collect();
                (!ports.is_empty()).then_some(Value::Array(ports))
            }
            "bandwidth" => self.bandwidth.to_json(),
            "dns" => {
                let dns = self.dns.as_ref()?;
                Some(json!({"servers": dns.servers, "searches": dns.searches, "options": dns.options}))
            }
            "cgroupPath" => self.cgroup_path.as_ref().map(|path| json!(path)),
            "io.kubernetes.cri.pod-annotations" => Some(json!(self.annotations)),
            _ => None,
        }
    }
}

impl Port {
    fn to_json(&self) -> Value {
        let mut value = json!({
            "hostPort": self.host_port,
            "containerPort": self.container_port,
            "protocol": self.protocol.to_ascii_lowercase(),
        });
        if let Some(ip) = self.host_ip {
            value["hostIP"] = json!(ip);
        }
        value
    }
}

/// Ids become part of file names; the CNI specification allows the same letters.
pub(super) fn check_id(id: &str) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if id.is_empty() || id.len() > 128 || !id.as_bytes()[0].is_ascii_alphanumeric() || !id.bytes().all(good) {
        return Err(CniError::invalid(
            "sandbox id",
            id,
            "expected [A-Za-z0-9][A-Za-z0-9_.-]*",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::conf::Network;
    use super::*;

    fn plugin(capabilities: &Value) -> Plugin {
        let conf = json!({"name": "n", "type": "t", "capabilities": capabilities});
        Network::parse(conf).expect("valid").plugins.remove(0)
    }

    #[test]
    fn only_declared_capabilities_with_a_value_are_handed_over() {
        let mut pod = Pod {
            id: "a".into(),
            ..Pod::default()
        };
        pod.ports = vec![
            Port {
                host_port: 8080,
                container_port: 80,
                protocol: "TCP".into(),
                host_ip: Some([127, 0, 0, 1].into()),
            },
            Port {
                host_port: 0,
                container_port: 81,
                ..Port::default()
            },
        ];
        pod.cgroup_path = Some("/kubepods/a".into());
        let config = pod.runtime_config(&plugin(
            &json!({"portMappings": true, "bandwidth": true, "dns": true}),
        ));
        let port = json!({"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "127.0.0.1"});
        assert_eq!(Value::Object(config), json!({"portMappings": [port]}));
        assert!(pod.runtime_config(&plugin(&json!({}))).is_empty());
    }

    #[test]
    fn arguments_that_would_break_out_are_refused() {
        let pod = |name: &str| Pod {
            id: "a".into(),
            name: name.into(),
            ..Pod::default()
        };
        assert!(pod("web-0").validate().is_ok());
        assert!(pod("x;K8S_POD_UID=1").validate().is_err());
        assert!(
            Pod {
                id: "../a".into(),
                ..Pod::default()
            }
            .validate()
            .is_err()
        );
        assert!(
            Pod {
                ifname: "a/b".into(),
                ..pod("x")
            }
            .validate()
            .is_err()
        );
    }
}
