//! Roots of containers of a pod whose mount namespaces start from a blank one.
#![allow(clippy::unwrap_used)]

mod pod;
mod support;

use nix::mount::{MsFlags, mount, umount};
use pod::Pod;
use serde_json::json;
use support::Bundle;

#[tokio::test]
async fn a_root_that_is_a_folder_hears_of_the_hosts_mounts_if_it_asks() {
    let mut pod = Pod::new().await;
    let script = "awk '$5 == \"/\"' /proc/self/mountinfo | grep -o 'master:' || echo alone";
    for (id, propagation, heard) in [
        ("slave", Some("slave"), "stdout F master:"),
        ("private", Some("private"), "stdout F alone"),
    ] {
        let mut bundle = Bundle::new(script);
        bundle.set("/linux/rootfsPropagation", json!(propagation));
        let root = bundle.rootfs();
        let none: Option<&str> = None;
        mount(Some(&root), &root, none, MsFlags::MS_BIND, none).unwrap();
        mount(none, &root, none, MsFlags::MS_SHARED, none).unwrap();
        pod.run(id, bundle).await;
        let exit = pod.exited(id).await;
        umount(&root).unwrap();
        assert_eq!((exit.code, pod.log(id)), (0, vec![heard.to_owned()]));
    }
    for id in ["slave", "private"] {
        pod::soon(pod.client.delete(id)).await.unwrap();
    }
    pod.shut_down().await;
}
