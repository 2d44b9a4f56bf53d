//! Plugins of the Node Resource Interface: events, their order, and plugins that misbehave.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use k8s_cri::v1::{ContainerState, PodSandboxState};
use pintle_tests::check::{equal, failed};
use pintle_tests::nri::script::{but, socket, test, yes};
use pintle_tests::nri::wire::{Adjustment, Created, KeyValue};
use pintle_tests::nri::{Answer, Asked, Plugin};
use pintle_tests::pod;
use tokio::sync::Semaphore;

fn variable(key: &str, value: &str) -> Answer {
    Answer::with(&Created {
        adjust: Some(Adjustment {
            env: vec![KeyValue {
                key: key.to_owned(),
                value: value.to_owned(),
            }],
            ..Adjustment::default()
        }),
        ..Created::default()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_comes_once_and_in_order() {
    test("", async |w| {
        let image = w.busybox().await?;
        let plugin = Plugin::connect(&socket(&w.slot), "10", "all", yes).await?;
        let configuration = plugin.configuration()?;
        equal("runtime", &configuration.runtime, &"pintle")?;
        equal("time limit", &configuration.request_timeout, &2000)?;

        let config = pod::pod(&w.slot, "life");
        let running = w.run(config, &pod::idle("stopped", &image)).await?;
        let failing = pod::shell("failing", &image, "exit 3");
        let failed = w.add(&running.pod, &running.pod_config, &failing).await?;
        w.wait_exited(&failed).await?;
        plugin.wait_for("StopContainer", 1).await?;
        w.cri.stop(&running.container, 10).await?;
        w.cri.remove(&running.container).await?;
        for _ in 0..2 {
            w.cri.stop_pod(&running.pod).await?;
        }
        w.cri.remove_pod(&running.pod).await?;
        w.cri.remove_pod(&running.pod).await?;

        let life = [
            "CreateContainer",
            "PostCreateContainer",
            "StartContainer",
            "PostStartContainer",
            "StopContainer",
            "RemoveContainer",
        ];
        let told = |id: &str| -> Vec<String> {
            let methods = plugin.methods_about(id);
            methods
                .into_iter()
                .filter(|m| !m.starts_with("Validate"))
                .collect()
        };
        equal("stopped", &told(&running.container), &life)?;
        let mut of_failed = told(&failed);
        // It ends when it likes.
        of_failed.sort_by_key(|method| life.iter().position(|m| m == method));
        equal("failing", &of_failed, &life)?;
        let of_pod = ["RunPodSandbox", "StopPodSandbox", "RemovePodSandbox"];
        equal("pod", &told(&running.pod), &of_pod)?;
        let asked = plugin.asked();
        let stop = asked
            .iter()
            .find(|a| a.method == "StopContainer" && a.id() == failed)
            .and_then(|a| a.about.container.clone())
            .context("no end told")?;
        equal("exit code and state", &(stop.exit_code, stop.state), &(3, 4))?;
        let run = asked.iter().find(|a| a.method == "RunPodSandbox");
        let pod = run.and_then(|a| a.about.pod.clone()).context("no pod")?;
        ensure!(
            pod.ips.len() == 1 && pod.name == "life" && pod.namespace == "test",
            "{pod:?}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_are_asked_in_their_order_and_two_can_not_set_the_same() {
    test("", async |w| {
        let image = w.busybox().await?;
        let later = Plugin::connect(&socket(&w.slot), "20", "later", yes).await?;
        let first = but("CreateContainer", || variable("WHO", "first"));
        let _first = Plugin::connect(&socket(&w.slot), "10", "first", first).await?;
        let config = pod::shell("order", &image, "echo $WHO");
        let running = w.run(pod::pod(&w.slot, "order"), &config).await?;
        w.wait_exited(&running.container).await?;
        equal("inside", &running.lines()?, &["first"])?;
        let asked = later.asked();
        let asked = asked.iter().find(|a| a.method == "CreateContainer");
        let shown = asked
            .and_then(|a| a.about.container.clone())
            .context("not asked")?;
        ensure!(shown.env.contains(&"WHO=first".to_owned()), "{:?}", shown.env);
        w.remove(&running.pod).await?;

        drop(later);
        let later = but("CreateContainer", || variable("WHO", "later"));
        let _later = Plugin::connect(&socket(&w.slot), "20", "later", later).await?;
        let pod_config = pod::pod(&w.slot, "conflict");
        let pod = w.cri.run_pod(&pod_config).await?;
        let conflict = failed(
            "conflict",
            w.cri.create(&pod, &pod_config, &config).await,
            "10-first",
        )?;
        ensure!(conflict.message().contains("20-later"), "{conflict:?}");
        ensure!(conflict.message().contains("Env \"WHO\""), "{conflict:?}");
        w.remove(&pod).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_leaves_nothing_and_the_same_again_works() {
    test("", async |w| {
        let image = w.busybox().await?;
        w.warm_up(&image).await?;
        let before = w.count()?;
        for method in ["RunPodSandbox", "CreateContainer", "StartContainer"] {
            let mut is_first = true;
            let script = but(method, move || {
                if std::mem::take(&mut is_first) {
                    Answer::No("not today".into())
                } else {
                    Answer::Yes
                }
            });
            let plugin = Plugin::connect(&socket(&w.slot), "10", "strict", script).await?;
            let config = pod::pod(&w.slot, "strict");
            let container = pod::idle("strict", &image);
            if method == "RunPodSandbox" {
                let error = failed(method, w.cri.run_pod(&config).await, "not today")?;
                ensure!(error.message().contains("10-strict"), "{error:?}");
                ensure!(w.cri.pods().await?.is_empty());
            }
            let pod = w.cri.run_pod(&config).await?;
            if method == "CreateContainer" {
                failed(method, w.cri.create(&pod, &config, &container).await, "not today")?;
                ensure!(w.cri.containers().await?.is_empty());
                plugin.wait_for("RemoveContainer", 1).await?;
            }
            let mut id = w.cri.create(&pod, &config, &container).await?;
            if method == "StartContainer" {
                failed(method, w.cri.start(&id).await, "not today")?;
                // as where a command can't be executed: kubelet makes another one, with the next attempt's number
                let status = w.cri.status(&id).await?;
                equal("state", &status.state(), &ContainerState::ContainerExited)?;
                equal(
                    "end",
                    &(status.exit_code, status.reason.as_str()),
                    &(128, "StartError"),
                )?;
                ensure!(status.message.contains("not today"), "{status:?}");
                plugin.wait_for("StopContainer", 1).await?;
                w.cri.remove(&id).await?;
                id = w.cri.create(&pod, &config, &container).await?;
            }
            w.cri.start(&id).await?;
            w.exec(&id, &["true"]).await?;
            w.remove(&pod).await?;
        }
        w.assert_nothing_left(&before).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_hangs_or_dies_is_cut_off_and_the_rest_goes_on() {
    test("plugin_request_timeout = \"300ms\"", async |w| {
        let image = w.busybox().await?;
        for method in [
            "RunPodSandbox",
            "CreateContainer",
            "StartContainer",
            "StopPodSandbox",
        ] {
            for dies in [false, true] {
                let script = but(method, move || if dies { Answer::Die } else { Answer::Silence });
                let bad = Plugin::connect(&socket(&w.slot), "10", "bad", script).await?;
                let good = Plugin::connect(&socket(&w.slot), "20", "good", yes).await?;
                let running = w
                    .run(pod::pod(&w.slot, "bad"), &pod::idle("bad", &image))
                    .await
                    .with_context(|| format!("{method}, dies: {dies}"))?;
                w.remove(&running.pod).await?;
                bad.wait_gone().await?;
                let told = good.methods_about(&running.pod);
                equal(
                    method,
                    &told,
                    &["RunPodSandbox", "StopPodSandbox", "RemovePodSandbox"],
                )?;
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_made_is_not_seen() {
    test("plugin_request_timeout = \"30s\"", async |w| {
        let image = w.busybox().await?;
        let go = Arc::new(Semaphore::new(0));
        let gate = Arc::clone(&go);
        let script = move |asked: &Asked| match asked.method.as_str() {
            "RunPodSandbox" | "CreateContainer" => {
                let gate = Arc::clone(&gate);
                Answer::After(Box::pin(async move {
                    if let Ok(permit) = gate.acquire().await {
                        permit.forget();
                    }
                }))
            }
            _ => Answer::Yes,
        };
        let plugin = Plugin::connect(&socket(&w.slot), "10", "slow", script).await?;
        let (config, container) = (pod::pod(&w.slot, "slow"), pod::idle("slow", &image));
        let (cri, wanted) = (w.cri.clone(), config.clone());
        let run = tokio::spawn(async move { cri.run_pod(&wanted).await });
        plugin.wait_for("RunPodSandbox", 1).await?;
        let pod = plugin.asked().pop().context("not asked")?.id().to_owned();
        ensure!(w.cri.pods().await?.is_empty());
        failed("status", w.cri.pod_status(&pod).await, "not found")?;
        failed(
            "create",
            w.cri.create(&pod, &config, &container).await,
            "not found",
        )?;
        go.add_permits(1);
        equal("pod", &run.await??, &pod)?;
        equal(
            "state",
            &w.cri.pod_status(&pod).await?.state(),
            &PodSandboxState::SandboxReady,
        )?;

        let (cri, wanted, of) = (w.cri.clone(), config.clone(), pod.clone());
        let create = tokio::spawn(async move { cri.create(&of, &wanted, &container).await });
        plugin.wait_for("CreateContainer", 1).await?;
        let id = plugin.asked().pop().context("not asked")?.id().to_owned();
        ensure!(w.cri.containers().await?.is_empty());
        failed("status", w.cri.status(&id).await, "not found")?;
        go.add_permits(1);
        equal("container", &create.await??, &id)?;
        w.remove(&pod).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_forbids_and_requires() {
    let settings = "[nri.default_validator]\nenable = true\nrequired_plugins = [\"guard\"]";
    test(settings, async |w| {
        let image = w.busybox().await?;
        let config = pod::pod(&w.slot, "guarded");
        let pod = w.cri.run_pod(&config).await?;
        let container = pod::idle("guarded", &image);
        failed("no guard", w.cri.create(&pod, &config, &container).await, "guard")?;
        ensure!(w.cri.containers().await?.is_empty());
        let guard = Plugin::connect(&socket(&w.slot), "90", "guard", yes).await?;
        let id = w.cri.create(&pod, &config, &container).await?;
        ensure!(
            guard
                .asked()
                .iter()
                .any(|a| a.method == "ValidateContainerAdjustment")
        );
        w.cri.remove(&id).await?;

        let reject = but("ValidateContainerAdjustment", || {
            // ValidateContainerAdjustmentResponse: reject, and the reason "unwanted"
            Answer::With(b"\x08\x01\x12\x08unwanted".to_vec())
        });
        let _reject = Plugin::connect(&socket(&w.slot), "95", "reject", reject).await?;
        let error = failed(
            "rejected",
            w.cri.create(&pod, &config, &container).await,
            "unwanted",
        )?;
        ensure!(error.message().contains("95-reject"), "{error:?}");
        w.remove(&pod).await
    })
    .await;
}
