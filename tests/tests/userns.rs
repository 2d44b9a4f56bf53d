//! Pods with user namespaces, as a kubelet asks for them: ids inside and outside, volumes, exec, host network.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Result, ensure};
use k8s_cri::v1::{
    ContainerConfig, IdMapping, Int64Value, NamespaceMode, PodSandboxConfig, StatusRequest, UserNamespace,
};
use pintle_tests::world::{self, World};
use pintle_tests::{check, host, pod, wait};

/// First id of the pods on the host.
const FIRST: u32 = 10 * 65536;

fn range() -> Vec<IdMapping> {
    vec![IdMapping {
        host_id: FIRST,
        container_id: 0,
        length: 65536,
    }]
}

fn users() -> Option<UserNamespace> {
    Some(UserNamespace {
        mode: NamespaceMode::Pod.into(),
        uids: range(),
        gids: range(),
    })
}

fn in_userns(mut config: PodSandboxConfig) -> PodSandboxConfig {
    let context = config.linux.as_mut().and_then(|l| l.security_context.as_mut());
    if let Some(options) = context.and_then(|c| c.namespace_options.as_mut()) {
        options.userns_options = users();
    }
    config
}

fn container_in_userns(mut config: ContainerConfig) -> ContainerConfig {
    if let Some(options) = pod::security(&mut config).namespace_options.as_mut() {
        options.userns_options = users();
    }
    config
}

