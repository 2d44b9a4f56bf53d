//! Events: each once, in order, with the state of their moment; and a place to go on from.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::{
    ContainerEventResponse, ContainerEventType, ContainerState, GetEventsRequest, PodSandboxState,
    PodSandboxStatusRequest,
};
use pintle_tests::server::Kind;
use pintle_tests::world::{self, World};
use pintle_tests::{pod, wait};
use tonic::{Code, Request, Status, Streaming};

const TOKEN: &str = "pintle-resume-token";

struct Listener {
    stream: Streaming<ContainerEventResponse>,
    token: String,
}

impl Listener {
    async fn new(w: &World, token: Option<&str>) -> Result<Listener, Status> {
        let mut request = Request::new(GetEventsRequest {});
        // The harness limits every call; this one has no end.
        request.set_timeout(Duration::from_secs(600));
        if let Some(token) = token {
            let value = token.parse().map_err(|_| Status::internal("not a header"))?;
            request.metadata_mut().insert(TOKEN, value);
        }
        let answer = w.cri.runtime.clone().get_container_events(request).await?;
        let token = answer.metadata().get(TOKEN).and_then(|value| value.to_str().ok());
        Ok(Listener {
            token: token.unwrap_or_default().to_owned(),
            stream: answer.into_inner(),
        })
    }

    /// The next `count` events.
    async fn take(&mut self, count: usize) -> Result<Vec<ContainerEventResponse>> {
        let mut events = Vec::new();
        for at in 0..count {
            let next = tokio::time::timeout(wait::scaled(wait::PATIENCE), self.stream.message());
            let event = next
                .await
                .with_context(|| format!("event {at} of {count} did not come"))?;
            events.push(event?.context("the stream has ended")?);
        }
        Ok(events)
    }
}

