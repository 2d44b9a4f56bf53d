//! Attacks on container runtimes that became known: each is tried here, and must fail.
//!
//! What each is about stands in `docs/security.md`.
#![allow(clippy::unwrap_used)] // in tests a failure may panic where it happens

mod support;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use pintle_runtime::container;
use serde_json::json;
use support::{Bundle, exit_code};

/// Replaces a folder of the image by a symlink.
fn replace(b: &Bundle, folder: &str, target: &str) {
    fs::remove_dir_all(b.rootfs().join(folder)).unwrap();
    symlink(target, b.rootfs().join(folder)).unwrap();
}

#[test]
fn cve_2019_16884_and_2025_52881_what_covers_proc_catches_no_write_of_ours() {
    // a volume of the image's lies on /proc and pretends to be one
    let mut b = Bundle::new("sleep 1000");
    let fake = b.path("fake");
    fs::create_dir_all(fake.join("self/attr/apparmor")).unwrap();
    fs::create_dir_all(fake.join("thread-self/attr/apparmor")).unwrap();
    fs::create_dir_all(fake.join("sys/kernel")).unwrap();
    let traps = [
        "self/oom_score_adj",
        "self/attr/exec",
        "thread-self/attr/apparmor/exec",
        "sys/kernel/shmmni",
    ];
    for trap in traps {
        fs::write(fake.join(trap), "trap").unwrap();
    }
    b.add(
        "/mounts",
        json!({"destination": "/proc", "type": "bind", "source": fake, "options": ["bind"]}),
    );
    b.set("/linux/sysctl", json!({"kernel.shmmni": "321"}));
    b.set("/process/oomScoreAdj", json!(777));
    b.set("/linux/maskedPaths", json!([]));
    b.set("/linux/readonlyPaths", json!([]));
    let running = b.prepare().unwrap();
    for trap in traps {
        assert_eq!(fs::read_to_string(fake.join(trap)).unwrap(), "trap", "{trap}");
    }
    let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", running.prepared.pid)).unwrap();
    assert_eq!(score.trim(), "777");
}

#[test]
fn cve_2019_19921_2023_27561_and_2023_28642_proc_and_sys_are_no_symlinks() {
    for (folder, target) in [
        ("proc", "tmp/elsewhere"),
        ("proc", "/tmp"),
        ("sys", "tmp"),
        ("proc", "/../../proc"),
    ] {
        let b = Bundle::new("true");
        replace(&b, folder, target);
        let e = b.error();
        assert!(
            e.contains("no symlinks allowed") && e.contains(&format!("/{folder}")),
            "{e}"
        );
    }
}

#[test]
fn cve_2021_30465_a_destination_that_changes_meanwhile_stays_inside() {
    const ROUNDS: usize = 40;
    let mut b = Bundle::new("test -e /outside-is-here && echo escaped; ls -d /bin; true");
    let volume = b.path("volume");
    fs::create_dir_all(volume.join("target")).unwrap();
    symlink("/../../../../../../..", volume.join("link")).unwrap();
    let marker = b.path("marker");
    fs::create_dir(&marker).unwrap();
    fs::write(marker.join("outside-is-here"), "").unwrap();
    b.add(
        "/mounts",
        json!({"destination": "/volume", "type": "bind", "source": volume, "options": ["bind"]}),
    );
    b.add(
        "/mounts",
        json!({"destination": "/volume/target", "type": "bind", "source": marker, "options": ["bind"]}),
    );
    let (stop, swapped) = (Arc::new(AtomicBool::new(false)), volume.clone());
    let end = Arc::clone(&stop);
    let swapper = std::thread::spawn(move || {
        while !end.load(Ordering::Relaxed) {
            let (a, z) = (swapped.join("target"), swapped.join("link"));
            renameat2(AT_FDCWD, &a, AT_FDCWD, &z, RenameFlags::RENAME_EXCHANGE).unwrap();
        }
    });
    let mut outputs = Vec::new();
    for _ in 0..ROUNDS {
        // over the root of the container it may come to lie, but never over the host's; or it is refused
        match b.prepare() {
            Ok(mut running) => match running.start() {
                Ok(()) => outputs.push(running.finish().1),
                Err(_) => drop(running),
            },
            Err(e) => assert!(e.to_string().starts_with("mount \"/volume"), "{e}"),
        }
        assert!(!Path::new("/outside-is-here").exists());
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    assert!(outputs.iter().all(|o| !o.contains("escaped")), "{outputs:?}");
}

#[test]
fn cve_2022_29162_and_2022_24769_no_inheritable_capabilities_appear() {
    let mut b = Bundle::new("echo ready; sleep 1000");
    b.set("/process/noNewPrivileges", json!(false));
    let mut running = b.prepare().unwrap();
    running.start().unwrap();
    assert_eq!(running.line(), "ready");
    let process = json!({"args": ["sh", "-c", "grep -E 'CapInh|CapAmb' /proc/self/status"], "env": ["PATH=/bin"],
        "cwd": "/", "user": {"uid": 0, "gid": 0}, "capabilities": b.spec["process"]["capabilities"]});
    let output = exec_output(&running, &process);
    assert_eq!(output, "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n");
}

#[test]
fn cve_2023_25809_cgroups_mounted_read_only_are_so_without_a_cgroup_namespace() {
    let script = "for f in $(find /sys/fs/cgroup -name cgroup.procs 2>/dev/null); do echo $$ >$f && echo wrote $f; done 2>/dev/null; \
                  mkdir /sys/fs/cgroup/*/x 2>/dev/null && echo made; true";
    for user_namespace in [false, true] {
        let mut b = Bundle::new(script);
        let namespaces = b.spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|n| n["type"] != "cgroup");
        if user_namespace {
            namespaces.push(json!({"type": "user"}));
            let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
            b.set("/linux/uidMappings", map.clone());
            b.set("/linux/gidMappings", map);
        }
        assert_eq!(b.output(), "", "with a user namespace: {user_namespace}");
    }
}

