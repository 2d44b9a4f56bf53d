//! Many at once, and deaths at any moment: no address is given twice, and nothing is left behind.

mod common;

use std::collections::HashSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use common::{Node, Ns, ip, net, request};
use netplug::{Config, Error, Network};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::json;

const NETPLUG: &str = env!("CARGO_BIN_EXE_netplug");

#[test]
fn two_hundred_pods_by_threads_and_processes_at_once() {
    const THREADS: usize = 8;
    const PROCESSES: usize = 4;
    const EACH: usize = 25;
    let node = Node::new();
    let state = node.state.path().join("net");
    // The program and the library share a state folder, as a daemon and CNI calls would.
    let config = Config {
        ranges: vec![net("10.66.0.0/23")],
        bridge: "cni0".into(),
        state_dir: state.join("main"),
        ..Config::default()
    };
    let conf = json!({
        "cniVersion": "1.0.0", "name": "main", "type": "netplug", "stateDir": state, "ranges": ["10.66.0.0/23"],
    });
    let seen: Mutex<HashSet<String>> = Mutex::default();
    let note = |address: String| {
        assert!(
            seen.lock().expect("lock").insert(address.clone()),
            "{address} was given twice"
        );
    };
    let by_thread = |thread: usize| {
        let network = Network::new(config.clone()).expect("network");
        let pods: Vec<_> = (0..EACH)
            .map(|number| node.pod(&network, &format!("t{thread}-{number}")))
            .collect();
        pods.iter().for_each(|pod| note(pod.ip().to_string()));
        for pod in pods.iter().skip(1) {
            node.ns
                .run(|| network.detach(&pod.id, None, "eth0"))
                .expect("detach");
        }
    };
    let by_process = |process: usize| {
        let pods: Vec<Ns> = (0..EACH).map(|_| Ns::new()).collect();
        for (number, pod) in pods.iter().enumerate() {
            let id = format!("p{process}-{number}");
            let result = cni(&node.ns, "ADD", &id, pod, &conf).expect("ADD");
            note(
                result["ips"][0]["address"]
                    .as_str()
                    .expect("address")
                    .split('/')
                    .next()
                    .expect("ip")
                    .to_owned(),
            );
        }
        for (number, pod) in pods.iter().enumerate().skip(1) {
            cni(&node.ns, "DEL", &format!("p{process}-{number}"), pod, &conf);
        }
    };
    std::thread::scope(|scope| {
        // Threads and processes come to the same 200 and more pods.
        let threads = (0..THREADS).map(|number| scope.spawn(move || by_thread(number)));
        let processes = (0..PROCESSES).map(|number| scope.spawn(move || by_process(number)));
        let all: Vec<_> = threads.chain(processes.collect::<Vec<_>>()).collect();
        for one in all {
            one.join().expect("a worker");
        }
    });
    assert_eq!(seen.lock().expect("lock").len(), (THREADS + PROCESSES) * EACH);
    let network = Network::new(config).expect("network");
    let freed = node.ns.run(|| network.gc(&[])).expect("gc");
    assert_eq!(
        freed.len(),
        THREADS + PROCESSES,
        "one pod of each worker was left"
    );
    nothing_left(&node, &state.join("main"));
}

