//! What the containers of a pod share.
#![allow(clippy::unwrap_used)] // in tests a failure may panic where it happens

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use pintle_runtime::protocol::{IdMapping, NamespaceKind, SandboxSetup};
use pintle_runtime::sandbox;
use serde_json::json;
use support::{Bundle, exit_code};

fn setup() -> SandboxSetup {
    SandboxSetup {
        namespaces: vec![NamespaceKind::Net, NamespaceKind::Ipc, NamespaceKind::Uts],
        hostname: Some("pod".to_owned()),
        sysctls: BTreeMap::from([("kernel.shmmni".to_owned(), "123".to_owned())]),
        ..SandboxSetup::default()
    }
}

/// Lets the bundle's container join what is pinned.
fn join(b: &mut Bundle, kinds: &[(&str, &str)]) {
    let dir = b.dir.path().to_owned();
    for namespace in b.spec["linux"]["namespaces"].as_array_mut().unwrap() {
        if let Some((_, file)) = kinds.iter().find(|(kind, _)| namespace["type"] == *kind) {
            namespace["path"] = json!(dir.join("ns").join(file));
        }
    }
    b.spec.as_object_mut().unwrap().remove("hostname");
}

const SHARED: [(&str, &str); 3] = [("network", "net"), ("ipc", "ipc"), ("uts", "uts")];

#[test]
fn pinned_namespaces_are_joined_and_let_go() {
    let mut b = Bundle::new("hostname; cat /proc/sys/kernel/shmmni; readlink /proc/self/ns/net");
    assert_eq!(sandbox::setup(b.dir.path(), &setup()).unwrap(), None);
    join(&mut b, &SHARED);
    let (first, second) = (b.output(), b.output());
    assert!(first.starts_with("pod\n123\nnet:["), "{first}");
    assert_eq!(first, second);
    assert_ne!(
        first.lines().last().unwrap(),
        fs::read_link("/proc/self/ns/net").unwrap().to_str().unwrap()
    );
    sandbox::unpin(b.dir.path()).unwrap();
    sandbox::unpin(b.dir.path()).unwrap();
    assert_eq!(fs::read_dir(b.path("ns")).unwrap().count(), 0);
    b.assert_nothing_left();
}

#[test]
fn a_thread_sets_up_what_takes_no_process() {
    let mut b = Bundle::new("hostname; cat /proc/sys/kernel/shmmni; readlink /proc/self/ns/net");
    let dir = b.dir.path().to_owned();
    let by_thread = |setup: SandboxSetup| {
        std::thread::scope(|s| s.spawn(|| sandbox::setup_by_thread(&dir, &setup)).join())
    };
    by_thread(setup()).unwrap().unwrap();
    join(&mut b, &SHARED);
    let seen = b.output();
    assert!(seen.starts_with("pod\n123\nnet:["), "{seen}");
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert_ne!(seen.lines().last().unwrap(), own.to_str().unwrap());
    sandbox::unpin(&dir).unwrap();
    let shared = SandboxSetup {
        shared_pid: true,
        ..setup()
    };
    assert!(sandbox::needs_process(&shared));
    assert!(by_thread(shared).unwrap().is_err());
    let mut bad = setup();
    bad.sysctls.insert("kernel.shmmni".to_owned(), "none".to_owned());
    assert!(by_thread(bad).unwrap().is_err());
    assert!(!b.path("ns").exists());
    b.assert_nothing_left();
}

#[test]
fn a_failed_set_up_leaves_nothing() {
    let b = Bundle::new("");
    for (change, text) in [
        (
            ("kernel.shmmni", "many"),
            "write \"many\" to /proc/sys/kernel/shmmni: invalid argument",
        ),
        (
            ("kernel.panic", "1"),
            "sysctl \"kernel.panic\": is not in a separate kernel namespace",
        ),
        (("net.nope", "1"), "open in container"),
    ] {
        let mut s = setup();
        s.sysctls = BTreeMap::from([(change.0.to_owned(), change.1.to_owned())]);
        let e = sandbox::setup(b.dir.path(), &s).unwrap_err().to_string();
        assert!(e.starts_with(text), "{e}");
        assert!(!b.path("ns").exists());
    }
    let mut s = setup();
    s.namespaces = vec![NamespaceKind::Net];
    assert!(sandbox::setup(b.dir.path(), &s).is_err());
}

