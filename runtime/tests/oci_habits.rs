//! `pintle-oci` where other projects' suites look closer than the specification: what is taken, what is told, what holds
//! for an exec as for the init.
#![allow(clippy::unwrap_used)]

mod oci_cli;
mod support;

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixListener;

use oci_cli::{Cli, Done};
use serde_json::{Value, json};

#[test]
fn what_others_take_is_taken_with_a_word_of_warning() {
    let mut cli = Cli::new("grep Cap /proc/self/status; ls -d /relative");
    cli.bundle.set(
        "/process/capabilities",
        json!({"bounding": ["CAP_KILL", "CAP_NO_SUCH"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"],
            "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL", "CAP_CHOWN"]}),
    );
    cli.bundle.spec["process"].as_object_mut().unwrap().remove("user");
    cli.bundle.add(
        "/mounts",
        json!({"destination": "relative", "type": "tmpfs", "source": "tmpfs"}),
    );
    let done = cli.run("run c");
    assert_eq!(done.code, 0, "{done:?}");
    assert!(
        done.out.contains("CapAmb:\t0000000000000020") && done.out.contains("/relative\n"),
        "{done:?}"
    );
    for warning in [
        "CAP_NO_SUCH",
        "can't raise ambient capability CAP_CHOWN",
        "destination relative is not absolute",
    ] {
        assert!(done.err.contains(warning), "no {warning:?} in {done:?}");
    }
    cli.assert_nothing_left();
}

#[test]
fn an_exec_with_a_further_capability_has_it_ambient_if_any_is_inheritable() {
    let mut cli = Cli::sleeper();
    cli.bundle
        .add("/process/capabilities/bounding", json!("CAP_SYSLOG"));
    cli.bundle.set(
        "/process/capabilities/inheritable",
        json!(["CAP_CHOWN", "CAP_SYSLOG"]),
    );
    cli.start();
    let out = cli.ok("exec --cap CAP_SYSLOG c grep CapAmb /proc/self/status");
    assert_eq!(out, "CapAmb:\t0000000400000000\n");
}

#[test]
fn the_processors_of_the_caller_are_not_those_of_the_container() {
    let cli = Cli::new("grep Cpus_allowed_list /proc/self/status");
    let all = fs::read_to_string("/proc/1/status").unwrap();
    let wanted = all
        .lines()
        .find(|line| line.starts_with("Cpus_allowed_list"))
        .unwrap();
    let bound = |line: &str| {
        let plain = cli.command(line);
        let mut command = std::process::Command::new("taskset");
        command
            .args(["-c", "0"])
            .arg(plain.get_program())
            .args(plain.get_args());
        command
            .current_dir(cli.bundle.dir.path())
            .stdin(std::process::Stdio::null());
        Done::of(oci_cli::bounded(&mut command))
    };
    let done = bound("run c");
    assert_eq!((done.code, done.out.trim()), (0, wanted), "{done:?}");
    let other = Cli::sleeper();
    other.start();
    let plain = other.command("exec c grep Cpus_allowed_list /proc/self/status");
    let mut command = std::process::Command::new("taskset");
    command
        .args(["-c", "0"])
        .arg(plain.get_program())
        .args(plain.get_args());
    assert_eq!(Done::of(oci_cli::bounded(&mut command)).out.trim(), wanted);
}

