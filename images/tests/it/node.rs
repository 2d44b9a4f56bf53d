//! What a node brings itself: credentials, and tokens that are kept from one pull to the next.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pintle_images::{Auth, Credentials, Error};

use crate::support::TestStore;
use crate::support::build::{Layer, TestImage};
use crate::support::http::{Response, Server};
use crate::support::registry::Registry;

fn image() -> TestImage {
    TestImage::new(vec![Layer::files(&[("f", "f")])])
}

fn basic(password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("user:{password}")))
}

fn guarded(registry: &Registry, wanted: String, challenge: String) {
    registry.lie(move |request| {
        let welcome = request.header("authorization") == Some(wanted.as_str());
        (!welcome).then(|| Response::new(401).with("www-authenticate", challenge.clone()))
    });
}

#[tokio::test]
async fn the_nodes_credentials_are_used_where_a_pull_brings_none() {
    let registry = Registry::start();
    let reference = registry.push("team/app", "t", &image());
    guarded(&registry, basic("right"), "Basic realm=\"r\"".to_owned());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("auth.json");
    let test = TestStore::with(|config| config.auth_file = Some(file.clone()));
    assert!(matches!(
        test.pull(&reference).await,
        Err(Error::Unauthorized { .. })
    ));
    let entry = |password: &str| {
        let auth = STANDARD.encode(format!("user:{password}"));
        format!(
            "{{\"auths\": {{\"{}/team\": {{\"auth\": \"{auth}\"}}}}}}",
            registry.address()
        )
    };
    fs::write(&file, entry("right")).unwrap();
    test.pull(&reference).await.unwrap();
    // What a pull brings counts more, even where it is wrong.
    let auth = Auth {
        server_address: None,
        credentials: Credentials::Basic {
            username: "user".into(),
            password: "wrong".into(),
        },
    };
    assert!(test.pull_as(&reference, Some(auth)).await.is_err());
    fs::write(&file, entry("wrong")).unwrap();
    assert!(test.pull(&reference).await.is_err());
}

/// Runs this test in a process of its own, whose PATH has the helper.
#[tokio::test]
async fn a_helper_is_asked() {
    const MARK: &str = "PINTLE_TEST_HELPER";
    if std::env::var_os(MARK).is_none() {
        let folder = tempfile::tempdir().unwrap();
        let helper = folder.path().join("docker-credential-test");
        let script = "#!/bin/sh\nread -r server\ncase $server in\n  *:*) printf '{\"Username\":\"user\",\"Secret\":\"right\"}' ;;\n  *) echo credentials not found in native keychain; exit 1 ;;\nesac\n";
        fs::write(&helper, script).unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "node::a_helper_is_asked", "--nocapture"])
            .env(MARK, "1")
            .env("PATH", path)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        return;
    }
    let registry = Registry::start();
    let reference = registry.push("team/app", "t", &image());
    guarded(&registry, basic("right"), "Basic realm=\"r\"".to_owned());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("auth.json");
    fs::write(&file, r#"{"credsStore": "test"}"#).unwrap();
    let test = TestStore::with(|config| config.auth_file = Some(file.clone()));
    test.pull(&reference).await.unwrap();
    let text = format!(r#"{{"credHelpers": {{"{}": "missing"}}}}"#, registry.address());
    fs::write(&file, text).unwrap();
    let other = registry.push("team/other", "t", &image());
    let error = test.pull(&other).await.unwrap_err();
    assert!(matches!(error, Error::CredentialHelper { .. }), "{error}");
}

#[tokio::test]
async fn a_token_serves_the_next_pull_of_the_same_user() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let tokens = Server::start(move |request| {
        counter.fetch_add(1, Ordering::SeqCst);
        match request.header("authorization") {
            Some(header) if header == basic("right") => {
                Response::ok(r#"{"token": "good", "expires_in": 300}"#.as_bytes())
            }
            _ => Response::new(401),
        }
    });
    let registry = Registry::start();
    let reference = registry.push("r", "t", &image());
    let challenge = format!("Bearer realm=\"http://{}/token\",service=\"s\"", tokens.address);
    guarded(&registry, "Bearer good".to_owned(), challenge);
    let login = |password: &str| {
        Some(Auth {
            server_address: None,
            credentials: Credentials::Basic {
                username: "user".into(),
                password: password.into(),
            },
        })
    };
    let test = TestStore::new();
    for _ in 0..3 {
        test.pull_as(&reference, login("right")).await.unwrap();
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // Nobody else profits.
    assert!(test.pull_as(&reference, login("wrong")).await.is_err());
    assert!(test.pull_as(&reference, None).await.is_err());
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}
