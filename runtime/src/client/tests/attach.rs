//! Attachments and terminals: who gets what, who is waited for, and who isn't.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use super::*;
use crate::protocol::CreateContainer;

/// A pod with a container that keeps its standard input.
async fn with_stdin(id: &str, stdin_once: bool) -> (Pod, MonitorClient, Events) {
    let pod = Pod::new();
    let (client, events) = MonitorClient::connect(pod.dir.path()).await.unwrap();
    let container = CreateContainer {
        stdin: true,
        stdin_once,
        ..pod.container(id)
    };
    client.create(container).await.unwrap();
    client.start(id).await.unwrap();
    (pod, client, events)
}

async fn attach_output(client: &MonitorClient, id: &str) -> [PipeReader; 2] {
    let (out, out_end) = pipe().unwrap();
    let (err, err_end) = pipe().unwrap();
    let stdio = [None, Some(out_end.into()), Some(err_end.into())];
    client.attach(id, stdio).await.unwrap();
    [out, err]
}

async fn attach_input(client: &MonitorClient, id: &str) -> PipeWriter {
    let (end, writer) = pipe().unwrap();
    client.attach(id, [Some(end.into()), None, None]).await.unwrap();
    writer
}

/// Reads exactly so much, elsewhere, so that the test's own tasks go on.
async fn read(from: impl AsFd, len: usize) -> String {
    let mut file = File::from(from.as_fd().try_clone_to_owned().unwrap());
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; len];
        file.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    });
    soon(reading).await.unwrap()
}

async fn read_all(mut from: impl Read + Send + 'static) -> Vec<u8> {
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        bytes
    });
    soon(reading).await.unwrap()
}

