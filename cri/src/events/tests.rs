//! The ring by itself.

use super::*;
use crate::pod::{PodNetworkRecord, PodState};

fn push(events: &Events, id: &str) {
    events.push(|created_at| Event {
        kind: ContainerEventType::ContainerCreatedEvent,
        id: id.to_owned(),
        created_at,
        pod: Arc::new(PodRecord {
            cgroup_prefix: String::new(),
            id: "pod".to_owned(),
            boot_id: String::new(),
            config: crate::proto::PodSandboxConfig::default(),
            runtime_handler: String::new(),
            state: PodState::Ready,
            created_at: 1,
            network: PodNetworkRecord::None,
            ips: Vec::new(),
            cgroup_parent: String::new(),
            selinux_level: None,
        }),
        containers: Vec::new(),
    });
}

async fn ids(listener: &mut Subscription<'_>, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    for _ in 0..count {
        seen.push(listener.next().await.unwrap().unwrap().id.clone());
    }
    seen
}

#[tokio::test]
async fn each_listener_hears_all_from_its_place_on() {
    let events = Events::default();
    push(&events, "before");
    let mut first = events.subscribe(None).unwrap();
    push(&events, "a");
    let mut second = events.subscribe(None).unwrap();
    push(&events, "b");
    push(&events, "c");
    assert_eq!(ids(&mut first, 3).await, ["a", "b", "c"]);
    assert_eq!(ids(&mut second, 2).await, ["b", "c"]);
}

#[tokio::test]
async fn times_rise_and_are_places_to_go_on_from() {
    let events = Events::default();
    let start = events.subscribe(None).unwrap().place();
    for id in ["a", "b", "c"] {
        push(&events, id);
    }
    let mut listener = events.subscribe(Some(start)).unwrap();
    let a = listener.next().await.unwrap().unwrap().created_at;
    let b = listener.next().await.unwrap().unwrap().created_at;
    assert!(start < a && a < b);
    assert!(events.now() >= b);
    let mut again = events.subscribe(Some(a)).unwrap();
    assert_eq!(ids(&mut again, 2).await, ["b", "c"]);
    assert!(matches!(
        events.subscribe(Some(start - 1)),
        Err(Error::EventsForgotten { .. })
    ));
    assert!(matches!(
        events.subscribe(Some(i64::MAX)),
        Err(Error::EventsForgotten { .. })
    ));
}

#[tokio::test]
async fn a_place_may_lie_between_events_and_the_oldest_is_told() {
    let events = Events::default();
    push(&events, "before");
    let between = events.now() + 1;
    while crate::time::now() <= between {
        std::hint::spin_loop();
    }
    let mut listener = events.subscribe(Some(between)).unwrap();
    push(&events, "after");
    assert_eq!(ids(&mut listener, 1).await, ["after"]);
    let Err(Error::EventsForgotten { oldest }) = events.subscribe(Some(1)) else {
        panic!("nobody keeps that long");
    };
    let mut all = events.subscribe(Some(oldest)).unwrap();
    assert_eq!(ids(&mut all, 2).await, ["before", "after"]);
    let status = tonic::Status::from(Error::EventsForgotten { oldest });
    assert_eq!(status.metadata().get(TOKEN).unwrap(), &oldest.to_string());
}

#[tokio::test]
async fn who_falls_behind_is_told_and_nothing_more_is_kept() {
    let events = Events::default();
    let start = events.subscribe(None).unwrap().place();
    let mut slow = events.subscribe(None).unwrap();
    for n in 0..KEPT + 1 {
        push(&events, &n.to_string());
    }
    assert_eq!(events.lock().events.len(), KEPT);
    assert!(matches!(slow.next().await, Err(Error::SlowListener)));
    assert!(matches!(
        events.subscribe(Some(start)),
        Err(Error::EventsForgotten { .. })
    ));
}

#[tokio::test]
async fn a_waiting_listener_is_woken_by_news_and_by_the_end() {
    let events = Events::default();
    let mut listener = events.subscribe(None).unwrap();
    let (next, ()) = tokio::join!(listener.next(), async {
        tokio::task::yield_now().await;
        push(&events, "late");
    });
    assert_eq!(next.unwrap().unwrap().id, "late");
    let (next, ()) = tokio::join!(listener.next(), async {
        tokio::task::yield_now().await;
        events.close();
    });
    assert!(next.unwrap().is_none());
}
