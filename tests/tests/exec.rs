//! ExecSync: output, exit codes, time limits, size, users and races with the container's end.

use std::fs;

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::Int64Value;
use pintle_tests::world::{self, Running, World};
use pintle_tests::{cgroups, host, pod, wait};
use tonic::Code;

async fn idle(w: &World) -> Result<Running> {
    let image = w.busybox().await?;
    w.run(pod::pod(&w.slot, "exec"), &pod::idle("one", &image)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn both_streams_and_the_exit_code_come_back() {
    world::test(async |w| {
        let running = idle(w).await?;
        let script = "printf out; printf err >&2; exit 5";
        let answer = w.cri.exec(&running.container, &["sh", "-c", script], 10).await?;
        ensure!(
            answer.stdout == b"out" && answer.stderr == b"err" && answer.exit_code == 5,
            "{answer:?}"
        );
        let answer = w
            .cri
            .exec(&running.container, &["sh", "-c", "kill -9 $$"], 10)
            .await?;
        ensure!(answer.exit_code == 137, "killed by a signal: {answer:?}");
        let answer = w.cri.exec(&running.container, &["cat"], 10).await?;
        ensure!(
            answer.exit_code == 0 && answer.stdout.is_empty(),
            "standard input is empty: {answer:?}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_past_its_limit_is_ended_with_all_it_started() {
    world::test(async |w| {
        let running = idle(w).await?;
        let script = "sleep 4321 & sleep 4321";
        let error = w
            .cri
            .exec(&running.container, &["sh", "-c", script], 1)
            .await
            .expect_err("past its limit");
        ensure!(error.code() == Code::DeadlineExceeded, "{error:?}");
        wait::until_some("the exec's processes to end", wait::PATIENCE, || async {
            let found = w
                .exec(
                    &running.container,
                    &["sh", "-c", "ps | grep -c '[s]leep 4321' || true"],
                )
                .await;
            found.ok().filter(|count| count.trim() == "0")
        })
        .await?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_keeps_the_output_open_does_not_hold_the_answer() {
    world::test(async |w| {
        let running = idle(w).await?;
        let script = "sleep 600 & echo started";
        let answer = w.cri.exec(&running.container, &["sh", "-c", script], 20).await?;
        ensure!(
            answer.stdout == b"started\n" && answer.exit_code == 0,
            "{answer:?}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn much_output_comes_back_whole() {
    world::test(async |w| {
        let running = idle(w).await?;
        let script = "dd if=/dev/zero bs=64k count=48 2>/dev/null | tr '\\0' x";
        let answer = w.cri.exec(&running.container, &["sh", "-c", script], 60).await?;
        ensure!(answer.stdout.len() == 48 << 16, "{} bytes", answer.stdout.len());
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_as_the_container_does() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let mut config = pod::idle("user", &image);
        pod::security(&mut config).run_as_user = Some(Int64Value { value: 1000 });
        pod::security(&mut config).no_new_privs = true;
        config.working_dir = "/tmp".into();
        config.envs.push(k8s_cri::v1::KeyValue { key: "WORD".into(), value: "kept".into() });
        let running = w.run(pod::pod(&w.slot, "user"), &config).await?;
        let script = "id -u; pwd; echo $WORD; grep -E 'NoNewPrivs|Seccomp:' /proc/self/status | tr -d '\\t'";
        let lines = w.exec(&running.container, &["sh", "-c", script]).await?;
        ensure!(lines.lines().eq(["1000", "/tmp", "kept", "NoNewPrivs:1", "Seccomp:2"]), "{lines:?}");
        // Same namespaces as the container's own first process.
        let same = "for n in mnt pid net ipc uts; do [ $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) ] || echo $n; done";
        let differing = w.exec(&running.container, &["sh", "-c", same]).await?;
        ensure!(differing.is_empty(), "other namespaces: {differing}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_the_right_codes() {
    world::test(async |w| {
        let running = idle(w).await?;
        let error = w
            .cri
            .exec(&"f".repeat(64), &["true"], 5)
            .await
            .expect_err("an unknown container");
        ensure!(error.code() == Code::NotFound, "{error:?}");
        // Either way of telling is in use: an error, or the shell's exit code.
        match w.cri.exec(&running.container, &["/absent"], 5).await {
            Ok(answer) => ensure!(answer.exit_code == 127 || answer.exit_code == 126, "{answer:?}"),
            Err(error) => ensure!(error.message().contains("/absent"), "{error:?}"),
        }
        w.cri
            .exec(&running.container, &[], 5)
            .await
            .expect_err("no command");
        w.cri.stop(&running.container, 0).await?;
        w.cri
            .exec(&running.container, &["true"], 5)
            .await
            .expect_err("a container that has ended");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_do_not_mix() {
    world::test(async |w| {
        let running = idle(w).await?;
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..24 {
            let (cri, id) = (w.cri.clone(), running.container.clone());
            tasks.spawn(async move {
                let script = format!("echo {number}; exit {number}");
                (number, cri.exec(&id, &["sh", "-c", &script], 30).await)
            });
        }
        while let Some(done) = tasks.join_next().await {
            let (number, answer) = done?;
            let answer = answer?;
            ensure!(
                answer.exit_code == number && answer.stdout == format!("{number}\n").as_bytes(),
                "{number}: {answer:?}"
            );
        }
        Ok(())
    })
    .await;
}

/// On cgroup2 a group that hands controllers down takes in no process itself: one comes to lie beside the container's init.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_has_divided_its_cgroup_can_be_entered() {
    world::test(async |w| {
        let running = idle(w).await?;
        let group = cgroups::of_container(&w.slot.cgroup(), &running.container);
        let all = host::mounts("self")?;
        let tree = all.into_iter().find(|mount| mount.fs_type == "cgroup2");
        let mut folder = tree.context("a cgroup2 tree")?.target;
        let controllers = fs::read_to_string(folder.join("cgroup.controllers"))?;
        let controller = format!(
            "+{}",
            controllers.split(' ').next_back().context("a controller")?.trim()
        );
        // A daemon on v1 hands nothing down in the tree beside; all others have done so already.
        for part in group.trim_start_matches('/').split('/') {
            fs::write(folder.join("cgroup.subtree_control"), &controller)?;
            folder.push(part);
        }
        let inner = folder.join("inner");
        fs::create_dir(&inner)?;
        // One that is being born while the others are moved comes to lie in the group itself.
        wait::until("the container's processes to be moved", wait::PATIENCE, || {
            let inside = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            for pid in inside.lines() {
                let _ = fs::write(inner.join("cgroup.procs"), pid);
            }
            fs::write(folder.join("cgroup.subtree_control"), &controller).is_ok()
        })?;
        let script = ["sh", "-c", "grep ^0:: /proc/self/cgroup"];
        let place = w.exec(&running.container, &script).await?;
        ensure!(place.trim().ends_with("/inner"), "{place}");
        w.remove(&running.pod).await?;
        ensure!(!folder.exists(), "what the container has made goes with it");
        Ok(())
    })
    .await;
}
