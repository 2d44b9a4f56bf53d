//! Which sandboxes are refused, and how the others are set up.

use super::*;
use crate::{
    config::Config,
    proto::{
        DnsConfig, IdMapping, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, PodSandboxMetadata,
        PortMapping, UserNamespace,
    },
    spec::testing::node,
};

fn pod(options: NamespaceOption) -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: "p".to_owned(),
            ..Default::default()
        }),
        hostname: "host".to_owned(),
        linux: Some(LinuxPodSandboxConfig {
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(options),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn with_sysctl(name: &str, value: &str, options: NamespaceOption) -> PodSandboxConfig {
    let mut config = pod(options);
    config
        .linux
        .as_mut()
        .unwrap()
        .sysctls
        .insert(name.to_owned(), value.to_owned());
    config
}

fn host_network() -> NamespaceOption {
    NamespaceOption {
        network: Mode::Node.into(),
        ..Default::default()
    }
}

fn userns(mode: Mode, uids: Vec<IdMapping>, gids: Vec<IdMapping>) -> NamespaceOption {
    let options = UserNamespace {
        mode: mode.into(),
        uids,
        gids,
    };
    NamespaceOption {
        userns_options: Some(options),
        pid: Mode::Container.into(),
        ..Default::default()
    }
}

fn map(host_id: u32, container_id: u32, length: u32) -> IdMapping {
    IdMapping {
        host_id,
        container_id,
        length,
    }
}

fn planned(config: &PodSandboxConfig) -> SandboxPlan {
    let settings = Config::from_toml("").unwrap();
    plan(config, "0123456789abcdef", &node(), settings.runtime()).unwrap()
}

#[test]
fn a_usual_pod() {
    use LinuxNamespaceType::{Ipc, Network, Uts};
    let plan = planned(&pod(NamespaceOption {
        pid: Mode::Container.into(),
        ..Default::default()
    }));
    assert_eq!(plan.namespaces, [Network, Uts, Ipc]);
    assert!(!plan.shared_pid);
    assert_eq!(plan.hostname.as_deref(), Some("host"));
    assert_eq!(plan.sysctls["net.ipv4.ip_unprivileged_port_start"], "0");
    assert_eq!(plan.sysctls["net.ipv4.ping_group_range"], "0 2147483647");
}

#[test]
fn no_options_share_the_pid_namespace() {
    let config = PodSandboxConfig {
        linux: None,
        ..pod(NamespaceOption::default())
    };
    assert!(planned(&config).shared_pid);
}

#[test]
fn on_the_host_s_network_its_name_and_settings_stay() {
    let config = pod(host_network());
    let plan = planned(&config);
    assert_eq!(plan.namespaces, [LinuxNamespaceType::Ipc]);
    assert_eq!(plan.hostname, None);
    assert!(plan.sysctls.is_empty());
    assert_eq!(hostname(&config, "0123", "node-1"), "node-1");
}

#[test]
fn a_pod_without_a_name_is_called_by_its_id() {
    let config = PodSandboxConfig {
        hostname: String::new(),
        ..pod(NamespaceOption::default())
    };
    assert_eq!(hostname(&config, "0123456789abcdef", "node-1"), "0123456789ab");
}

#[test]
fn bad_names_and_modes_are_refused() {
    let fine = pod(NamespaceOption::default());
    assert!(
        validate(&PodSandboxConfig {
            metadata: None,
            ..fine.clone()
        })
        .is_err()
    );
    assert!(
        validate(&PodSandboxConfig {
            hostname: "a b".to_owned(),
            ..fine.clone()
        })
        .is_err()
    );
    assert!(
        validate(&PodSandboxConfig {
            hostname: "a".repeat(65),
            ..fine.clone()
        })
        .is_err()
    );
    assert!(
        validate(&PodSandboxConfig {
            log_directory: "logs".to_owned(),
            ..fine
        })
        .is_err()
    );
    for options in [
        NamespaceOption {
            network: Mode::Container.into(),
            ..Default::default()
        },
        NamespaceOption {
            network: 9,
            ..Default::default()
        },
        NamespaceOption {
            ipc: Mode::Target.into(),
            ..Default::default()
        },
        NamespaceOption {
            pid: Mode::Target.into(),
            ..Default::default()
        },
    ] {
        assert!(validate(&pod(options.clone())).is_err(), "{options:?}");
    }
}

#[test]
fn sysctls_must_be_the_pod_s_own() {
    let ok = |name: &str| validate(&with_sysctl(name, "1", NamespaceOption::default()));
    for name in [
        "kernel.shm_rmid_forced",
        "kernel.sem",
        "kernel.msgmax",
        "fs.mqueue.msg_max",
        "net.core.somaxconn",
        "net/ipv4/conf/eth0.100/forwarding",
    ] {
        assert_eq!(ok(name), Ok(()), "{name}");
    }
    for name in [
        "vm.swappiness",
        "kernel.pid_max",
        "kernel.shmx.y",
        "net",
        "net.",
        "net..x",
        "net./.x",
        "net.//.x",
        "net/../../x",
        "",
        "net.a b",
        "fs.mqueue.",
    ] {
        assert!(ok(name).is_err(), "{name}");
    }
    assert!(validate(&with_sysctl("net.core.somaxconn", "1", host_network())).is_err());
    assert!(validate(&with_sysctl("kernel.sem", "1", host_network())).is_ok());
    assert!(validate(&with_sysctl("kernel.sem", "1\n2", NamespaceOption::default())).is_err());
}

#[test]
fn asked_settings_go_before_defaults_and_are_dotted() {
    let config = with_sysctl(
        "net/ipv4/ip_unprivileged_port_start",
        "80",
        NamespaceOption::default(),
    );
    let sysctls = planned(&config).sysctls;
    assert_eq!(sysctls["net.ipv4.ip_unprivileged_port_start"], "80");
    assert_eq!(sysctls.len(), 2);
    let vlan = with_sysctl(
        "net/ipv4/conf/eth0.100/forwarding",
        "1",
        NamespaceOption::default(),
    );
    assert_eq!(planned(&vlan).sysctls["net.ipv4.conf.eth0/100.forwarding"], "1");
}

#[test]
fn a_user_namespace_has_one_mapping_of_each() {
    let one = || vec![map(65536, 0, 65536)];
    let plan = planned(&pod(userns(Mode::Pod, one(), one())));
    assert_eq!(plan.namespaces[0], LinuxNamespaceType::User);
    assert_eq!(plan.uid_mappings[0].host_id(), 65536);
    assert_eq!(plan.sysctls["net.ipv4.ping_group_range"], "0 65535");
    assert_eq!(validate(&pod(userns(Mode::Node, vec![], vec![]))), Ok(()));
    for (mode, uids, gids) in [
        (Mode::Pod, vec![], vec![]),
        (Mode::Pod, one(), vec![]),
        (Mode::Pod, [one(), one()].concat(), one()),
        (Mode::Pod, vec![map(65536, 1, 65536)], one()),
        (Mode::Pod, vec![map(65536, 0, 0)], one()),
        (Mode::Pod, vec![map(u32::MAX, 0, 2)], one()),
        (Mode::Node, one(), one()),
        (Mode::Container, one(), one()),
        (Mode::Target, one(), one()),
    ] {
        assert!(validate(&pod(userns(mode, uids, gids))).is_err(), "{mode:?}");
    }
    let with_host_pid = NamespaceOption {
        pid: Mode::Node.into(),
        ..userns(Mode::Pod, one(), one())
    };
    assert!(validate(&pod(with_host_pid)).is_err());
}

#[test]
fn a_node_without_user_namespaces_says_so() {
    let one = || vec![map(65536, 0, 65536)];
    let without = NodeFacts {
        user_namespaces: false,
        ..node()
    };
    let settings = Config::from_toml("").unwrap();
    assert!(
        plan(
            &pod(userns(Mode::Pod, one(), one())),
            "i",
            &without,
            settings.runtime()
        )
        .is_err()
    );
}

#[test]
fn resolv_conf_has_a_line_for_each() {
    let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let dns = DnsConfig {
        servers: list(&["10.96.0.10", "fe80::1%eth0"]),
        searches: list(&["svc.local", "local"]),
        options: list(&["ndots:5", "edns0"]),
    };
    assert_eq!(
        resolv_conf(&dns),
        "search svc.local local\nnameserver 10.96.0.10\nnameserver fe80::1%eth0\noptions ndots:5 edns0\n"
    );
    assert_eq!(resolv_conf(&DnsConfig::default()), "");
    let with = |dns| PodSandboxConfig {
        dns_config: Some(dns),
        ..pod(NamespaceOption::default())
    };
    assert!(validate(&with(dns.clone())).is_ok());
    assert!(
        validate(&with(DnsConfig {
            servers: list(&["a"]),
            ..dns.clone()
        }))
        .is_err()
    );
    assert!(
        validate(&with(DnsConfig {
            searches: list(&["a\nnameserver 6.6.6.6"]),
            ..dns.clone()
        }))
        .is_err()
    );
    assert!(
        validate(&with(DnsConfig {
            options: list(&[""]),
            ..dns
        }))
        .is_err()
    );
}

#[test]
fn ports_are_ports() {
    let with = |container_port, host_port, host_ip: &str| PodSandboxConfig {
        port_mappings: vec![PortMapping {
            protocol: 0,
            container_port,
            host_port,
            host_ip: host_ip.to_owned(),
        }],
        ..pod(NamespaceOption::default())
    };
    assert!(validate(&with(80, 8080, "")).is_ok());
    assert!(validate(&with(80, 0, "::1")).is_ok());
    assert!(validate(&with(0, 0, "")).is_ok());
    assert!(validate(&with(0, 80, "")).is_err());
    assert!(validate(&with(80, 65536, "")).is_err());
    assert!(validate(&with(-1, 0, "")).is_err());
    assert!(validate(&with(80, 80, "localhost")).is_err());
}
