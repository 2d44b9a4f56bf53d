//! Tests of the client with shell scripts as plugins that write down how they were called.

use std::fs;
use std::path::Path;

use super::*;

/// A plugin that appends `<name> <command> <id> <netns> <stdin>` to `log`, and fails when `fail-<name>-<command>` exists.
const PLUGIN: &str = r#"#!/bin/sh
dir=$(dirname "$0"); name=$(basename "$0"); conf=$(cat)
printf '%s %s %s [%s] %s\n' "$name" "$CNI_COMMAND" "$CNI_CONTAINERID" "$CNI_NETNS" "$conf" >> "$dir/log"
if [ -e "$dir/fail-$name-$CNI_COMMAND" ]; then echo '{"code":11,"msg":"told to fail"}'; exit 1; fi
if [ "$CNI_COMMAND" = ADD ]; then
  printf '{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.7/24"}],"by":"%s"}' "$name"
fi
"#;

struct Bench {
    dir: tempfile::TempDir,
    cni: Cni,
}

impl Bench {
    fn new(version: &str) -> Bench {
        let dir = tempfile::tempdir().expect("folder");
        let (conf, bin) = (dir.path().join("net.d"), dir.path().join("bin"));
        fs::create_dir(&conf).expect("create");
        fs::create_dir(&bin).expect("create");
        for name in ["one", "two"] {
            let path = bin.join(name);
            let make = std::process::Command::new("sh")
                .args(["-c", "printf '%s' \"$1\" > \"$0\" && chmod 755 \"$0\""])
                .arg(&path)
                .arg(PLUGIN)
                .status();
            assert!(make.expect("sh").success());
        }
        let bench = Bench {
            cni: Cni::new(conf, vec![bin], dir.path().join("cache")),
            dir,
        };
        bench.configure("first", version);
        bench
    }

    fn configure(&self, name: &str, version: &str) {
        let text = format!(
            r#"{{"cniVersion":"{version}","name":"{name}","plugins":[{{"type":"one","a":1}},
                {{"type":"two","capabilities":{{"portMappings":true}}}}]}}"#
        );
        fs::write(self.dir.path().join("net.d/10.conflist"), text).expect("write");
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("bin").join(name)
    }

    /// The calls since the last look: name, command, namespace, configuration.
    fn calls(&self) -> Vec<(String, String, serde_json::Value)> {
        let text = fs::read_to_string(self.path("log")).unwrap_or_default();
        let _ = fs::remove_file(self.path("log"));
        let call = |line: &str| {
            let mut parts = line.splitn(5, ' ');
            let name = parts.next().expect("name");
            let command = parts.next().expect("command");
            let _id = parts.next();
            let netns = parts.next().expect("namespace");
            let conf = serde_json::from_str(parts.next().expect("configuration")).expect("JSON");
            (
                format!("{name} {command}"),
                netns.trim_matches(['[', ']']).to_owned(),
                conf,
            )
        };
        text.lines().map(call).collect()
    }

    fn names(&self) -> Vec<String> {
        self.calls().into_iter().map(|(name, ..)| name).collect()
    }

    fn cache_is_empty(&self) -> bool {
        fs::read_dir(self.dir.path().join("cache")).is_ok_and(|mut entries| entries.next().is_none())
    }
}

fn pod(id: &str) -> Pod {
    let port = Port {
        host_port: 80,
        container_port: 8080,
        protocol: "TCP".into(),
        host_ip: None,
    };
    Pod {
        id: id.into(),
        netns: Some("/proc/self/ns/net".into()),
        ports: vec![port],
        ..Pod::default()
    }
}

#[tokio::test]
async fn results_go_from_plugin_to_plugin_and_back_to_del() {
    let bench = Bench::new("1.0.0");
    let result = bench.cni.add(&pod("a")).await.expect("add");
    assert_eq!(result.ips[0].to_string(), "10.0.0.7");
    let calls = bench.calls();
    assert_eq!((calls[0].0.as_str(), calls[1].0.as_str()), ("one ADD", "two ADD"));
    assert_eq!(calls[0].2["a"], 1);
    assert!(calls[0].2.get("prevResult").is_none() && calls[0].2.get("runtimeConfig").is_none());
    assert_eq!(calls[1].2["prevResult"]["by"], "one");
    assert_eq!(calls[1].2["runtimeConfig"]["portMappings"][0]["protocol"], "tcp");
    assert_eq!(bench.cni.cached("a", "eth0").expect("cache"), Some(result));
    bench.cni.check(&pod("a")).await.expect("check");
    assert_eq!(bench.names(), ["one CHECK", "two CHECK"]);
    bench
        .cni
        .del(&Pod {
            netns: None,
            ..pod("a")
        })
        .await
        .expect("del");
    let calls = bench.calls();
    assert_eq!((calls[0].0.as_str(), calls[1].0.as_str()), ("two DEL", "one DEL"));
    assert_eq!(calls[0].1, "", "the namespace is gone");
    assert_eq!(calls[1].2["prevResult"]["by"], "two");
    assert_eq!(calls[0].2["runtimeConfig"]["portMappings"][0]["hostPort"], 80);
    assert!(bench.cache_is_empty());
    bench.cni.del(&pod("a")).await.expect("deleting twice");
    assert!(bench.names().is_empty());
}

