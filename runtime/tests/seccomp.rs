//! `linux.seccomp` as it stands in a configuration: compiled by the runtime, flags, listeners.
#![cfg(feature = "seccomp-compile")]
#![allow(clippy::unwrap_used)] // in tests a failure may panic where it happens

mod support;

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use libseccomp::{ScmpNotifReq, ScmpNotifResp, ScmpNotifRespFlags, ScmpSyscall};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};
use support::Bundle;

fn forbid(call: &str) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": [call], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}
    ]})
}

#[test]
fn a_profile_in_the_configuration_is_compiled_and_holds() {
    for nnp in [true, false] {
        let mut b = Bundle::new("grep Seccomp: /proc/self/status; mkdir /x 2>&1; true");
        b.set("/linux/seccomp", forbid("mkdir"));
        b.set("/process/noNewPrivileges", json!(nnp));
        assert_eq!(
            b.output(),
            "Seccomp:\t2\nmkdir: can't create directory '/x': No space left on device\n"
        );
    }
}

#[test]
fn system_calls_newer_than_the_profile_are_unknown_rather_than_forbidden() {
    let mut b = Bundle::new("true");
    let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["no_such_call"], "action": "SCMP_ACT_ALLOW"}],
        "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]});
    b.set("/linux/seccomp", profile);
    let e = b.error();
    assert!(e.contains("WAIT_KILLABLE_RECV needs a listener"), "{e}");
}

/// The listener's descriptor and what comes with it.
fn receive(listener: &UnixListener) -> (OwnedFd, Value) {
    let (stream, _) = listener.accept().unwrap();
    let mut buf = vec![0; 65536];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let mut iov = [IoSliceMut::new(&mut buf)];
    let message = recvmsg::<()>(
        stream.as_raw_fd(),
        &mut iov,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .unwrap();
    let Some(ControlMessageOwned::ScmRights(fds)) = message.cmsgs().unwrap().next() else {
        panic!("no descriptor came");
    };
    let bytes = message.bytes;
    #[expect(unsafe_code, reason = "descriptors come as numbers")]
    // SAFETY: the kernel has just made it for this message.
    let fd = unsafe { OwnedFd::from_raw_fd(fds[0]) };
    (fd, serde_json::from_slice(&buf[..bytes]).unwrap())
}

#[test]
fn a_listener_decides_and_is_told_of_whom() {
    let mut b = Bundle::new("mkdir /x 2>&1; true");
    let path = b.path("agent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    b.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "words",
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}),
    );
    b.set("/annotations", json!({"a": "b"}));
    let agent = std::thread::spawn(move || {
        let (fd, told) = receive(&listener);
        let request = ScmpNotifReq::receive(fd.as_raw_fd()).unwrap();
        assert_eq!(request.data.syscall, ScmpSyscall::from_name("mkdir").unwrap());
        ScmpNotifResp::new_error(request.id, -28, ScmpNotifRespFlags::empty())
            .respond(fd.as_raw_fd())
            .unwrap();
        told
    });
    let mut running = b.prepare().unwrap();
    let pid = running.prepared.pid.as_raw();
    running.start().unwrap();
    let (code, output) = running.finish();
    assert_eq!(
        (code, output.as_str()),
        (0, "mkdir: can't create directory '/x': No space left on device\n")
    );
    let told = agent.join().unwrap();
    let wanted = json!({"ociVersion": "1.2.0", "fds": ["seccompFd"], "pid": pid, "metadata": "words", "state": {
        "ociVersion": "1.2.0", "id": "test", "status": "creating", "pid": pid, "bundle": b.dir.path(), "annotations": {"a": "b"}}});
    assert_eq!(told, wanted);
}

#[test]
fn listeners_that_could_not_work_are_refused() {
    let notify = |call: &str| {
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/no/such/socket",
            "syscalls": [{"names": [call], "action": "SCMP_ACT_NOTIFY"}]})
    };
    let mut without_path = notify("mkdir");
    without_path.as_object_mut().unwrap().remove("listenerPath");
    let by_default = json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/x"});
    let cases = [
        (
            notify("write"),
            "SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ),
        (notify("mkdir"), "connect to seccomp listener /no/such/socket"),
        (without_path, "linux.seccomp.listenerPath"),
        (by_default, "SCMP_ACT_NOTIFY cannot be used as default action"),
    ];
    for (profile, text) in cases {
        let mut b = Bundle::new("true");
        b.set("/linux/seccomp", profile);
        let e = b.error();
        assert!(e.contains(text), "{e}");
    }
}
