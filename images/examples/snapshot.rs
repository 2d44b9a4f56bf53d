//! Tells what a snapshot takes: `snapshot STORE_FOLDER IMAGE COUNT` makes and releases so many, and shows medians.
#![allow(clippy::print_stdout, reason = "it is a program")]

use std::time::{Duration, Instant};

use pintle_images::{Store, StoreConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(root), Some(image), Some(count)) = (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: snapshot STORE_FOLDER IMAGE COUNT".into());
    };
    let store = Store::open(StoreConfig {
        root: root.into(),
        ..StoreConfig::default()
    })?;
    let (mut made, mut released): (Vec<Duration>, Vec<Duration>) = (Vec::new(), Vec::new());
    for number in 0..count.parse::<usize>()? {
        let id = format!("snapshot-{number}");
        let begin = Instant::now();
        store.snapshot(&id, &image)?;
        made.push(begin.elapsed());
        let begin = Instant::now();
        store.release(&id)?;
        released.push(begin.elapsed());
    }
    made.sort();
    released.sort();
    println!(
        "made in {:?}, released in {:?}",
        made[made.len() / 2],
        released[released.len() / 2]
    );
    Ok(())
}
