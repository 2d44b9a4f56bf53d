//! User namespaces: ids of root file systems and mounts, what stays possible in them, and what doesn't.
#![allow(clippy::unwrap_used)] // in tests a failure may panic where it happens

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use pintle_runtime::container::{self, Options};
use pintle_runtime::protocol::{IdMapping, NamespaceKind, Overlay, SandboxSetup};
use pintle_runtime::sandbox;
use serde_json::json;
use support::{Bundle, Running, exit_code};

/// First of the 65536 ids on the host.
const FIRST: u32 = 300_000;

fn mapping() -> serde_json::Value {
    json!([{"containerID": 0, "hostID": FIRST, "size": 65536}])
}

/// A container with a user namespace of its own, on an overlay whose layers belong to the host's root.
fn mapped(script: &str) -> (Bundle, Options) {
    let mut b = Bundle::new(script);
    b.add("/linux/namespaces", json!({"type": "user"}));
    b.set("/linux/uidMappings", mapping());
    b.set("/linux/gidMappings", mapping());
    let options = on_overlay(&mut b);
    (b, options)
}

fn on_overlay(b: &mut Bundle) -> Options {
    for folder in ["upper", "work", "lower", "mountpoint"] {
        fs::create_dir(b.path(folder)).unwrap();
    }
    chown(b.path("upper"), Some(FIRST), Some(FIRST)).unwrap();
    b.set("/root/path", json!("mountpoint"));
    Options {
        overlay: Some(Overlay {
            lower: vec![b.path("lower"), b.rootfs()],
            upper: Some(b.path("upper")),
            work: Some(b.path("work")),
            idmap: true,
            ..Overlay::default()
        }),
        ..b.options()
    }
}

fn run(b: &Bundle, options: &Options) -> String {
    b.options(); // writes config.json anew
    let mut running = b.prepare_with(options).unwrap();
    running.start().unwrap();
    let (code, output) = running.finish();
    assert_eq!(code, 0, "{output}");
    output
}

#[test]
fn files_of_the_image_belong_to_the_mapped_root_and_changes_lie_shifted_on_disk() {
    let (b, options) = mapped(
        "cat /proc/self/uid_map | tr -s ' '; stat -c %u:%g / /etc /etc/passwd; echo more:x:9:9::/:/bin/sh >>/etc/passwd; touch /new; \
         chown 7:8 /new; rm -r /root; mkdir /root; stat -c %u:%g /new /etc/passwd; umask",
    );
    fs::create_dir(b.rootfs().join("root/sub")).unwrap();
    let output = run(&b, &options);
    assert_eq!(
        output,
        format!(" 0 {FIRST} 65536\n0:0\n0:0\n0:0\n7:8\n0:0\n0022\n")
    );
    let on_disk = |name: &str| {
        let m = fs::metadata(b.path("upper").join(name)).unwrap();
        (m.uid(), m.gid())
    };
    assert_eq!(on_disk("new"), (FIRST + 7, FIRST + 8));
    assert_eq!(on_disk("etc/passwd"), (FIRST, FIRST));
    assert!(
        !fs::read_to_string(b.rootfs().join("etc/passwd"))
            .unwrap()
            .contains("more")
    );
    b.assert_nothing_left();
}

#[test]
fn kernel_file_systems_devices_and_masks_are_as_without_one() {
    let (mut b, options) = mapped(
        "echo x >/dev/null; head -c 3 /dev/zero | wc -c; stat -c %F /dev/full; test -c /dev/sub/mine && echo mine; \
         wc -c </proc/keys; ls -A /sys/firmware | wc -l; echo 1 2>/dev/null >/proc/sys/kernel/shmmni || echo refused; \
         hostname; ls /dev/pts; touch /dev/shm/x && stat -c %u /dev/shm/x; cat /proc/self/oom_score_adj; \
         grep -c . /proc/self/cgroup >/dev/null && ls /sys/fs/cgroup >/dev/null && echo groups",
    );
    b.set(
        "/linux/devices",
        json!([{"path": "/dev/sub/mine", "type": "c", "major": 1, "minor": 5}]),
    );
    b.set("/process/oomScoreAdj", json!(900));
    let expected = "3\ncharacter special file\nmine\n0\n0\nrefused\nbox\nptmx\n0\n900\ngroups\n";
    assert_eq!(run(&b, &options), expected);
}

#[test]
fn what_needs_the_host_is_refused_inside() {
    let (mut b, options) = mapped(
        "mknod /tmp/disk b 8 0 2>/dev/null && echo made; mount -t tmpfs x /tmp && echo mounted; \
         echo 5 2>/dev/null >/proc/sys/vm/swappiness && echo written; true",
    );
    for set in ["bounding", "effective", "permitted"] {
        for cap in ["CAP_MKNOD", "CAP_SYS_ADMIN"] {
            b.add(&format!("/process/capabilities/{set}"), json!(cap));
        }
    }
    assert_eq!(run(&b, &options), "mounted\n");
}

