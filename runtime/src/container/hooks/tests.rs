//! Hooks as programs see them.

use super::*;
use serde_json::json;

#[expect(
    clippy::needless_pass_by_value,
    reason = "so that json!() can be given as it is"
)]
fn plan(hooks: serde_json::Value) -> Result<Option<Plan>> {
    let spec = json!({"ociVersion": "1.2.0", "hooks": hooks, "annotations": {"a": "b"}});
    let spec: Spec = serde_json::from_value(spec).unwrap();
    Plan::read(&spec, "c1", Path::new("/bundle"))
}

fn shell(script: &str) -> serde_json::Value {
    json!({"path": "/bin/sh", "args": ["hook", "-c", script], "env": ["X=1"]})
}

#[test]
fn hooks_get_the_state_and_their_own_arguments_and_environment() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("out");
    let script = format!("{{ cat; echo; echo $0; env; }} >{}", to.display());
    let plan = plan(json!({"poststart": [shell(&script)]})).unwrap().unwrap();
    assert!(plan.has(Kind::Poststart) && !plan.has(Kind::Poststop));
    plan.run(Kind::Poststart, 7, &[]).unwrap();
    let text = std::fs::read_to_string(to).unwrap();
    let (state, rest) = text.split_once('\n').unwrap();
    let state: serde_json::Value = serde_json::from_str(state).unwrap();
    let wanted = json!({"ociVersion": "1.2.0", "id": "c1", "status": "running", "pid": 7, "bundle": "/bundle",
        "annotations": {"a": "b"}});
    assert_eq!(state, wanted);
    assert!(
        rest.starts_with("hook\n") && rest.contains("X=1") && !rest.contains("HOME="),
        "{rest}"
    );
}

#[test]
fn the_first_that_fails_is_named_with_what_it_said() {
    let plan =
        plan(json!({"createRuntime": [shell("true"), shell("echo oh no >&2; exit 3"), shell("true")]}));
    let e = plan
        .unwrap()
        .unwrap()
        .run(Kind::CreateRuntime, 7, &[])
        .unwrap_err();
    assert_eq!(
        e.to_string(),
        "error running createRuntime hook #1: exit status 3, output: oh no"
    );
}

#[test]
fn one_that_hangs_is_killed_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let lock = dir.path().join("lock");
    let mut hook = shell(&format!("exec 9>{}; sleep 1000 & wait", lock.display()));
    hook["timeout"] = json!(1);
    let plan = plan(json!({"prestart": [hook]})).unwrap().unwrap();
    let e = plan.run(Kind::Prestart, 7, &[]).unwrap_err().to_string();
    assert!(
        e.starts_with("error running prestart hook #0: context deadline exceeded"),
        "{e}"
    );
}

#[test]
fn no_hooks_are_no_plan_and_bad_ones_are_named() {
    assert!(plan(json!({"prestart": []})).unwrap().is_none());
    let e = plan(json!({"poststop": [{"path": "x"}]}))
        .unwrap_err()
        .to_string();
    assert_eq!(e, "hooks.poststop[0].path: \"x\" is not an absolute path");
    let e = plan(json!({"poststop": [{"path": "/x", "timeout": 0}]}))
        .unwrap_err()
        .to_string();
    assert!(e.contains("timeout"), "{e}");
    let plan = plan(json!({"poststart": [{"path": "/no/such/hook"}]}))
        .unwrap()
        .unwrap();
    let e = plan.run(Kind::Poststart, 7, &[]).unwrap_err().to_string();
    assert_eq!(
        e,
        "error running poststart hook #0: /no/such/hook: no such file or directory"
    );
}
