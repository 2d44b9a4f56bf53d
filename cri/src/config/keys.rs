//! The one table of settings: defaults, `--help-config` and the documentation come from it.

use super::handler_keys::HANDLER_KEYS;

/// A setting.
#[derive(Debug)]
pub(super) struct Key {
    /// `section.name`, or a bare name outside of all sections.
    pub(super) name: &'static str,
    /// The default, as TOML; its type is the setting's type.
    pub(super) default: &'static str,
    /// What it does; a sentence or several lines.
    pub(super) help: &'static str,
}

pub(super) const fn key(name: &'static str, default: &'static str, help: &'static str) -> Key {
    Key { name, default, help }
}

/// Every setting, section by section.
pub(super) const KEYS: &[Key] = &[
    key(
        "root",
        r#""/var/lib/pintle""#,
        "Folder of what is kept for good: images, records, volumes.",
    ),
    key(
        "state",
        r#""/run/pintle""#,
        "Folder of what lives until reboot: pinned namespaces, bundles, sockets.",
    ),
    key(
        "socket",
        r#""""#,
        "The CRI socket. Empty: pintle.sock in the state folder.",
    ),
    key(
        "socket_mode",
        "0o600",
        "Permission bits of the CRI socket. Whoever can write to it is root on this host.",
    ),
    key(
        "monitor",
        r#""""#,
        "The monitor program. Empty: pintle-monitor beside pintled, else on PATH.",
    ),
    key(
        "log_level",
        r#""info""#,
        "What is logged: error, warn, info, debug or trace, also by module (\"info,pintle_cri=debug\").",
    ),
    key(
        "cgroup_driver",
        r#""auto""#,
        "Who makes the cgroups: systemd, cgroupfs (the daemon itself), or auto, which is systemd where that is the first\n\
         process. kubelet asks and follows. Not to be changed while there are pods.",
    ),
    key(
        "cgroup_parent",
        r#""/pintle""#,
        "The cgroup for pods that name no parent. With the systemd driver its last part must end in .slice.",
    ),
    key("network.bridge", r#""pintle0""#, "Name of the built-in bridge."),
    key(
        "network.ranges",
        r#"["10.85.0.0/16"]"#,
        "Where pods get their addresses, at most one range of each family. The node's pod CIDR, once kubelet tells it,\n\
         goes before.",
    ),
    key(
        "network.mtu",
        "0",
        "MTU of pods' interfaces. 0: that of the host's default route.",
    ),
    key(
        "network.masquerade",
        "true",
        "Hide pods behind the host's address when they leave the node.",
    ),
    key(
        "network.hairpin",
        "true",
        "Let a pod reach itself through its own host port.",
    ),
    key(
        "network.cni_conf_dir",
        r#""/etc/cni/net.d""#,
        "Where a CNI configuration lies here, it is used in place of the built-in bridge.",
    ),
    key(
        "network.cni_bin_dirs",
        r#"["/opt/cni/bin", "/usr/lib/cni"]"#,
        "Where CNI programs lie, searched in this order.",
    ),
    key(
        "images.certs_dir",
        r#""/etc/pintle/certs.d""#,
        "Folder of <registry>/hosts.toml files. Empty: none.",
    ),
    key(
        "images.auth_file",
        r#""/etc/pintle/auth.json""#,
        "The node's credentials, in the form of docker's config.json; for pulls that bring none. Empty: none.",
    ),
    key(
        "images.signature_policy",
        r#""""#,
        "File that says whose signatures images must have. Empty: nobody's.",
    ),
    key(
        "images.insecure_registries",
        "[]",
        "Registries (host or host:port) spoken to over plain HTTP. Those on loopback always are.",
    ),
    key(
        "images.pinned",
        "[]",
        "References of images that kubelet shall never collect. A * at the end matches anything.",
    ),
    key(
        "images.max_concurrent_layers",
        "4",
        "Layers of one image that are fetched at once.",
    ),
    key(
        "runtime.default_handler",
        r#""pintle""#,
        "Name of the default runtime handler.",
    ),
    key(
        "runtime.handlers",
        "[]",
        "Names of further runtime handlers. They work as the default one does.",
    ),
    key(
        "runtime.default_ulimits",
        r#"["nofile=65536:524288"]"#,
        "Limits of every container, as name=soft:hard (setrlimit(2)); -1 for none. Lowered to what the daemon may give.",
    ),
    key(
        "runtime.default_capabilities",
        r#"["CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"]"#,
        "Capabilities of a container before those of its security context are added and dropped.",
    ),
    key(
        "runtime.log_max_line",
        "16384",
        "Longest line of a container's log, in bytes; longer ones are split. -1: never.",
    ),
    key(
        "runtime.log_mode",
        "0o640",
        "Permission bits of containers' log files.",
    ),
    key(
        "runtime.sync_rootfs",
        "false",
        "Write containers' own layers to the disk when they call fsync, and when they end. After a reboot nobody reads them again; volumes are always synced.",
    ),
    key(
        "runtime.unprivileged_ports",
        "true",
        "Let every user of a pod bind ports below 1024.",
    ),
    key(
        "runtime.unprivileged_ping",
        "true",
        "Let every group of a pod send ICMP echo requests without NET_RAW.",
    ),
    key(
        "runtime.seccomp_default",
        r#""unconfined""#,
        "The seccomp profile of containers that name none: unconfined or runtime-default.",
    ),
    key(
        "runtime.privileged_without_host_devices",
        "false",
        "Keep the host's devices out of privileged containers.",
    ),
    key(
        "runtime.device_ownership_from_security_context",
        "false",
        "Give a container's devices to the user and group that it runs as.",
    ),
    key(
        "runtime.pids_limit",
        "0",
        "Most processes in a container. 0: no limit of ours; kubelet limits pods.",
    ),
    key(
        "runtime.pod_annotations",
        "[]",
        "Pod annotations that are copied into the runtime spec. A * at the end matches anything.",
    ),
    key(
        "runtime.container_annotations",
        "[]",
        "As pod_annotations, for containers' own annotations.",
    ),
    key(
        "runtime.cdi_dirs",
        r#"["/etc/cdi", "/var/run/cdi"]"#,
        "Where vendors describe their devices (CDI); later folders go before. Empty: nowhere.",
    ),
    key(
        "runtime.hooks_dirs",
        "[]",
        "Folders of hooks in the form of oci-hooks(5), for the containers that each says it is for; later folders go before.",
    ),
    key(
        "runtime.blockio_config_file",
        r#""""#,
        "File of block I/O classes, in goresctrl's form, that pods choose by annotation. Empty: there are none.",
    ),
    key(
        "runtime.rdt_config_file",
        r#""""#,
        "File of classes of cache and memory bandwidth (RDT), in goresctrl's form; they are made when the daemon starts. Empty:\n\
         pods may choose among those that somebody else has made.",
    ),
    key(
        "runtime.resctrl_root",
        r#""/sys/fs/resctrl""#,
        "Where the kernel's resctrl file system is mounted, which those classes are groups of.",
    ),
    key(
        "inspection.socket",
        r#""""#,
        "Where cAdvisor, which is part of kubelet, may ask for containers as it asks CRI-O: it looks at\n\
         /var/run/crio/crio.sock. Containers' cgroups are named crio-<id>.scope then. Empty: nowhere.",
    ),
    key(
        "streaming.address",
        r#""127.0.0.1""#,
        "Address of the server of exec, attach and port-forward. kubelet connects to it; nobody else should.",
    ),
    key("streaming.port", "0", "Its port. 0: any that is free."),
    key(
        "streaming.tls_cert",
        r#""""#,
        "Certificate chain of the streaming server, as PEM; read again when it changes. Empty: plain HTTP.",
    ),
    key(
        "streaming.tls_key",
        r#""""#,
        "Its private key, as PEM. Set both or none.",
    ),
    key(
        "streaming.idle_timeout",
        "14400",
        "Seconds after which a session is ended in which nothing was sent either way.",
    ),
    key(
        "streaming.creation_timeout",
        "30",
        "Seconds that a client may take to open the streams of its session.",
    ),
    key(
        "checkpoint.enable",
        "true",
        "Let containers be checkpointed, and checkpoints be restored. Whoever has made an archive says what runs then, within what\n\
         the request allows.",
    ),
    key(
        "checkpoint.criu",
        r#""criu""#,
        "The program criu: a path, or a name that is searched on PATH.",
    ),
    key(
        "nri.disable",
        "false",
        "Have no plugins of the Node Resource Interface.",
    ),
    key(
        "nri.socket_path",
        r#""/var/run/nri/nri.sock""#,
        "Where plugins connect. Left alone if another runtime serves it.",
    ),
    key(
        "nri.plugin_path",
        r#""/opt/nri/plugins""#,
        "Folder of plugins that are started with the daemon: programs named NN-name, asked in the order of NN.",
    ),
    key(
        "nri.plugin_config_path",
        r#""/etc/nri/conf.d""#,
        "Folder of their configurations, NN-name.conf or name.conf.",
    ),
    key(
        "nri.plugin_registration_timeout",
        r#""5s""#,
        "How long a plugin may take to register, and to take in what there is.",
    ),
    key(
        "nri.plugin_request_timeout",
        r#""2s""#,
        "How long a plugin may take for one request. One that takes longer is cut off.",
    ),
    key(
        "nri.disable_connections",
        "false",
        "Have only the plugins that are started with the daemon.",
    ),
    key(
        "nri.default_validator.enable",
        "false",
        "Check what plugins want, by the settings below.",
    ),
    key(
        "nri.default_validator.reject_oci_hook_adjustment",
        "false",
        "Refuse OCI hooks of plugins.",
    ),
    key(
        "nri.default_validator.reject_runtime_default_seccomp_adjustment",
        "false",
        "Refuse another seccomp policy for containers with the runtime's default profile.",
    ),
    key(
        "nri.default_validator.reject_unconfined_seccomp_adjustment",
        "false",
        "Refuse a seccomp policy for containers that have none.",
    ),
    key(
        "nri.default_validator.reject_custom_seccomp_adjustment",
        "false",
        "Refuse another seccomp policy for containers with a profile of their own.",
    ),
    key(
        "nri.default_validator.reject_namespace_adjustment",
        "false",
        "Refuse changes of namespaces.",
    ),
    key(
        "nri.default_validator.reject_sysctl_adjustment",
        "false",
        "Refuse changes of sysctls.",
    ),
    key(
        "nri.default_validator.required_plugins",
        "[]",
        "Plugins, as name or NN-name, without which no container is created. Mind static pods.",
    ),
    key(
        "nri.default_validator.tolerate_missing_plugins_annotation",
        r#""""#,
        "An annotation by which pods do without the required plugins. Empty: none.",
    ),
];

/// All settings as a configuration file: each with its explanation above it.
pub(super) fn documented_defaults() -> String {
    let mut text = String::from("# Configuration of pintled. Every setting is shown with its default.\n");
    let mut section = "";
    for key in KEYS {
        let (in_section, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if in_section != section {
            section = in_section;
            text.push_str(&format!("\n[{section}]\n"));
        } else {
            text.push('\n');
        }
        for line in key.help.lines() {
            text.push_str(&format!("# {line}\n"));
        }
        text.push_str(&format!("{name} = {}\n", key.default));
    }
    text.push_str(
        "\n# A runtime handler that differs, for a RuntimeClass of that name. It may also have every setting of [runtime]\n\
         # that is to be another for it; default_handler, handlers, cdi_dirs and\n# those of RDT are none of those.\n# [runtimes.NAME]\n",
    );
    for key in HANDLER_KEYS {
        text.push_str(&format!("#\n# {}\n# {} = {}\n", key.help, key.name, key.default));
    }
    text
}
