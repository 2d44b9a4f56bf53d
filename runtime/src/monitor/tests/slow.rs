//! What takes long, or for ever, keeps nobody waiting but whoever asked for it.

use super::*;

const SLOW: &str = "slow-create";

fn kill(name: &str) -> Request {
    Request::Kill {
        id: id(name),
        signal: 9,
        scope: KillScope::Init,
    }
}

fn answer(message: Option<ToDaemon>) -> (u64, Result<Reply, RemoteError>) {
    match message {
        Some(ToDaemon::Reply { seq, result }) => (seq, result),
        other => panic!("no answer but {other:?}"),
    }
}

#[test]
fn others_go_on_while_a_container_is_made() {
    let pod = Pod::new();
    let mut daemon = Daemon::connect(&pod);
    daemon.run(&pod, "c");
    let asked = daemon.ask(Request::Create(pod.container(SLOW)));
    assert_eq!(
        kind(daemon.call(Request::Create(pod.container(SLOW)))),
        ErrorKind::AlreadyExists
    );
    assert_eq!(daemon.state().len(), 1);
    pod.write("c", false, b"meanwhile\n");
    pod.end("c", Ending::Code(0));
    daemon.exited();
    assert_eq!(pod.log("c"), ["stdout F meanwhile"]);
    pod.release("create slow-create");
    let (seq, result) = answer(daemon.hear());
    assert_eq!(seq, asked);
    assert!(matches!(result, Ok(Reply::Created { .. })));
    assert_eq!(daemon.state().len(), 2);
    daemon.shut_down(pod);
}

#[test]
fn what_hangs_in_the_making_can_be_killed_and_deleted() {
    let pod = Pod::new();
    let mut daemon = Daemon::connect(&pod);
    let created = daemon.ask(Request::Create(pod.container(SLOW)));
    daemon.call(kill(SLOW)).unwrap();
    let deleted = daemon.ask(Request::Delete { id: id(SLOW) });
    assert_eq!(daemon.state(), []);
    // only now does the kernel let it go
    pod.release("create slow-create");
    let (seq, result) = answer(daemon.hear());
    assert_eq!(seq, created);
    result.unwrap_err();
    assert_eq!(answer(daemon.hear()), (deleted, Ok(Reply::Done {})));
    assert_eq!(
        kind(daemon.call(Request::Delete { id: id(SLOW) })),
        ErrorKind::NotFound
    );
    daemon.run(&pod, SLOW.trim_start_matches("slow-"));
    daemon.shut_down(pod);
}

#[test]
fn what_was_being_made_for_a_daemon_that_is_gone_is_undone() {
    let pod = Pod::new();
    let (mut one, mut two) = (Daemon::connect(&pod), Daemon::connect(&pod));
    one.run(&pod, "c");
    one.ask(Request::Create(pod.container(SLOW)));
    one.state();
    drop(one);
    for _ in 0..1000 {
        if pod.shared().calls.contains(&id("kill job")) {
            break;
        }
        two.state();
    }
    pod.release("create slow-create");
    for _ in 0..1000 {
        if two.call(Request::Delete { id: id(SLOW) }).is_err() {
            break;
        }
    }
    assert_eq!(two.state().len(), 1);
    two.shut_down(pod);
}

#[test]
fn a_slow_start_can_be_killed_and_is_told_before_the_exit() {
    let pod = Pod::new();
    let mut daemon = Daemon::connect(&pod);
    daemon.call(Request::Create(pod.container("slow-start"))).unwrap();
    let started = daemon.ask(Request::Start { id: id("slow-start") });
    for request in [
        Request::Start { id: id("slow-start") },
        Request::Delete { id: id("slow-start") },
    ] {
        let refused = daemon.call(request).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::InvalidState);
        assert!(refused.message.ends_with("it is starting"), "{refused}");
    }
    let killed = daemon.ask(kill("slow-start"));
    let answers = [answer(daemon.hear()), answer(daemon.hear())];
    assert!(answers.contains(&(killed, Ok(Reply::Done {}))), "{answers:?}");
    assert!(
        answers
            .iter()
            .any(|(seq, result)| *seq == started && result.is_ok()),
        "{answers:?}"
    );
    let (_, exit) = daemon.exited();
    assert_eq!(exit.signal, Some(9));
    daemon.shut_down(pod);
}

/// Asks for an exec with three copies of /dev/null.
fn exec(daemon: &mut Daemon, exec_id: &str) -> u64 {
    let null = std::fs::File::open("/dev/null").unwrap();
    daemon.seq += 1;
    let frame = RequestFrame {
        seq: daemon.seq,
        fds: 3,
        request: Request::Exec(Box::new(exec_request("c", exec_id))),
    };
    let mut bytes = Vec::new();
    encode(&frame, &mut bytes).unwrap();
    send_with_fds(daemon.stream.as_fd(), &bytes, &[null.as_raw_fd(); 3]).unwrap();
    daemon.seq
}

#[test]
fn a_process_that_ends_before_its_exec_is_known_to_run_is_told_in_order() {
    let pod = Pod::new();
    let mut daemon = Daemon::connect(&pod);
    daemon.run(&pod, "c");
    let asked = exec(&mut daemon, "slow-exec");
    daemon.state();
    pod.end("slow-exec", Ending::Code(4));
    daemon.state();
    pod.release("exec slow-exec");
    let (seq, result) = answer(daemon.hear());
    assert!(seq == asked && result.is_ok());
    let Event::ExecExited { exec_id, exit } = daemon.event() else {
        panic!("no exit")
    };
    assert_eq!((exec_id.as_str(), exit.code), ("slow-exec", 4));
    daemon.shut_down(pod);
}

#[test]
fn execs_end_with_their_connection_unless_they_are_detached() {
    let pod = Pod::new();
    let (mut one, mut two) = (Daemon::connect(&pod), Daemon::connect(&pod));
    one.run(&pod, "c");
    for exec_id in ["left", "kept"] {
        exec(&mut one, exec_id);
        answer(one.hear()).1.unwrap();
    }
    exec(&mut one, "slow-exec");
    one.call(Request::DetachExec { exec_id: id("kept") }).unwrap();
    assert_eq!(
        kind(one.call(Request::DetachExec {
            exec_id: id("nobody")
        })),
        ErrorKind::NotFound
    );
    drop(one);
    let Event::ExecExited { exec_id, exit } = two.event() else {
        panic!("no exit")
    };
    assert_eq!((exec_id.as_str(), exit.signal), ("left", Some(9)));
    assert!(
        pod.shared().calls.contains(&id("kill job")),
        "the one in the making, too"
    );
    pod.release("exec slow-exec");
    pod.end("kept", Ending::Code(0));
    let Event::ExecExited { exec_id, .. } = two.event() else {
        panic!("no exit")
    };
    assert_eq!(exec_id, "kept");
    two.shut_down(pod);
}

#[test]
fn a_shutdown_does_not_wait_for_ever_for_what_hangs() {
    let pod = Pod::new();
    let mut daemon = Daemon::connect(&pod);
    daemon.run(&pod, "c");
    daemon.ask(Request::Create(pod.container(SLOW)));
    daemon.ask(Request::Shutdown {});
    let heard: Vec<ToDaemon> = std::iter::from_fn(|| daemon.hear()).collect();
    assert!(
        matches!(
            heard.last(),
            Some(ToDaemon::Reply {
                result: Ok(Reply::Done {}),
                ..
            })
        ),
        "{heard:?}"
    );
    assert!(pod.shared().calls.contains(&id("remove c")));
    pod.join();
}
