//! The table of settings against the types, and what a file may and may not say.

use std::path::Path;

use oci_spec::runtime::Capability;

use super::*;

fn refusal(text: &str) -> String {
    Config::from_toml(text).unwrap_err().to_string()
}

fn names(config: &Config) -> Vec<&str> {
    config
        .handlers()
        .iter()
        .map(|handler| handler.name.as_str())
        .collect()
}

#[test]
fn every_setting_has_a_default_that_is_valid() {
    // Fails if the table lacks a field of the raw types or has one too many.
    let config = Config::from_toml("").unwrap();
    assert_eq!(config.root(), Path::new("/var/lib/pintle"));
    assert_eq!(config.socket(), Path::new("/run/pintle/pintle.sock"));
    assert_eq!(config.socket_mode(), 0o600);
    assert_eq!(names(&config), ["pintle"]);
    assert_eq!(config.runtime().default_capabilities.len(), 14);
    assert!(
        config
            .runtime()
            .default_capabilities
            .contains(&Capability::NetRaw)
    );
    assert_eq!(config.runtime().default_ulimits[0].soft(), 65536);
    assert!(config.streaming().address.ip().is_loopback());
}

#[test]
fn the_documented_defaults_are_a_configuration_file() {
    let text = Config::documented_defaults();
    assert_eq!(Config::from_toml(&text).unwrap(), Config::from_toml("").unwrap());
    for key in keys::KEYS {
        assert!(
            !key.help.is_empty() && key.help.ends_with('.'),
            "{}: {}",
            key.name,
            key.help
        );
    }
}

#[test]
fn a_file_changes_what_it_names_and_no_more() {
    let config = Config::from_toml(
        "state = \"/tmp/p\"\n[network]\nbridge = \"br7\"\n[runtime]\nhandlers = [\"test-handler\"]\nlog_max_line = -1",
    )
    .unwrap();
    assert_eq!(config.socket(), Path::new("/tmp/p/pintle.sock"));
    assert_eq!(config.network().bridge, "br7");
    assert!(config.network().masquerade);
    assert_eq!(names(&config), ["pintle", "test-handler"]);
    assert_eq!(config.runtime().log_max_line, usize::MAX);
}

#[test]
fn handlers_have_settings_of_their_own_over_the_common_ones() {
    let config = Config::from_toml(
        "[runtime]\npids_limit = 7\nhandlers = [\"plain\"]\n\
         [runtimes.runc]\npath = \"/usr/sbin/runc\"\noptions = [\"--debug\"]\npids_limit = 9\n\
         [runtimes.pintle]\ndevices = [\"/dev/kvm\", \"/dev/a:/dev/b:r\"]\ndevice_rules = [\"c 10:* rw\"]",
    )
    .unwrap();
    assert_eq!(names(&config), ["pintle", "plain", "runc"]);
    let runc = config.handler("runc").unwrap();
    let program = runc.program.as_ref().unwrap();
    assert_eq!(program.path, Path::new("/usr/sbin/runc"));
    assert_eq!(program.options, ["--debug"]);
    assert_eq!(program.root, Path::new("/run/pintle/runtimes/runc"));
    assert_eq!(runc.settings.pids_limit, Some(9));
    assert_eq!(config.handler("plain").unwrap().settings.pids_limit, Some(7));
    let default = config.handler("").unwrap();
    assert_eq!(
        (default.name.as_str(), default.program.as_ref()),
        ("pintle", None)
    );
    let devices: Vec<_> = default
        .devices
        .iter()
        .map(|d| (d.container_path.as_str(), d.permissions.as_str()))
        .collect();
    assert_eq!(devices, [("/dev/kvm", "rwm"), ("/dev/b", "r")]);
    let rule = &default.device_rules[0];
    assert_eq!((rule.major(), rule.minor()), (Some(10), None));
    assert!(config.handler("other").is_none());
}

