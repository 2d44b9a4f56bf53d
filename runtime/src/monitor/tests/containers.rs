//! Orders of events, refusals, and outputs that don't end.

use super::*;

#[test]
fn a_container_lives_logs_and_exits() {
    let pod = Pod::new();
    let mut daemon = Daemon::connect(&pod);
    daemon.call(Request::Hello { version: 99 }).unwrap();
    daemon
        .call(Request::SetupSandbox(SandboxSetup::default()))
        .unwrap();
    daemon.call(Request::Create(pod.container("c"))).unwrap();
    assert_eq!(daemon.state()[0].status, ContainerStatus::Created);
    assert!(!pod.log_path("c").exists());
    daemon.call(Request::Start { id: id("c") }).unwrap();
    assert_eq!(
        pod.log("c"),
        [""; 0],
        "the log exists once the container is started"
    );
    pod.write("c", false, b"out\nno end");
    pod.write("c", true, b"err\n");
    pod.end("c", Ending::Code(3));
    let (name, exit) = daemon.exited();
    assert_eq!(
        (name.as_str(), exit.code, exit.signal, exit.oom_killed),
        ("c", 3, None, false)
    );
    let mut log = pod.log("c");
    log.sort();
    assert_eq!(
        log,
        ["stderr F err", "stdout F out", "stdout P no end"],
        "complete when the exit is told"
    );
    let record = std::fs::read(pod.dir.path().join("c").join(EXIT_FILE)).unwrap();
    assert_eq!(serde_json::from_slice::<Exit>(&record).unwrap(), exit);
    assert_eq!(daemon.state()[0].exit, Some(exit));
    daemon.call(Request::Delete { id: id("c") }).unwrap();
    assert_eq!(daemon.state(), []);
    daemon.shut_down(pod);
}

#[test]
fn signals_and_lack_of_memory_are_told_apart() {
    let pod = Pod::new();
    let mut daemon = Daemon::connect(&pod);
    daemon.run(&pod, "oom");
    pod.end("oom", Ending::Signal(9));
    let (_, exit) = daemon.exited();
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (137, Some(9), true));
    daemon.run(&pod, "term");
    daemon
        .call(Request::Kill {
            id: id("term"),
            signal: 15,
            scope: KillScope::Init,
        })
        .unwrap();
    let (_, exit) = daemon.exited();
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (143, Some(15), false));
    daemon.shut_down(pod);
}

#[test]
fn what_the_state_does_not_allow_is_refused() {
    let pod = Pod::new();
    let mut daemon = Daemon::connect(&pod);
    let start = |id: &str| Request::Start { id: id.to_owned() };
    let kill = |id: &str, signal| Request::Kill {
        id: id.to_owned(),
        signal,
        scope: KillScope::All,
    };
    assert_eq!(kind(daemon.call(start("nobody"))), ErrorKind::NotFound);
    assert_eq!(kind(daemon.call(kill("nobody", 9))), ErrorKind::NotFound);
    assert_eq!(
        kind(daemon.call(Request::Delete { id: id("nobody") })),
        ErrorKind::NotFound
    );
    assert_eq!(
        kind(daemon.call(Request::ReopenLog { id: id("nobody") })),
        ErrorKind::NotFound
    );
    assert_eq!(
        kind(daemon.call(Request::KillExec {
            exec_id: id("nobody")
        })),
        ErrorKind::NotFound
    );
    let nameless = CreateContainer {
        id: String::new(),
        ..pod.container("x")
    };
    assert_eq!(
        kind(daemon.call(Request::Create(nameless))),
        ErrorKind::InvalidArgument
    );
    let relative = CreateContainer {
        bundle: "b".into(),
        ..pod.container("x")
    };
    assert_eq!(
        kind(daemon.call(Request::Create(relative))),
        ErrorKind::InvalidArgument
    );
    assert_eq!(
        kind(daemon.call(Request::Create(pod.container("bad-create")))),
        ErrorKind::InvalidArgument
    );
    assert_eq!(daemon.state(), []);

    daemon.call(Request::Create(pod.container("c"))).unwrap();
    assert_eq!(
        kind(daemon.call(Request::Create(pod.container("c")))),
        ErrorKind::AlreadyExists
    );
    assert_eq!(
        kind(daemon.call(Request::ReopenLog { id: id("c") })),
        ErrorKind::InvalidState
    );
    assert!(!pod.log_path("c").exists());
    daemon.call(start("c")).unwrap();
    assert_eq!(kind(daemon.call(start("c"))), ErrorKind::InvalidState);
    assert_eq!(kind(daemon.call(kill("c", 65))), ErrorKind::InvalidArgument);
    assert_eq!(
        kind(daemon.call(Request::Delete { id: id("c") })),
        ErrorKind::InvalidState
    );
    let without_fds = Request::Exec(Box::new(exec_request("c", "e")));
    assert_eq!(kind(daemon.call(without_fds)), ErrorKind::InvalidArgument);
    pod.end("c", Ending::Code(0));
    daemon.exited();
    assert_eq!(kind(daemon.call(kill("c", 9))), ErrorKind::InvalidState);
    assert_eq!(
        kind(daemon.call(Request::ReopenLog { id: id("c") })),
        ErrorKind::InvalidState
    );
    daemon
        .call(Request::SetupSandbox(SandboxSetup::default()))
        .unwrap();
    assert_eq!(
        kind(daemon.call(Request::SetupSandbox(SandboxSetup::default()))),
        ErrorKind::InvalidState
    );
    daemon.shut_down(pod);
}

