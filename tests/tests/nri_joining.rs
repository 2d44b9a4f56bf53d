//! How plugins of the Node Resource Interface join: late, installed, of an older kind, or not at all.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::ensure;
use pintle_tests::check::equal;
use pintle_tests::nri::script::{but, socket, test, yes};
use pintle_tests::nri::wire::Configured;
use pintle_tests::nri::{Answer, Asked, Plugin};
use pintle_tests::{pod, wait};

#[tokio::test(flavor = "multi_thread")]
async fn a_late_plugin_learns_of_everything_once() {
    test("", async |w| {
        let image = w.busybox().await?;
        let _there = Plugin::connect(&socket(&w.slot), "00", "there", yes).await?;
        let config = pod::pod(&w.slot, "busy");
        let pod = w.cri.run_pod(&config).await?;
        let before = w.add(&pod, &config, &pod::idle("before", &image)).await?;
        for round in 0..3 {
            // Containers come and go while plugins join.
            let making = {
                let (cri, pod, config, image) = (w.cri.clone(), pod.clone(), config.clone(), image.clone());
                tokio::spawn(async move {
                    let mut ids = Vec::new();
                    for number in 0..10 {
                        let name = format!("round-{round}-{number}");
                        ids.push(cri.create(&pod, &config, &pod::idle(&name, &image)).await?);
                    }
                    anyhow::Ok(ids)
                })
            };
            let mut late = Vec::new();
            for number in 0..4 {
                let slowly = but("Synchronize", || {
                    Answer::After(Box::pin(tokio::time::sleep(std::time::Duration::from_millis(20))))
                });
                late.push(Plugin::connect(&socket(&w.slot), "50", &format!("late-{number}"), slowly).await?);
            }
            let made = making.await??;
            for plugin in &late {
                for id in made.iter().chain([&before]) {
                    let given = plugin.given()?.iter().filter(|other| *other == id).count();
                    let methods = plugin.methods_about(id);
                    let told = methods.iter().filter(|m| *m == "CreateContainer").count();
                    ensure!(given + told == 1, "given {given} times, told {told} times");
                }
                ensure!(plugin.given()?.contains(&pod));
            }
            for id in &made {
                w.cri.remove(id).await?;
            }
        }
        w.remove(&pod).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn older_plugins_hear_of_events_in_the_old_way() {
    test("", async |w| {
        let image = w.busybox().await?;
        let script = |asked: &Asked| match asked.method.as_str() {
            "Configure" | "Synchronize" | "StateChange" | "CreateContainer" | "StopContainer" => Answer::Yes,
            _ => Answer::Unknown,
        };
        let plugin = Plugin::connect(&socket(&w.slot), "10", "old", script).await?;
        let running = w.run(pod::pod(&w.slot, "old"), &pod::idle("old", &image)).await?;
        w.remove(&running.pod).await?;
        let changes = plugin.methods_about(&running.pod);
        let changes = changes.iter().filter(|m| *m == "StateChange").count();
        equal("of the pod", &changes, &3)?;
        // only those that it asks for
        let created = but("Configure", || Answer::with(&Configured { events: 1 << 3 }));
        let choosy = Plugin::connect(&socket(&w.slot), "11", "choosy", created).await?;
        let running = w.run(pod::pod(&w.slot, "old"), &pod::idle("old", &image)).await?;
        equal(
            "chosen",
            &choosy.methods_about(&running.container),
            &["CreateContainer"],
        )?;
        ensure!(choosy.methods_about(&running.pod).is_empty());
        w.remove(&running.pod).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_that_are_not_what_they_say_do_not_get_in() {
    test("plugin_registration_timeout = \"300ms\"", async |w| {
        for (index, name) in [("1", "a"), ("x1", "a"), ("10", ""), ("10", "a/b")] {
            let joined = Plugin::begin(&socket(&w.slot), index, name, yes).await;
            ensure!(joined.is_err(), "{index} {name}");
        }
        let unknown = but("Configure", || Answer::with(&Configured { events: 1 << 20 }));
        let plugin = Plugin::begin(&socket(&w.slot), "10", "unknown", unknown).await?;
        plugin.wait_gone().await?;
        let silent = but("Configure", || Answer::Silence);
        let plugin = Plugin::begin(&socket(&w.slot), "10", "silent", silent).await?;
        plugin.wait_gone().await?;
        // and one that says nothing at all
        let mute = tokio::net::UnixStream::connect(socket(&w.slot)).await?;
        wait::until_some("the mute one to be cut off", wait::PATIENCE, || async {
            let ready = mute.ready(tokio::io::Interest::READABLE).await.ok()?;
            ready.is_read_closed().then_some(())
        })
        .await?;
        let good = Plugin::connect(&socket(&w.slot), "10", "good", yes).await?;
        let again = good.call("RegisterPlugin", &Configured::default()).await;
        ensure!(again.is_err_and(|error| error.to_string().contains("has registered")));
        let image = w.busybox().await?;
        w.output(&pod::shell("fine", &image, "true")).await?;
        equal(
            "asked",
            &good
                .asked()
                .iter()
                .filter(|a| a.method == "RunPodSandbox")
                .count(),
            &1,
        )?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn installed_plugins_start_and_end_with_the_daemon() {
    test("", async |w| {
        let image = w.busybox().await?;
        let (plugins, conf) = (w.slot.root().join("nri-plugins"), w.slot.root().join("nri-conf"));
        fs::create_dir_all(&plugins)?;
        fs::create_dir_all(&conf)?;
        let log = w.slot.root().join("nri.log");
        fs::write(conf.join("recorder.conf"), log.display().to_string())?;
        // The program's socket is its standard input, a runtime's the descriptor that it names.
        let program = plugins.join("10-recorder");
        let script = format!(
            "#!/bin/sh\nexec {} <&$NRI_PLUGIN_SOCKET\n",
            env!("CARGO_BIN_EXE_pintle-nri-plugin")
        );
        fs::write(&program, script)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        // One that can't be started is no reason to do without the others.
        fs::write(plugins.join("20-broken"), "#!/nonexistent\n")?;
        fs::set_permissions(plugins.join("20-broken"), fs::Permissions::from_mode(0o755))?;
        w.restart().await?;
        let running = w
            .run(pod::pod(&w.slot, "installed"), &pod::idle("installed", &image))
            .await?;
        let told = fs::read_to_string(&log)?;
        let told: Vec<_> = told.lines().take(4).collect();
        equal(
            "told",
            &told,
            &["Configure", "Synchronize", "RunPodSandbox", "CreateContainer"],
        )?;
        w.restart().await?;
        let told = fs::read_to_string(&log)?;
        equal("joined", &told.lines().filter(|l| *l == "Configure").count(), &2)?;
        w.remove(&running.pod).await?;
        ensure!(fs::read_to_string(&log)?.ends_with("RemovePodSandbox\n"));
        Ok(())
    })
    .await;
}