/// Configuration files and what is said about them.
const REFUSALS: &[(&str, &str)] = &[
    (
        "rooot = \"/x\"",
        "rooot = \"/x\": there is no such setting (did you mean root?)",
    ),
    (
        "[network]\nbrigde = \"x\"",
        "network.brigde = \"x\": there is no such setting (did you mean network.bridge?)",
    ),
    (
        "[zzzzzzzz]\na = 1",
        "zzzzzzzz = { a = 1 }: there is no such setting",
    ),
    (
        "[network]\nmtu = \"big\"",
        "network.mtu = \"big\": expected a whole number",
    ),
    (
        "[network]\nranges = [7]",
        "network.ranges = [7]: expected a list of text",
    ),
    ("network = 3", "network = 3: expected a section"),
    ("root = \"var\"", "root = \"var\": expected an absolute path"),
    (
        "socket_mode = 0o7777",
        "socket_mode = \"0o7777\": expected permission bits, 0o000 to 0o777",
    ),
    (
        "cgroup_driver = \"v2\"",
        "cgroup_driver = \"v2\": expected one of auto, cgroupfs, systemd",
    ),
    (
        "[network]\nmtu = 12",
        "network.mtu = \"12\": expected 576 to 65535",
    ),
    (
        "[network]\nranges = [\"10.1.2.3/16\"]",
        "network.ranges = \"10.1.2.3/16\": has host bits; did you mean 10.1.0.0/16?",
    ),
    (
        "[network]\nranges = [\"10.1.0.0/16\", \"10.2.0.0/16\"]",
        "network.ranges = \"10.2.0.0/16\": a second range of the same family",
    ),
    (
        "[network]\nranges = []",
        "network.ranges = \"[]\": at least one range is needed",
    ),
    (
        "[runtime]\ndefault_capabilities = [\"CAP_FLY\"]",
        "runtime.default_capabilities = \"CAP_FLY\": no such capability",
    ),
    (
        "[runtime]\ndefault_ulimits = [\"nofile\"]",
        "runtime.default_ulimits = \"nofile\": expected name=soft:hard",
    ),
    (
        "[runtime]\nhandlers = [\"pintle\"]",
        "runtime.handlers = \"pintle\": named twice",
    ),
    ("runtimes = 3", "runtimes = 3: expected a section"),
    (
        "[runtimes.x]\npaht = \"/a\"",
        "runtimes.x.paht = \"/a\": there is no such setting (did you mean path?)",
    ),
    (
        "[runtimes.x]\nhandlers = []",
        "runtimes.x.handlers = []: there is no such setting (did you mean runtime.handlers?)",
    ),
    (
        "[runtimes.x]\noptions = [\"--debug\"]",
        "runtimes.x.options = \"--debug\": without path there is no program to give them to",
    ),
    (
        "[runtimes.Big]\npath = \"/a\"",
        "runtimes = \"Big\": not a DNS label: up to 63 of a-z, 0-9 and - inside",
    ),
    (
        "[runtimes.x]\ndevice_rules = [\"c 10 rwm\"]",
        "runtimes.x.device_rules = \"c 10 rwm\": expected a rule such as \"c 10:200 rwm\"",
    ),
    (
        "[runtimes.x]\ndevices = [\"/dev/a:/dev/b:x\"]",
        "runtimes.x.devices = \"/dev/a:/dev/b:x\": permissions are some of r, w and m",
    ),
    (
        "[inspection]\nsocket = \"/run/pintle/pintle.sock\"",
        "inspection.socket = \"/run/pintle/pintle.sock\": is the CRI socket; it must be another one",
    ),
    (
        "[runtime]\nhandlers = [\"Big_Name\"]",
        "runtime.handlers = \"Big_Name\": not a DNS label: up to 63 of a-z, 0-9 and - inside",
    ),
    (
        "[runtime]\npod_annotations = [\"a*é\"]",
        "runtime.pod_annotations = \"a*é\": a * may only stand at the end",
    ),
    (
        "[images]\ninsecure_registries = [\"http://x\"]",
        "images.insecure_registries = \"http://x\": expected host or host:port",
    ),
    (
        "[streaming]\naddress = \"localhost\"",
        "streaming.address = \"localhost\": expected an IP address",
    ),
    (
        "[streaming]\ntls_cert = \"/c.pem\"",
        "streaming.tls_key = \"\": tls_cert needs it",
    ),
    (
        "[streaming]\nidle_timeout = 0",
        "streaming.idle_timeout = \"0\": expected 1 to 604800",
    ),
    (
        "cgroup_driver = \"systemd\"\ncgroup_parent = \"/a\"",
        "cgroup_parent = \"/a\": with the systemd driver its last part must end in .slice",
    ),
    (
        "cgroup_driver = \"cgroupfs\"\ncgroup_parent = \"/a.slice\"",
        "cgroup_parent = \"/a.slice\": with the cgroupfs driver it can't be a slice of systemd's",
    ),
];

#[test]
fn refusals_name_key_and_value() {
    for (text, message) in REFUSALS {
        assert_eq!(refusal(text).trim_end(), *message, "{text}");
    }
    assert!(refusal("root = ").contains("line 1"));
}

#[test]
fn only_a_file_that_was_named_must_exist() {
    let missing = Path::new("/nonexistent/config.toml");
    let error = Config::load(Some(missing)).unwrap_err();
    assert!(
        error.to_string().starts_with("read /nonexistent/config.toml: "),
        "{error}"
    );
}

#[test]
fn the_error_of_a_file_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    std::fs::write(&file, "log_level = \"\"").unwrap();
    let error = Config::load(Some(&file)).unwrap_err().to_string();
    assert_eq!(error, format!("{}: log_level = \"\": is empty", file.display()));
}

#[test]
fn a_parent_of_ours_is_a_slice_with_the_systemd_driver() {
    let parent = |path| resolve::cgroup_parent(path, CgroupDriver::Systemd);
    assert_eq!(parent("/pintle").unwrap(), "/pintle.slice");
    assert_eq!(parent("/a.slice/").unwrap(), "/a.slice");
    assert!(parent("/x").is_err());
    assert!(parent("/").is_err());
    assert!(resolve::cgroup_parent("/a/../b", CgroupDriver::Cgroupfs).is_err());
}
