//! The network by CNI programs: Debian's bridge, host-local and portmap.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::ensure;
use pintle_tests::pod;
use pintle_tests::server::Setup;
use pintle_tests::world;

/// A CNI program that adds nothing and is always content to remove it.
const REFUSES: &str = r#"#!/bin/sh
if [ "$CNI_COMMAND" = ADD ]; then
  echo '{"cniVersion": "1.0.0", "code": 100, "msg": "refused on purpose"}'
  exit 1
fi
"#;

fn setup() -> Setup {
    Setup {
        cni: true,
        ..Setup::from_env().expect("the daemon to test")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_named_by_a_configuration_make_the_network() {
    world::test_with(setup(), async |w| {
        let image = w.busybox().await?;
        w.warm_up(&image).await?;
        let before = w.count()?;
        let running = w.run(pod::pod(&w.slot, "cni"), &pod::idle("one", &image)).await?;
        let ip = w.cri.pod_ip(&running.pod).await?;
        ensure!(ip.starts_with(&w.slot.subnet_prefix()), "{ip}");
        let reserved = w.slot.root().join("ipam").join(w.slot.bridge()).join(&ip);
        ensure!(reserved.exists(), "host-local knows of {ip}");
        let routes = w.exec(&running.container, &["ip", "route"]).await?;
        ensure!(routes.contains("default via"), "{routes}");
        w.restart().await?;
        ensure!(
            w.cri.pod_ip(&running.pod).await? == ip,
            "the address outlives the daemon"
        );
        w.remove(&running.pod).await?;
        ensure!(!reserved.exists(), "the address is free again");
        w.assert_nothing_left(&before).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_fails_fails_the_pod_and_leaves_nothing() {
    world::test_with(setup(), async |w| {
        let image = w.busybox().await?;
        w.warm_up(&image).await?;
        let before = w.count()?;
        let path = w.slot.root().join("cni/10-test.conflist");
        let good = fs::read_to_string(&path)?;
        // The second program fails after the first has made its link and taken an address.
        let program = w.slot.root().join("cni-bin/refuses");
        fs::write(&program, REFUSES)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        fs::write(&path, good.replace("\"portmap\"", "\"refuses\""))?;
        w.restart().await?;
        let error = w
            .cri
            .run_pod(&pod::pod(&w.slot, "fails"))
            .await
            .expect_err("refused");
        ensure!(error.message().contains("refused on purpose"), "{error:?}");
        ensure!(w.cri.pods().await?.is_empty(), "a failed pod is listed");
        w.assert_nothing_left(&before).await?;
        fs::write(&path, good)?;
        w.restart().await?;
        let id = w.cri.run_pod(&pod::pod(&w.slot, "works")).await?;
        w.remove(&id).await
    })
    .await;
}