/// Where a process is, and whether that is the root that it knows.
const WHERE: &str = "readlink /proc/self/cwd; [ $(stat -c %d:%i .) = $(stat -c %d:%i /) ] && echo root";

#[test]
fn cve_2024_21626_no_descriptor_leads_a_working_folder_out() {
    for number in 3..24 {
        let mut b = Bundle::new(WHERE);
        b.set("/process/cwd", json!(format!("/proc/self/fd/{number}")));
        // the only folder among our descriptors that is let pass is the container's own root
        match b
            .prepare()
            .and_then(|mut running| running.start().map(|()| running))
        {
            Ok(running) => assert_eq!(running.finish(), (0, "/\nroot\n".to_owned()), "{number}"),
            Err(e) => assert!(
                e.to_string().contains(&format!("/proc/self/fd/{number}")),
                "{number}: {e}"
            ),
        }
    }
}

#[test]
fn cve_2024_21626_nor_in_an_exec() {
    let b = Bundle::new("echo ready; sleep 1000");
    let mut running = b.prepare().unwrap();
    running.start().unwrap();
    assert_eq!(running.line(), "ready");
    for number in 3..24 {
        let process = json!({"args": ["sh", "-c", WHERE], "env": ["PATH=/bin"], "cwd": format!("/proc/self/fd/{number}"),
            "user": {"uid": 0, "gid": 0}});
        match try_exec(&running, &process) {
            Ok(output) => assert_eq!(output, "/\nroot\n", "{number}"),
            Err(e) => assert!(
                e.to_string().contains(&format!("/proc/self/fd/{number}")),
                "{number}: {e}"
            ),
        }
    }
    let process = json!({"args": ["sh", "-c", "ls /proc/self/fd | tr '\\n' ' '"], "env": ["PATH=/bin"], "cwd": "/",
        "user": {"uid": 0, "gid": 0}});
    // 3 is the folder that ls reads
    assert_eq!(exec_output(&running, &process), "0 1 2 3 ");
}

#[test]
fn cve_2024_45310_nothing_is_created_outside_through_a_volume() {
    let mut b = Bundle::new("true");
    let (volume, outside) = (b.path("volume"), b.path("outside"));
    fs::create_dir_all(&volume).unwrap();
    fs::create_dir_all(&outside).unwrap();
    symlink(&outside, volume.join("link")).unwrap();
    b.add(
        "/mounts",
        json!({"destination": "/volume", "type": "bind", "source": volume, "options": ["bind"]}),
    );
    let file = b.path("config.json");
    for destination in ["/volume/link/made-file", "/volume/link/deep/made-file"] {
        b.add(
            "/mounts",
            json!({"destination": destination, "type": "bind", "source": file, "options": ["bind"]}),
        );
    }
    b.output();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn cve_2025_31133_masks_do_not_come_from_the_containers_own_null() {
    let mut b = Bundle::new("stat -c %t:%T /proc/uptime; wc -c </proc/uptime");
    // the image's /dev is used as it is
    b.spec["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
    symlink("/proc/sys/kernel/core_pattern", b.rootfs().join("dev/null")).unwrap();
    let output = b.output();
    assert_eq!(output, "1:3\n0\n");
    // and what pretended to be the device was replaced by it
    assert!(
        fs::symlink_metadata(b.rootfs().join("dev/null"))
            .unwrap()
            .file_type()
            .is_char_device()
    );
}

#[test]
fn cve_2025_52565_a_terminal_covers_nothing_but_the_console() {
    let mut b = Bundle::new("true");
    b.spec["mounts"].as_array_mut().unwrap().retain(|m| {
        !matches!(
            m["destination"].as_str(),
            Some("/dev" | "/dev/shm" | "/dev/mqueue")
        )
    });
    fs::create_dir_all(b.rootfs().join("dev/pts")).unwrap();
    symlink("/proc/sys/kernel/core_pattern", b.rootfs().join("dev/console")).unwrap();
    b.set("/process/terminal", json!(true));
    let e = b.error();
    assert!(e.contains("/dev/console") && e.contains("symbolic links"), "{e}");
}

fn exec_output(running: &support::Running, process: &serde_json::Value) -> String {
    try_exec(running, process).unwrap()
}

fn try_exec(
    running: &support::Running,
    process: &serde_json::Value,
) -> Result<String, pintle_runtime::Error> {
    let (read, write) = nix::unistd::pipe().unwrap();
    let process = serde_json::from_value(process.clone()).unwrap();
    let null: OwnedFd = fs::File::open("/dev/null").unwrap().into();
    let stdio = [null, write.try_clone().unwrap(), write];
    let started = container::exec(&running.prepared.exec_target(), &process, None, stdio)?;
    let mut text = String::new();
    std::io::Read::read_to_string(&mut fs::File::from(read), &mut text).unwrap();
    // before anything may panic: a process that nobody waits for keeps its pid namespace from ending
    let ended = nix::sys::wait::waitpid(started.pid, None).unwrap();
    assert_eq!(exit_code(ended), 0, "{text}");
    Ok(text)
}