#[test]
fn an_exec_enters_groups_below_in_single_hierarchies() {
    if pintle_runtime::cgroup::detect() == pintle_runtime::cgroup::Mode::V2 {
        return; // one tree has no single hierarchies
    }
    let mut cli = Cli::sleeper();
    // seen by their paths on the host
    cli.bundle.spec["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .pop();
    cli.start();
    let folder = |controller: &str| {
        let mut all = pintle_runtime::cgroup::hierarchies().iter();
        let hierarchy = all
            .find(|h| h.controllers.iter().any(|c| c == controller))
            .unwrap();
        hierarchy
            .mount
            .join(cli.bundle.cgroup.trim_start_matches('/'))
            .join("below")
    };
    for controller in ["memory", "cpu", "cpuacct"] {
        fs::create_dir_all(folder(controller)).unwrap();
    }
    let out = cli.ok("exec --cgroup memory:below --cgroup cpu,cpuacct:/below c cat /proc/self/cgroup");
    for line in out.lines() {
        let (kind, path) = line.split_once(':').unwrap().1.split_once(':').unwrap();
        let is_below = ["memory", "cpu", "cpuacct"]
            .iter()
            .any(|c| kind.split(',').any(|k| k == *c));
        assert_eq!(path.ends_with("/below"), is_below, "{line}");
    }
    for (flag, why) in [
        ("..", "bad sub cgroup path"),
        ("cpu:../..", "bad sub cgroup path"),
        ("nope:/", "unknown controller"),
        ("cpu:nope", "adding pid to cgroup"),
        ("nope", "adding pid to cgroup"),
    ] {
        let done = cli.run(&format!("exec --cgroup {flag} c true"));
        assert!(done.code == 255 && done.err.contains(why), "{flag}: {done:?}");
    }
    cli.ok("delete -f c");
    cli.assert_nothing_left();
}

#[test]
fn an_exec_sees_the_machine_that_the_init_sees() {
    let mut cli = Cli::sleeper();
    cli.bundle.set("/linux/personality", json!({"domain": "LINUX32"}));
    cli.start();
    assert_eq!(cli.ok("exec c uname -m"), "i686\n");
}

#[test]
fn hooks_find_home_and_root_and_the_last_of_them_is_confined() {
    let mut cli = Cli::new("true");
    let sh = |script: &str| json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    cli.bundle.set(
        "/hooks",
        json!({
            "createContainer": [sh("ls bin/busybox > made-by-hook")],
            "startContainer": [sh("test \"$HOME\" = /root && test \"$TERM\" = xterm")]
        }),
    );
    cli.ok("run c");
    let made = fs::read_to_string(cli.bundle.rootfs().join("made-by-hook")).unwrap();
    assert_eq!(made, "bin/busybox\n");
    cli.bundle.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL"}]}),
    );
    cli.bundle
        .set("/hooks", json!({"startContainer": [sh("mkdir /tmp/x")]}));
    let done = cli.run("run c");
    assert!(
        done.code == 1 && done.err.contains("error running startContainer hook #0"),
        "{done:?}"
    );
    assert!(!cli.bundle.rootfs().join("tmp/x").exists());
    cli.assert_nothing_left();
}

#[test]
fn a_container_that_waits_ends_when_it_is_asked_to() {
    let cli = Cli::sleeper();
    cli.create();
    cli.ok("kill c TERM");
    cli.wait_for("stopped");
    let plain = cli.run("kill c 0");
    assert!(
        plain.code == 1 && plain.err.contains("container not running"),
        "{plain:?}"
    );
    cli.ok("kill -a c 0");
    cli.ok("delete c");
    cli.assert_nothing_left();
}

#[test]
fn what_is_listed_twice_is_covered_once_and_dev_is_filled_before_it_is_read_only() {
    let mut cli =
        Cli::new("grep -c ' /covered ' /proc/self/mountinfo; touch /dev/x 2>&1; ls /dev/null /dev/pts/ptmx");
    fs::create_dir(cli.bundle.rootfs().join("covered")).unwrap();
    cli.bundle
        .set("/linux/maskedPaths", json!(["/covered", "/covered"]));
    cli.bundle
        .set("/mounts/1/options", json!(["nosuid", "ro", "mode=755"]));
    let out = cli.ok("run c");
    assert!(
        out.starts_with("1\n") && out.contains("Read-only") && out.ends_with("/dev/null\n/dev/pts/ptmx\n"),
        "{out}"
    );
    fs::remove_dir(cli.bundle.rootfs().join("proc")).unwrap();
    std::os::unix::fs::symlink("tmp", cli.bundle.rootfs().join("proc")).unwrap();
    let done = cli.run("run c");
    assert!(
        done.code == 1 && done.err.contains("must be mounted on ordinary directory"),
        "{done:?}"
    );
}