#[test]
fn a_shared_pid_namespace_has_an_init_that_reaps_and_has_no_rights() {
    let mut b = Bundle::new(
        "sed -n '/^Name/p;/^Cap[EBP]/p;/^NoNewPrivs/p' /proc/1/status; (sleep 0 & ); sleep 0.1; ps -o stat | grep -c Z; \
         kill -TERM 1; kill -KILL 1; echo alive; [ $$ != 1 ] && ls /proc/1/root 2>&1 | head -1",
    );
    let s = SandboxSetup {
        shared_pid: true,
        init_cgroup: Some(format!("{}-init", b.cgroup)),
        ..setup()
    };
    let init = sandbox::setup(b.dir.path(), &s).unwrap().unwrap();
    join(&mut b, &[SHARED.as_slice(), &[("pid", "pid")]].concat());
    b.add("/process/capabilities/effective", json!("CAP_SYS_PTRACE"));
    b.add("/process/capabilities/permitted", json!("CAP_SYS_PTRACE"));
    b.add("/process/capabilities/bounding", json!("CAP_SYS_PTRACE"));
    let output = b.output();
    let none = "0000000000000000";
    let expected = format!(
        "Name:\tpintle-init\nCapPrm:\t{none}\nCapEff:\t{none}\nCapBnd:\t{none}\nNoNewPrivs:\t1\n0\nalive\n"
    );
    assert_eq!(output, expected);
    assert!(Path::new(&format!("/proc/{init}")).exists());
    assert!(
        fs::read_dir(format!("/proc/{init}/fd")).unwrap().count() <= 1,
        "it holds its signals only"
    );
    kill(init, Signal::SIGTERM).unwrap();
    assert_eq!(exit_code(waitpid(init, None).unwrap()), 0);
    sandbox::unpin(b.dir.path()).unwrap();
    pintle_runtime::cgroup::remove(&format!("{}-init", b.cgroup)).unwrap();
}

#[test]
fn a_user_namespace_owns_the_others() {
    let b = Bundle::new("");
    let map = vec![IdMapping {
        container_id: 0,
        host_id: 100_000,
        size: 65536,
    }];
    let mut s = setup();
    s.namespaces.push(NamespaceKind::User);
    s.uid_mappings = map.clone();
    s.gid_mappings = map;
    sandbox::setup(b.dir.path(), &s).unwrap();
    assert!(b.path("ns/user").exists() && b.path("ns/net").exists());
    sandbox::unpin(b.dir.path()).unwrap();
}

#[test]
fn shm_is_mounted_once_and_unmounted_as_often_as_one_likes() {
    let b = Bundle::new("");
    let path = b.path("shm");
    for _ in 0..2 {
        sandbox::mount_shm(&path, 1 << 20, (0, 0)).unwrap();
    }
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let lines: Vec<&str> = table
        .lines()
        .filter(|l| l.contains(path.to_str().unwrap()))
        .collect();
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].contains("nosuid,nodev,noexec") && lines[0].contains("size=1024k"),
        "{}",
        lines[0]
    );
    for _ in 0..2 {
        sandbox::unmount(&path).unwrap();
    }
    sandbox::unmount(&b.path("never")).unwrap();
    b.assert_nothing_left();
}

#[test]
fn a_view_shows_files_and_no_mounts_of_before_or_later() {
    let dir = tempfile::Builder::new().prefix("pintle-test-").tempdir().unwrap();
    let (folder, view) = (dir.path().join("pods"), dir.path().join("view"));
    let mounted = [folder.join("before"), folder.join("later")];
    fs::create_dir(&folder).unwrap();
    sandbox::mount_shm(&mounted[0], 1 << 20, (0, 0)).unwrap();
    let shown = sandbox::show_without_mounts(&folder, &view);
    sandbox::mount_shm(&mounted[1], 1 << 20, (0, 0)).unwrap();
    for place in &mounted {
        fs::write(place.join("hidden"), "").unwrap();
    }
    fs::write(folder.join("file"), "seen").unwrap();
    let again = sandbox::show_without_mounts(&folder, &view);

    let seen = fs::read_to_string(view.join("file"));
    let hidden = ["before", "later"].map(|name| fs::read_dir(view.join(name)).map(Iterator::count));
    for place in &mounted {
        sandbox::unmount(place).unwrap();
    }
    fs::rename(&folder, dir.path().join("former")).unwrap();
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("anew"), "").unwrap();
    let renewed = sandbox::show_without_mounts(&folder, &view);
    let anew = view.join("anew").exists();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    sandbox::unmount(&view).unwrap();
    shown.and(again).and(renewed).unwrap();
    assert!(anew, "a folder that is no more is still shown");
    assert_eq!(seen.unwrap(), "seen");
    assert!(hidden.into_iter().all(|count| count.unwrap() == 0));
    let views = table.lines().filter(|line| line.contains(view.to_str().unwrap()));
    assert_eq!(views.count(), 1);
}