fn short(events: &[ContainerEventResponse]) -> Vec<(String, ContainerEventType)> {
    let short = |event: &ContainerEventResponse| (event.container_id.clone(), event.container_event_type());
    events.iter().map(short).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tell_a_pods_life_with_the_state_of_each_moment() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let mut first = Listener::new(w, None).await?;
        let mut second = Listener::new(w, None).await?;
        let config = pod::pod(&w.slot, "life");
        let running = w.run(config.clone(), &pod::idle("one", &image)).await?;
        w.cri.stop(&running.container, 5).await?;
        w.cri.remove(&running.container).await?;
        w.remove(&running.pod).await?;

        use ContainerEventType::{
            ContainerCreatedEvent as Created, ContainerDeletedEvent as Deleted,
            ContainerStartedEvent as Started, ContainerStoppedEvent as Stopped,
        };
        let (p, c) = (&running.pod, &running.container);
        let expected = [
            (p, Created),
            (p, Started),
            (c, Created),
            (c, Started),
            (c, Stopped),
            (c, Deleted),
            (p, Stopped),
            (p, Deleted),
        ];
        let expected: Vec<_> = expected.iter().map(|(id, kind)| ((*id).clone(), *kind)).collect();
        let events = first.take(expected.len()).await?;
        ensure!(short(&events) == expected, "{:?}", short(&events));
        ensure!(
            events.is_sorted_by(|a, b| a.created_at < b.created_at),
            "times rise"
        );
        for event in &events {
            let status = event.pod_sandbox_status.as_ref().context("the pod's status")?;
            ensure!(status.id == *p && status.metadata.is_some(), "{status:?}");
        }
        let states = |at: usize| -> Vec<ContainerState> {
            events[at]
                .containers_statuses
                .iter()
                .map(k8s_cri::v1::ContainerStatus::state)
                .collect()
        };
        ensure!(states(1).is_empty());
        ensure!(states(2) == [ContainerState::ContainerCreated]);
        ensure!(states(3) == [ContainerState::ContainerRunning]);
        ensure!(states(4) == [ContainerState::ContainerExited]);
        ensure!(
            events[4].containers_statuses[0].exit_code == 0
                && events[4].containers_statuses[0].finished_at > 0
        );
        ensure!(states(5).is_empty());
        let pod_state = |at: usize| {
            events[at]
                .pod_sandbox_status
                .as_ref()
                .map(k8s_cri::v1::PodSandboxStatus::state)
        };
        ensure!(pod_state(5) == Some(PodSandboxState::SandboxReady));
        ensure!(pod_state(6) == Some(PodSandboxState::SandboxNotready));
        ensure!(
            short(&second.take(expected.len()).await?) == expected,
            "each listener hears all"
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_ends_and_failed_starts_come_by_themselves() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let config = pod::pod(&w.slot, "ends");
        let pod_id = w.cri.run_pod(&config).await?;
        let mut listener = Listener::new(w, None).await?;
        let short_lived = w
            .add(&pod_id, &config, &pod::shell("short", &image, "exit 3"))
            .await?;
        let events = listener.take(3).await?;
        let last = &events[2];
        ensure!(
            last.container_event_type() == ContainerEventType::ContainerStoppedEvent,
            "{events:?}"
        );
        ensure!(
            last.container_id == short_lived && last.containers_statuses[0].exit_code == 3,
            "{last:?}"
        );

        let broken = pod::container("broken", &image, &["/no/such/program"]);
        let broken = w.cri.create(&pod_id, &config, &broken).await?;
        w.cri.start(&broken).await.expect_err("it can't be executed");
        let events = listener.take(2).await?;
        ensure!(
            events[1].container_event_type() == ContainerEventType::ContainerStoppedEvent,
            "{events:?}"
        );
        let statuses = &events[1].containers_statuses;
        let status = statuses
            .iter()
            .find(|status| status.id == broken)
            .context("its status")?;
        ensure!(
            status.exit_code == 128 && status.reason == "StartError",
            "{status:?}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn go_on_after_a_broken_connection_where_they_stopped() {
    world::test(async |w| {
        if w.server.kind() != Kind::Pintle {
            return Ok(());
        }
        let image = w.busybox().await?;
        let mut listener = Listener::new(w, None).await?;
        let (begin, config) = (listener.token.clone(), pod::pod(&w.slot, "resume"));
        let running = w.run(config, &pod::idle("one", &image)).await?;
        let seen = listener.take(2).await?;
        drop(listener);
        w.cri.stop(&running.container, 0).await?;

        let token = seen[1].created_at.to_string();
        let missed = Listener::new(w, Some(&token)).await?.take(3).await?;
        ensure!(
            missed.iter().all(|event| event.container_id == running.container),
            "{missed:?}"
        );
        ensure!(missed[0].created_at > seen[1].created_at);
        let all = Listener::new(w, Some(&begin)).await?.take(5).await?;
        ensure!(short(&all)[..2] == short(&seen)[..] && short(&all)[2..] == short(&missed)[..]);

        let error = Listener::new(w, Some("yesterday"))
            .await
            .err()
            .context("no token")?;
        ensure!(error.code() == Code::InvalidArgument, "{error:?}");
        for token in ["1", &i64::MAX.to_string()] {
            let error = Listener::new(w, Some(token)).await.err().context("not kept")?;
            ensure!(error.code() == Code::OutOfRange, "{error:?}");
        }
        // A new daemon has none of the former's events, and says so.
        w.restart().await?;
        let error = Listener::new(w, Some(&token))
            .await
            .err()
            .context("a former daemon's")?;
        ensure!(error.code() == Code::OutOfRange, "{error:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_of_pods_bear_a_time_and_their_containers() {
    world::test(async |w| {
        if w.server.kind() != Kind::Pintle {
            return Ok(());
        }
        let image = w.busybox().await?;
        let running = w
            .run(pod::pod(&w.slot, "status"), &pod::idle("one", &image))
            .await?;
        let request = PodSandboxStatusRequest {
            pod_sandbox_id: running.pod.clone(),
            verbose: false,
        };
        let status = w
            .cri
            .runtime
            .clone()
            .pod_sandbox_status(request)
            .await?
            .into_inner();
        ensure!(status.timestamp > 0, "{status:?}");
        ensure!(status.containers_statuses.len() == 1, "{status:?}");
        ensure!(status.containers_statuses[0].id == running.container);
        let mut listener = Listener::new(w, None).await?;
        w.cri.stop(&running.container, 0).await?;
        let event = listener.take(1).await?.remove(0);
        ensure!(
            event.created_at > status.timestamp,
            "an event is newer than what was seen before it"
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn end_when_the_daemon_is_told_to() {
    world::test(async |w| {
        if w.server.kind() != Kind::Pintle {
            return Ok(());
        }
        let mut listener = Listener::new(w, None).await?;
        let pid = nix::unistd::Pid::from_raw(w.server.pid()?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        let end = tokio::time::timeout(wait::scaled(wait::PATIENCE), listener.stream.message()).await?;
        ensure!(
            end.is_err() || end.is_ok_and(|event| event.is_none()),
            "the stream ends"
        );
        w.restart().await
    })
    .await;
}
