//! Whether a checkpoint fits the container that is made of it.

use std::collections::BTreeSet;

use oci_spec::runtime::{Process, Spec};

use super::bad;
use super::save::is_bind;
use crate::error::Result;

/// What the pod's host name sets, and the node's services: these differ from pod to pod.
const OF_THE_POD: [&str; 2] = ["HOSTNAME=", "KUBERNETES_"];

/// Everything that the container had from outside is in the request, which alone says what to show there.
///
/// # Errors
/// Names what is missing.
pub(super) fn mounts(before: &Spec, now: &Spec) -> Result<()> {
    let binds = |spec: &Spec| -> BTreeSet<String> {
        let list = spec.mounts().iter().flatten().filter(|mount| is_bind(mount));
        list.map(|mount| mount.destination().display().to_string())
            .collect()
    };
    let (before, now) = (binds(before), binds(now));
    let missing: Vec<&str> = before.difference(&now).map(String::as_str).collect();
    let further: Vec<&str> = now.difference(&before).map(String::as_str).collect();
    match (missing.as_slice(), further.as_slice()) {
        ([], []) => Ok(()),
        ([], further) => Err(bad(format!(
            "has no mount at {}, which the request has",
            further.join(", ")
        ))),
        (missing, _) => Err(bad(format!(
            "expects following bind mounts defined ({})",
            missing.join(",")
        ))),
    }
}

/// What would be started anew is what was running.
///
/// # Errors
/// Names what differs.
pub(super) fn process(before: &Spec, now: &Spec) -> Result<()> {
    let (Some(before), Some(now)) = (before.process(), now.process()) else {
        return Err(bad("spec.dump has no process"));
    };
    let env = |process: &Process| -> BTreeSet<String> {
        let list = process.env().iter().flatten();
        list.filter(|word| !OF_THE_POD.iter().any(|name| word.starts_with(name)))
            .cloned()
            .collect()
    };
    let differs = |what: &str| Err(bad(format!("does not fit the request: another {what}")));
    if before.args() != now.args() {
        return differs("command");
    }
    if before.cwd() != now.cwd() {
        return differs("working directory");
    }
    if env(before) != env(now) {
        return differs("environment");
    }
    if before.user().uid() != now.user().uid() || before.user().gid() != now.user().gid() {
        return differs("user");
    }
    if before.terminal().unwrap_or(false) != now.terminal().unwrap_or(false) {
        return differs("terminal");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(process: &str, mounts: &str) -> Spec {
        serde_json::from_str(&format!(
            r#"{{"ociVersion":"1.0.2","process":{process},"mounts":{mounts}}}"#
        ))
        .unwrap()
    }

    #[test]
    fn what_is_mounted_must_be_the_same() {
        let mount = |path: &str| {
            format!(r#"{{"destination":"{path}","type":"bind","source":"/x","options":["rbind"]}}"#)
        };
        let process = r#"{"cwd":"/","user":{"uid":0,"gid":0}}"#;
        let one = spec(process, &format!("[{}]", mount("/a")));
        let two = spec(process, &format!("[{},{}]", mount("/a"), mount("/b")));
        mounts(&one, &one).unwrap();
        let error = mounts(&two, &one).unwrap_err().to_string();
        assert!(
            error.contains("expects following bind mounts defined (/b)"),
            "{error}"
        );
        assert!(
            mounts(&one, &two)
                .unwrap_err()
                .to_string()
                .contains("no mount at /b")
        );
    }

    #[test]
    fn another_process_is_refused_and_the_pod_s_own_words_are_not_compared() {
        let with = |process: &str| spec(process, "[]");
        let before = with(r#"{"cwd":"/","args":["a"],"env":["HOSTNAME=x","A=1"],"user":{"uid":1,"gid":1}}"#);
        process(
            &before,
            &with(r#"{"cwd":"/","args":["a"],"env":["A=1","HOSTNAME=y"],"user":{"uid":1,"gid":1}}"#),
        )
        .unwrap();
        for (other, what) in [
            (
                r#"{"cwd":"/","args":["b"],"env":["A=1"],"user":{"uid":1,"gid":1}}"#,
                "command",
            ),
            (
                r#"{"cwd":"/x","args":["a"],"env":["A=1"],"user":{"uid":1,"gid":1}}"#,
                "working directory",
            ),
            (
                r#"{"cwd":"/","args":["a"],"env":["A=2"],"user":{"uid":1,"gid":1}}"#,
                "environment",
            ),
            (
                r#"{"cwd":"/","args":["a"],"env":["A=1"],"user":{"uid":0,"gid":1}}"#,
                "user",
            ),
        ] {
            let error = process(&before, &with(other)).unwrap_err().to_string();
            assert!(error.ends_with(what), "{error}");
        }
    }
}
