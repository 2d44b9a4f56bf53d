//! Mounts, masks, devices, overlay: what is there, what is protected, and what can't be escaped.
#![allow(clippy::unwrap_used)] // in tests a failure may panic where it happens

mod support;

use std::fs;
use std::os::unix::fs::symlink;

use pintle_runtime::protocol::Overlay;
use serde_json::json;
use support::Bundle;

#[test]
fn standard_devices_and_links_work() {
    let b = Bundle::new(
        "echo x >/dev/null; head -c 3 /dev/zero | wc -c; ls -l /dev/full /dev/random /dev/urandom /dev/tty | cut -c1-10; \
         for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done; test -e /dev/ptmx && echo ptmx",
    );
    let expected = "3\ncrw-rw-rw-\ncrw-rw-rw-\ncrw-rw-rw-\ncrw-rw-rw-\n/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n\
        /proc/self/fd/2\npts/ptmx\nptmx\n";
    assert_eq!(b.output(), expected);
}

#[test]
fn given_devices_are_made_and_others_refused_by_the_cgroup() {
    let mut b = Bundle::new(
        "ls -ln /dev/sub/mine | cut -d' ' -f1,3-; cat /dev/sub/mine | head -c 1 | wc -c; \
         mknod /tmp/kmsg c 1 11 && cat /tmp/kmsg",
    );
    b.set(
        "/linux/devices",
        json!([{"path": "/dev/sub/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 3, "gid": 4}]),
    );
    b.set("/process/noNewPrivileges", json!(false));
    for set in ["bounding", "effective", "permitted"] {
        b.add(&format!("/process/capabilities/{set}"), json!("CAP_MKNOD"));
        b.add(&format!("/process/capabilities/{set}"), json!("CAP_DAC_OVERRIDE"));
    }
    let (code, output) = b.run();
    assert_ne!(code, 0);
    assert!(output.starts_with("crw-r-----"), "{output}");
    assert!(output.contains(" 3 ") && output.contains("\n1\n"), "{output}");
    assert!(
        output.contains("can't open '/tmp/kmsg': Operation not permitted"),
        "{output}"
    );
}

#[test]
fn masked_and_readonly_paths_are() {
    let b = Bundle::new(
        "wc -c </proc/uptime; wc -c </proc/keys; ls -A /sys/firmware; touch /sys/firmware/x 2>&1 | grep -c -i 'read-only'; \
         echo 1 2>/dev/null >/proc/sys/kernel/shmmni || echo refused; umount /proc/uptime 2>/dev/null || echo kept",
    );
    assert_eq!(b.output(), "0\n0\n1\nrefused\nkept\n");
}

#[test]
fn readonly_root_is_readonly_but_not_what_is_mounted() {
    let mut b = Bundle::new("touch /x 2>&1; touch /dev/shm/x && echo fine; touch /data/y && echo too");
    b.set("/root/readonly", json!(true));
    fs::create_dir(b.path("data")).unwrap();
    let data = b.path("data");
    b.add(
        "/mounts",
        json!({"destination": "/data", "type": "bind", "source": data, "options": ["bind"]}),
    );
    assert_eq!(b.output(), "touch: /x: Read-only file system\nfine\ntoo\n");
    assert!(b.path("data/y").exists());
}

#[test]
fn the_overlay_is_seen_by_the_container_only() {
    let b = Bundle::new(
        "cat /bottom /top; echo new >/written; rm /bottom; grep ' / ' /proc/self/mountinfo | cut -d- -f2",
    );
    for folder in ["low1", "upper", "work", "mountpoint"] {
        fs::create_dir(b.path(folder)).unwrap();
    }
    fs::write(b.rootfs().join("bottom"), "bottom\n").unwrap();
    fs::write(b.rootfs().join("top"), "hidden\n").unwrap();
    fs::write(b.path("low1/top"), "top\n").unwrap();
    let overlay = Overlay {
        lower: vec![b.path("low1"), b.rootfs()],
        upper: Some(b.path("upper")),
        work: Some(b.path("work")),
        ..Overlay::default()
    };
    let mut spec = b;
    spec.set("/root/path", json!("mountpoint"));
    let options = pintle_runtime::container::Options {
        overlay: Some(overlay),
        ..spec.options()
    };
    let mut running = spec.prepare_with(&options).unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("mountpoint"));
    assert_eq!(fs::read_dir(spec.path("mountpoint")).unwrap().count(), 0);
    running.start().unwrap();
    let (code, output) = running.finish();
    assert_eq!(code, 0, "{output}");
    assert!(output.starts_with("bottom\ntop\n overlay"), "{output}");
    assert_eq!(fs::read_to_string(spec.path("upper/written")).unwrap(), "new\n");
    assert!(spec.rootfs().join("bottom").exists());
}

#[test]
fn an_image_of_many_layers_with_long_paths_mounts() {
    let mut b = Bundle::new("ls /layer | wc -l");
    let base = b.path(&"long".repeat(60)).join("also-long".repeat(20));
    let mut lower = Vec::new();
    for i in 0..100 {
        let layer = base.join(format!("layer:{i},x"));
        fs::create_dir_all(layer.join("layer")).unwrap();
        fs::write(layer.join(format!("layer/{i}")), "").unwrap();
        lower.push(layer);
    }
    lower.push(b.rootfs());
    fs::create_dir(b.path("mountpoint")).unwrap();
    b.set("/root/path", json!("mountpoint"));
    let overlay = Overlay {
        lower,
        ..Overlay::default()
    };
    let options = pintle_runtime::container::Options {
        overlay: Some(overlay),
        ..b.options()
    };
    // a read-only overlay has no place for mount points that the image lacks, but this one has them all
    let mut running = b.prepare_with(&options).unwrap();
    running.start().unwrap();
    assert_eq!(running.finish(), (0, "100\n".to_owned()));
}

#[test]
fn binds_are_readonly_on_top_or_all_the_way_down() {
    let mut b = Bundle::new(
        "touch /ro/x 2>/dev/null || echo ro; touch /ro/sub/x && echo below; touch /rro/sub/y 2>/dev/null || echo rro; \
         cat /file; touch /single 2>/dev/null || echo single",
    );
    fs::create_dir_all(b.path("data/sub")).unwrap();
    fs::write(b.path("one"), "one\n").unwrap();
    pintle_runtime::sandbox::mount_shm(&b.path("data/sub"), 1 << 20, (0, 0)).unwrap();
    let data = b.path("data");
    b.add(
        "/mounts",
        json!({"destination": "/ro", "source": data, "options": ["rbind", "rprivate", "ro"]}),
    );
    b.add(
        "/mounts",
        json!({"destination": "/rro", "source": data, "options": ["rbind", "rprivate", "rro"]}),
    );
    let one = b.path("one");
    b.add(
        "/mounts",
        json!({"destination": "/file", "type": "bind", "source": one, "options": ["rbind"]}),
    );
    b.add(
        "/mounts",
        json!({"destination": "/single", "type": "bind", "source": one, "options": ["bind", "ro"]}),
    );
    let (code, output) = b.run();
    pintle_runtime::sandbox::unmount(&b.path("data/sub")).unwrap();
    assert_eq!((code, output.as_str()), (0, "ro\nbelow\nrro\none\nsingle\n"));
    assert!(
        b.rootfs().join("file").is_file(),
        "a missing destination is made as what the source is"
    );
}

#[test]
fn destinations_that_are_symlinks_stay_inside() {
    let mut b = Bundle::new("cat /real/f; ls /etc/made");
    fs::create_dir(b.path("data")).unwrap();
    fs::write(b.path("data/f"), "f\n").unwrap();
    symlink("../../../../../../real", b.rootfs().join("link")).unwrap();
    symlink("/etc/made", b.rootfs().join("dangling")).unwrap();
    let data = b.path("data");
    b.add(
        "/mounts",
        json!({"destination": "/link", "source": data, "options": ["bind"]}),
    );
    b.add(
        "/mounts",
        json!({"destination": "/dangling/../dangling", "source": data, "options": ["bind"]}),
    );
    assert_eq!(b.output(), "f\nf\n");
    assert!(!std::path::Path::new("/real").exists() && !std::path::Path::new("/etc/made").exists());
}

#[test]
fn proc_and_sys_must_be_real_folders() {
    for (name, text) in [("proc", "/proc"), ("sys", "/sys")] {
        let b = Bundle::new("true");
        fs::remove_dir(b.rootfs().join(name)).unwrap();
        symlink("/tmp", b.rootfs().join(name)).unwrap();
        let e = b.error();
        assert!(e.starts_with(&format!("mount \"{text}\": ")), "{e}");
    }
}

#[test]
fn a_dev_null_of_the_image_masks_nothing() {
    let mut b = Bundle::new("cat /proc/uptime | wc -c");
    // without a tmpfs on /dev the image's own stays in sight
    b.spec["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
    fs::write(b.rootfs().join("etc/secret"), "secret").unwrap();
    symlink("/etc/secret", b.rootfs().join("dev/null")).unwrap();
    assert_eq!(b.output(), "0\n");
}

#[test]
fn wrong_mounts_are_refused_by_name_and_leave_nothing() {
    let cases = [
        (
            json!({"destination": "", "type": "tmpfs"}),
            "mounts[7].destination: \"\" is not an absolute path",
        ),
        (json!({"destination": "/data"}), "mounts[7].type: is missing"),
        (
            json!({"destination": "/data", "type": "bind"}),
            "mounts[7].source: a bind needs a source",
        ),
        (
            json!({"destination": "/data", "type": "bind", "source": "/no/such"}),
            "mount \"/data\": bind mount source /no/such: no such file or directory",
        ),
        (
            json!({"destination": "/data", "type": "nofs"}),
            "mount \"/data\": type: this kernel has no file system \"nofs\"",
        ),
        (
            json!({"destination": "/data", "type": "tmpfs", "options": ["size=x"]}),
            "mount \"/data\": ",
        ),
        (
            json!({"destination": "/data", "type": "tmpfs", "options": ["frob"]}),
            "mount \"/data\": option \"frob\"",
        ),
        (
            json!({"destination": "/etc/passwd/x", "type": "tmpfs"}),
            "mount \"/etc/passwd/x\": ",
        ),
    ];
    for (mount, text) in cases {
        let mut b = Bundle::new("true");
        b.add("/mounts", mount);
        let e = b.error();
        assert!(e.starts_with(text), "{e}");
    }
}

#[test]
fn propagation_is_asked_of_the_source() {
    // the caller's own mount namespace, so that the test may make shared mounts
    let b = Bundle::new("true");
    let data = b.path("data");
    fs::create_dir(&data).unwrap();
    pintle_runtime::sandbox::mount_shm(&data, 1 << 20, (0, 0)).unwrap();
    let propagate =
        |flags| nix::mount::mount(None::<&str>, &data, None::<&str>, flags, None::<&str>).unwrap();
    propagate(nix::mount::MsFlags::MS_PRIVATE);
    let with = |option: &str, script: &str| {
        let mut b = Bundle::new(script);
        b.add(
            "/mounts",
            json!({"destination": "/data", "source": data, "options": ["rbind", option]}),
        );
        b
    };
    let mut failures = Vec::new();
    for option in ["rslave", "rshared"] {
        let e = with(option, "true")
            .prepare()
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default();
        if !e.contains("path is not on a shared") {
            failures.push(format!("{option}: {e:?}"));
        }
    }
    propagate(nix::mount::MsFlags::MS_SHARED);
    for (option, seen) in [("rprivate", "none"), ("rslave", "master"), ("rshared", "shared")] {
        let script = "grep ' /data ' /proc/self/mountinfo | grep -o -E 'shared|master' || echo none";
        let (_, output) = with(option, script).run();
        if output != format!("{seen}\n") {
            failures.push(format!("{option}: {output:?}"));
        }
    }
    pintle_runtime::sandbox::unmount(&data).unwrap();
    assert!(failures.is_empty(), "{failures:?}");
}

#[test]
fn a_tmpfs_takes_the_mode_of_what_it_covers() {
    let mut b = Bundle::new("stat -c %a /tmp /fresh; stat -c %a /given");
    fs::set_permissions(
        b.rootfs().join("tmp"),
        std::os::unix::fs::PermissionsExt::from_mode(0o1751),
    )
    .unwrap();
    for (destination, options) in [
        ("/tmp", json!([])),
        ("/fresh", json!([])),
        ("/given", json!(["mode=0700"])),
    ] {
        b.add(
            "/mounts",
            json!({"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options}),
        );
    }
    assert_eq!(b.output(), "1751\n1777\n700\n");
}
