//! cAdvisor asks as soon as there is a cgroup: before the CRI shows what is being made.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use pintle_tests::check::equal;
use pintle_tests::nri::script::socket;
use pintle_tests::nri::{Answer, Asked, Plugin};
use pintle_tests::server::{Kind, Setup};
use pintle_tests::{http, pod, world};
use serde_json::Value;

/// The methods that a plugin was asked, and what the API said then.
type Seen = Vec<(String, Result<Value>)>;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What the API says of something at this moment.
fn entry(path: &Path, id: &str) -> Result<Value> {
    let answer = http::request_unix(path, "GET", &format!("/containers/{id}"))?;
    ensure!(answer.status == 200, "{id}: {}", answer.status);
    Ok(serde_json::from_slice(&answer.body)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_made_is_known_already() {
    let folder = Folder(format!("/run/pintle-test-early-{}", std::process::id()).into());
    let path = folder.0.join("crio.sock");
    let mut setup = Setup::new(Kind::Pintle);
    setup.extra_config = format!("[inspection]\nsocket = {path:?}\n");
    world::test_with(setup, async |w| {
        let image = w.busybox().await?;
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let noted = Arc::clone(&seen);
        let path = path.clone();
        // a plugin is asked while the object is invisible
        let script = move |asked: &Asked| {
            if matches!(asked.method.as_str(), "RunPodSandbox" | "CreateContainer") {
                let found = entry(&path, asked.id());
                let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                noted.push((asked.method.clone(), found));
            }
            Answer::Yes
        };
        let _plugin = Plugin::connect(&socket(&w.slot), "10", "looks", script).await?;
        let mut config = pod::idle("main", &image);
        config
            .labels
            .insert("io.kubernetes.container.name".into(), "main".into());
        let running = w.run(pod::pod(&w.slot, "early"), &config).await?;
        let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
        let mut labels = Vec::new();
        for (method, found) in seen {
            let entry = found.with_context(|| method.clone())?;
            equal("no process yet", &entry["pid"], &0)?;
            let label = entry["labels"]["io.kubernetes.container.name"].as_str();
            labels.push((method, label.unwrap_or_default().to_owned()));
        }
        let expected = [("RunPodSandbox", "POD"), ("CreateContainer", "main")];
        equal(
            "labels",
            &labels,
            &expected
                .map(|(method, label)| (method.to_owned(), label.to_owned()))
                .to_vec(),
        )?;
        w.remove(&running.pod).await
    })
    .await;
}
