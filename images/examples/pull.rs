//! Pulls one image into a store and tells what it took: `pull STORE_FOLDER REFERENCE`.
#![allow(clippy::print_stdout, reason = "it is a program")]

use std::time::Instant;

use pintle_images::{PullRequest, Store, StoreConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(root), Some(reference)) = (arguments.next(), arguments.next()) else {
        return Err("usage: pull STORE_FOLDER REFERENCE".into());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let store = Store::open(StoreConfig {
        root: root.into(),
        ..StoreConfig::default()
    })?;
    let begin = Instant::now();
    let image = runtime.block_on(store.pull(PullRequest {
        reference,
        auth: None,
    }))?;
    let wall = begin.elapsed();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap_or_default();
    println!(
        "{} {} layers, wall {wall:?}, {peak}, {:?}",
        image.id,
        image.layers.len(),
        store.usage()
    );
    Ok(())
}
