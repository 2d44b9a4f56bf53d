//! Many daemons, slow ones, dead ones, and those that send garbage.

use super::*;

#[test]
fn events_go_to_every_daemon_and_a_new_one_learns_the_rest_from_the_state() {
    let pod = Pod::new();
    let (mut one, mut two) = (Daemon::connect(&pod), Daemon::connect(&pod));
    two.call(Request::Hello { version: 1 }).unwrap();
    one.run(&pod, "a");
    one.run(&pod, "b");
    pod.end("a", Ending::Code(1));
    assert_eq!(one.exited(), two.exited());
    drop((one, two));
    pod.write("b", false, b"while nobody listens\n");
    pod.end("b", Ending::Code(2));
    let mut three = Daemon::connect(&pod);
    let codes = |state: &[ContainerState]| state.iter().map(|c| c.exit.map(|e| e.code)).collect::<Vec<_>>();
    let mut state = three.state();
    if codes(&state) != [Some(1), Some(2)] {
        three.exited();
        state = three.state();
    }
    assert_eq!(codes(&state), [Some(1), Some(2)]);
    assert_eq!(pod.log("b"), ["stdout F while nobody listens"]);
    three.shut_down(pod);
}

#[test]
fn a_daemon_that_does_not_read_blocks_nobody() {
    let pod = Pod::new();
    let (mut deaf, mut daemon) = (Daemon::connect(&pod), Daemon::connect(&pod));
    daemon.run(&pod, "c");
    // Far more answers than socket and monitor will keep; the monitor closes the connection at some point.
    let mut question = Vec::new();
    encode(
        &RequestFrame {
            seq: 1,
            fds: 0,
            request: Request::State {},
        },
        &mut question,
    )
    .unwrap();
    let refused = (0..200_000).any(|_| deaf.stream.write_all(&question).is_err());
    assert!(refused, "it is still kept");
    pod.write("c", false, b"goes on\n");
    pod.end("c", Ending::Code(0));
    daemon.exited();
    assert_eq!(pod.log("c"), ["stdout F goes on"]);
    daemon.shut_down(pod);
}

#[test]
fn garbage_ends_its_connection_only() {
    let pod = Pod::new();
    let mut daemon = Daemon::connect(&pod);
    for garbage in [&b"\xff\xff\xff\xffxxxx"[..], b"\x04\0\0\0nope", b"\x02\0\0\0{}"] {
        let mut other = Daemon::connect(&pod);
        other.stream.write_all(garbage).unwrap();
        assert_eq!(other.hear(), None);
    }
    let mut other = Daemon::connect(&pod);
    other.stream.write_all(b"\x00\0").unwrap();
    drop(other);
    daemon.seq += 1;
    let body = format!(r#"{{"seq":{},"request":{{"op":"of_the_future"}}}}"#, daemon.seq);
    daemon
        .stream
        .write_all(&[&(body.len() as u32).to_le_bytes(), body.as_bytes()].concat())
        .unwrap();
    let Some(ToDaemon::Reply {
        result: Err(error), ..
    }) = daemon.hear()
    else {
        panic!("no refusal")
    };
    assert_eq!(error.kind, ErrorKind::Unsupported);
    daemon.shut_down(pod);
}

#[test]
fn an_exec_gets_its_descriptors_though_frames_before_it_had_others() {
    let pod = Pod::new();
    let mut daemon = Daemon::connect(&pod);
    daemon.run(&pod, "c");
    let (ours, theirs) = std::io::pipe().unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let send = |request: &str, seq: u64, fds: &[i32]| {
        let body = format!(r#"{{"seq":{seq},"fds":{},"request":{request}}}"#, fds.len());
        let frame = [&(body.len() as u32).to_le_bytes(), body.as_bytes()].concat();
        let sent = send_with_fds(daemon.stream.as_fd(), &frame, fds).unwrap();
        assert_eq!(sent, frame.len());
    };
    send(
        r#"{"op":"of_the_future"}"#,
        11,
        &[null.as_raw_fd(), null.as_raw_fd()],
    );
    send(r#"{"op":"state"}"#, 12, &[]);
    let exec = serde_json::to_string(&Request::Exec(Box::new(exec_request("c", "e")))).unwrap();
    send(
        &exec,
        13,
        &[null.as_raw_fd(), theirs.as_raw_fd(), null.as_raw_fd()],
    );
    drop(theirs);
    let seqs: Vec<_> = (0..3)
        .map(|_| match daemon.hear() {
            Some(ToDaemon::Reply { seq, result }) => (seq, result.is_ok()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(seqs, [(11, false), (12, true), (13, true)]);
    pod.write("e", false, b"hello");
    daemon.call(Request::KillExec { exec_id: id("e") }).unwrap();
    let Event::ExecExited { exec_id, exit } = daemon.event() else {
        panic!("no exit")
    };
    assert_eq!((exec_id.as_str(), exit.code), ("e", 137));
    let mut text = String::new();
    { ours }.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello", "and the monitor keeps no copy of them");
    daemon.shut_down(pod);
}
