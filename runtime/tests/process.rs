//! The process: user, capabilities, limits, environment, seccomp, errors of starting it.
#![allow(clippy::unwrap_used)] // in tests a failure may panic where it happens

mod support;

use serde_json::json;
use support::Bundle;

#[test]
fn user_and_groups_are_as_given_and_home_is_found() {
    let mut b = Bundle::new("id -u; id -g; id -G; echo $HOME; umask; pwd; grep NoNewPrivs /proc/self/status");
    b.set(
        "/process/user",
        json!({"uid": 1000, "gid": 1000, "additionalGids": [7, 8], "umask": 0o77}),
    );
    b.set("/process/cwd", json!("/made/for/it"));
    assert_eq!(
        b.output(),
        "1000\n1000\n1000 7 8\n/tmp\n0077\n/made/for/it\nNoNewPrivs:\t1\n"
    );
}

#[test]
fn capability_sets_are_exactly_those_given() {
    let mut b = Bundle::new("grep ^Cap /proc/self/status");
    // the shell isn't root, so only ambient ones survive execve
    b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let two = json!(["CAP_CHOWN", "CAP_KILL"]);
    let one = json!(["CAP_KILL"]);
    b.set(
        "/process/capabilities",
        json!({"bounding": two, "effective": one, "permitted": two, "inheritable": one, "ambient": one}),
    );
    let set = |n: u64| format!("{n:016x}");
    let expected = format!(
        "CapInh:\t{0}\nCapPrm:\t{0}\nCapEff:\t{0}\nCapBnd:\t{1}\nCapAmb:\t{0}\n",
        set(1 << 5),
        set(1 | 1 << 5)
    );
    assert_eq!(b.output(), expected);
}

#[test]
fn no_capabilities_means_none() {
    let mut b =
        Bundle::new("grep ^Cap /proc/self/status | cut -f2 | sort -u; grep NoNewPrivs /proc/self/status");
    b.spec["process"].as_object_mut().unwrap().remove("capabilities");
    b.set("/process/noNewPrivileges", json!(false));
    assert_eq!(b.output(), "0000000000000000\nNoNewPrivs:\t0\n");
}

#[test]
fn unavailable_capabilities_are_left_out() {
    let mut b = Bundle::new("grep CapEff /proc/self/status");
    let all = json!(["CAP_SYS_RESOURCE", "CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"]);
    b.set(
        "/process/capabilities",
        json!({"bounding": all, "effective": all, "permitted": all}),
    );
    b.output();
}

#[test]
fn rlimits_and_scores_are_set() {
    let mut b = Bundle::new("ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj");
    b.set(
        "/process/rlimits",
        json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]),
    );
    b.set("/process/oomScoreAdj", json!(777));
    assert_eq!(b.output(), "100\n200\n777\n");
}

#[test]
fn a_lower_oom_score_is_a_warning_where_it_is_refused() {
    let mut b = Bundle::new("true");
    b.set("/process/oomScoreAdj", json!(-997));
    let mut running = b.prepare().unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let caps = status.lines().find_map(|l| l.strip_prefix("CapEff:\t")).unwrap();
    let may = u64::from_str_radix(caps, 16).unwrap() & (1 << 24) != 0;
    assert_eq!(
        running.prepared.warnings.is_empty(),
        may,
        "{:?}",
        running.prepared.warnings
    );
    running.start().unwrap();
    assert_eq!(running.wait(), 0);
}

#[test]
fn a_program_that_does_not_exist_is_told_at_start() {
    for (program, text) in [
        ("/nope", "exec /nope: no such file or directory"),
        ("nope", "exec: \"nope\": executable file not found in $PATH"),
        ("/etc/passwd", "exec /etc/passwd: permission denied"),
        ("/etc", "exec /etc: permission denied"),
    ] {
        let mut b = Bundle::new("");
        b.set("/process/args", json!([program]));
        let mut running = b.prepare().unwrap();
        let e = running.start().unwrap_err();
        assert_eq!(
            (e.to_string().as_str(), e.kind()),
            (text, pintle_runtime::error::Kind::Exec)
        );
        assert_ne!(running.wait(), 0);
        drop(running);
        b.assert_nothing_left();
    }
}