/// Runs the program on the node. `None` for DEL.
fn cni(node: &Ns, command: &str, id: &str, pod: &Ns, conf: &serde_json::Value) -> Option<serde_json::Value> {
    let netns = pod.path();
    let output = node.run(|| {
        let mut child = Command::new(NETPLUG)
            .envs([
                ("CNI_COMMAND", command),
                ("CNI_CONTAINERID", id),
                ("CNI_IFNAME", "eth0"),
            ])
            .env("CNI_NETNS", netns)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("netplug");
        child
            .stdin
            .take()
            .expect("stdin")
            .write_all(conf.to_string().as_bytes())
            .expect("write");
        child.wait_with_output().expect("output")
    });
    assert!(
        output.status.success(),
        "{command} {id}: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    serde_json::from_slice(&output.stdout).ok()
}

fn nothing_left(node: &Node, state: &std::path::Path) {
    node.ns.run(Network::sweep_host).expect("sweep");
    for _ in 0..200 {
        if node.traces().is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(node.traces(), [""; 0]);
    for folder in ["addresses", "pods"] {
        let left: Vec<_> = std::fs::read_dir(state.join(folder)).expect("folder").collect();
        assert!(left.is_empty(), "{left:?}");
    }
    assert!(!state.join("new").exists(), "a file half written");
}

#[test]
fn addresses_are_reused_as_late_as_possible() {
    let node = Node::new();
    let network = node.network(&["10.66.0.0/29"]);
    let mut given = Vec::new();
    for number in 0..7 {
        let id = format!("pod{number}");
        given.push(node.pod(&network, &id).ip().to_string());
        node.ns.run(|| network.detach(&id, None, "eth0")).expect("detach");
    }
    let order = [
        "10.66.0.2",
        "10.66.0.3",
        "10.66.0.4",
        "10.66.0.5",
        "10.66.0.6",
        "10.66.0.2",
        "10.66.0.3",
    ];
    assert_eq!(given, order);
}

#[test]
fn a_node_gets_its_ranges_later_and_keeps_them() {
    let node = Node::new();
    let network = node.network(&[]);
    assert!(matches!(node.ns.run(|| network.ready()), Err(Error::NoRange)));
    let pod = Ns::new();
    let mut wanted = request("a");
    wanted.netns = pod.path();
    assert!(matches!(
        node.ns.run(|| network.attach(&wanted)),
        Err(Error::NoRange)
    ));
    network
        .set_ranges(vec![net("10.70.0.0/24"), net("fd70::/64")])
        .expect("ranges");
    node.ns.run(|| network.ready()).expect("ready");
    assert_eq!(node.pod(&network, "a").ip(), ip("10.70.0.2"));
    let error = network
        .set_ranges(vec![net("10.0.0.0/8"), net("10.70.0.0/24")])
        .expect_err("overlap");
    assert!(error.to_string().contains("10.70.0"), "{error}");
    // A new process.
    let network = node.network(&[]);
    assert_eq!(node.pod(&network, "b").ip(), ip("10.70.0.3"));
}

#[test]
fn gateways_of_former_ranges_go_with_their_last_pod() {
    let node = Node::new();
    let network = node.network(&[]);
    let addresses = || node.ns.ip("-4 -o addr show pintle0");
    let tell = |range: &str| {
        network.set_ranges(vec![net(range)]).expect("ranges");
        node.ns.run(|| network.ready()).expect("ready");
    };
    tell("10.70.0.0/24");
    node.ns.ip("addr add 10.99.0.1/24 dev pintle0");
    let _pod = node.pod(&network, "a");
    tell("10.71.0.0/24");
    assert!(addresses().contains("10.70.0.1/24") && addresses().contains("10.71.0.1/24"));
    node.ns.run(|| network.detach("a", None, "eth0")).expect("detach");
    tell("10.72.0.0/24");
    let left = addresses();
    assert!(
        !left.contains("10.70.0.1/24") && !left.contains("10.71.0.1/24"),
        "{left}"
    );
    assert!(left.contains("10.72.0.1/24"), "{left}");
    assert!(left.contains("10.99.0.1/24"), "another's address stays: {left}");
}

#[test]
fn what_another_boot_left_is_thrown_away() {
    let node = Node::new();
    let network = node.network(&["10.66.0.0/24"]);
    let _pod = node.pod(&network, "a");
    std::fs::write(node.state.path().join("net/boot"), "another boot\n").expect("write");
    let network = node.network(&["10.66.0.0/24"]);
    let record = node.state.path().join("net/pods/a:eth0");
    assert!(!record.exists());
    assert_eq!(
        node.pod(&network, "b").ip(),
        ip("10.66.0.3"),
        "late reuse goes on even so"
    );
    node.ns
        .run(|| network.detach("a", None, "eth0"))
        .expect("detaching a pod of another boot");
}

#[test]
fn a_lost_state_folder_leaves_no_interface_for_ever() {
    let node = Node::new();
    let network = node.network(&["10.66.0.0/24"]);
    let _pod = node.pod(&network, "a");
    std::fs::remove_dir_all(node.state.path().join("net")).expect("remove");
    let network = node.network(&["10.66.0.0/24"]);
    assert_eq!(node.ns.run(|| network.gc(&[])).expect("gc"), ["a"]);
    assert!(!node.ns.ip("-o link").contains("veth"));
}

#[test]
fn detaching_is_idempotent_and_needs_no_namespace() {
    let node = Node::new();
    let network = node.network(&["10.66.0.0/24"]);
    let pod = node.pod(&network, "a");
    drop(pod);
    for _ in 0..2 {
        node.ns
            .run(|| network.detach("a", Some("/nonexistent".as_ref()), "eth0"))
            .expect("detach");
    }
    node.ns
        .run(|| network.detach("never-there", None, "eth0"))
        .expect("detach");
    nothing_left(&node, &node.state.path().join("net"));
}

#[test]
fn killed_at_any_step_nothing_stays_after_collection() {
    let node = Node::new();
    let state = node.state.path().join("net");
    let conf = json!({
        "cniVersion": "1.0.0", "name": "main", "type": "netplug", "stateDir": state,
        "ranges": ["10.66.0.0/24", "fd66::/64"],
        "runtimeConfig": {
            "portMappings": [{"hostPort": 8080, "containerPort": 80}],
            "bandwidth": {"egressRate": 8_000_000, "egressBurst": 800_000},
        },
    });
    let config = Config {
        state_dir: state.join("main"),
        bridge: "cni0".into(),
        ..Config::default()
    };
    let network = Network::new(config).expect("network");
    for command in ["ADD", "DEL"] {
        // Every system call of the program that changes something is a place to die at.
        for step in 0.. {
            let pod = Ns::new();
            let id = format!("pod-{command}-{step}");
            if command == "DEL" {
                cni(&node.ns, "ADD", &id, &pod, &conf).expect("ADD");
            }
            let killed = killed_at(&node.ns, command, &id, &pod, &conf, step);
            node.ns.run(|| network.gc(&[])).expect("gc");
            nothing_left(&node, &state.join("main"));
            assert!(step < 200, "no end of steps");
            if !killed {
                assert!(step > 5, "{command} ended after {step} steps only");
                break;
            }
            // The same pod comes again, and finds nothing in its way.
            cni(&node.ns, "ADD", &id, &pod, &conf).expect("ADD after a death");
            cni(&node.ns, "DEL", &id, &pod, &conf);
        }
    }
}

/// Runs the program and kills it before its `step`-th changing system call. False if it ended before.
fn killed_at(node: &Ns, command: &str, id: &str, pod: &Ns, conf: &serde_json::Value, step: usize) -> bool {
    let netns = pod.path();
    let conf = conf.to_string();
    // Everything on one thread: the tracer is a thread, not a process.
    node.run(|| {
        let mut child = Command::new("sh")
            .args(["-c", "kill -STOP $$; exec \"$0\"", NETPLUG])
            .envs([
                ("CNI_COMMAND", command),
                ("CNI_CONTAINERID", id),
                ("CNI_IFNAME", "eth0"),
            ])
            .env("CNI_NETNS", netns)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("sh");
        child
            .stdin
            .take()
            .expect("stdin")
            .write_all(conf.as_bytes())
            .expect("write");
        let pid = Pid::from_raw(child.id().cast_signed());
        waitpid(pid, Some(WaitPidFlag::WUNTRACED)).expect("stopped");
        let options = ptrace::Options::PTRACE_O_TRACECLONE
            | ptrace::Options::PTRACE_O_TRACESYSGOOD
            | ptrace::Options::PTRACE_O_TRACEEXEC
            | ptrace::Options::PTRACE_O_EXITKILL;
        ptrace::seize(pid, options).expect("seize");
        nix::sys::signal::kill(pid, Signal::SIGCONT).expect("continue");
        let killed = step_until(pid, step);
        // Waited for already; this only tells the value so.
        let _ = child.wait();
        killed
    })
}

/// Lets a traced process go on until the `step`-th changing system call, and kills it there.
fn step_until(pid: Pid, step: usize) -> bool {
    let mut seen = 0;
    let mut in_program = false;
    let mut killed = false;
    // To the very end: its threads are zombies until their tracer has waited for each.
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
        let Some(thread) = status.pid() else { continue };
        let mut signal = None;
        match status {
            WaitStatus::Exited(who, _) | WaitStatus::Signaled(who, ..) if who == pid => break,
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => continue,
            WaitStatus::PtraceEvent(_, _, event) if event == nix::libc::PTRACE_EVENT_EXEC => {
                in_program = true;
            }
            WaitStatus::PtraceSyscall(_) if in_program => {
                let registers = ptrace::getregs(thread).expect("registers");
                // Before the call the kernel has put -ENOSYS where its result will be.
                let entering = registers.rax.cast_signed() == -i64::from(nix::libc::ENOSYS);
                if entering && changes(registers.orig_rax.cast_signed()) {
                    if seen == step {
                        nix::sys::signal::kill(pid, Signal::SIGKILL).expect("kill");
                        killed = true;
                    }
                    seen += 1;
                }
            }
            WaitStatus::Stopped(_, stopped) if stopped != Signal::SIGSTOP && stopped != Signal::SIGTRAP => {
                signal = Some(stopped);
            }
            _ => {}
        }
        // It may have died meanwhile.
        let _ = ptrace::syscall(thread, signal);
    }
    killed
}

/// Whether a system call changes the kernel's or the disk's state.
fn changes(call: i64) -> bool {
    use nix::libc::{SYS_mkdir, SYS_rename, SYS_sendto, SYS_symlink, SYS_unlink, SYS_write};
    [
        SYS_sendto,
        SYS_symlink,
        SYS_rename,
        SYS_unlink,
        SYS_write,
        SYS_mkdir,
    ]
    .contains(&call)
}