#[tokio::test]
async fn del_runs_with_the_configuration_of_its_add() {
    let bench = Bench::new("0.3.1");
    bench.cni.add(&pod("a")).await.expect("add");
    bench.configure("second", "1.0.0");
    assert_eq!(bench.cni.network().expect("configured"), "second");
    bench.calls();
    bench.cni.del(&pod("a")).await.expect("del");
    let calls = bench.calls();
    assert_eq!(calls[0].2["name"], "first");
    assert_eq!(calls[0].2["cniVersion"], "0.3.1");
    assert!(
        calls[0].2.get("prevResult").is_none(),
        "0.3.1 has no prevResult on DEL"
    );
}

#[tokio::test]
async fn a_failed_add_is_undone() {
    let bench = Bench::new("1.0.0");
    fs::write(bench.path("fail-two-ADD"), "").expect("write");
    let error = bench
        .cni
        .add(&pod("a"))
        .await
        .expect_err("told to fail")
        .to_string();
    assert!(
        error.contains("two ADD") && error.contains("told to fail"),
        "{error}"
    );
    assert_eq!(bench.names(), ["one ADD", "two ADD", "two DEL", "one DEL"]);
    assert!(bench.cache_is_empty());
}

#[tokio::test]
async fn what_could_not_be_undone_is_tried_again() {
    let bench = Bench::new("1.0.0");
    fs::write(bench.path("fail-two-ADD"), "").expect("write");
    fs::write(bench.path("fail-one-DEL"), "").expect("write");
    bench.cni.add(&pod("a")).await.expect_err("told to fail");
    bench.cni.del(&pod("a")).await.expect_err("still told to fail");
    assert!(!bench.cache_is_empty());
    fs::remove_file(bench.path("fail-one-DEL")).expect("remove");
    bench.calls();
    bench.cni.del(&pod("a")).await.expect("del");
    assert_eq!(bench.names(), ["two DEL", "one DEL"]);
    assert!(bench.cache_is_empty());
}

#[tokio::test]
async fn an_add_whose_caller_goes_runs_to_its_end() {
    let bench = Bench::new("1.0.0");
    let pod_a = pod("a");
    let add = bench.cni.add(&pod_a);
    let _ = tokio::time::timeout(Duration::from_millis(1), add).await;
    // DEL has to wait for its turn.
    bench.cni.del(&pod("a")).await.expect("del");
    let names = bench.names();
    assert!(
        names.is_empty() || names == ["one ADD", "two ADD", "two DEL", "one DEL"],
        "{names:?}"
    );
    assert!(bench.cache_is_empty() || !Path::new(&bench.dir.path().join("cache")).exists());
}

#[tokio::test]
async fn garbage_collection_detaches_the_dead() {
    let bench = Bench::new("1.1.0");
    for id in ["a", "b"] {
        bench.cni.add(&pod(id)).await.expect("add");
    }
    bench.calls();
    assert_eq!(bench.cni.gc(&["b".into()]).await.expect("gc"), ["a"]);
    let calls = bench.calls();
    let names: Vec<&str> = calls.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["two DEL", "one DEL", "one GC", "two GC"]);
    let valid = &calls[2].2["cni.dev/valid-attachments"];
    assert_eq!(*valid, json!([{"containerID": "b", "ifname": "eth0"}]));
}

#[tokio::test]
async fn status_asks_plugins_that_can_answer() {
    let bench = Bench::new("1.1.0");
    bench.cni.status().await.expect("ready");
    assert_eq!(bench.names(), ["one STATUS", "two STATUS"]);
    bench.cni.status().await.expect("ready");
    assert!(bench.names().is_empty(), "a good answer counts for a while");
    bench.configure("second", "1.1.0");
    fs::write(bench.path("fail-two-STATUS"), "").expect("write");
    let error = bench.cni.status().await.expect_err("not ready").to_string();
    assert!(error.contains("told to fail"), "{error}");
    bench.configure("third", "1.0.0");
    bench.names();
    bench.cni.status().await.expect("1.0.0 has no STATUS");
    assert!(bench.names().is_empty());
    fs::remove_file(bench.path("two")).expect("remove");
    assert!(matches!(
        bench.cni.status().await,
        Err(CniError::PluginNotFound { .. })
    ));
    fs::remove_file(bench.dir.path().join("net.d/10.conflist")).expect("remove");
    assert!(matches!(
        bench.cni.status().await,
        Err(CniError::NotConfigured { .. })
    ));
    assert!(!bench.cni.is_configured());
    fs::write(bench.dir.path().join("net.d/10.conflist"), "{").expect("write");
    assert!(bench.cni.is_configured(), "a broken file is no empty folder");
    assert!(bench.cni.status().await.is_err());
}
