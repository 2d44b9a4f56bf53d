//! What a container is given: user, capabilities, seccomp, root file system, mounts, limits.

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::{Capability, ContainerState, Int64Value};
use pintle_tests::server::Kind;
use pintle_tests::{check, host, pod, world};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn user_groups_capabilities_and_privileges_are_as_asked_for() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let script =
            "id -u; id -g; id -G; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status | tr -d '\\t '";
        let mut config = pod::shell("user", &image, script);
        let security = pod::security(&mut config);
        security.run_as_user = Some(Int64Value { value: 1000 });
        security.run_as_group = Some(Int64Value { value: 2000 });
        security.supplemental_groups = vec![3000];
        security.no_new_privs = true;
        let lines = w.output(&config).await?;
        ensure!(
            lines[0] == "1000" && lines[1] == "2000" && lines[2] == "2000 3000",
            "{lines:?}"
        );
        ensure!(
            lines[3..] == ["CapEff:0000000000000000", "NoNewPrivs:1", "Seccomp:2"],
            "{lines:?}"
        );

        let mut config = pod::shell("caps", &image, "grep CapEff /proc/self/status");
        pod::security(&mut config).capabilities = Some(Capability {
            add_capabilities: vec!["NET_ADMIN".into()],
            drop_capabilities: vec!["ALL".into()],
            ..Default::default()
        });
        let lines = w.output(&config).await?;
        ensure!(
            lines[0].ends_with("0000000000001000"),
            "NET_ADMIN and no other: {lines:?}"
        );

        let lines = w
            .output(&pod::shell(
                "root",
                &image,
                "id -u; grep CapEff /proc/self/status",
            ))
            .await?;
        ensure!(
            lines[0] == "0" && lines[1].ends_with("00000000a80425fb"),
            "the default set: {lines:?}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seccomp_refuses_what_runtime_default_refuses() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let script = "unshare -U true 2>/dev/null && echo allowed || echo refused";
        check::equal(
            "by default",
            &w.output(&pod::shell("default", &image, script)).await?,
            &["refused"],
        )?;
        let mut config = pod::shell("none", &image, script);
        pod::security(&mut config).seccomp = None;
        check::equal("without a profile", &w.output(&config).await?, &["allowed"])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_is_writable_or_not_and_sensitive_files_are_hidden() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let script = "echo x > /written && cat /written; wc -c < /proc/interrupts; ls /proc/tty | wc -l; \
                      echo 1 > /proc/sys/kernel/panic 2>/dev/null || echo read-only";
        let mut config = pod::shell("writable", &image, script);
        let security = pod::security(&mut config);
        security.masked_paths = vec![
            "/proc/interrupts".into(),
            "/proc/tty".into(),
            "/proc/absent".into(),
        ];
        security.readonly_paths = vec!["/proc/sys".into()];
        check::equal(
            "writable",
            &w.output(&config).await?,
            &["x", "0", "0", "read-only"],
        )?;

        let mut config = pod::shell("readonly", &image, "touch /x 2>/dev/null || echo read-only");
        pod::security(&mut config).readonly_rootfs = true;
        check::equal("read-only", &w.output(&config).await?, &["read-only"])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_reach_the_host_and_are_reported_unchanged() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let folder = w.slot.root().join("volume");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("word"), "from the host\n")?;
        let host = folder.display().to_string();
        let script = "cat /rw/word; echo inside > /rw/answer; touch /ro/x 2>/dev/null || echo read-only; cat /deep/er/file";
        let config = pod::with_mount(pod::shell("mounts", &image, script), &host, "/rw", false);
        let config = pod::with_mount(config, &host, "/ro", true);
        let config = pod::with_mount(config, &format!("{host}/word"), "/deep/er/file", true);
        let running = w.run(pod::pod(&w.slot, "mounts"), &config).await?;
        let status = w.wait_exited(&running.container).await?;
        ensure!(running.lines()? == ["from the host", "read-only", "from the host"], "{:?}", running.lines()?);
        ensure!(std::fs::read_to_string(folder.join("answer"))? == "inside\n");
        for mount in &config.mounts {
            let same = |m: &&k8s_cri::v1::Mount| {
                m.container_path == mount.container_path && m.host_path == mount.host_path && m.readonly == mount.readonly
            };
            ensure!(status.mounts.iter().any(|m| same(&m)), "{mount:?} not in {:?}", status.mounts);
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_in_force_and_reported() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let mut config = pod::idle("limits", &image);
        let resources = pod::resources(&mut config);
        resources.memory_limit_in_bytes = 64 << 20;
        resources.cpu_quota = 20_000;
        resources.cpu_period = 100_000;
        let running = w.run(pod::pod(&w.slot, "limits"), &config).await?;
        let status = w.cri.status(&running.container).await?;
        let in_force = status
            .resources
            .and_then(|r| r.linux)
            .context("resources in the status")?;
        ensure!(
            in_force.memory_limit_in_bytes == 64 << 20 && in_force.cpu_quota == 20_000,
            "{in_force:?}"
        );
        let values = limits_of(&w.slot.cgroup())?;
        ensure!(values == (64 << 20, 20_000), "memory and cpu limits {values:?}");
        Ok(())
    })
    .await;
}

