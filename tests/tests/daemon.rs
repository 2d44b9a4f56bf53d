//! The daemon itself: configuration, socket, status.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_cri::v1::{NetworkConfig, RuntimeConfig, StatusRequest, UpdateRuntimeConfigRequest, VersionRequest};
use pintle_tests::server::{Kind, Server, Setup};
use pintle_tests::slot::Slot;
use pintle_tests::{host, pod, world};

#[tokio::test(flavor = "multi_thread")]
async fn says_its_name_and_that_it_is_ready() {
    world::test(async |w| {
        let version = w
            .cri
            .runtime
            .clone()
            .version(VersionRequest::default())
            .await?
            .into_inner();
        ensure!(version.runtime_api_version == "v1", "{version:?}");
        ensure!(
            !version.runtime_name.is_empty() && !version.runtime_version.is_empty(),
            "{version:?}"
        );
        let status = w
            .cri
            .runtime
            .clone()
            .status(StatusRequest { verbose: true })
            .await?
            .into_inner();
        let conditions = status.status.context("a status")?.conditions;
        for name in ["RuntimeReady", "NetworkReady"] {
            let condition = conditions
                .iter()
                .find(|c| c.r#type == name)
                .with_context(|| name.to_owned())?;
            ensure!(condition.status, "{condition:?}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_roots_alone() {
    world::test(async |w| {
        let metadata = std::fs::metadata(w.server.socket())?;
        ensure!(metadata.file_type().is_socket());
        ensure!(
            metadata.permissions().mode() & 0o077 == 0,
            "mode {:o}",
            metadata.permissions().mode()
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_on_sigterm_and_comes_back_on_the_same_socket() {
    world::test(async |w| {
        for _ in 0..3 {
            let status = w.server.terminate(Duration::from_secs(10))?;
            ensure!(status.success(), "{status:?}");
            // Without pods nothing of the daemon is mounted once it has ended.
            let state = w.slot.state();
            let mounts = host::mounts("self")?;
            let left = mounts.iter().find(|mount| mount.target.starts_with(&state));
            ensure!(w.server.kind() != Kind::Pintle || left.is_none(), "{left:?}");
            w.start().await?;
        }
        // A socket that a killed daemon left is no obstacle either.
        w.restart().await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn takes_the_nodes_pod_range_from_the_kubelet() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let range = format!("{}0.128/25", w.slot.subnet_prefix());
        let network_config = Some(NetworkConfig { pod_cidr: range });
        let request = UpdateRuntimeConfigRequest {
            runtime_config: Some(RuntimeConfig { network_config }),
        };
        w.cri.runtime.clone().update_runtime_config(request).await?;
        if w.server.kind() != Kind::Pintle {
            return Ok(());
        }
        let running = w
            .run(pod::pod(&w.slot, "range"), &pod::idle("one", &image))
            .await?;
        let ip = w.cri.pod_ip(&running.pod).await?;
        let last: u8 = ip.rsplit('.').next().context("an address")?.parse()?;
        ensure!(last >= 128, "{ip} is outside of the range that the kubelet gave");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_does_not_take_over_the_first_ones_state() {
    world::test(async |w| {
        if w.server.kind() != Kind::Pintle {
            return Ok(());
        }
        let mut second = Server::prepare(&w.slot, Setup::from_env()?)?;
        // The harness would take the first daemon's answers for the second's: look at the program's end alone.
        let output = second.run_to_end(Duration::from_secs(10))?;
        ensure!(!output.success(), "{output:?}");
        ensure!(w.cri.pods().await?.is_empty(), "the first one still answers");
        Ok(())
    })
    .await;
}

#[test]
fn a_wrong_configuration_is_refused_by_key_and_value() {
    if Kind::from_env().expect("the daemon to test") != Kind::Pintle {
        return;
    }
    let slot = Slot::acquire().expect("a slot");
    let cases = [
        ("no_such_key = 1", "no_such_key"),
        ("root = \"relative\"", "relative"),
        ("root = 7", "root"),
    ];
    for (line, named) in cases {
        let path = slot.root().join("wrong.toml");
        std::fs::write(&path, line).expect("write the configuration");
        let program = std::env::var("PINTLE_BIN").expect("PINTLE_BIN") + "/pintled";
        let output = Command::new(program)
            .arg("--check-config")
            .arg("--config")
            .arg(&path)
            .output()
            .expect("run pintled");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{line} was accepted");
        assert!(text.contains(named), "{line}: {text}");
    }
}
