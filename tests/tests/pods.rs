//! Pods: network, namespaces, names, status, removal.

use anyhow::{Result, ensure};
use k8s_cri::v1::{
    DnsConfig, ListPodSandboxRequest, PodSandboxFilter, PodSandboxState, PortMapping, Protocol,
};
use pintle_tests::world::{self, World};
use pintle_tests::{host, pod};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_has_an_address_a_route_and_the_way_out() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let config = pod::shell("web", &image, "exec httpd -f -p 8080 -h /www");
        let web = w.run(pod::pod(&w.slot, "web"), &config).await?;
        let ip = w.cri.pod_ip(&web.pod).await?;
        ensure!(
            ip.starts_with(&w.slot.subnet_prefix()),
            "address {ip} outside of {}",
            w.slot.subnet()
        );

        let page = fetch(&format!("{ip}:8080"))?;
        ensure!(page.contains("served by busybox"), "from the host: {page:?}");

        let client = w
            .run(pod::pod(&w.slot, "client"), &pod::idle("client", &image))
            .await?;
        let url = format!("http://{ip}:8080/");
        let page = w
            .exec(&client.container, &["wget", "-q", "-O", "-", &url])
            .await?;
        ensure!(page.contains("served by busybox"), "from pod to pod: {page:?}");

        let routes = w.exec(&client.container, &["ip", "route"]).await?;
        ensure!(routes.contains("default via"), "no default route: {routes}");
        let loopback = w.exec(&client.container, &["ip", "addr", "show", "lo"]).await?;
        ensure!(
            loopback.contains("127.0.0.1/8") && loopback.contains("UP"),
            "loopback: {loopback}"
        );
        Ok(())
    })
    .await;
}

/// The page that is served at `address:port`, asked for from the host.
fn fetch(host: &str) -> Result<String> {
    let mut body = String::new();
    pintle_tests::wait::until("the pod's server", pintle_tests::wait::PATIENCE, || {
        let answer = pintle_tests::http::request(host, "GET", "/index.html", "", b"");
        body = answer
            .map(|a| String::from_utf8_lossy(&a.body).into_owned())
            .unwrap_or_default();
        !body.is_empty()
    })?;
    Ok(body)
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_list_answer_with_what_was_asked_for() {
    world::test(async |w| {
        let mut config = pod::pod(&w.slot, "one");
        config
            .annotations
            .insert("example.org/note".into(), "kept as it is".into());
        let id = w.cri.run_pod(&config).await?;
        ensure!(
            id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()),
            "id {id:?}"
        );

        let status = w.cri.pod_status(&id).await?;
        ensure!(
            status.state() == PodSandboxState::SandboxReady,
            "state {:?}",
            status.state()
        );
        ensure!(
            status.metadata == config.metadata,
            "metadata {:?}",
            status.metadata
        );
        ensure!(
            status.annotations == config.annotations,
            "annotations {:?}",
            status.annotations
        );
        ensure!(status.created_at > 0, "created_at {}", status.created_at);

        ensure!(list(w, &id[..12]).await? == 1, "listed by a prefix of its id");
        ensure!(
            list(w, &"0".repeat(64)).await? == 0,
            "a filter for an unknown id finds nothing"
        );

        w.cri.stop_pod(&id).await?;
        let status = w.cri.pod_status(&id).await?;
        ensure!(
            status.state() == PodSandboxState::SandboxNotready,
            "state {:?}",
            status.state()
        );
        w.cri.remove_pod(&id).await?;
        let error = w
            .cri
            .pod_status(&id)
            .await
            .expect_err("a removed pod has no status");
        ensure!(error.code() == Code::NotFound, "{error:?}");
        ensure!(w.cri.pods().await?.is_empty(), "a removed pod is not listed");
        Ok(())
    })
    .await;
}

