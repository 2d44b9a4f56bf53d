//! `pintle-oci` from outside: what a process has: environment, user, terminal, descriptors, system calls.
#![allow(clippy::unwrap_used)]

mod oci_cli;
mod support;

use std::fs::{self, File};
use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use oci_cli::{Cli, Done};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::json;

#[test]
fn an_exec_is_what_its_flags_and_its_file_say() {
    let cli = Cli::sleeper();
    cli.start();
    let script = "echo $A $B $(id -u):$(id -g) $(pwd); exit 7";
    fs::write(cli.bundle.path("script"), script).unwrap();
    let mut command = cli.command("exec --env A=1 -e B=2 -u 1000:1001 --cwd /tmp c sh -c");
    let done = Done::of(command.arg(script).output().unwrap());
    assert_eq!(
        (done.code, done.out.as_str()),
        (7, "1 2 1000:1001 /tmp\n"),
        "{done:?}"
    );
    let process =
        json!({"args": ["sh", "-c", "echo $HOME; exit 8"], "cwd": "/", "user": {"uid": 0, "gid": 0}});
    fs::write(cli.bundle.path("process.json"), process.to_string()).unwrap();
    let done = cli.run("exec --process {}/process.json c");
    assert_eq!((done.code, done.out.as_str()), (8, "/root\n"), "{done:?}");
    let done = cli.run("exec c cat /proc/self/cgroup");
    assert!(
        done.out.contains(cli.bundle.cgroup.rsplit('/').next().unwrap()) || done.out.contains(":/\n"),
        "{done:?}"
    );
    for (line, why) in [
        ("exec c /nope", "exec /nope: no such file or directory"),
        ("exec c nope", "executable file not found in $PATH"),
        ("exec --pid-file /no/such/folder/pid c true", "/no/such/folder"),
        ("exec nobody true", "container does not exist"),
        ("exec -u me c true", "uid"),
        ("exec --cgroup nope c true", "nope"),
        ("exec c", "args"),
    ] {
        let done = cli.run(line);
        assert!(done.code == 255 && done.err.contains(why), "{line}: {done:?}");
    }
    assert_eq!(
        Done::of(cli.command("exec c sh -c").arg("kill -9 $$").output().unwrap()).code,
        137
    );
}

#[test]
fn a_detached_exec_lives_on() {
    let cli = Cli::sleeper();
    cli.start();
    let status = cli
        .command("exec -d --pid-file pid c sleep 1000")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let pid: i32 = fs::read_to_string(cli.bundle.path("pid"))
        .unwrap()
        .parse()
        .unwrap();
    let all: Vec<i32> = serde_json::from_str(&cli.ok("ps -f json c")).unwrap();
    assert!(all.contains(&pid) && all.len() == 2, "{all:?}");
    cli.ok("kill -a c KILL");
    cli.wait_for("stopped");
}

#[test]
fn descriptors_are_handed_on_only_if_that_is_asked_for() {
    let cli = Cli::new("ls /proc/$$/fd; cat <&3");
    fs::write(cli.bundle.path("given"), "given\n").unwrap();
    let run = |line: &str| {
        let inner = cli.command(line);
        let mut command = std::process::Command::new("sh");
        command
            .args(["-c", "exec 3<\"$0\"; exec \"$@\""])
            .arg(cli.bundle.path("given"));
        command
            .arg(inner.get_program())
            .args(inner.get_args())
            .current_dir(cli.bundle.dir.path());
        Done::of(command.stdin(Stdio::null()).output().unwrap())
    };
    let done = run("run --preserve-fds 1 c");
    assert_eq!(done.out, "0\n1\n2\n3\ngiven\n", "{done:?}");
    let done = run("run c");
    assert_eq!(done.out, "0\n1\n2\n", "{done:?}");
    let done = run("run --preserve-fds 30 c");
    assert!(done.code == 1 && done.err.contains("preserved-fd"), "{done:?}");
    cli.assert_nothing_left();
}

fn receive(listener: &UnixListener) -> OwnedFd {
    let (stream, _) = listener.accept().unwrap();
    let mut name = [0; 64];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut iov = [IoSliceMut::new(&mut name)];
    recvmsg(&stream, &mut iov, &mut control, RecvFlags::empty()).unwrap();
    let mut fds: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(fds.len(), 1);
    fds.remove(0)
}