#[test]
fn binds_show_their_files_mapped_or_fail() {
    let (mut b, options) = mapped(
        "stat -c %u:%g /mapped/f /plain/f /other/f; touch /mapped/new; touch /plain/new 2>/dev/null || echo refused",
    );
    for folder in ["mapped", "plain", "other"] {
        fs::create_dir(b.path(folder)).unwrap();
        fs::write(b.path(folder).join("f"), "").unwrap();
    }
    chown(b.path("mapped/f"), Some(5), Some(6)).unwrap();
    let bind = |b: &Bundle, name: &str| json!({"destination": format!("/{name}"), "source": b.path(name), "options": ["rbind"]});
    let (mut with_own, mut with_other) = (bind(&b, "mapped"), bind(&b, "other"));
    with_own["uidMappings"] = mapping();
    with_own["gidMappings"] = mapping();
    let other = json!([{"containerID": 0, "hostID": FIRST + 1000, "size": 10}]);
    with_other["uidMappings"] = other.clone();
    with_other["gidMappings"] = other;
    for mount in [with_own, bind(&b, "plain"), with_other] {
        b.add("/mounts", mount);
    }
    assert_eq!(run(&b, &options), "5:6\n65534:65534\n1000:1000\nrefused\n");
    assert_eq!(fs::metadata(b.path("mapped/new")).unwrap().uid(), 0);

    // a file system that can't
    b.add(
        "/mounts",
        json!({"destination": "/p", "source": "/proc", "options": ["bind", "idmap"]}),
    );
    let e = b.error();
    assert_eq!(
        e,
        "mount \"/p\": ids of /proc: its file system can't show them mapped"
    );
}

#[test]
fn mounts_can_be_mapped_without_a_user_namespace() {
    let mut b = Bundle::new("stat -c %u:%g /data/f");
    fs::create_dir(b.path("data")).unwrap();
    fs::write(b.path("data/f"), "").unwrap();
    let data = b.path("data");
    let to = json!([{"containerID": 0, "hostID": 77, "size": 1}]);
    b.add(
        "/mounts",
        json!({"destination": "/data", "source": data, "options": ["bind"], "uidMappings": to, "gidMappings": to}),
    );
    assert_eq!(b.output(), "77:77\n");
    // without mappings there is nothing to map by
    let mut b = Bundle::new("true");
    b.add(
        "/mounts",
        json!({"destination": "/data", "source": "/etc", "options": ["bind", "idmap"]}),
    );
    let e = b.error();
    assert!(e.contains("needs both"), "{e}");
}

/// A sandbox whose user namespace owns the others, and a container in it.
fn pod(b: &mut Bundle, shared_pid: bool) -> Option<nix::unistd::Pid> {
    let map = vec![IdMapping {
        container_id: 0,
        host_id: FIRST,
        size: 65536,
    }];
    let setup = SandboxSetup {
        namespaces: vec![
            NamespaceKind::User,
            NamespaceKind::Net,
            NamespaceKind::Ipc,
            NamespaceKind::Uts,
        ],
        uid_mappings: map.clone(),
        gid_mappings: map,
        hostname: Some("pod".to_owned()),
        sysctls: BTreeMap::from([
            ("kernel.shm_rmid_forced".to_owned(), "1".to_owned()),
            ("net.ipv4.ping_group_range".to_owned(), "0 65535".to_owned()),
        ]),
        shared_pid,
        init_cgroup: shared_pid.then(|| format!("{}-init", b.cgroup)),
    };
    let init = sandbox::setup(b.dir.path(), &setup).unwrap();
    let mut kinds = vec![("network", "net"), ("ipc", "ipc"), ("uts", "uts")];
    if shared_pid {
        kinds.push(("pid", "pid"));
    }
    let dir = b.dir.path().join("ns");
    for namespace in b.spec["linux"]["namespaces"].as_array_mut().unwrap() {
        if let Some((_, file)) = kinds.iter().find(|(kind, _)| namespace["type"] == *kind) {
            namespace["path"] = json!(dir.join(file));
        }
    }
    b.spec.as_object_mut().unwrap().remove("hostname");
    b.add(
        "/linux/namespaces",
        json!({"type": "user", "path": dir.join("user")}),
    );
    b.set("/linux/uidMappings", mapping());
    b.set("/linux/gidMappings", mapping());
    init
}

#[test]
fn a_pods_user_namespace_is_joined_with_those_it_owns() {
    let mut b = Bundle::new(
        "id -u; hostname; cat /proc/sys/kernel/shm_rmid_forced; tr '\\t' ' ' </proc/sys/net/ipv4/ping_group_range; \
         ip link set lo up && echo up; stat -c %u /etc/passwd; readlink /proc/self/ns/user; ls -d /sys/class/net/lo",
    );
    pod(&mut b, false);
    for set in ["bounding", "effective", "permitted"] {
        b.add(&format!("/process/capabilities/{set}"), json!("CAP_NET_ADMIN"));
    }
    let options = on_overlay(&mut b);
    let (first, second) = (run(&b, &options), run(&b, &options));
    assert!(first.starts_with("0\npod\n1\n0 65535\nup\n0\nuser:["), "{first}");
    assert!(first.ends_with("/sys/class/net/lo\n"), "{first}");
    assert_eq!(first, second);
    let ours = fs::read_link("/proc/self/ns/user").unwrap();
    assert!(!first.contains(ours.to_str().unwrap()));
    sandbox::unpin(b.dir.path()).unwrap();
    b.assert_nothing_left();
}

