//! Mounts that are more than a bind: read-only all the way down, and with options of their own.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use k8s_cri::v1::{ContainerConfig, CreateContainerResponse, PodSandboxConfig, StatusRequest};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pintle_tests::world::{self, World};
use pintle_tests::{check, pod};
use prost::Message;
use tonic::codegen::http::uri::PathAndQuery;
use tonic_prost::ProstCodec;

/// `Mount` with the field that the client's version of the API doesn't have yet.
#[derive(Clone, PartialEq, Message)]
struct NewMount {
    #[prost(string, tag = "1")]
    container_path: String,
    #[prost(string, tag = "2")]
    host_path: String,
    #[prost(string, repeated, tag = "11")]
    mount_options: Vec<String>,
}

/// What is appended to a `ContainerConfig`; fields that are repeated add up.
#[derive(Clone, PartialEq, Message)]
struct MoreMounts {
    #[prost(message, repeated, tag = "7")]
    mounts: Vec<NewMount>,
}

/// `CreateContainerRequest` with configurations that are encoded already.
#[derive(Clone, PartialEq, Message)]
struct Create {
    #[prost(string, tag = "1")]
    pod: String,
    #[prost(bytes = "vec", tag = "2")]
    config: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    sandbox_config: Vec<u8>,
}

async fn create(
    w: &World,
    pod: &str,
    pod_config: &PodSandboxConfig,
    config: &ContainerConfig,
    mount: NewMount,
) -> Result<String> {
    let mut encoded = config.encode_to_vec();
    MoreMounts { mounts: vec![mount] }.encode(&mut encoded)?;
    let request = Create {
        pod: pod.to_owned(),
        config: encoded,
        sandbox_config: pod_config.encode_to_vec(),
    };
    let mut client = tonic::client::Grpc::new(w.cri.channel.clone());
    client.ready().await?;
    let path = PathAndQuery::from_static("/runtime.v1.RuntimeService/CreateContainer");
    let codec: ProstCodec<Create, CreateContainerResponse> = ProstCodec::default();
    let answer = client.unary(tonic::Request::new(request), path, codec).await?;
    Ok(answer.into_inner().container_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn mount_options_hold_inside_and_unknown_ones_are_refused() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let folder = w.slot.root().join("volume");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("program"), "#!/bin/sh\necho ran\n")?;
        fs::set_permissions(
            folder.join("program"),
            std::os::unix::fs::PermissionsExt::from_mode(0o4755),
        )?;
        let script = "/plain/program; /opt/program 2>/dev/null || echo not-executable; \
                      grep ' /opt ' /proc/self/mountinfo | cut -d' ' -f6";
        let path = folder.display().to_string();
        let config = pod::with_mount(pod::shell("options", &image, script), &path, "/plain", false);
        let with = |options: &[&str]| NewMount {
            container_path: "/opt".to_owned(),
            host_path: path.clone(),
            mount_options: options.iter().map(|&o| o.to_owned()).collect(),
        };
        let pod_config = pod::pod(&w.slot, "options");
        let pod = w.cri.run_pod(&pod_config).await?;
        let container = create(
            w,
            &pod,
            &pod_config,
            &config,
            with(&["noexec", "nodev", "nosuid"]),
        )
        .await?;
        w.cri.start(&container).await?;
        w.wait_exited(&container).await?;
        let log = std::path::Path::new(&pod_config.log_directory).join(&config.log_path);
        let lines = pintle_tests::logs::lines(&pintle_tests::logs::read(&log)?, "stdout");
        ensure!(lines[..2] == ["ran", "not-executable"], "{lines:?}");
        for option in ["noexec", "nodev", "nosuid"] {
            ensure!(
                lines[2].split(',').any(|word| word == option),
                "{option}: {lines:?}"
            );
        }
        w.cri.remove(&container).await?;
        let error = create(w, &pod, &pod_config, &config, with(&["suid"])).await.err();
        let error = format!("{error:?}");
        ensure!(
            error.contains("mount_options") && error.contains("suid"),
            "{error}"
        );
        w.remove(&pod).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_says_that_it_honours_options_and_recursive_read_only() {
    world::test(async |w| {
        /// `StatusResponse` and `RuntimeFeatures`, as far as they are newer than the client.
        #[derive(Clone, PartialEq, Message)]
        struct Status {
            #[prost(message, optional, tag = "4")]
            features: Option<Features>,
        }
        #[derive(Clone, PartialEq, Message)]
        struct Features {
            #[prost(bool, tag = "3")]
            mount_options: bool,
        }
        let mut client = tonic::client::Grpc::new(w.cri.channel.clone());
        client.ready().await?;
        let path = PathAndQuery::from_static("/runtime.v1.RuntimeService/Status");
        let codec: ProstCodec<StatusRequest, Status> = ProstCodec::default();
        let answer = client
            .unary(tonic::Request::new(StatusRequest::default()), path, codec)
            .await?;
        ensure!(answer.into_inner().features.is_some_and(|f| f.mount_options));
        let status = w
            .cri
            .runtime
            .clone()
            .status(StatusRequest::default())
            .await?
            .into_inner();
        let all = status
            .runtime_handlers
            .iter()
            .all(|h| h.features.is_some_and(|f| f.recursive_read_only_mounts));
        ensure!(all, "{:?}", status.runtime_handlers);
        Ok(())
    })
    .await;
}

/// A tmpfs that goes with the test, in the mount namespace that the daemon is in as well.
struct Submount(std::path::PathBuf);

impl Submount {
    fn new(path: std::path::PathBuf) -> Result<Self> {
        fs::create_dir_all(&path)?;
        mount(
            Some("tmpfs"),
            &path,
            Some("tmpfs"),
            MsFlags::empty(),
            None::<&str>,
        )
        .context("mount tmpfs")?;
        Ok(Self(path))
    }
}

impl Drop for Submount {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recursive_read_only_reaches_what_is_mounted_below() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let folder = w.slot.root().join("volume");
        let below = Submount::new(folder.join("below"))?;
        let path = folder.display().to_string();
        let script =
            "for d in /ro /ro/below /rro /rro/below; do touch $d/x 2>/dev/null && echo $d; done; true";
        let config = pod::with_mount(pod::shell("rro", &image, script), &path, "/ro", true);
        let mut config = pod::with_mount(config, &path, "/rro", true);
        config.mounts[1].recursive_read_only = true;
        check::equal("writable", &w.output(&config).await?, &["/ro/below"])?;
        ensure!(below.0.join("x").exists());

        // it goes with read-only alone
        config.mounts[1].readonly = false;
        let pod_config = pod::pod(&w.slot, "refused");
        let pod = w.cri.run_pod(&pod_config).await?;
        let answer = w.cri.create(&pod, &pod_config, &config).await;
        check::refused("rro", answer, "recursive_read_only")?;
        w.remove(&pod).await?;
        Ok(())
    })
    .await;
}
