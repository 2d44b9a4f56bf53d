//! Attaching and detaching in process. Wall time is what counts; the processor time of this process tells more where
//! others use the machine too.

use std::path::Path;
use std::time::Instant;

use netplug::{AttachRequest, Config, Network, PortMap, Protocol};
use nix::time::{ClockId, clock_gettime};

use crate::bare::Kernel;
use crate::ns::Ns;
use crate::quantile;

const ROUNDS: usize = 60;

/// Times in milliseconds: wall, processor.
#[derive(Default)]
struct Times(Vec<f64>, Vec<f64>);

impl Times {
    fn take(&mut self, work: impl FnOnce()) {
        let (wall, before) = (Instant::now(), cpu());
        work();
        self.0.push(wall.elapsed().as_secs_f64() * 1e3);
        self.1.push(cpu() - before);
    }

    /// `median / 99th percentile (processor time)`, and the two medians.
    fn text(&mut self) -> (String, f64, f64) {
        let (wall, cpu) = (quantile(&mut self.0, 0.5), quantile(&mut self.1, 0.5));
        let text = format!("{wall:.2} / {:.2} ({cpu:.2})", quantile(&mut self.0, 0.99));
        (text, wall, cpu)
    }
}

fn cpu() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("clock");
    time.tv_sec() as f64 * 1e3 + time.tv_nsec() as f64 / 1e6
}

fn request(number: usize, ns: &Ns, ports: bool) -> AttachRequest {
    let port = PortMap {
        protocol: Protocol::Tcp,
        host_port: 10_000 + u16::try_from(number).expect("port"),
        container_port: 80,
        host_ip: None,
    };
    AttachRequest {
        id: format!("pod{number}"),
        netns: ns.path().into(),
        ifname: "eth0".into(),
        ports: if ports { vec![port] } else { Vec::new() },
        ..AttachRequest::default()
    }
}

pub(crate) fn measure(counts: &[usize], state: &Path) {
    let config = Config {
        ranges: ["10.77.0.0/16", "fd77::/64"]
            .map(|text| text.parse().expect("network"))
            .to_vec(),
        state_dir: state.to_owned(),
        ..Config::default()
    };
    let bridge = config.bridge.clone();
    let network = Network::new(config).expect("network");
    network.ready().expect("ready");
    let (kernel, bridge) = (Kernel::open(), Kernel::index(&bridge));
    // Dismantling a namespace keeps the lock that network changes wait for: not while measuring.
    let (mut resident, mut dead): (Vec<Ns>, Vec<Ns>) = Default::default();
    println!("\n## In process\n\nMilliseconds: median / 99th percentile (processor time). IPv4 and IPv6.\n");
    println!(
        "| pods there | attach | attach with a host port | the kernel alone | detach | detach with a host port |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut first: Option<[(String, f64, f64); 3]> = None;
    for count in counts {
        while resident.len() < *count {
            let ns = Ns::new();
            let request = request(1000 + resident.len(), &ns, true);
            network.attach(&request).expect("attach");
            resident.push(ns);
        }
        let (mut attach, mut detach, mut bare) =
            (<[Times; 2]>::default(), <[Times; 2]>::default(), Times::default());
        for round in 0..ROUNDS {
            for ports in [0, 1] {
                let ns = Ns::new();
                let request = request(round, &ns, ports == 1);
                attach[ports].take(|| drop(network.attach(&request).expect("attach")));
                detach[ports].take(|| network.detach(&request.id, None, "eth0").expect("detach"));
                network.sweep().expect("sweep");
                dead.push(ns);
            }
            let ns = Ns::new();
            let inside = ns.run(Kernel::open);
            bare.take(|| kernel.attach(bridge, &ns, &inside));
            kernel.detach();
            dead.push(ns);
        }
        let [mut plain, mut ported] = attach;
        let figures = [plain.text(), ported.text(), bare.text()];
        let [mut without, mut with] = detach;
        let cells = [&figures[0].0, &figures[1].0, &figures[2].0];
        let (without, with) = (without.text().0, with.text().0);
        println!(
            "| {count} | {} | {} | {} | {without} | {with} |",
            cells[0], cells[1], cells[2]
        );
        first.get_or_insert(figures.clone());
        if Some(count) == counts.last()
            && let Some(first) = &first
        {
            summary(first, &figures);
        }
    }
}

/// How the last row compares with the first.
fn summary(first: &[(String, f64, f64); 3], last: &[(String, f64, f64); 3]) {
    let ratio = |at: usize| {
        format!(
            "{:.2} ({:.2})",
            last[at].1 / first[at].1,
            last[at].2 / first[at].2
        )
    };
    let more = |at: usize| {
        format!(
            "{:.2} ({:.2})",
            last[at].1 - first[at].1,
            last[at].2 - first[at].2
        )
    };
    println!(
        "| last to first | {} | {} | {} | | |",
        ratio(0),
        ratio(1),
        ratio(2)
    );
    println!(
        "| last minus first | {} | {} | {} | | |",
        more(0),
        more(1),
        more(2)
    );
}