#[test]
fn events_have_their_fields_in_order() {
    let cli = Cli::sleeper();
    cli.start();
    let line = cli.ok("events --stats c");
    assert!(
        line.starts_with("{\"type\":\"stats\",\"id\":\"c\",\"data\":{"),
        "{line}"
    );
    let _: Value = serde_json::from_str(&line).unwrap();
}

#[test]
fn a_listener_hears_of_each_process() {
    let mut cli = Cli::sleeper();
    let path = cli.bundle.path("listener");
    let listener = UnixListener::bind(&path).unwrap();
    cli.bundle.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "box",
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}),
    );
    cli.start();
    let init = cli.state()["pid"].clone();
    let hear = || -> Value {
        let (mut stream, _) = listener.accept().unwrap();
        let mut text = [0; 4096];
        let length = stream.read(&mut text).unwrap();
        serde_json::from_slice(&text[..length]).unwrap()
    };
    assert_eq!(hear()["pid"], init);
    assert_eq!(cli.ok("exec c echo heard"), "heard\n");
    let told = hear();
    assert_eq!(
        (&told["state"]["pid"], &told["state"]["status"]),
        (&init, &json!("running"))
    );
    assert!(told["pid"] != init && told["metadata"] == "box", "{told}");
}

#[test]
fn a_root_that_follows_the_host_sees_what_it_mounts_later() {
    let mut cli = Cli::new("awk '$5 == \"/\"' /proc/self/mountinfo | grep -o 'master:'");
    cli.bundle.set("/linux/rootfsPropagation", json!("slave"));
    let root = cli.bundle.rootfs();
    let none: Option<&str> = None;
    // a mount that is shared whatever the test's own folder lies on
    nix::mount::mount(Some(&root), &root, none, nix::mount::MsFlags::MS_BIND, none).unwrap();
    nix::mount::mount(none, &root, none, nix::mount::MsFlags::MS_SHARED, none).unwrap();
    let done = cli.run("run c");
    nix::mount::umount(&root).unwrap();
    assert_eq!((done.code, done.out.as_str()), (0, "master:\n"), "{done:?}");
}

#[test]
fn a_domain_is_named_once() {
    let mut cli = Cli::new("cat /proc/sys/kernel/domainname");
    cli.bundle.set("/domainname", json!("here"));
    cli.bundle
        .set("/linux/sysctl", json!({"kernel.domainname": "here"}));
    assert_eq!(cli.ok("run c"), "here\n");
    cli.bundle
        .set("/linux/sysctl", json!({"kernel.domainname": "there"}));
    let done = cli.run("run c");
    assert!(done.code == 1 && done.err.contains("domainname: "), "{done:?}");
    cli.assert_nothing_left();
}

#[test]
fn a_root_that_is_moved_and_not_pivoted_is_the_only_one() {
    let mut cli = Cli::new("ls / | tr '\\n' ' '");
    cli.bundle.set("/linux/maskedPaths", json!([]));
    assert_eq!(cli.ok("run --no-pivot c"), "bin dev etc proc root sys tmp ");
    // what lies beneath the new root isn't the host's procfs, which would have no masks
    cli.bundle.set(
        "/process/args",
        json!(["sh", "-c", "umount -l /proc; ls -A /proc | wc -l"]),
    );
    let caps = json!(["CAP_SYS_ADMIN", "CAP_SYS_CHROOT"]);
    cli.bundle.set(
        "/process/capabilities",
        json!({"bounding": caps, "effective": caps, "permitted": caps}),
    );
    assert_eq!(cli.ok("run --no-pivot c"), "0\n");
    cli.assert_nothing_left();
}
