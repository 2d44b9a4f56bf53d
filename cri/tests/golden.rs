//! The translation from CRI to OCI against golden files.
//!
//! `golden/plain.in.json` is a whole input. Each other `golden/NAME.in.json` says how its input differs from that (JSON
//! merge patch, RFC 7396), and `NAME.out.json` is what comes of it. `golden/errors.json` lists inputs that are refused.
//! `PINTLE_UPDATE_GOLDEN=1` writes the outputs anew; look at the difference before you commit it.

#![expect(clippy::unwrap_used, reason = "a test's helpers")]

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use oci_spec::image::ImageConfiguration;
use pintle_cri::{
    config::Config,
    proto::{ContainerConfig, PodSandboxConfig},
    spec::{
        ContainerSpec, HostFacts, ImageFacts, NodeFacts, SandboxFacts, SandboxFiles, Seccomp, SpecError,
        SpecInput, UserDatabase, container_spec, sandbox,
    },
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

const ID: &str = "c0ffee";
const POD_ID: &str = "0123456789abcdef";

/// An input file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[expect(dead_code, reason = "for the reader")]
    about: String,
    container: Value,
    sandbox: Value,
    /// The image's `config`.
    image: Value,
    users: UserDatabase,
    node: NodeFacts,
    host: HostFacts,
    /// The daemon's configuration file.
    settings: String,
    selinux_level: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refusal {
    about: String,
    input: Value,
    error: String,
}

#[test]
fn every_case_comes_out_as_recorded() {
    let update = env::var_os("PINTLE_UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for name in cases() {
        let made =
            translate(patched(&read(&format!("{name}.in.json")))).unwrap_or_else(|e| panic!("{name}: {e}"));
        let text = pretty(&output(&made), 0) + "\n";
        let file = folder().join(format!("{name}.out.json"));
        if update {
            fs::write(&file, &text).unwrap();
        } else if fs::read_to_string(&file).unwrap_or_default() != text {
            wrong.push(format!("{name}: now it would be\n{text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_output_has_its_input() {
    let cases = cases();
    assert!(cases.len() >= 20, "{cases:?}");
    let outputs = names(".out.json");
    assert_eq!(cases, outputs);
}

#[test]
fn bad_configs_are_refused_in_these_words() {
    let refusals: Vec<Refusal> = serde_json::from_value(read("errors.json")).unwrap();
    assert!(refusals.len() >= 30);
    for refusal in refusals {
        match translate(patched(&refusal.input)) {
            Ok(_) => panic!("{}: accepted", refusal.about),
            Err(error) => assert_eq!(error.to_string(), refusal.error, "{}", refusal.about),
        }
    }
}

#[test]
fn the_same_input_gives_the_same_spec() {
    let case = || patched(&read("kubelet.in.json"));
    assert_eq!(translate(case()).unwrap(), translate(case()).unwrap());
}

/// Any value may come over the wire: each one of each case is made nasty, and nothing may panic.
#[test]
fn nasty_values_are_translated_or_refused() {
    let nasty: &[Value] = &[
        json!(""),
        json!("\0"),
        json!("/"),
        json!("../../x"),
        json!("é\n*:,=%"),
        json!("a".repeat(70_000)),
        json!(-1),
        json!(i64::MIN),
        json!(i64::MAX),
        json!(u32::MAX),
        json!(u64::MAX),
        json!(99),
        json!([]),
    ];
    let mut refused = 0;
    for name in cases() {
        let patch = read(&format!("{name}.in.json"));
        let case = patched(&patch);
        for pointer in leaves(&patch, "")
            .iter()
            .filter(|pointer| case.pointer(pointer).is_some())
        {
            for value in nasty {
                let mut case = case.clone();
                *case.pointer_mut(pointer).unwrap() = value.clone();
                if is_typed(&case) {
                    refused += usize::from(translate(case).is_err());
                }
            }
        }
    }
    assert!(refused > 500, "only {refused} refused");
}

/// JSON pointers to everything a client or an image says.
fn leaves(value: &Value, at: &str) -> Vec<String> {
    let below = |key: &str, value: &Value| {
        let key = key.replace('~', "~0").replace('/', "~1");
        leaves(value, &format!("{at}/{key}"))
    };
    match value {
        Value::Object(map) if at.is_empty() => ["container", "sandbox", "image"]
            .iter()
            .flat_map(|key| below(key, map.get(*key).unwrap_or(&json!({}))))
            .collect(),
        Value::Object(map) => map.iter().flat_map(|(key, value)| below(key, value)).collect(),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .flat_map(|(i, v)| below(&i.to_string(), v))
            .collect(),
        _ => vec![at.to_owned()],
    }
}

/// Whether a client could send this at all.
fn is_typed(case: &Value) -> bool {
    serde_json::from_value::<ContainerConfig>(case["container"].clone()).is_ok()
        && serde_json::from_value::<PodSandboxConfig>(case["sandbox"].clone()).is_ok()
        && serde_json::from_value::<oci_spec::image::Config>(case["image"].clone()).is_ok()
}

fn translate(case: Value) -> Result<ContainerSpec, SpecError> {
    let case: Case = serde_json::from_value(case).unwrap();
    let settings = Config::from_toml(&case.settings).unwrap();
    let container: ContainerConfig = strict(&case.container);
    let pod: PodSandboxConfig = strict(&case.sandbox);
    let image: ImageConfiguration = serde_json::from_value(json!({
        "architecture": "amd64", "os": "linux", "config": case.image,
        "rootfs": {"type": "layers", "diff_ids": []},
    }))
    .unwrap();
    // The sandbox comes first: what it refuses never gets as far as a container.
    sandbox::plan(&pod, POD_ID, &case.node, settings.runtime())?;
    let dir = Path::new("/run/pintle/pods").join(POD_ID);
    let linux = pod.linux.clone().unwrap_or_default();
    let host_network = linux
        .security_context
        .and_then(|s| s.namespace_options)
        .is_some_and(|o| o.network() == pintle_cri::proto::NamespaceMode::Node);
    container_spec(&SpecInput {
        id: ID,
        rootfs: &dir.join("containers").join(ID).join("rootfs"),
        config: &container,
        sandbox: SandboxFacts {
            id: POD_ID,
            config: &pod,
            hostname: &sandbox::hostname(&pod, POD_ID, &case.node.hostname),
            cgroup_parent: &linux.cgroup_parent,
            ns_dir: &dir.join("ns"),
            files: &SandboxFiles {
                hostname: dir.join("hostname"),
                resolv_conf: dir.join("resolv.conf"),
                hosts: host_network.then(|| dir.join("hosts")),
                shm: dir.join("shm"),
            },
            selinux_level: case.selinux_level.as_deref(),
        },
        image: ImageFacts {
            config: &image,
            name: "registry.example/app:1",
        },
        users: &case.users,
        node: &case.node,
        host: &case.host,
        settings: settings.runtime(),
    })
}

fn output(made: &ContainerSpec) -> Value {
    let mut spec = serde_json::to_value(&made.spec).unwrap();
    // Sets have no order of their own, and rules are easier read in the kernel's form.
    for set in spec["process"]["capabilities"]
        .as_object_mut()
        .unwrap()
        .values_mut()
    {
        let mut names: Vec<String> = serde_json::from_value(set.take()).unwrap();
        names.sort();
        *set = json!(names.join(" ").replace("CAP_", ""));
    }
    let resources = made
        .spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.resources().as_ref())
        .unwrap();
    let rules = resources.devices().iter().flatten();
    spec["linux"]["resources"]["devices"] = rules
        .map(|rule| format!("{} {rule}", if rule.allow() { "allow" } else { "deny" }))
        .collect();
    let seccomp = match &made.seccomp {
        Seccomp::Unconfined => "unconfined".to_owned(),
        Seccomp::RuntimeDefault => "runtime default".to_owned(),
        Seccomp::Localhost(path) => path.display().to_string(),
    };
    json!({
        "spec": spec,
        "seccomp": seccomp,
        "user": made.user,
        "cgroup": made.cgroup,
        "stop_signal": made.stop_signal,
        "relabel": made.relabel,
    })
}

/// The plain case with this patch over it.
fn patched(patch: &Value) -> Value {
    let mut case = read("plain.in.json");
    merge(&mut case, patch);
    case
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// A message from JSON that holds no field unknown to it.
fn strict<T: DeserializeOwned + serde::Serialize>(value: &Value) -> T {
    let message: T = serde_json::from_value(value.clone()).unwrap();
    assert_known(value, &serde_json::to_value(&message).unwrap(), "");
    message
}

fn assert_known(input: &Value, back: &Value, path: &str) {
    match (input, back) {
        (Value::Object(input), Value::Object(back)) => {
            for (key, value) in input {
                let path = format!("{path}.{key}");
                assert_known(
                    value,
                    back.get(key).unwrap_or_else(|| panic!("{path}: no such field")),
                    &path,
                );
            }
        }
        (Value::Array(input), Value::Array(back)) => {
            input
                .iter()
                .zip(back)
                .for_each(|(input, back)| assert_known(input, back, path));
        }
        _ => {}
    }
}

/// JSON in which what fits on a line stands on one.
fn pretty(value: &Value, indent: usize) -> String {
    let line = value.to_string();
    if indent + line.len() <= 120 {
        return line;
    }
    let inner = " ".repeat(indent + 2);
    let (open, close, items) = match value {
        Value::Object(map) => {
            let item = |(k, v): (&String, &Value)| format!("{inner}{}: {}", json!(k), pretty(v, indent + 2));
            ("{", "}", map.iter().map(item).collect::<Vec<_>>())
        }
        Value::Array(list) => (
            "[",
            "]",
            list.iter()
                .map(|v| inner.clone() + &pretty(v, indent + 2))
                .collect(),
        ),
        _ => return line,
    };
    format!("{open}\n{}\n{}{close}", items.join(",\n"), " ".repeat(indent))
}

fn cases() -> BTreeSet<String> {
    names(".in.json")
}

fn names(suffix: &str) -> BTreeSet<String> {
    let files = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    files
        .filter_map(|name| name.strip_suffix(suffix).map(str::to_owned))
        .collect()
}

fn read(name: &str) -> Value {
    let text = fs::read_to_string(folder().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}