#[test]
fn a_failed_start_is_an_exit_with_128() {
    let pod = Pod::new();
    let mut daemon = Daemon::connect(&pod);
    daemon.call(Request::Create(pod.container("bad-start"))).unwrap();
    let error = daemon.call(Request::Start { id: id("bad-start") }).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Exec);
    assert!(error.message.contains("executable file not found"), "{error}");
    let (_, exit) = daemon.exited();
    assert_eq!(exit.code, 128);
    let state = daemon.state();
    assert_eq!(
        (state[0].status, state[0].exit, state[0].started_at),
        (ContainerStatus::Exited, Some(exit), None)
    );
    daemon.call(Request::Delete { id: id("bad-start") }).unwrap();
    daemon.shut_down(pod);
}

#[test]
fn a_created_container_can_be_deleted() {
    let pod = Pod::new();
    let mut daemon = Daemon::connect(&pod);
    daemon.call(Request::Create(pod.container("c"))).unwrap();
    daemon.call(Request::Delete { id: id("c") }).unwrap();
    assert!(pod.shared().calls.contains(&id("remove c")));
    daemon.shut_down(pod);
}

#[test]
fn a_writer_that_outlives_its_container_cannot_hold_back_the_exit() {
    let pod = Pod::new();
    let mut daemon = Daemon::connect(&pod);
    daemon.run(&pod, "c");
    let leaked = pod.output("c", false);
    pod.write("c", false, b"last\n");
    pod.end("c", Ending::Code(0));
    daemon.exited();
    assert_eq!(pod.log("c"), ["stdout F last"]);
    let error = nix::unistd::write(&leaked, b"too late\n").unwrap_err();
    assert_eq!(error, nix::errno::Errno::EPIPE, "nobody reads any more");
    daemon.shut_down(pod);
}

#[test]
fn a_writer_that_never_stops_cannot_hold_back_the_exit_either() {
    let pod = Pod::new();
    let mut daemon = Daemon::connect(&pod);
    daemon.run(&pod, "c");
    let leaked = pod.output("c", false);
    let writer = std::thread::spawn(move || while nix::unistd::write(&leaked, b"still here\n").is_ok() {});
    pod.end("c", Ending::Code(0));
    daemon.exited();
    writer.join().unwrap();
    daemon.shut_down(pod);
}

#[test]
fn a_shutdown_kills_records_removes_and_ends() {
    let pod = Pod::new();
    let mut daemon = Daemon::connect(&pod);
    daemon
        .call(Request::SetupSandbox(SandboxSetup {
            shared_pid: true,
            ..Default::default()
        }))
        .unwrap();
    daemon.run(&pod, "running");
    daemon.call(Request::Create(pod.container("created"))).unwrap();
    let refused = daemon.ask_all([Request::Shutdown {}, Request::Create(pod.container("late"))]);
    let asked = refused - 1;
    let mut heard = Vec::new();
    while let Some(message) = daemon.hear() {
        heard.push(message);
    }
    let exits = heard
        .iter()
        .filter(|m| matches!(m, ToDaemon::Event(Event::ContainerExited { .. })))
        .count();
    assert_eq!(exits, 2, "{heard:?}");
    assert!(
        heard
            .iter()
            .any(|m| matches!(m, ToDaemon::Event(Event::SandboxInitExited { .. })))
    );
    assert!(heard.iter().any(
        |m| matches!(m, ToDaemon::Reply { seq, result: Err(e) } if *seq == refused
            && e.kind == ErrorKind::InvalidState)
    ));
    assert_eq!(
        heard.last(),
        Some(&ToDaemon::Reply {
            seq: asked,
            result: Ok(Reply::Done {})
        })
    );
    assert!(pod.dir.path().join("running").join(EXIT_FILE).exists());
    let calls = pod.shared().calls.clone();
    assert!(
        calls.contains(&id("remove running")) && calls.contains(&id("remove created")),
        "{calls:?}"
    );
    pod.join();
}
