//! Further processes in a running container.
#![allow(clippy::unwrap_used)] // in tests a failure may panic where it happens

mod support;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use oci_spec::runtime::Process;
use pintle_runtime::{cgroup, container};
use serde_json::{Value, json};
use support::{Bundle, Running, exit_code};

fn running() -> (Bundle, Running) {
    let b = Bundle::new("echo ready; exec sleep 1000");
    let mut running = b.prepare().unwrap();
    running.start().unwrap();
    assert_eq!(running.line(), "ready");
    (b, running)
}

fn process(changes: &Value) -> Process {
    let mut base = json!({"args": ["true"], "env": ["PATH=/bin"], "cwd": "/", "user": {"uid": 0, "gid": 0}});
    base.as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    serde_json::from_value(base).unwrap()
}

#[expect(clippy::needless_pass_by_value)] // reads better where it is called
fn exec(target: &Running, changes: Value) -> Result<(i32, String), pintle_runtime::Error> {
    let (read, write) = nix::unistd::pipe().unwrap();
    let stdio = [
        File::open("/dev/null").unwrap().into(),
        write.try_clone().unwrap(),
        write,
    ];
    let started = container::exec(&target.prepared.exec_target(), &process(&changes), None, stdio)?;
    let mut output = String::new();
    File::from(read).read_to_string(&mut output).unwrap();
    let code = exit_code(nix::sys::wait::waitpid(started.pid, None).unwrap());
    Ok((code, output))
}

#[test]
fn it_has_the_container_s_personality() {
    let mut b = Bundle::new("echo ready; exec sleep 1000");
    b.set("/linux/personality", json!({"domain": "LINUX32"}));
    let mut running = b.prepare().unwrap();
    running.start().unwrap();
    assert_eq!(running.line(), "ready");
    assert_eq!(
        exec(&running, json!({"args": ["uname", "-m"]})).unwrap(),
        (0, "i686\n".to_owned())
    );
}

#[test]
fn it_is_inside_in_every_respect() {
    let (_b, running) = running();
    let script = "hostname; ls /proc/self/fd | wc -l; for n in pid net ipc uts mnt cgroup; do \
        [ $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) ] || echo $n differs; done; \
        cmp /proc/1/cgroup /proc/self/cgroup; id -u; id -G; pwd; grep CapEff /proc/self/status; exit 5";
    let (code, output) = exec(
        &running,
        json!({"args": ["sh", "-c", script], "cwd": "/tmp", "user": {"uid": 1000, "gid": 1000, "additionalGids": [9]}}),
    )
    .unwrap();
    // reading another user's namespaces takes a privilege that this one lacks, so root looks, below
    assert_eq!(code, 5, "{output}");
    assert!(output.starts_with("box\n4\n"), "{output}");
    assert!(
        output.ends_with("1000\n1000 9\n/tmp\nCapEff:\t0000000000000000\n"),
        "{output}"
    );
    let caps = json!(["CAP_SYS_PTRACE"]);
    let (code, output) = exec(
        &running,
        json!({"args": ["sh", "-c", script], "capabilities": {"bounding": caps, "effective": caps, "permitted": caps}}),
    )
    .unwrap();
    assert_eq!(code, 5);
    assert!(!output.contains("differs"), "{output}");
}

#[test]
fn what_cannot_run_is_told_and_leaves_nothing() {
    let (_b, running) = running();
    let before = running.prepared.cgroup.processes().unwrap();
    for (changes, text) in [
        (
            json!({"args": ["nope"]}),
            "exec: \"nope\": executable file not found in $PATH",
        ),
        (
            json!({"args": ["/nope"]}),
            "exec /nope: no such file or directory",
        ),
        (json!({"args": []}), "process.args: names no program"),
        (
            json!({"cwd": "/nope"}),
            "chdir to cwd (\"/nope\") set in config.json failed: no such file or directory",
        ),
    ] {
        let e = exec(&running, changes).unwrap_err().to_string();
        assert_eq!(e, text);
    }
    assert_eq!(running.prepared.cgroup.processes().unwrap(), before);
}

#[test]
fn a_stopped_container_cannot_be_entered() {
    let (_b, mut running) = running();
    nix::sys::signal::kill(running.prepared.pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    running.wait();
    let e = exec(&running, json!({})).unwrap_err().to_string();
    assert_eq!(e, "cannot exec in a stopped container");
}

#[test]
fn a_terminal_is_of_the_containers_devpts() {
    let (_b, running) = running();
    let stdio = [(); 3].map(|()| File::open("/dev/null").unwrap().into());
    let process = process(&json!({"args": ["sh", "-c", "tty; test -t 1 && echo yes"], "terminal": true}));
    let started = container::exec(&running.prepared.exec_target(), &process, None, stdio).unwrap();
    let master = started.console.unwrap();
    let (mut output, mut buf) = (Vec::new(), [0; 256]);
    while let Ok(n @ 1..) = nix::unistd::read(&master, &mut buf) {
        output.extend_from_slice(&buf[..n]);
    }
    assert_eq!(String::from_utf8(output).unwrap(), "/dev/pts/0\nyes\n");
    assert_eq!(exit_code(nix::sys::wait::waitpid(started.pid, None).unwrap()), 0);
}

#[test]
fn many_at_once_all_work() {
    let (_b, running) = running();
    std::thread::scope(|scope| {
        for i in 0..8 {
            let running = &running;
            scope.spawn(move || {
                for j in 0..5 {
                    let word = format!("{i}-{j}");
                    let (code, output) = exec(running, json!({"args": ["echo", word]})).unwrap();
                    assert_eq!((code, output), (0, format!("{word}\n")));
                }
            });
        }
    });
}

#[test]
fn it_runs_on_the_processors_that_it_asks_for() {
    let (_b, running) = running();
    let script = "grep Cpus_allowed_list /proc/self/status";
    let first = json!({"args": ["sh", "-c", script], "execCPUAffinity": {"initial": "0", "final": "0"}});
    assert_eq!(
        exec(&running, first).unwrap(),
        (0, "Cpus_allowed_list:\t0\n".to_owned())
    );
    let none = json!({"args": ["true"], "execCPUAffinity": {"final": "1000"}});
    let e = exec(&running, none).unwrap_err().to_string();
    assert!(e.starts_with("process.execCPUAffinity.final: \"1000\""), "{e}");
}

/// A group that has handed controllers down holds no processes itself.
#[test]
fn a_container_that_has_divided_its_cgroup_is_entered_beside_its_init() {
    let (b, running) = running();
    let tree = cgroup::hierarchies().iter().find(|h| h.v2).unwrap();
    let controllers = std::fs::read_to_string(tree.mount.join("cgroup.controllers")).unwrap();
    let controller = format!("+{}", controllers.split_whitespace().next_back().unwrap());
    let hand_down =
        |folder: &Path| std::fs::write(folder.join("cgroup.subtree_control"), &controller).unwrap();
    let mut group = tree.mount.clone();
    // a hybrid host hands nothing down by itself
    for part in b.cgroup.trim_start_matches('/').split('/') {
        hand_down(&group);
        group.push(part);
    }
    let inner = group.join("inner");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(inner.join("cgroup.procs"), running.prepared.pid.to_string()).unwrap();
    hand_down(&group);
    let (code, output) = exec(&running, json!({"args": ["grep", "^0::", "/proc/self/cgroup"]})).unwrap();
    assert_eq!((code, output.as_str()), (0, "0::/inner\n"));
}
