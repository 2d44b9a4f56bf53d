//! The two requests by which cAdvisor, within kubelet, learns of containers.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::{NamespaceMode, PodSandboxConfig};
use pintle_tests::server::{Kind, Setup};
use pintle_tests::world::{self, World};
use pintle_tests::{check, host, http, pod, wait};
use serde_json::Value;

/// A socket of the test's own, in a folder that goes with it.
struct Socket {
    folder: PathBuf,
}

impl Socket {
    fn new() -> Socket {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        Socket {
            folder: PathBuf::from(format!(
                "/run/pintle-test-inspection-{}-{serial}",
                std::process::id()
            )),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("crio.sock")
    }

    fn setup(&self) -> Result<Setup> {
        let mut setup = Setup::from_env()?;
        setup.extra_config = format!("[inspection]\nsocket = {:?}\n", self.path());
        Ok(setup)
    }

    /// The answer to a request, which must be found.
    fn get(&self, path: &str) -> Result<Value> {
        let answer = http::request_unix(&self.path(), "GET", path)?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        ensure!(answer.status == 200, "GET {path}: {} {text}", answer.status);
        ensure!(answer.header("content-type") == Some("application/json"));
        serde_json::from_str(&text).with_context(|| format!("GET {path}: {text}"))
    }

    fn entry(&self, id: &str) -> Result<Value> {
        self.get(&format!("/containers/{id}"))
    }

    fn status(&self, method: &str, path: &str) -> Result<u16> {
        Ok(http::request_unix(&self.path(), method, path)?.status)
    }

    /// Waits until a pod's entry names this process.
    async fn names(&self, pod: &str, pid: i64) -> Result<()> {
        wait::until_some("the pod's process to be named", wait::PATIENCE, || async {
            (self.entry(pod).ok()?["pid"] == pid).then_some(())
        })
        .await
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

async fn test(body: impl AsyncFnOnce(&mut World, &Socket) -> Result<()>) {
    let socket = Socket::new();
    let setup = socket.setup().expect("the daemon to test");
    if setup.kind != Kind::Pintle {
        return; // an API that the others haven't
    }
    world::test_with(setup, async |w| body(w, &socket).await).await;
}

/// The base names of all cgroups below the slot's; those of scopes without their end, which only systemd's have.
fn cgroups(w: &World) -> Result<BTreeSet<String>> {
    let all = host::cgroups_below(&w.slot.cgroup())?;
    Ok(all
        .iter()
        .filter_map(|path| Some(path.file_name()?.to_str()?.trim_end_matches(".scope").to_owned()))
        .collect())
}

/// The ids that a kubelet reads from the cgroups' names, to find what cAdvisor has of them.
fn kubelets(w: &World) -> Result<BTreeSet<String>> {
    let all = host::cgroups_below(&w.slot.cgroup())?;
    let names = all.iter().filter_map(|path| path.file_name()?.to_str());
    let ids = names.map(|name| match name.strip_suffix(".scope") {
        Some(scope) => scope.rsplit('-').next().unwrap_or(scope),
        None => name,
    });
    Ok(ids.map(str::to_owned).collect())
}

/// The inode of the first cgroup of that name.
fn inode(w: &World, name: &str) -> Option<u64> {
    let all = host::cgroups_below(&w.slot.cgroup()).ok()?;
    let scope = format!("{name}.scope");
    let path = all
        .iter()
        .find(|path| path.ends_with(name) || path.ends_with(&scope))?;
    Some(fs::metadata(path).ok()?.ino())
}

fn netns(process: &str) -> Result<PathBuf> {
    Ok(fs::read_link(format!("/proc/{process}/ns/net"))?)
}

/// Bytes that the interface eth0 of a process has received, read as cAdvisor reads them.
fn received(pid: i64) -> Result<u64> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/dev"))?;
    let line = table.lines().find_map(|line| line.trim().strip_prefix("eth0:"));
    Ok(line
        .context("eth0")?
        .split_whitespace()
        .next()
        .context("bytes")?
        .parse()?)
}

fn kubelet_labels(mut config: PodSandboxConfig) -> PodSandboxConfig {
    let of_kubelet = [("pod.name", "web"), ("pod.namespace", "test"), ("pod.uid", "u1")];
    for (key, value) in of_kubelet {
        config
            .labels
            .insert(format!("io.kubernetes.{key}"), value.to_owned());
    }
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn tells_every_field_that_cadvisor_reads() {
    test(async |w, socket| {
        let info = socket.get("/info")?;
        check::equal("storage_driver", &info["storage_driver"], &"pintle")?;
        let root = info["storage_root"].as_str().context("storage_root")?;
        ensure!(Path::new(root).is_dir(), "{root}");

        let image = w.busybox().await?;
        let pod_config = kubelet_labels(pod::pod(&w.slot, "web"));
        let empty = w.cri.run_pod(&pod_config).await?;
        let entry = socket.entry(&empty)?;
        check::equal("pid without containers", &entry["pid"], &0)?;
        ensure!(
            cgroups(w)?.contains(&format!("crio-{empty}")),
            "{:?}",
            cgroups(w)?
        );

        let mut config = pod::idle("main", &image);
        config
            .labels
            .insert("io.kubernetes.container.name".into(), "main".into());
        config
            .annotations
            .insert("io.kubernetes.container.restartCount".into(), "2".into());
        let container = w.add(&empty, &pod_config, &config).await?;
        ensure!(cgroups(w)?.contains(&format!("crio-{container}")));
        ensure!(
            [&empty, &container]
                .iter()
                .all(|id| kubelets(w).is_ok_and(|ids| ids.contains(*id))),
            "{:?}",
            kubelets(w)?
        );
        let ip = w.cri.pod_ip(&empty).await?;

        let entry = socket.entry(&container)?;
        let pid = entry["pid"].as_i64().context("pid")?;
        let status = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        ensure!(status.contains(&container), "{status}");
        let log = format!("{}/{}", pod_config.log_directory, config.log_path);
        for (field, expected) in [
            (
                "name",
                Value::from(format!("k8s_main_web_test_{}_0", uid(&pod_config))),
            ),
            ("image", image.clone().into()),
            ("log_path", log.into()),
            ("sandbox", empty.clone().into()),
            ("ip_address", ip.clone().into()),
            ("ip_addresses", vec![ip.clone()].into()),
        ] {
            check::equal(field, &entry[field], &expected)?;
        }
        let created = w.cri.status(&container).await?.created_at;
        check::equal("created_time", &entry["created_time"], &created)?;
        check::equal("label", &entry["labels"]["io.kubernetes.container.name"], &"main")?;
        let restarts = &entry["annotations"]["io.kubernetes.container.restartCount"];
        check::equal("restarts", restarts, &"2")?;
        ensure!(Path::new(entry["root"].as_str().context("root")?).is_dir());

        let entry = socket.entry(&empty)?;
        check::equal("pod's pid", &entry["pid"], &pid)?;
        check::equal("POD", &entry["labels"]["io.kubernetes.container.name"], &"POD")?;
        check::equal("pod label", &entry["labels"]["io.kubernetes.pod.name"], &"web")?;
        let name = format!("k8s_POD_web_test_{}_0", uid(&pod_config));
        check::equal("pod's name", &entry["name"], &name.as_str())?;
        check::equal("pod's address", &entry["ip_address"], &ip.as_str())?;
        Ok(())
    })
    .await;
}

fn uid(config: &PodSandboxConfig) -> String {
    config
        .metadata
        .as_ref()
        .map(|m| m.uid.clone())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn names_a_living_process_of_the_pods_network() {
    test(async |w, socket| {
        let image = w.busybox().await?;
        let pod_config = pod::pod(&w.slot, "web");
        let first = w.run(pod_config.clone(), &pod::idle("first", &image)).await?;
        let second = w
            .add(&first.pod, &pod_config, &pod::idle("second", &image))
            .await?;
        let pids = [&first.container, &second].map(|id| socket.entry(id).map(|e| e["pid"].as_i64()));
        let [Ok(Some(one)), Ok(Some(two))] = pids else {
            anyhow::bail!("pids: {pids:?}")
        };
        socket.names(&first.pod, one).await?;
        let before = received(one)?;
        let gateway = format!("{}0.1", w.slot.subnet_prefix());
        w.exec(&first.container, &["ping", "-c", "3", &gateway]).await?;
        ensure!(received(one)? > before, "the pod's own traffic is counted");

        // cAdvisor keeps the process that it was told, until it finds the pod's cgroup anew.
        let name = format!("crio-{}", first.pod);
        let was = inode(w, &name).context("the pod's cgroup")?;
        w.cri.stop(&first.container, 10).await?;
        socket.names(&first.pod, two).await?;
        wait::until("the pod's cgroup to be another one", wait::PATIENCE, || {
            inode(w, &name).is_some_and(|is| is != was)
        })?;
        ensure!(netns(&two.to_string())? != netns("self")?);

        // The one that ran longer stays, whatever else comes and goes.
        let was = inode(w, &name);
        let third = w
            .add(&first.pod, &pod_config, &pod::idle("third", &image))
            .await?;
        w.cri.stop(&third, 10).await?;
        socket.names(&first.pod, two).await?;
        ensure!(inode(w, &name) == was);

        w.restart().await?;
        socket.names(&first.pod, two).await?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn knows_pods_on_the_hosts_network_and_with_a_process_of_their_own() {
    test(async |w, socket| {
        let image = w.busybox().await?;
        let on_host = pod::on_host_network(pod::pod(&w.slot, "hosted"));
        let config = pod::container_on_host_network(pod::idle("main", &image));
        let running = w.run(on_host, &config).await?;
        let entry = socket.entry(&running.pod)?;
        let pid = entry["pid"].as_i64().context("pid")?;
        ensure!(pid > 0 && netns(&pid.to_string())? == netns("self")?);
        check::equal("addresses", &entry["ip_addresses"], &Value::Array(Vec::new()))?;
        check::equal("address", &entry["ip_address"], &"")?;

        let mut shared = pod::pod(&w.slot, "shared");
        let security = shared.linux.as_mut().and_then(|l| l.security_context.as_mut());
        let options = security
            .and_then(|s| s.namespace_options.as_mut())
            .context("options")?;
        options.pid = NamespaceMode::Pod.into();
        let pod = w.cri.run_pod(&shared).await?;
        let pid = socket.entry(&pod)?["pid"].as_i64().context("pid")?;
        ensure!(pid > 0 && netns(&pid.to_string())? != netns("self")?);
        // That process was there before any container, and stays.
        let mut inside = pod::idle("main", &image);
        let options = pod::security(&mut inside)
            .namespace_options
            .as_mut()
            .context("options")?;
        options.pid = NamespaceMode::Pod.into();
        let container = w.add(&pod, &shared, &inside).await?;
        w.cri.stop(&container, 10).await?;
        socket.names(&pod, pid).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forgets_what_is_removed_also_while_it_is_asked() {
    test(async |w, socket| {
        let image = w.busybox().await?;
        w.warm_up(&image).await?;
        let before = w.count()?;
        let running = w
            .run(pod::pod(&w.slot, "gone"), &pod::idle("main", &image))
            .await?;
        let paths = [
            format!("/containers/{}", running.pod),
            format!("/containers/{}", running.container),
        ];
        let stopping = async {
            w.cri.stop_pod(&running.pod).await?;
            check::equal("pid", &socket.entry(&running.pod)?["pid"], &0)?;
            ensure!(!cgroups(w)?.contains(&format!("crio-{}", running.pod)));
            Ok(w.cri.remove_pod(&running.pod).await?)
        };
        let (at, asked) = (socket.path(), paths.clone());
        let asking = tokio::task::spawn_blocking(move || -> Result<()> {
            // Until both are gone; each answer is one of the two.
            let mut gone = 0;
            wait::until("the pod to be forgotten", wait::PATIENCE, || {
                let answers = asked.iter().map(|path| http::request_unix(&at, "GET", path));
                let statuses: Vec<u16> = answers.map(|a| a.map_or(0, |a| a.status)).collect();
                gone = statuses.iter().filter(|status| **status == 404).count();
                statuses.iter().any(|status| !matches!(status, 200 | 404)) || gone == 2
            })?;
            ensure!(gone == 2, "an answer that is neither 200 nor 404");
            Ok(())
        });
        let (stopped, asked): (Result<()>, _) = tokio::join!(stopping, asking);
        stopped?;
        asked??;
        w.assert_nothing_left(&before).await?;

        check::equal("an unknown one", &socket.status("GET", &paths[0])?, &404)?;
        for path in [
            "/",
            "/containers/",
            "/containers/../info",
            "/containers/xyz",
            "/infos",
        ] {
            check::equal(path, &socket.status("GET", path)?, &404)?;
        }
        check::equal("POST", &socket.status("POST", "/info")?, &405)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_the_socket_of_an_installed_crio_alone() {
    let socket = Socket::new();
    fs::create_dir_all(&socket.folder).expect("a folder");
    let theirs = UnixListener::bind(socket.path()).expect("a socket");
    let inode = fs::metadata(socket.path()).expect("its inode").ino();
    let setup = socket.setup().expect("the daemon to test");
    if setup.kind == Kind::Pintle {
        world::test_with(setup, async |w| {
            // The CRI is served all the same.
            let pod = w.cri.run_pod(&pod::pod(&w.slot, "served")).await?;
            w.remove(&pod).await?;
            wait::until("a word in the log", wait::PATIENCE, || {
                w.server.log_tail(100).contains("somebody else's")
            })?;
            w.server.terminate(wait::PATIENCE)?;
            check::equal("the socket", &fs::metadata(socket.path())?.ino(), &inode)
        })
        .await;
    }
    drop(theirs);
}