fn remote_kind<T: std::fmt::Debug>(outcome: Result<T>) -> ErrorKind {
    match outcome.unwrap_err() {
        Error::Remote { kind, .. } => kind,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn output_goes_into_the_log_and_to_everybody_attached_until_the_exit() {
    let pod = Pod::new();
    let (client, mut events) = running(&pod, "c").await;
    pod.write("c", false, b"before\n");
    while pod.log("c").is_empty() {
        tokio::task::yield_now().await;
    }
    let [out1, err1] = attach_output(&client, "c").await;
    let [out2, err2] = attach_output(&client, "c").await;
    pod.write("c", false, b"one\n");
    pod.write("c", true, b"two\n");
    assert_eq!(read(&out1, 4).await, "one\n", "and no history");
    assert_eq!(read(&err1, 4).await, "two\n");
    drop((out1, err1));
    pod.write("c", false, b"three");
    pod.end("c", ending(0));
    assert_eq!(read_all(out2).await, b"one\nthree");
    assert_eq!(read_all(err2).await, b"two\n");
    soon(events.next()).await.unwrap();
    let log = pod.log("c");
    assert_eq!(log.len(), 4, "{log:?}");
    client.shutdown().await.unwrap();
    pod.join();
}

#[tokio::test]
async fn who_does_not_read_loses_the_attachment_and_nobody_else_anything() {
    let pod = Pod::new();
    let (client, mut events) = running(&pod, "c").await;
    let [deaf, err] = attach_output(&client, "c").await;
    let line = [&[b'x'; 99][..], b"\n"].concat();
    let output = File::from(pod.output("c", false));
    let writing = tokio::task::spawn_blocking(move || {
        for _ in 0..50_000 {
            (&output).write_all(&line).unwrap();
        }
    });
    soon(writing).await.unwrap();
    // its other stream is closed, too, though nothing was written there
    assert_eq!(read_all(err).await, b"");
    let got = read_all(deaf).await;
    assert!(got.len() < 5_000_000, "{} bytes", got.len());
    let mut late = attach_output(&client, "c").await;
    pod.write("c", false, b"still here\n");
    assert_eq!(read(&late[0], 11).await, "still here\n");
    pod.end("c", ending(0));
    soon(events.next()).await.unwrap();
    assert_eq!(pod.log("c").len(), 50_001);
    assert_eq!(late[0].read(&mut [0; 9]).unwrap(), 0);
    client.shutdown().await.unwrap();
    pod.join();
}

#[tokio::test]
async fn what_is_left_for_a_slow_reader_outlives_the_container() {
    let pod = Pod::new();
    let (client, mut events) = running(&pod, "c").await;
    let [out, _err] = attach_output(&client, "c").await;
    let output = File::from(pod.output("c", false));
    let writing = tokio::task::spawn_blocking(move || (&output).write_all(&[b'y'; 300_000]).unwrap());
    soon(writing).await.unwrap();
    pod.end("c", ending(0));
    soon(events.next()).await.unwrap();
    assert_eq!(read_all(out).await.len(), 300_000);
    client.shutdown().await.unwrap();
    pod.join();
}

#[tokio::test]
async fn input_comes_from_all_and_stays_open_when_they_leave() {
    let (pod, client, _events) = with_stdin("c", false).await;
    let stdin = pod.input("c");
    let (mut one, mut two) = (attach_input(&client, "c").await, attach_input(&client, "c").await);
    one.write_all(b"from one\n").unwrap();
    assert_eq!(read(&stdin, 9).await, "from one\n");
    two.write_all(b"from two\n").unwrap();
    assert_eq!(read(&stdin, 9).await, "from two\n");
    drop((one, two));
    let mut three = attach_input(&client, "c").await;
    three.write_all(b"and on").unwrap();
    assert_eq!(read(&stdin, 6).await, "and on");
    assert!(client.state().await.unwrap().containers[0].stdin);
    pod.end("c", ending(0));
    // the monitor closes its end
    let broken = tokio::task::spawn_blocking(move || while three.write_all(b"x").is_ok() {});
    soon(broken).await.unwrap();
    client.shutdown().await.unwrap();
    pod.join();
}

#[tokio::test]
async fn a_container_that_does_not_read_makes_its_senders_wait() {
    let (pod, client, _events) = with_stdin("c", true).await;
    let stdin = pod.input("c");
    let mut sender = attach_input(&client, "c").await;
    let data: Vec<u8> = (0..1_000_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
    let sent = data.clone();
    let sending = tokio::task::spawn_blocking(move || {
        sender.write_all(&sent).unwrap();
        drop(sender);
    });
    for _ in 0..20 {
        // whatever the monitor could take it has taken between two answers
        client.state().await.unwrap();
    }
    assert!(
        !sending.is_finished(),
        "a megabyte waits somewhere else than at its sender"
    );
    assert_eq!(read_all(File::from(stdin)).await, data, "and then comes the end");
    soon(sending).await.unwrap();
    client.shutdown().await.unwrap();
    pod.join();
}

#[tokio::test]
async fn with_stdin_once_the_first_who_leaves_closes_it() {
    let (pod, client, _events) = with_stdin("c", true).await;
    let stdin = pod.input("c");
    let [out, _err] = attach_output(&client, "c").await;
    assert!(client.state().await.unwrap().containers[0].stdin);
    let mut sender = attach_input(&client, "c").await;
    sender.write_all(b"echo hello\n").unwrap();
    drop(sender);
    assert_eq!(read_all(File::from(stdin)).await, b"echo hello\n");
    assert!(!client.state().await.unwrap().containers[0].stdin);
    let mut late = attach_input(&client, "c").await;
    assert_eq!(
        late.write(b"x").unwrap_err().raw_os_error(),
        Some(Errno::EPIPE as i32)
    );
    pod.write("c", false, b"hello\n");
    pod.end("c", ending(0));
    assert_eq!(read_all(out).await, b"hello\n", "the output outlives the input");
    client.shutdown().await.unwrap();
    pod.join();
}

#[tokio::test]
async fn a_container_that_closes_its_input_harms_nobody() {
    let (pod, client, _events) = with_stdin("c", false).await;
    pod.close_input("c");
    let mut sender = attach_input(&client, "c").await;
    let broken = tokio::task::spawn_blocking(move || while sender.write_all(b"x").is_ok() {});
    soon(broken).await.unwrap();
    assert!(!client.state().await.unwrap().containers[0].stdin);
    pod.write("c", false, b"goes on\n");
    pod.end("c", ending(0));
    client.shutdown().await.unwrap();
    assert_eq!(pod.log("c"), ["stdout F goes on"]);
    pod.join();
}

#[tokio::test]
async fn a_terminal_is_one_stream_that_can_be_resized_and_never_ends_with_an_attachment() {
    let (pod, client, mut events) = with_stdin("tty", true).await;
    let (out, out_end) = pipe().unwrap();
    let (err, err_end) = pipe().unwrap();
    let (end, mut sender) = pipe().unwrap();
    let stdio = [Some(end.into()), Some(out_end.into()), Some(err_end.into())];
    client.attach("tty", stdio).await.unwrap();
    assert_eq!(read_all(err).await, b"", "closed at once");
    sender.write_all(b"keys").unwrap();
    let terminal = pod.input("tty");
    assert_eq!(read(&terminal, 4).await, "keys");
    drop(sender);
    let mut again = attach_input(&client, "tty").await;
    again.write_all(b"more").unwrap();
    assert_eq!(read(&terminal, 4).await, "more");
    client.resize("tty", 132, 43).await.unwrap();
    assert_eq!(size_of_terminal(&terminal), (132, 43));
    let state = &client.state().await.unwrap().containers[0];
    assert!(state.terminal && state.stdin);
    drop(terminal);
    pod.write("tty", true, b"shown\r\n");
    pod.end("tty", ending(0));
    assert_eq!(read_all(out).await, b"shown\r\n");
    soon(events.next()).await.unwrap();
    assert_eq!(pod.log("tty"), ["stdout F shown"]);
    assert_eq!(
        remote_kind(client.resize("tty", 1, 1).await),
        ErrorKind::InvalidState
    );
    client.shutdown().await.unwrap();
    pod.join();
}

fn size_of_terminal(terminal: &OwnedFd) -> (u16, u16) {
    crate::sys::term::size(terminal.as_fd()).unwrap()
}

#[tokio::test]
async fn what_cannot_be_attached_to_is_refused() {
    let pod = Pod::new();
    let (client, mut events) = running(&pod, "c").await;
    let (_out, end) = pipe().unwrap();
    let copy = || Some(OwnedFd::from(end.try_clone().unwrap()));
    assert_eq!(
        remote_kind(client.attach("nobody", [None, copy(), None]).await),
        ErrorKind::NotFound
    );
    assert_eq!(
        remote_kind(client.attach("c", [None, None, None]).await),
        ErrorKind::InvalidArgument
    );
    let file = OwnedFd::from(tempfile::tempfile().unwrap());
    let outcome = client.attach("c", [None, copy(), Some(file)]).await;
    assert_eq!(remote_kind(outcome), ErrorKind::InvalidArgument);
    assert_eq!(
        remote_kind(client.resize("c", 1, 1).await),
        ErrorKind::InvalidState
    );
    // its input is /dev/null, so what is sent goes nowhere
    let mut sender = attach_input(&client, "c").await;
    assert!(sender.write(b"x").is_err());
    for _ in 0..64 {
        client.attach("c", [None, copy(), None]).await.unwrap();
    }
    assert_eq!(
        remote_kind(client.attach("c", [None, copy(), None]).await),
        ErrorKind::InvalidState
    );
    pod.end("c", ending(0));
    soon(events.next()).await.unwrap();
    assert_eq!(
        remote_kind(client.attach("c", [None, copy(), None]).await),
        ErrorKind::InvalidState
    );
    client.delete("c").await.unwrap();
    client.shutdown().await.unwrap();
    pod.join();
}

#[tokio::test]
async fn the_master_of_an_execs_terminal_is_the_callers_alone() {
    let pod = Pod::new();
    let (client, _events) = running(&pod, "c").await;
    let no_terminal = client.exec_terminal(exec_request("c", "e")).await.unwrap_err();
    assert!(
        no_terminal.to_string().contains("process.terminal"),
        "{no_terminal}"
    );
    let mut request = exec_request("c", "e");
    request.process.set_terminal(Some(true));
    let (mut exec, master) = client.exec_terminal(request).await.unwrap();
    pod.write("e", false, b"prompt");
    assert_eq!(read(&master, 6).await, "prompt");
    let terminal = pod.input("e");
    crate::terminal::resize(master.as_fd(), 10, 20).unwrap();
    assert_eq!(size_of_terminal(&terminal), (10, 20));
    drop(master);
    assert_eq!(read_all(File::from(terminal)).await, b"", "hung up");
    exec.kill().await.unwrap();
    assert_eq!(soon(exec.wait()).await.unwrap().signal, Some(9));
    client.shutdown().await.unwrap();
    pod.join();
}
