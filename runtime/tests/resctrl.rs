//! Groups of the resctrl file system. Few machines have it; what stands in is a hierarchy of cgroup v1 without controllers,
//! whose folders are made, filled and removed by the kernel in the same way, and whose `tasks` mean the same.
#![allow(clippy::unwrap_used)] // in tests a failure may panic where it happens

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use pintle_runtime::container::{self, Options};
use serde_json::{Value, json};
use support::{Bundle, exit_code};

/// Runs a test in a thread that has the stand-in mounted, in a mount namespace of its own.
fn with_resctrl(name: &str, test: impl FnOnce(&Path) + Send + 'static) {
    let hierarchy = format!("name=pintle-{name}");
    let options = format!("none,{hierarchy}");
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let place = tempfile::tempdir().unwrap();
        let attach = || {
            mount(
                Some("resctrl"),
                place.path(),
                Some("cgroup"),
                MsFlags::empty(),
                Some(&*options),
            )
        };
        attach().unwrap();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(place.path())));
        umount(place.path()).unwrap();
        // a hierarchy goes when it is unmounted without groups, and those of just now may linger in the kernel
        for _ in 0..100 {
            let all = fs::read_to_string("/proc/self/cgroup").unwrap();
            if !all.contains(&hierarchy) {
                break;
            }
            attach().unwrap();
            umount(place.path()).unwrap();
        }
        outcome
    });
    match thread.join().unwrap() {
        Ok(()) => {}
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn options(bundle: &Bundle, root: &Path) -> Options {
    Options {
        resctrl: Some(root.to_owned()),
        ..bundle.options()
    }
}

fn bundle(script: &str, rdt: Value) -> Bundle {
    let mut bundle = Bundle::new(script);
    bundle.set("/linux/intelRdt", rdt);
    bundle
}

fn members(folder: &Path) -> Vec<i32> {
    let all = fs::read_to_string(folder.join("tasks")).unwrap();
    all.lines().map(|line| line.parse().unwrap()).collect()
}

fn groups(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).unwrap().flatten();
    entries.map(|e| e.path()).filter(|p| p.is_dir()).collect()
}

#[test]
fn a_container_without_a_class_has_one_of_its_own_for_its_time() {
    with_resctrl("own", |root| {
        let b = bundle("sleep 1000", json!({}));
        let mut running = b.prepare_with(&options(&b, root)).unwrap();
        let class = root.join("test");
        assert_eq!(members(&class), [running.prepared.pid.as_raw()]);
        running.start().unwrap();
        // what enters the container later belongs to it, too
        let process = json!({"args": ["sleep", "1000"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}});
        let null = || {
            fs::File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
                .unwrap()
                .into()
        };
        let process = serde_json::from_value(process).unwrap();
        let stdio = [null(), null(), null()];
        let entered = container::exec(&running.prepared.exec_target(), &process, None, stdio).unwrap();
        assert!(
            members(&class).contains(&entered.pid.as_raw()),
            "{:?}",
            members(&class)
        );
        nix::sys::signal::kill(running.prepared.pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        let ended = nix::sys::wait::waitpid(entered.pid, None).unwrap();
        assert_eq!((exit_code(ended), running.wait()), (128 + 9, 128 + 9));
        container::remove(&running.prepared).unwrap();
        assert_eq!(groups(root), Vec::<PathBuf>::new());
    });
}

#[test]
fn a_class_of_others_stays_and_what_is_counted_goes() {
    with_resctrl("named", |root| {
        let class = root.join("gold");
        // as the kernel has it in each class
        fs::create_dir_all(class.join("mon_groups")).unwrap();
        let b = bundle("sleep 1000", json!({"closID": "gold", "enableMonitoring": true}));
        let mut running = b.prepare_with(&options(&b, root)).unwrap();
        running.start().unwrap();
        assert_eq!(
            members(&class.join("mon_groups/test")),
            [running.prepared.pid.as_raw()]
        );
        let twice = b.prepare_with(&options(&b, root));
        let e = twice.err().unwrap().to_string();
        assert!(e.contains("cgroup is not empty"), "{e}");
        nix::sys::signal::kill(running.prepared.pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        running.wait();
        container::remove(&running.prepared).unwrap();
        assert_eq!(groups(&class.join("mon_groups")), Vec::<PathBuf>::new());
        fs::remove_dir(class.join("mon_groups")).unwrap();
        fs::remove_dir(class).unwrap();
    });
}

#[test]
fn a_failure_leaves_no_group() {
    with_resctrl("failing", |root| {
        // the stand-in has no such file, as if the kernel refused
        let mut b = bundle("true", json!({"l3CacheSchema": "L3:0=f"}));
        let e = b.prepare_with(&options(&b, root)).err().unwrap().to_string();
        assert!(
            e.starts_with("open ") && e.ends_with("/test/schemata: no such file or directory"),
            "{e}"
        );
        assert_eq!(groups(root), Vec::<PathBuf>::new());
        // later: a mount that can't be made
        b.set("/linux/intelRdt", json!({}));
        b.add(
            "/mounts",
            json!({"destination": "/x", "type": "bind", "source": "/no/such/file", "options": ["bind"]}),
        );
        b.prepare_with(&options(&b, root)).err().unwrap();
        assert_eq!(groups(root), Vec::<PathBuf>::new());
        b.assert_nothing_left();
    });
}

#[test]
fn a_host_without_it_is_told_before_anything_is_made() {
    let e = bundle("true", json!({"closID": "gold"})).error();
    assert_eq!(
        e,
        "linux.intelRdt: no resctrl file system is mounted on this host"
    );
}
