//! Whether a checkpoint fits the container that is made of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use oci_spec::runtime::{Mount, Process, Spec};

use super::bad;
use super::save::is_bind;
use crate::error::{IoContext as _, Result};

/// What the pod's host name sets, and the node's services: these differ from pod to pod.
const OF_THE_POD: [&str; 2] = ["HOSTNAME=", "KUBERNETES_"];

/// An empty file that CRI-O and Podman mount in all their containers, whose users know nothing of it.
const MARK: &str = "/run/.containerenv";

/// Takes over what a container had of its engine alone: what was hidden from it stays hidden, and where it had that file it
/// gets another one, `file`, unless the request brings it.
///
/// # Errors
/// The file can't be made.
pub(super) fn adopt(before: &Spec, now: &mut Spec, file: &Path) -> Result<()> {
    hide(before, now);
    let has = |spec: &Spec| {
        let mut mounts = spec.mounts().iter().flatten();
        mounts.any(|mount| is_bind(mount) && mount.destination() == Path::new(MARK))
    };
    if !has(before) || has(now) {
        return Ok(());
    }
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).io("create folder", folder)?;
    }
    fs::write(file, "").io("write", file)?;
    let mut mount = Mount::default();
    mount
        .set_destination(MARK.into())
        .set_typ(Some("bind".to_owned()))
        .set_source(Some(file.to_owned()))
        .set_options(Some(
            ["rbind", "rprivate", "nosuid", "noexec", "nodev", "rw"]
                .map(str::to_owned)
                .to_vec(),
        ));
    now.mounts_mut().get_or_insert_default().push(mount);
    Ok(())
}

/// Hides what was hidden before, as CRI-O does: engines have lists of their own.
fn hide(before: &Spec, now: &mut Spec) {
    let (Some(before), Some(now)) = (before.linux(), now.linux_mut()) else {
        return;
    };
    let join = |old: &Option<Vec<String>>, new: &Option<Vec<String>>| {
        let mut all = new.clone().unwrap_or_default();
        for path in old.iter().flatten() {
            if !all.contains(path) {
                all.push(path.clone());
            }
        }
        Some(all)
    };
    let masked = join(before.masked_paths(), now.masked_paths());
    let readonly = join(before.readonly_paths(), now.readonly_paths());
    now.set_masked_paths(masked).set_readonly_paths(readonly);
}

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
    fn the_mark_of_other_engines_is_given_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bundle/mark");
        let bind = format!(r#"[{{"destination":"{MARK}","type":"bind","source":"/x","options":["bind"]}}]"#);
        let process = r#"{"cwd":"/","user":{"uid":0,"gid":0}}"#;
        let (with, mut now) = (spec(process, &bind), spec(process, "[]"));
        adopt(&now.clone(), &mut now, &file).unwrap();
        assert!(!file.exists() && mounts(&with, &now).is_err());
        adopt(&with, &mut now, &file).unwrap();
        mounts(&with, &now).unwrap();
        let mount = now.mounts().iter().flatten().next().unwrap();
        assert_eq!(mount.source().as_deref(), Some(file.as_path()));
        assert_eq!(fs::read(&file).unwrap(), b"");
        // one that the request brings stays
        let mut own = with.clone();
        adopt(&with, &mut own, &file).unwrap();
        assert_eq!(own, with);
    }

    #[test]
    fn what_was_hidden_stays_hidden() {
        let hidden = |paths: &str| {
            let linux = format!(r#"{{"maskedPaths":[{paths}],"readonlyPaths":[]}}"#);
            serde_json::from_str::<Spec>(&format!(r#"{{"ociVersion":"1.0.2","linux":{linux}}}"#)).unwrap()
        };
        let (before, mut now) = (hidden(r#""/proc/a","/proc/b""#), hidden(r#""/proc/b","/proc/c""#));
        hide(&before, &mut now);
        let masked = now.linux().as_ref().unwrap().masked_paths().clone().unwrap();
        assert_eq!(masked, ["/proc/b", "/proc/c", "/proc/a"]);
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
