//! Measures netplug, as root, and prints a page: attaching in process beside what the kernel takes for the same alone,
//! the program beside Debian's plugins, TCP beside a bridge set up by hand. Everything that is compared is done in turns.
//!
//! `measure <path of netplug> [programs|tcp|attach]... [pods already there]...`; needs containernetworking-plugins, iproute2 and nftables.

mod attach;
mod bare;
mod ns;
mod programs;
mod throughput;

use std::path::Path;

use nix::sched::{CloneFlags, unshare};

use self::ns::Ns;

/// How many pods are there by default.
const COUNTS: [usize; 3] = [10, 100, 1000];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let netplug = arguments.next().expect("the path of netplug");
    let (mut counts, mut parts): (Vec<usize>, Vec<String>) = Default::default();
    for text in arguments {
        match text.parse() {
            Ok(count) => counts.push(count),
            Err(_) => parts.push(text),
        }
    }
    let counts = if counts.is_empty() { &COUNTS[..] } else { &counts };
    let state = tempfile::tempdir_in("/run").expect("state folder");
    // One after another, each on a host of its own.
    let on_a_host = |part: &str, work: &(dyn Fn(&Ns) + Sync)| {
        if !parts.is_empty() && !parts.iter().any(|wanted| wanted == part) {
            return;
        }
        std::thread::scope(|scope| {
            let host = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).expect("unshare: needs root");
                let host = Ns::own();
                host.shell("ip link set lo up");
                work(&host);
            });
            host.join().expect("measuring thread");
        });
    };
    on_a_host("programs", &|_| {
        programs::measure(Path::new(&netplug), state.path());
    });
    on_a_host("tcp", &|host| {
        throughput::measure(Path::new(&netplug), state.path(), host);
    });
    on_a_host("attach", &|_| attach::measure(counts, &state.path().join("net")));
}

/// A value out of a list: 0.5 is the median, 0 the least.
fn quantile(list: &mut [f64], part: f64) -> f64 {
    list.sort_by(f64::total_cmp);
    list[((list.len() - 1) as f64 * part) as usize]
}