fn read_terminal(master: &OwnedFd) -> String {
    let (mut text, mut buffer) = (Vec::new(), [0; 512]);
    while let Ok(n @ 1..) = nix::unistd::read(master, &mut buffer) {
        text.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn a_terminals_master_goes_to_the_console_socket() {
    let mut cli = Cli::new("tty; echo two");
    cli.bundle.set("/process/terminal", json!(true));
    let path = cli.bundle.path("console");
    let listener = UnixListener::bind(&path).unwrap();
    let without = cli.run("create c");
    assert!(
        without.code == 1 && without.err.contains("console socket"),
        "{without:?}"
    );
    cli.ok("create --console-socket {}/console c");
    let master = receive(&listener);
    cli.ok("start c");
    assert_eq!(read_terminal(&master), "/dev/pts/0\ntwo\n");
    cli.wait_for("stopped");
    cli.ok("delete c");
    cli.bundle.set("/process/args", json!(["sleep", "1000"]));
    cli.bundle.set("/process/terminal", json!(false));
    let useless = cli.run("create --console-socket {}/console c");
    assert!(
        useless.code == 1 && useless.err.contains("console socket"),
        "{useless:?}"
    );
    cli.start();
    cli.ok("exec -t -d --console-socket {}/console c tty");
    let master = receive(&listener);
    assert!(read_terminal(&master).starts_with("/dev/pts/"));
}

#[test]
fn a_terminal_works_though_the_caller_has_none() {
    let mut cli = Cli::new("tty; read line; echo got $line; exit 5");
    cli.bundle.set("/process/terminal", json!(true));
    fs::write(cli.bundle.path("keys"), "keys\n").unwrap();
    let keys = File::open(cli.bundle.path("keys")).unwrap();
    let done = Done::of(cli.command("run c").stdin(keys).output().unwrap());
    assert_eq!(done.code, 5, "{done:?}");
    assert!(
        done.out.contains("/dev/pts/0\n") && done.out.ends_with("got keys\n"),
        "{done:?}"
    );
    cli.assert_nothing_left();
    let cli = Cli::sleeper();
    cli.start();
    let done = cli.run("exec -t c tty");
    assert!(done.code == 0 && done.out.starts_with("/dev/pts/"), "{done:?}");
}

#[test]
fn the_callers_terminal_is_passed_through_and_put_back() {
    let mut cli = Cli::new("stty size; read line; echo got $line; exit 6");
    cli.bundle.set("/process/terminal", json!(true));
    let size = nix::pty::Winsize {
        ws_row: 21,
        ws_col: 43,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = nix::pty::openpty(Some(&size), None).unwrap();
    let before = nix::sys::termios::tcgetattr(&pty.slave).unwrap();
    let copy = || Stdio::from(pty.slave.try_clone().unwrap());
    let mut child = cli
        .command("run c")
        .stdin(copy())
        .stdout(copy())
        .stderr(copy())
        .spawn()
        .unwrap();
    let mut text = String::new();
    let mut master = File::from(pty.master.try_clone().unwrap());
    let mut read_until = |end: &str| {
        let mut byte = [0];
        while !text.ends_with(end) && master.read(&mut byte).unwrap() == 1 {
            text.push(char::from(byte[0]));
        }
    };
    read_until("21 43\r\n");
    nix::unistd::write(&pty.master, b"keys\r").unwrap();
    read_until("got keys\r\n");
    assert_eq!(child.wait().unwrap().code(), Some(6));
    assert_eq!(nix::sys::termios::tcgetattr(&pty.slave).unwrap(), before);
    cli.assert_nothing_left();
}

#[test]
fn system_calls_are_filtered_for_the_init_and_for_execs() {
    let mut cli = Cli::sleeper();
    let rule = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95});
    cli.bundle.spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    cli.start();
    let done = cli.run("exec c mkdir /tmp/x");
    assert!(done.code == 1 && done.err.contains("not supported"), "{done:?}");
    cli.ok("delete -f c");
    cli.bundle.set("/process/args", json!(["mkdir", "/tmp/x"]));
    let done = cli.run("run c");
    assert!(done.code == 1 && done.err.contains("not supported"), "{done:?}");
    cli.assert_nothing_left();
}

/// CVE-2019-5736: until it executes its own program, a container's process runs ours.
#[test]
fn the_runtimes_file_cannot_be_written_through_a_container() {
    let cli = Cli::sleeper();
    cli.create();
    let exe = format!("/proc/{}/exe", cli.state()["pid"]);
    let flags = nix::sys::statvfs::statvfs(exe.as_str()).unwrap().flags();
    assert!(flags.contains(nix::sys::statvfs::FsFlags::ST_RDONLY), "{flags:?}");
}
