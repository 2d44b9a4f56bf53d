//! Round trips, foreign fields, garbage, and frames cut anywhere.

use std::path::PathBuf;

use super::*;

fn bodies(bytes: &[u8], step: usize) -> Vec<Vec<u8>> {
    let mut decoder = Decoder::default();
    let mut found = Vec::new();
    for piece in bytes.chunks(step) {
        decoder.push(piece);
        while let Some(body) = decoder.next_frame().unwrap() {
            found.push(body.to_vec());
        }
    }
    found
}

fn requests() -> Vec<Request> {
    let id = || "c1".to_owned();
    let process =
        serde_json::from_str(r#"{"user":{"uid":1,"gid":2},"args":["sh"],"cwd":"/","env":["A=1"]}"#).unwrap();
    vec![
        Request::Hello { version: 1 },
        Request::SetupSandbox(SandboxSetup {
            namespaces: vec![
                NamespaceKind::Net,
                NamespaceKind::Ipc,
                NamespaceKind::Uts,
                NamespaceKind::User,
            ],
            uid_mappings: vec![IdMapping {
                container_id: 0,
                host_id: 100_000,
                size: 65536,
            }],
            hostname: Some("web".into()),
            sysctls: [("net.core.somaxconn".to_owned(), "7".to_owned())].into(),
            shared_pid: true,
            ..Default::default()
        }),
        Request::Create(CreateContainer {
            id: id(),
            bundle: "/run/b".into(),
            rootfs: Some(Overlay {
                lower: vec!["/l2".into(), "/l1".into()],
                ..Default::default()
            }),
            log: Some(LogTarget::new("/var/log/pods/x/0.log")),
            ..Default::default()
        }),
        Request::Start { id: id() },
        Request::Kill {
            id: id(),
            signal: 15,
            scope: KillScope::All,
        },
        Request::Delete { id: id() },
        Request::Exec(Box::new(ExecRequest {
            container: id(),
            exec_id: "e1".into(),
            process,
            seccomp_filter: None,
        })),
        Request::KillExec { exec_id: "e1".into() },
        Request::DetachExec { exec_id: "e1".into() },
        Request::Attach {
            id: id(),
            stdin: true,
            stdout: false,
            stderr: true,
        },
        Request::Resize {
            id: id(),
            width: 80,
            height: u16::MAX,
        },
        Request::ReopenLog { id: id() },
        Request::State {},
        Request::Shutdown {},
    ]
}

fn answers() -> Vec<ToDaemon> {
    let exit = Exit {
        code: 137,
        signal: Some(9),
        oom_killed: true,
        finished_at: 1_800_000_000_123_456_789,
    };
    let container = |status, exit| ContainerState {
        id: "c".into(),
        pid: 7,
        status,
        started_at: Some(5),
        exit,
        terminal: true,
        stdin: false,
    };
    let state = MonitorState {
        version: 1,
        pid: 2,
        init_pid: None,
        containers: vec![
            container(ContainerStatus::Created, None),
            container(ContainerStatus::Running, None),
            container(ContainerStatus::Exited, Some(exit)),
        ],
    };
    let ok = |reply| ToDaemon::Reply {
        seq: u64::MAX,
        result: Ok(reply),
    };
    vec![
        ok(Reply::Hello { version: 1, pid: 9 }),
        ok(Reply::Sandbox { init_pid: Some(4) }),
        ok(Reply::Created { pid: 5 }),
        ok(Reply::Started { started_at: i64::MAX }),
        ok(Reply::Exec { pid: 6 }),
        ok(Reply::State(state)),
        ok(Reply::Done {}),
        ToDaemon::Reply {
            seq: 0,
            result: Err(RemoteError::new(ErrorKind::Exec, "exec: \"/nope\": no such file")),
        },
        ToDaemon::Event(Event::ContainerExited { id: "c".into(), exit }),
        ToDaemon::Event(Event::ExecExited {
            exec_id: "e".into(),
            exit,
        }),
        ToDaemon::Event(Event::SandboxInitExited { exit }),
    ]
}

#[test]
fn every_request_survives_the_wire_however_it_is_cut() {
    let frames: Vec<_> = requests()
        .into_iter()
        .enumerate()
        .map(|(i, request)| RequestFrame {
            seq: i as u64,
            fds: 3,
            request,
        })
        .collect();
    let mut bytes = Vec::new();
    for frame in &frames {
        encode(frame, &mut bytes).unwrap();
    }
    for step in [1, 2, 3, 5, 7, 64, 1000, bytes.len()] {
        let read: Vec<_> = bodies(&bytes, step)
            .iter()
            .map(|b| parse_request(b).unwrap().unwrap())
            .collect();
        assert_eq!(read, frames, "cut every {step} bytes");
    }
}

#[test]
fn every_answer_survives_the_wire() {
    let mut bytes = Vec::new();
    for answer in answers() {
        encode(&answer, &mut bytes).unwrap();
    }
    let read: Vec<ToDaemon> = bodies(&bytes, 11)
        .iter()
        .map(|b| serde_json::from_slice(b).unwrap())
        .collect();
    assert_eq!(read, answers());
}

#[test]
fn fields_of_a_newer_version_are_ignored_and_those_of_an_older_one_have_defaults() {
    let newer = br#"{"seq":3,"trace":"x","request":{"op":"kill","id":"c","signal":9,"colour":{"a":[1]}}}"#;
    let read = parse_request(newer).unwrap().unwrap();
    assert_eq!(
        read.request,
        Request::Kill {
            id: "c".into(),
            signal: 9,
            scope: KillScope::Init
        }
    );
    let create = br#"{"seq":1,"request":{"op":"create","id":"c","bundle":"/b","log":{"path":"/l"}}}"#;
    let Request::Create(create) = parse_request(create).unwrap().unwrap().request else {
        panic!("not a create")
    };
    assert_eq!(
        create.log,
        Some(LogTarget {
            path: PathBuf::from("/l"),
            max_line: 16384,
            mode: 0o640
        })
    );
    let kind: RemoteError = serde_json::from_str(r#"{"kind":"of_the_future","message":"m"}"#).unwrap();
    assert_eq!(kind.kind, ErrorKind::Internal);
}

#[test]
fn an_unknown_request_can_be_answered_and_garbage_can_not() {
    let (head, error) = parse_request(br#"{"seq":8,"fds":2,"request":{"op":"teleport","to":"mars"}}"#)
        .unwrap()
        .unwrap_err();
    assert_eq!(head, RequestHead { seq: 8, fds: 2 });
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert!(error.message.contains("teleport"), "{error}");
    let (_, error) = parse_request(br#"{"seq":8,"request":{"op":"start"}}"#)
        .unwrap()
        .unwrap_err();
    assert!(error.message.contains("`id`"), "{error}");
    for garbage in [&b""[..], b"{", b"[]", b"\xff\xfe", b"null", br#"{"seq":-1}"#] {
        assert!(parse_request(garbage).is_err(), "{garbage:?}");
    }
}

#[test]
fn an_oversized_frame_is_refused_by_its_length_alone() {
    let mut decoder = Decoder::default();
    decoder.push(&u32::MAX.to_le_bytes());
    assert!(matches!(decoder.next_frame(), Err(FrameError::TooLong { .. })));
    let mut out = b"kept".to_vec();
    assert!(matches!(
        encode(&"x".repeat(MAX_FRAME), &mut out),
        Err(FrameError::TooLong { .. })
    ));
    assert_eq!(out, b"kept");
}

#[test]
fn a_decoder_without_an_unfinished_frame_holds_no_memory() {
    let mut decoder = Decoder::default();
    let mut bytes = Vec::new();
    encode(&"hello", &mut bytes).unwrap();
    decoder.push(&bytes);
    assert_eq!(decoder.next_frame().unwrap(), Some(&b"\"hello\""[..]));
    assert_eq!(decoder.next_frame().unwrap(), None);
    assert_eq!(decoder.held(), 0);
}

#[cfg(unix)]
#[test]
fn a_path_that_is_not_utf8_is_an_error_and_leaves_nothing_behind() {
    use std::os::unix::ffi::OsStrExt;
    let request = Request::Create(CreateContainer {
        bundle: std::ffi::OsStr::from_bytes(b"/\xff").into(),
        ..Default::default()
    });
    let mut out = Vec::new();
    assert!(matches!(
        encode(
            &RequestFrame {
                seq: 1,
                fds: 0,
                request
            },
            &mut out
        ),
        Err(FrameError::Encode(_))
    ));
    assert!(out.is_empty());
}