/// The smallest memory limit and cpu quota in the cgroups below the slot's, on v1 or v2.
fn limits_of(cgroup: &str) -> Result<(u64, u64)> {
    let (mut memory, mut quota) = (u64::MAX, u64::MAX);
    for folder in pintle_tests::host::cgroups_below(cgroup)? {
        let first = |file: &str| -> Option<u64> {
            std::fs::read_to_string(folder.join(file))
                .ok()?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        };
        memory = ["memory.limit_in_bytes", "memory.max"]
            .iter()
            .filter_map(|f| first(f))
            .fold(memory, u64::min);
        quota = ["cpu.cfs_quota_us", "cpu.max"]
            .iter()
            .filter_map(|f| first(f))
            .fold(quota, u64::min);
    }
    Ok((memory, quota))
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_memory_is_told_from_other_kills() {
    world::test(async |w| {
        let image = w.busybox().await?;
        // tail keeps a line that has no end.
        let mut config = pod::container("glutton", &image, &["tail", "/dev/zero"]);
        let resources = pod::resources(&mut config);
        resources.memory_limit_in_bytes = 24 << 20;
        resources.memory_swap_limit_in_bytes = 24 << 20;
        let running = w.run(pod::pod(&w.slot, "glutton"), &config).await?;
        let status = w.wait_exited(&running.container).await?;
        ensure!(
            status.exit_code == 137 && status.reason == "OOMKilled",
            "{status:?}"
        );

        let running = w
            .run(pod::pod(&w.slot, "killed"), &pod::idle("killed", &image))
            .await?;
        w.cri.stop(&running.container, 0).await?;
        let status = w.cri.status(&running.container).await?;
        ensure!(
            status.state() == ContainerState::ContainerExited,
            "a stop answers once the exit is recorded"
        );
        ensure!(status.exit_code == 137 && status.reason == "Error", "{status:?}");
        Ok(())
    })
    .await;
}

/// What can't be is the request's fault, and the answer names the field and the value.
#[tokio::test(flavor = "multi_thread")]
async fn impossible_settings_are_refused_by_name() {
    world::test(async |w| {
        if w.server.kind() != Kind::Pintle {
            return Ok(());
        }
        let image = w.busybox().await?;
        let config = pod::pod(&w.slot, "impossible");
        let pod = w.cri.run_pod(&config).await?;
        let mut little = pod::idle("little", &image);
        pod::resources(&mut little).memory_limit_in_bytes = 99;
        let mut link = pod::idle("link", &image);
        pod::security(&mut link).readonly_paths = vec!["/proc/self/root".into()];
        for (container, field, value) in [
            (little, "memory", "99"),
            (link, "readonlyPaths", "/proc/self/root"),
        ] {
            let error = w.cri.create(&pod, &config, &container).await.expect_err(value);
            ensure!(error.code() == Code::InvalidArgument, "{error:?}");
            ensure!(
                error.message().contains(field) && error.message().contains(value),
                "{error:?}"
            );
        }
        ensure!(host::pids_in_cgroup(&w.slot.cgroup()).is_empty());
        Ok(())
    })
    .await;
}