#[test]
fn a_shared_pid_namespace_belongs_to_it_too() {
    let mut b = Bundle::new("sed -n '/^Name/p;/^Uid/p' /proc/1/status; [ $$ != 1 ] && echo second");
    let init = pod(&mut b, true).unwrap();
    let options = on_overlay(&mut b);
    assert_eq!(
        run(&b, &options),
        "Name:\tpintle-init\nUid:\t0\t0\t0\t0\nsecond\n"
    );
    let status = fs::read_to_string(format!("/proc/{init}/status")).unwrap();
    assert!(
        status.contains(&format!("Uid:\t{FIRST}\t")),
        "not the host's root: {status}"
    );
    kill(init, Signal::SIGTERM).unwrap();
    assert_eq!(exit_code(waitpid(init, None).unwrap()), 0);
    sandbox::unpin(b.dir.path()).unwrap();
    pintle_runtime::cgroup::remove(&format!("{}-init", b.cgroup)).unwrap();
}

fn exec_output(running: &Running, args: serde_json::Value) -> String {
    let (read, write) = nix::unistd::pipe().unwrap();
    let process = serde_json::from_value(args).unwrap();
    let null = || -> OwnedFd { File::open("/dev/null").unwrap().into() };
    let stdio = [null(), write.try_clone().unwrap(), write];
    let started = container::exec(&running.prepared.exec_target(), &process, None, stdio).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut File::from(read), &mut text).unwrap();
    assert_eq!(exit_code(waitpid(started.pid, None).unwrap()), 0, "{text}");
    text
}

#[test]
fn further_processes_join_it() {
    let mut b = Bundle::new("echo ready; sleep 1000");
    pod(&mut b, false);
    let options = on_overlay(&mut b);
    b.options();
    let mut running = b.prepare_with(&options).unwrap();
    running.start().unwrap();
    assert_eq!(running.line(), "ready");
    let script = "id -u; id -G; stat -c %u /etc/passwd; cat /proc/self/uid_map | tr -s ' '";
    let process = json!({"args": ["sh", "-c", script], "env": ["PATH=/bin"], "cwd": "/",
        "user": {"uid": 1000, "gid": 1000, "additionalGids": [9]}});
    assert_eq!(
        exec_output(&running, process),
        format!("1000\n1000 9\n0\n 0 {FIRST} 65536\n")
    );
    let host = fs::metadata(format!("/proc/{}", running.prepared.pid)).unwrap();
    assert_eq!(host.uid(), FIRST);
    drop(running);
    sandbox::unpin(b.dir.path()).unwrap();
}

#[test]
fn a_terminal_belongs_to_its_user() {
    let (mut b, options) = mapped("stat -c %u /dev/console; tty");
    b.set("/process/terminal", json!(true));
    b.set("/process/user", json!({"uid": 5, "gid": 5}));
    b.options();
    let mut running = b.prepare_with(&options).unwrap();
    let console = running.prepared.console.take().unwrap();
    running.start().unwrap();
    let mut text = Vec::new();
    let mut buf = [0; 256];
    while let Ok(n @ 1..) = nix::unistd::read(&console, &mut buf) {
        text.extend(&buf[..n]);
    }
    assert_eq!(running.wait(), 0);
    assert_eq!(String::from_utf8(text).unwrap(), "5\n/dev/pts/0\n");
}

#[test]
fn ids_that_are_not_mapped_are_refused() {
    let (mut b, options) = mapped("true");
    b.set("/process/user", json!({"uid": 70000, "gid": 0}));
    b.options();
    let mut running = b.prepare_with(&options).unwrap();
    let e = running.start().unwrap_err().to_string();
    assert!(e.contains("70000:0 is not mapped"), "{e}");
    assert!(Path::new("/proc/self/ns/user").exists());
}

#[test]
fn a_tmpfs_can_begin_with_what_it_covers() {
    let mut b = Bundle::new(
        "cat /etc/passwd | wc -l; touch /etc/x; cat /bin2/f; touch /bin2/x 2>/dev/null || echo ro",
    );
    fs::create_dir(b.rootfs().join("bin2")).unwrap();
    fs::write(b.rootfs().join("bin2/f"), "text\n").unwrap();
    for (destination, options) in [
        ("/etc", json!(["tmpcopyup"])),
        ("/bin2", json!(["tmpcopyup", "ro"])),
    ] {
        b.add(
            "/mounts",
            json!({"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options}),
        );
    }
    assert_eq!(b.output(), "2\ntext\nro\n");
    assert!(!b.rootfs().join("etc/x").exists());
}
