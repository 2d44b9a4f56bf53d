//! Each object reaches a joining plugin in one way, whatever the moment.

use std::thread;
use std::time::Duration;

use super::*;
use crate::nri::link::Link;
use crate::proto::nri::ConfigureRequest;

/// A plugin that says yes to its configuration.
async fn plugin(name: &str) -> Arc<Plugin> {
    use crate::nri::mux::{self, Demux};
    use crate::nri::ttrpc::{Kind, Message, Response};
    use tokio::io::AsyncWriteExt as _;
    let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
    let (link, _calls) = Link::open(ours);
    tokio::spawn(async move {
        let (reading, mut writing) = tokio::io::split(theirs);
        let mut demux = Demux::new(reading);
        while let Ok(Some((_, asked))) = demux.next().await {
            let answer = Message::new(asked.stream, Kind::Response, &Response::default());
            writing
                .write_all(&mux::frames(mux::PLUGIN, &answer))
                .await
                .unwrap();
        }
    });
    let limit = Duration::from_secs(30);
    let made = Plugin::configure(name.to_owned(), link, ConfigureRequest::default(), limit).await;
    Arc::new(made.unwrap())
}

#[tokio::test]
async fn plugins_are_asked_by_index_and_then_in_the_order_of_their_coming() {
    let registry = Registry::default();
    assert!(registry.now().is_none());
    let mut plugins = Vec::new();
    for name in ["20-b", "10-z", "20-a", "00-c"] {
        let plugin = plugin(name).await;
        registry.add(&plugin);
        plugins.push(plugin);
    }
    let names = |registry: &Registry| {
        let set = registry.now().unwrap();
        set.plugins.iter().map(|p| p.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&registry), ["00-c", "10-z", "20-b", "20-a"]);
    registry.remove(&plugins[1]);
    registry.remove(&plugins[1]);
    assert_eq!(names(&registry), ["00-c", "20-b", "20-a"]);
    for plugin in &plugins {
        registry.remove(plugin);
    }
    assert!(registry.now().is_none());
}

#[tokio::test]
async fn what_was_there_before_a_plugin_goes_into_its_list() {
    let registry = Registry::default();
    let (old, mut objects) = (Announced::before(), vec![Announced::default()]);
    assert!(registry.announce(&objects[0]).is_none());
    let first = plugin("10-first").await;
    registry.add(&first);
    objects.push(Announced::default());
    assert_eq!(registry.announce(&objects[1]).unwrap().plugins.len(), 1);
    let second = plugin("10-second").await;
    registry.add(&second);
    let unannounced = Announced::default();
    assert!(old.is_before(&first) && objects[0].is_before(&first));
    assert!(!objects[1].is_before(&first), "it was told");
    assert!(objects[1].is_before(&second));
    assert!(!unannounced.is_before(&second), "it will be told");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_object_comes_once_however_plugins_and_creations_meet() {
    for _ in 0..200 {
        let registry = Registry::default();
        let objects: Vec<Announced> = (0..64).map(|_| Announced::default()).collect();
        let plugin = plugin("10-late").await;
        let told = thread::scope(|scope| {
            let creator = scope.spawn(|| {
                let told = |object| {
                    registry
                        .announce(object)
                        .is_some_and(|set| !set.plugins.is_empty())
                };
                objects.iter().map(told).collect::<Vec<bool>>()
            });
            registry.add(&plugin);
            // Looked at while the creator is at work; what is not announced yet will be told.
            let listed: Vec<bool> = objects.iter().map(|object| object.is_before(&plugin)).collect();
            let told = creator.join().unwrap();
            for (told, listed) in told.iter().zip(listed) {
                assert!(told ^ listed, "told: {told}, in the list: {listed}");
            }
            told
        });
        assert_eq!(told.len(), 64);
    }
}
