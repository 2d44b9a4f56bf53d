//! Tests of running plugins, with shell scripts as plugins.

use std::time::Instant;

use serde_json::json;

use super::*;

fn script(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("plugin");
    // Written by another process, so that no fork of a parallel test holds it open for writing.
    let status = std::process::Command::new("sh")
        .args([
            "-c",
            "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$0\" && chmod 755 \"$0\"",
        ])
        .arg(&path)
        .arg(text)
        .status();
    assert!(status.expect("sh").success());
    path
}

async fn run(text: &str, limit: Duration) -> Result<Value> {
    let dir = tempfile::tempdir().expect("folder");
    let program = script(dir.path(), text);
    let invocation = Invocation {
        plugin: "plugin",
        command: "ADD",
        env: vec![("CNI_IFNAME", "eth0".into())],
        stdin: json!({"name": "n"}),
        limit,
    };
    invocation.run(&program).await
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_plugin_gets_its_configuration_and_gives_its_result() {
    let echo = r#"printf '{"command":"%s","ifname":"%s","conf":%s}' "$CNI_COMMAND" "$CNI_IFNAME" "$(cat)""#;
    let result = run(echo, LONG).await.expect("success");
    assert_eq!(
        result,
        json!({"command": "ADD", "ifname": "eth0", "conf": {"name": "n"}})
    );
    assert_eq!(run("cat >/dev/null", LONG).await.expect("no result"), Value::Null);
}

#[tokio::test]
async fn errors_are_the_plugins_own_words() {
    let error = run(r#"echo '{"code":7,"msg":"bad","details":"more"}'; exit 1"#, LONG)
        .await
        .expect_err("error");
    assert_eq!(error.to_string(), "CNI plugin plugin ADD: bad; more (code 7)");
    let error = run("echo trouble >&2; exit 3", LONG)
        .await
        .expect_err("error")
        .to_string();
    assert!(error.contains("trouble") && error.contains('3'), "{error}");
    assert!(matches!(
        run("echo '{'", LONG).await,
        Err(CniError::BadResult { .. })
    ));
}

#[tokio::test]
async fn a_plugin_that_hangs_is_killed_with_its_children() {
    let dir = tempfile::tempdir().expect("folder");
    let mark = dir.path().join("pid");
    let text = format!("sleep 1000 & echo $! > {}; wait", mark.display());
    let start = Instant::now();
    let error = run(&text, Duration::from_millis(500))
        .await
        .expect_err("time limit");
    assert!(matches!(error, CniError::TimedOut { .. }), "{error}");
    assert!(start.elapsed() < LONG, "it must not wait for the child's end");
    let pid = std::fs::read_to_string(&mark).expect("the child ran");
    for _ in 0..500 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the plugin's child {pid} is still alive");
}

#[test]
fn only_executables_are_found() {
    let dir = tempfile::tempdir().expect("folder");
    let dirs = vec![dir.path().join("none"), dir.path().to_owned()];
    assert!(find("plugin", &dirs).is_err());
    std::fs::write(dir.path().join("plugin"), "").expect("write");
    let error = find("plugin", &dirs).expect_err("not executable").to_string();
    assert!(error.contains("plugin") && error.contains("none"), "{error}");
    let path = script(dir.path(), "true");
    assert_eq!(find("plugin", &dirs).expect("executable"), path);
}
