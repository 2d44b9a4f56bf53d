//! TCP through netplug's bridge and port maps, and through the same set up by hand: on the same host, and on another that
//! has no rules but what a host port needs.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::ns::Ns;
use crate::programs::{Plugin, lists};
use crate::quantile;

const SPAN: Duration = Duration::from_millis(500);
const ROUNDS: usize = 15;

/// Gigabits a second from `client` to `server`, which listens on port 80.
fn throughput(client: &Ns, server: &Ns, to: SocketAddr) -> f64 {
    let listener = server.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).expect("bind"));
    let receiver = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        let (mut buffer, mut total) = (vec![0; 1 << 18], 0_usize);
        while let Ok(count) = stream.read(&mut buffer)
            && count > 0
        {
            total += count;
        }
        total
    });
    let mut stream = client.run(|| TcpStream::connect(to).expect("connect"));
    let (buffer, start) = (vec![0; 1 << 18], Instant::now());
    while start.elapsed() < SPAN {
        stream.write_all(&buffer).expect("write");
    }
    drop(stream);
    let total = receiver.join().expect("receiver");
    total as f64 * 8.0 / start.elapsed().as_secs_f64() / 1e9
}

/// Two pods on a bridge of netplug's; the address of the second, which has host port 8071.
fn by_netplug(netplug: &Path, state: &Path) -> ([Ns; 2], Ipv4Addr) {
    let (client, server) = (Ns::new(), Ns::new());
    let list = &lists(netplug, state)[0].1[0];
    let mut plain = list.keys.clone();
    plain.as_object_mut().expect("object").remove("runtimeConfig");
    let first = Plugin {
        program: netplug.to_owned(),
        keys: plain,
    };
    first.run("ADD", "client", &client, None);
    let result = list.run("ADD", "server", &server, None);
    let address = result["ips"][0]["address"].as_str().expect("address");
    let address = address.split('/').next().expect("ip").parse().expect("ip");
    ([client, server], address)
}

/// Two pods on a bridge set up by `ip` with subnet 10.73.0.0/24, on any host; the second has host port 8073.
fn by_hand(host: &Ns) -> [Ns; 2] {
    let pods = [Ns::new(), Ns::new()];
    host.shell(&format!(
        "ip link add hand0 type bridge; ip addr add 10.73.0.1/24 dev hand0; ip link set hand0 up
         ip link add h1 type veth peer name eth0 netns {c}
         ip link add h2 type veth peer name eth0 netns {d}
         for i in h1 h2; do ip link set $i master hand0 up; done
         sysctl -qw net.ipv4.ip_forward=1
         nft add table ip hand; nft 'add chain ip hand pre {{ type nat hook prerouting priority -100; }}'
         nft 'add chain ip hand post {{ type nat hook postrouting priority 100; }}'
         nft add rule ip hand pre iifname hand0 tcp dport 8073 dnat to 10.73.0.3:80
         nft add rule ip hand post ip saddr 10.73.0.0/24 ip daddr 10.73.0.3 ct status dnat masquerade",
        c = pods[0].path(),
        d = pods[1].path(),
    ));
    for (ns, address) in pods.iter().zip(["10.73.0.2", "10.73.0.3"]) {
        ns.shell(&format!(
            "ip addr add {address}/24 dev eth0; ip link set eth0 up; ip route add default via 10.73.0.1"
        ));
    }
    pods
}

pub(crate) fn measure(netplug: &Path, state: &Path, host: &Ns) {
    let ([a, b], server) = by_netplug(netplug, state);
    let [c, d] = by_hand(host);
    let other = Ns::new();
    let [e, f] = by_hand(&other);
    let hand = Ipv4Addr::new(10, 73, 0, 3);
    let gateway = Ipv4Addr::new(10, 73, 0, 1);
    type Way<'a> = (&'a Ns, &'a Ns, SocketAddr);
    let ways: [[Way<'_>; 3]; 2] = [
        [
            (&a, &b, (server, 80).into()),
            (&c, &d, (hand, 80).into()),
            (&e, &f, (hand, 80).into()),
        ],
        [
            (&a, &b, ([10, 71, 0, 1], 8071).into()),
            (&c, &d, (gateway, 8073).into()),
            (&e, &f, (gateway, 8073).into()),
        ],
    ];
    println!(
        "\n## TCP\n\nOne connection between two pods, {ROUNDS} rounds of {} ms in turns; Gbit/s, and the ratio, median of \
         the rounds'.\n",
        SPAN.as_millis()
    );
    println!("| | netplug | by hand, same host | ratio | by hand, host of its own | ratio |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for (name, ways) in ["pod to pod", "through a host port"].iter().zip(ways) {
        let mut rates: [Vec<f64>; 3] = Default::default();
        for round in 0..ROUNDS {
            // Who comes first has the colder cache.
            for step in 0..3 {
                let at = (round + step) % 3;
                let (client, server, to) = ways[at];
                rates[at].push(throughput(client, server, to));
            }
        }
        let ratio = |hand: &[f64]| {
            let mut ratios: Vec<f64> = rates[0].iter().zip(hand).map(|(own, hand)| own / hand).collect();
            quantile(&mut ratios, 0.5)
        };
        let ratios = [ratio(&rates[1]), ratio(&rates[2])];
        let [own, same, alone] = rates.map(|mut list| quantile(&mut list, 0.5));
        println!(
            "| {name} | {own:.2} | {same:.2} | {:.2} | {alone:.2} | {:.2} |",
            ratios[0], ratios[1]
        );
    }
}