/// The lines of a script in a pod with a user namespace.
async fn output(w: &World, pod_config: PodSandboxConfig, config: ContainerConfig) -> Result<Vec<String>> {
    let running = w.run(in_userns(pod_config), &container_in_userns(config)).await?;
    let status = w.wait_exited(&running.container).await?;
    let lines = running.lines()?;
    ensure!(
        status.exit_code == 0,
        "exit code {}: {:?}",
        status.exit_code,
        running.records()?
    );
    w.remove(&running.pod).await?;
    Ok(lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handlers_say_that_they_can() {
    world::test(async |w| {
        let mut client = w.cri.runtime.clone();
        let status = client.status(StatusRequest::default()).await?.into_inner();
        for handler in &status.runtime_handlers {
            let can = handler.features.is_some_and(|f| f.user_namespaces);
            ensure!(can, "handler {:?}", handler.name);
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn root_inside_is_an_ordinary_user_outside() {
    world::test(async |w| {
        let image = w.busybox().await?;
        w.warm_up(&image).await?;
        let before = w.count()?;
        let script = "id -u; tr -s ' ' </proc/self/uid_map; stat -c %u:%g / /etc/hosts /etc/hostname /etc/resolv.conf /dev/shm; \
                      echo 127.0.0.9 me >>/etc/hosts && touch /dev/shm/x /new && chown 7:8 /new && stat -c %u:%g /new; \
                      hostname; ip -o link show eth0 | grep -c UP; echo x >/dev/null; sleep 600";
        let pod_config = in_userns(pod::pod(&w.slot, "mapped"));
        let config = container_in_userns(pod::shell("root", &image, script));
        let running = w.run(pod_config, &config).await?;
        let wanted = vec![
            "0".to_owned(),
            format!(" 0 {FIRST} 65536"),
            "0:0".into(),
            "0:0".into(),
            "0:0".into(),
            "0:0".into(),
            "0:0".into(),
            "7:8".into(),
            "mapped".into(),
            "1".into(),
        ];
        wait::until("the script's output", wait::PATIENCE, || {
            running.lines().is_ok_and(|lines| lines.len() >= wanted.len())
        })?;
        ensure!(running.lines()? == wanted, "{:?}", running.lines()?);
        let pids = host::pids_in_cgroup(&w.slot.cgroup());
        let owners: Vec<u32> = pids
            .iter()
            .filter_map(|pid| fs::metadata(format!("/proc/{pid}")).ok())
            .map(|m| m.uid())
            .collect();
        ensure!(owners.contains(&FIRST), "{owners:?}");

        let id = w.exec(&running.container, &["sh", "-c", "id -u; cat /proc/self/uid_map | tr -s ' '"]).await?;
        ensure!(id == format!("0\n 0 {FIRST} 65536\n"), "{id}");
        // over a restart of the daemon, too
        w.restart().await?;
        ensure!(w.exec(&running.container, &["id", "-u"]).await? == "0\n");
        w.remove(&running.pod).await?;
        w.assert_nothing_left(&before).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_with_mappings_are_mapped_and_others_are_not() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let folder = w.slot.root().join("volume");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("word"), "text\n")?;
        std::os::unix::fs::chown(folder.join("word"), Some(5), Some(6))?;
        let path = folder.display().to_string();
        let script = "stat -c %u:%g /mapped/word /plain/word; touch /mapped/new; touch /plain/x 2>/dev/null || echo refused";
        let config = pod::with_mount(pod::shell("volumes", &image, script), &path, "/mapped", false);
        let mut config = pod::with_mount(config, &path, "/plain", false);
        config.mounts[0].uid_mappings = range();
        config.mounts[0].gid_mappings = range();
        let lines = output(w, pod::pod(&w.slot, "volumes"), config).await?;
        check::equal("ids", &lines, &["5:6", "65534:65534", "refused"])?;
        ensure!(fs::metadata(folder.join("new"))?.uid() == 0);

        // what can't be mapped is an error, never left unmapped
        let mut config = pod::with_mount(pod::shell("proc", &image, "true"), "/proc", "/p", true);
        config.mounts[0].uid_mappings = range();
        config.mounts[0].gid_mappings = range();
        let error = output(w, pod::pod(&w.slot, "refused"), config).await.err().map(|e| format!("{e:?}"));
        let error = error.unwrap_or_default();
        ensure!(error.contains("can't show them mapped"), "{error}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_groups_and_sysctls_are_those_inside() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let mut pod_config = pod::pod(&w.slot, "users");
        if let Some(linux) = pod_config.linux.as_mut() {
            linux.sysctls = [
                ("kernel.shm_rmid_forced".to_owned(), "1".to_owned()),
                ("fs.mqueue.msg_max".to_owned(), "100".to_owned()),
                ("net.ipv4.ip_local_port_range".to_owned(), "1024 65000".to_owned()),
            ]
            .into();
        }
        let script = "id -u; id -g; id -G; cat /proc/sys/kernel/shm_rmid_forced /proc/sys/fs/mqueue/msg_max; \
                      tr '\\t' ' ' </proc/sys/net/ipv4/ip_local_port_range; tr '\\t' ' ' </proc/sys/net/ipv4/ping_group_range";
        let mut config = pod::shell("users", &image, script);
        let security = pod::security(&mut config);
        security.run_as_user = Some(Int64Value { value: 1000 });
        security.run_as_group = Some(Int64Value { value: 2000 });
        security.supplemental_groups = vec![3000];
        let lines = output(w, pod_config, config).await?;
        check::equal(
            "users and sysctls",
            &lines,
            &["1000", "2000", "2000 3000", "1", "100", "1024 65000", "0 65535"],
        )
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_pid_namespace_and_the_hosts_network_go_with_it() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let mut pod_config = in_userns(pod::pod(&w.slot, "shared"));
        let options = pod_config
            .linux
            .as_mut()
            .and_then(|l| l.security_context.as_mut())
            .and_then(|c| c.namespace_options.as_mut());
        if let Some(options) = options {
            options.pid = NamespaceMode::Pod.into();
        }
        let mut config = container_in_userns(pod::shell("shared", &image, "head -1 /proc/1/status; id -u"));
        if let Some(options) = pod::security(&mut config).namespace_options.as_mut() {
            options.pid = NamespaceMode::Pod.into();
        }
        let running = w.run(pod_config, &config).await?;
        w.wait_exited(&running.container).await?;
        check::equal("shared", &running.lines()?, &["Name:\tpintle-init", "0"])?;
        w.remove(&running.pod).await?;

        let script = "id -u; touch /sys/kernel/x 2>/dev/null || echo read-only; readlink /proc/self/ns/net; mount | grep -c ' /sys '";
        let config = pod::container_on_host_network(pod::shell("network", &image, script));
        let lines = output(w, pod::on_host_network(pod::pod(&w.slot, "network")), config).await?;
        let own = fs::read_link("/proc/self/ns/net")?.display().to_string();
        ensure!(lines[..2] == ["0", "read-only"] && lines[2] == own, "{lines:?}");
        Ok(())
    })
    .await;
}