/// How many pods the list has under an id or its prefix.
async fn list(w: &World, id: &str) -> Result<usize> {
    let filter = Some(PodSandboxFilter {
        id: id.to_owned(),
        ..Default::default()
    });
    let request = ListPodSandboxRequest { filter };
    Ok(w.cri
        .runtime
        .clone()
        .list_pod_sandbox(request)
        .await?
        .into_inner()
        .items
        .len())
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_and_remove_may_be_repeated_and_unknown_ids_are_fine() {
    world::test(async |w| {
        let id = w.cri.run_pod(&pod::pod(&w.slot, "one")).await?;
        for _ in 0..3 {
            w.cri.stop_pod(&id).await?;
        }
        for _ in 0..3 {
            w.cri.remove_pod(&id).await?;
        }
        let unknown = "f".repeat(64);
        w.cri.stop_pod(&unknown).await?;
        w.cri.remove_pod(&unknown).await?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_in_use_is_refused_until_the_pod_is_removed() {
    world::test(async |w| {
        let config = pod::pod(&w.slot, "one");
        let first = w.cri.run_pod(&config).await?;
        let error = w.cri.run_pod(&config).await.expect_err("the name is in use");
        ensure!(
            error.message().contains("one"),
            "the error names the pod: {error:?}"
        );
        w.remove(&first).await?;
        let second = w.cri.run_pod(&config).await?;
        ensure!(first != second, "a new pod has a new id");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostname_resolver_and_shared_memory_are_the_pods_own() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let mut config = pod::pod(&w.slot, "settings");
        config.dns_config = Some(DnsConfig {
            servers: vec!["192.0.2.53".into()],
            searches: vec!["example.org".into()],
            options: vec!["ndots:3".into()],
        });
        let running = w.run(config.clone(), &pod::idle("first", &image)).await?;
        let second = w.add(&running.pod, &config, &pod::idle("second", &image)).await?;

        ensure!(w.exec(&running.container, &["hostname"]).await?.trim() == "settings");
        let resolver = w.exec(&running.container, &["cat", "/etc/resolv.conf"]).await?;
        for line in ["nameserver 192.0.2.53", "search example.org", "options ndots:3"] {
            ensure!(
                resolver.lines().any(|l| l.trim() == line),
                "no {line:?} in {resolver:?}"
            );
        }
        w.exec(&running.container, &["sh", "-c", "echo shared > /dev/shm/word"])
            .await?;
        ensure!(w.exec(&second, &["cat", "/dev/shm/word"]).await?.trim() == "shared");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sysctls_hold_in_the_pod_only() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let mut config = pod::pod(&w.slot, "sysctl");
        let linux = config.linux.get_or_insert_default();
        linux
            .sysctls
            .insert("net.ipv4.ip_local_port_range".into(), "20000 20100".into());
        linux.sysctls.insert("kernel.shm_rmid_forced".into(), "1".into());
        let before = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
        let running = w.run(config, &pod::idle("one", &image)).await?;
        let range = w
            .exec(
                &running.container,
                &["cat", "/proc/sys/net/ipv4/ip_local_port_range"],
            )
            .await?;
        ensure!(
            range.split_whitespace().eq(["20000", "20100"]),
            "in the pod: {range:?}"
        );
        let forced = w
            .exec(&running.container, &["cat", "/proc/sys/kernel/shm_rmid_forced"])
            .await?;
        ensure!(forced.trim() == "1", "shm_rmid_forced {forced:?}");
        ensure!(
            std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")? == before,
            "on the host"
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_port_leads_to_the_pod() {
    world::test(async |w| {
        let image = w.busybox().await?;
        w.warm_up(&image).await?;
        let before = w.count()?;
        let mut config = pod::pod(&w.slot, "mapped");
        let host_port = pintle_tests::registry::free_port()?;
        config.port_mappings.push(PortMapping {
            protocol: Protocol::Tcp.into(),
            container_port: 8080,
            host_port: i32::from(host_port),
            host_ip: String::new(),
        });
        let running = w
            .run(
                config,
                &pod::shell("web", &image, "exec httpd -f -p 8080 -h /www"),
            )
            .await?;
        // The bridge's own address is one of the host's.
        let page = fetch(&format!("{}0.1:{host_port}", w.slot.subnet_prefix()))?;
        ensure!(page.contains("served by busybox"), "{page:?}");
        w.remove(&running.pod).await?;
        w.assert_nothing_left(&before).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_on_the_hosts_network_sees_its_links_and_reports_no_address() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let config = pod::on_host_network(pod::pod(&w.slot, "node"));
        let container = pod::container_on_host_network(pod::idle("one", &image));
        let running = w.run(config, &container).await?;
        ensure!(
            w.cri.pod_ip(&running.pod).await?.is_empty(),
            "the address is the kubelet's affair"
        );
        let own = std::fs::read_link("/proc/self/ns/net")?;
        let inside = w
            .exec(&running.container, &["readlink", "/proc/self/ns/net"])
            .await?;
        ensure!(
            inside.trim() == own.to_string_lossy(),
            "{inside} is not {}",
            own.display()
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_running_pod_leaves_nothing() {
    world::test(async |w| {
        let image = w.busybox().await?;
        w.warm_up(&image).await?;
        let before = w.count()?;
        let running = w
            .run(pod::pod(&w.slot, "busy"), &pod::idle("one", &image))
            .await?;
        w.add(
            &running.pod,
            &running.pod_config,
            &pod::shell("deaf", &image, "trap '' TERM; sleep 600"),
        )
        .await?;
        let created = w
            .cri
            .create(&running.pod, &running.pod_config, &pod::idle("created", &image))
            .await?;
        ensure!(
            !host::bridge_ports(&w.slot.bridge()).is_empty(),
            "the pod's link is on the bridge"
        );

        w.cri.remove_pod(&running.pod).await?;
        let error = w
            .cri
            .status(&created)
            .await
            .expect_err("the pod's containers went with it");
        ensure!(error.code() == Code::NotFound, "{error:?}");
        w.assert_nothing_left(&before).await?;
        ensure!(running.log.exists(), "the log is the kubelet's to remove");
        Ok(())
    })
    .await;
}
