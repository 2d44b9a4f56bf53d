//! The demo: a pod from its image to its removal, each step said and shown. `hack/demo` builds and calls it.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::{StatusRequest, VersionRequest};
use pintle_tests::world::{Running, World};
use pintle_tests::{host, http, image, pod, server::Setup, wait};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pintle-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        // Whichever ends first: the world is dropped, and with it goes all that the demo made.
        tokio::select! {
            result = demo() => result,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            _ = terminate.recv() => anyhow::bail!("terminated"),
        }
    })
}

fn step(text: &str) {
    println!("\n\x1b[1m-- {text}\x1b[0m");
}

fn show(text: &str) {
    for line in text.trim_end().lines() {
        println!("   {line}");
    }
}

async fn demo() -> Result<()> {
    step("Start a registry on loopback and pintled, with folders, socket, bridge and cgroup of their own");
    let world = World::new(Setup::from_env()?).await?;
    let result = steps(&world).await;
    if result.is_err() {
        eprintln!("--- the daemon's log:\n{}", world.server.log_tail(40));
    }
    result?;
    step("Stop pintled and the registry, and remove their folders");
    drop(world);
    println!("\nDone. Nothing is left but the build.");
    Ok(())
}

async fn steps(world: &World) -> Result<()> {
    introduce(world).await?;
    let reference = pull(world).await?;
    let running = start(world, &reference).await?;
    look(world, &running).await?;
    remove(world, &running, &reference).await
}

async fn introduce(world: &World) -> Result<()> {
    let version = world
        .cri
        .runtime
        .clone()
        .version(VersionRequest::default())
        .await?
        .into_inner();
    show(&format!("registry   http://{}", world.registry.host()));
    show(&format!("socket     unix://{}", world.server.socket().display()));
    show(&format!(
        "runtime    {} {}, CRI {}",
        version.runtime_name, version.runtime_version, version.runtime_api_version
    ));
    let status = world
        .cri
        .runtime
        .clone()
        .status(StatusRequest::default())
        .await?
        .into_inner();
    for condition in status.status.context("a status")?.conditions {
        show(&format!("{:<15} {}", condition.r#type, condition.status));
    }
    Ok(())
}

async fn pull(world: &World) -> Result<String> {
    step("Make an image from Debian's busybox, push it to the registry, and pull it (crictl pull)");
    let reference = world
        .registry
        .push(&image::busybox()?, "demo/busybox", "latest")?;
    let id = world.cri.pull(&reference).await.context("PullImage")?;
    show(&format!("{reference}\n{id}"));
    Ok(reference)
}

async fn start(world: &World, reference: &str) -> Result<Running> {
    step("Run a pod with a web server in it (crictl runp, create, start)");
    let config = pod::pod(&world.slot, "demo");
    let script = "httpd -p 8080 -h /www; echo \"hello from $(hostname)\"; trap 'echo bye; exit 0' TERM; sleep 86400 & wait";
    let running = world.run(config, &pod::shell("web", reference, script)).await?;
    show(&format!(
        "pod        {}\ncontainer  {}",
        running.pod, running.container
    ));
    Ok(running)
}

async fn look(world: &World, running: &Running) -> Result<()> {
    step("Its log (crictl logs)");
    wait::until("the first line of the log", wait::PATIENCE, || {
        running.lines().is_ok_and(|l| !l.is_empty())
    })?;
    show(&std::fs::read_to_string(&running.log)?);

    step("Its address, and what it serves there");
    let ip = world.cri.pod_ip(&running.pod).await?;
    let page = http::request(&format!("{ip}:8080"), "GET", "/index.html", "", b"")?;
    ensure!(page.status == 200, "the web server answered {}", page.status);
    show(&format!(
        "GET http://{ip}:8080/index.html: {}",
        String::from_utf8_lossy(&page.body)
    ));

    step("A command in it (crictl exec -s)");
    show(&world.exec(&running.container, &["ps"]).await?);

    step("What the host runs for it: the container's own processes, one small monitor, and no pause process");
    let mut pids = host::pids_naming(&world.slot.state());
    pids.extend(host::pids_in_cgroup(&world.slot.cgroup()));
    pids.sort_unstable();
    pids.dedup();
    for pid in pids
        .into_iter()
        .filter(|pid| world.server.pid().is_ok_and(|daemon| daemon != *pid))
    {
        let line: String = host::cmdline(pid).chars().take(90).collect();
        show(&format!("{pid:>8} {line}"));
    }
    let overlays = host::mounts("self")?
        .into_iter()
        .filter(|m| m.fs_type == "overlay");
    let ours = overlays
        .filter(|m| m.options.contains(&world.slot.root().display().to_string()))
        .count();
    show(&format!("overlay mounts that the host sees: {ours}"));
    Ok(())
}

async fn remove(world: &World, running: &Running, reference: &str) -> Result<()> {
    step("Stop and remove it (crictl stop, rm, stopp, rmp, rmi)");
    world
        .cri
        .stop(&running.container, 10)
        .await
        .context("StopContainer")?;
    let status = world.cri.status(&running.container).await?;
    show(&format!("exit code  {} ({})", status.exit_code, status.reason));
    world
        .cri
        .remove(&running.container)
        .await
        .context("RemoveContainer")?;
    world.remove(&running.pod).await?;
    world.cri.remove_image(reference).await.context("RemoveImage")?;
    let (pods, images) = (world.cri.pods().await?.len(), world.cri.image_list().await?.len());
    show(&format!("pods       {pods}\nimages     {images}"));
    ensure!(
        host::bridge_ports(&world.slot.bridge()).is_empty(),
        "a link is left on the bridge"
    );
    ensure!(
        host::cgroups_below(&world.slot.cgroup())?.is_empty(),
        "a cgroup is left"
    );
    Ok(())
}