#[test]
fn a_killed_init_cannot_be_started() {
    let b = Bundle::new("true");
    let mut running = b.prepare().unwrap();
    nix::sys::signal::kill(running.prepared.pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(running.wait(), 137);
    assert_eq!(
        running.start().unwrap_err().to_string(),
        "cannot start a container that has stopped"
    );
}

#[test]
fn a_container_that_is_never_started_ends_with_its_socket() {
    let b = Bundle::new("true");
    let mut running = b.prepare().unwrap();
    let (other, _keep) = nix::unistd::pipe().unwrap();
    running.prepared.start = other;
    assert_ne!(running.wait(), 0);
}

#[test]
fn malformed_configurations_name_their_field() {
    let cases: [(&str, serde_json::Value, &str); 8] = [
        ("/process/args", json!([]), "process.args: names no program"),
        (
            "/process/cwd",
            json!("tmp"),
            "process.cwd: \"tmp\" is not an absolute path",
        ),
        ("/process/env", json!(["A=\u{0}"]), "process.env[0]: holds a NUL"),
        (
            "/linux/cgroupsPath",
            json!("/a/../../b"),
            "linux.cgroupsPath: \"/a/../../b\" holds \"..\"",
        ),
        (
            "/process/apparmorProfile",
            json!("docker-default"),
            "process.apparmorProfile: ",
        ),
        (
            "/linux/sysctl",
            json!({"vm.swappiness": "1"}),
            "sysctl \"vm.swappiness\": is not in a separate",
        ),
        (
            "/process/oomScoreAdj",
            json!(2000),
            "process.oomScoreAdj: 2000 is not within",
        ),
        ("/process/user", json!("root"), "parse "),
    ];
    for (pointer, value, text) in cases {
        let mut b = Bundle::new("true");
        b.set(pointer, value);
        match b.prepare() {
            Err(e) => assert!(e.to_string().starts_with(text), "{e}"),
            Ok(mut running) => {
                let e = running.start().unwrap_err().to_string();
                assert!(e.starts_with(text), "{e}");
            }
        }
        b.assert_nothing_left();
    }
}

#[test]
fn a_terminal_is_the_containers_own() {
    let mut b = Bundle::new(
        "tty; stat -c %u /dev/pts/0; ls -l /dev/console | cut -c1; stty size; test -t 0 && echo yes",
    );
    b.set("/process/terminal", json!(true));
    b.set("/process/consoleSize", json!({"height": 33, "width": 99}));
    b.set("/process/user", json!({"uid": 1000, "gid": 5}));
    let mut running = b.prepare().unwrap();
    let master = running.prepared.console.take().unwrap();
    running.start().unwrap();
    let mut output = Vec::new();
    let mut buf = [0; 512];
    // EIO is the end of a terminal
    while let Ok(n @ 1..) = nix::unistd::read(&master, &mut buf) {
        output.extend_from_slice(&buf[..n]);
    }
    assert_eq!(
        String::from_utf8(output).unwrap(),
        "/dev/pts/0\n1000\nc\n33 99\nyes\n"
    );
    assert_eq!(running.wait(), 0);
}

#[test]
fn sysctls_are_set_inside_only() {
    let before = std::fs::read_to_string("/proc/sys/kernel/shmmni").unwrap();
    let mut b = Bundle::new("cat /proc/sys/kernel/shmmni /proc/sys/net/ipv4/ip_forward");
    b.set(
        "/linux/sysctl",
        json!({"kernel.shmmni": "111", "net.ipv4.ip_forward": "1"}),
    );
    assert_eq!(b.output(), "111\n1\n");
    assert_eq!(
        std::fs::read_to_string("/proc/sys/kernel/shmmni").unwrap(),
        before
    );
}

#[cfg(feature = "seccomp-compile")]
mod seccomp {
    use super::*;
    use pintle_runtime::seccomp::{compile, default_profile};

    fn with_filter(b: &Bundle, filter: std::path::PathBuf) -> (i32, String) {
        let options = pintle_runtime::container::Options {
            seccomp_filter: Some(filter),
            ..b.options()
        };
        let mut running = b.prepare_with(&options).unwrap();
        running.start().unwrap();
        running.finish()
    }

    #[test]
    fn the_default_profile_lets_programs_work_and_forbids_the_rest() {
        let b = Bundle::new(
            "grep Seccomp: /proc/self/status; unshare -n true || echo refused; ls / >/dev/null; sleep 0",
        );
        let filter = compile(&default_profile(&[]), &b.path("cache")).unwrap();
        let (code, output) = with_filter(&b, filter);
        assert_eq!(code, 0, "{output}");
        assert!(
            output.starts_with("Seccomp:\t2\n") && output.ends_with("refused\n"),
            "{output}"
        );
        assert!(output.contains("Operation not permitted"), "{output}");
    }

    #[test]
    fn a_profile_of_ones_own_works_with_and_without_no_new_privs() {
        let profile: oci_spec::runtime::LinuxSeccomp = serde_json::from_value(json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]
        }))
        .unwrap();
        for nnp in [true, false] {
            let mut b = Bundle::new("mkdir /x");
            b.set("/process/noNewPrivileges", json!(nnp));
            let filter = compile(&profile, &b.path("cache")).unwrap();
            let (code, output) = with_filter(&b, filter);
            assert!(
                code != 0 && output.contains("No space left on device"),
                "{code} {output}"
            );
        }
    }
}
