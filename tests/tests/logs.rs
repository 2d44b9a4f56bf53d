//! Container logs: CRI's format, long lines, both streams, rotation.

use std::fs;

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::ReopenContainerLogRequest;
use pintle_tests::logs::{self, Record};
use pintle_tests::pod;
use pintle_tests::world::{self, Running, World};
use tonic::{Code, Status};

/// Runs a script to its end; the log's records.
async fn records_of(w: &World, script: &str) -> Result<Vec<Record>> {
    let image = w.busybox().await?;
    let running = w
        .run(pod::pod(&w.slot, "logs"), &pod::shell("one", &image, script))
        .await?;
    w.wait_exited(&running.container).await?;
    // Complete at the moment at which the exit is visible: no waiting here.
    running.records()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_streams_with_empty_and_unended_lines() {
    world::test(async |w| {
        let records = records_of(
            w,
            "echo one; echo; echo ' two  spaces '; echo oops >&2; printf end",
        )
        .await?;
        ensure!(
            logs::lines(&records, "stdout") == ["one", "", " two  spaces ", "end"],
            "{records:?}"
        );
        ensure!(logs::lines(&records, "stderr") == ["oops"], "{records:?}");
        let last = records
            .iter()
            .rfind(|r| r.stream == "stdout")
            .context("a last record")?;
        ensure!(last.partial, "a line without an end is partial: {last:?}");
        ensure!(records.iter().filter(|r| r.partial).count() == 1, "{records:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lines_are_cut_at_16_kib_and_lose_nothing() {
    world::test(async |w| {
        let lengths = [16_383, 16_384, 16_385, 40_000];
        let script: String = lengths
            .iter()
            .map(|n| format!("head -c {n} /dev/zero | tr '\\0' x; echo; "))
            .collect();
        let records = records_of(w, &script).await?;
        let lines: Vec<usize> = logs::lines(&records, "stdout").iter().map(String::len).collect();
        ensure!(lines == lengths, "lengths {lines:?}");
        ensure!(
            records.iter().all(|r| r.content.len() <= 16_384),
            "a record is longer than 16 KiB"
        );
        ensure!(
            records
                .iter()
                .filter(|r| r.partial)
                .all(|r| r.content.len() == 16_384),
            "cut early"
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_on_both_streams_is_neither_torn_nor_lost() {
    world::test(async |w| {
        let script = "(seq 1 20000 >&2) & seq 1 20000; wait";
        let records = records_of(w, script).await?;
        let expected: Vec<String> = (1..=20_000).map(|n| n.to_string()).collect();
        ensure!(
            logs::lines(&records, "stdout") == expected,
            "stdout has {}",
            logs::lines(&records, "stdout").len()
        );
        ensure!(
            logs::lines(&records, "stderr") == expected,
            "stderr has {}",
            logs::lines(&records, "stderr").len()
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_log_is_appended_to() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let config = pod::pod(&w.slot, "append");
        let container = pod::shell("one", &image, "echo second");
        let log = std::path::Path::new(&config.log_directory).join(&container.log_path);
        fs::create_dir_all(log.parent().context("a folder")?)?;
        fs::write(&log, "2026-01-01T00:00:00.000000000Z stdout F first\n")?;
        let running = w.run(config, &container).await?;
        w.wait_exited(&running.container).await?;
        ensure!(running.lines()? == ["first", "second"], "{:?}", running.lines()?);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_log_path_nothing_is_logged_and_nothing_fails() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let mut config = pod::pod(&w.slot, "nolog");
        config.log_directory = String::new();
        let running = w
            .run(config, &pod::shell("one", &image, "seq 1 100000; exit 4"))
            .await?;
        ensure!(w.wait_exited(&running.container).await?.exit_code == 4);
        Ok(())
    })
    .await;
}

async fn reopen(w: &World, id: &str) -> Result<(), Status> {
    let request = ReopenContainerLogRequest {
        container_id: id.to_owned(),
    };
    w.cri
        .runtime
        .clone()
        .reopen_container_log(request)
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_splits_between_records() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let script = "i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i+1)); done; echo done";
        let running = w
            .run(pod::pod(&w.slot, "rotate"), &pod::shell("one", &image, script))
            .await?;
        let mut rotated = Vec::new();
        for number in 0..5 {
            let old = running.log.with_extension(format!("log.{number}"));
            fs::rename(&running.log, &old)?;
            match reopen(w, &running.container).await {
                Ok(()) => ensure!(
                    running.log.exists(),
                    "the new file is there once the call is answered"
                ),
                // The script is done already.
                Err(_) => fs::rename(&old, &running.log)?,
            }
            if old.exists() {
                rotated.push((fs::metadata(&old)?.len(), old));
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        w.wait_exited(&running.container).await?;
        ensure!(!rotated.is_empty(), "the script ended before the first rotation");
        let mut lines = Vec::new();
        for (length, old) in &rotated {
            ensure!(
                fs::metadata(old)?.len() == *length,
                "{} grew after the rotation",
                old.display()
            );
            lines.extend(logs::lines(&logs::read(old)?, "stdout"));
        }
        lines.extend(running.lines()?);
        let expected = (0..30_000)
            .map(|n| format!("line {n}"))
            .chain(["done".to_owned()]);
        ensure!(expected.eq(lines.iter().cloned()), "{} lines", lines.len());
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reopening_fails_for_what_does_not_run() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let error = reopen(w, &"f".repeat(64))
            .await
            .expect_err("an unknown container");
        ensure!(error.code() == Code::NotFound, "{error:?}");
        let running: Running = w
            .run(pod::pod(&w.slot, "ended"), &pod::shell("one", &image, "true"))
            .await?;
        w.wait_exited(&running.container).await?;
        fs::remove_file(&running.log)?;
        reopen(w, &running.container)
            .await
            .expect_err("a container that has ended");
        ensure!(!running.log.exists(), "a refused reopen makes no file");
        Ok(())
    })
    .await;
}
